"""The ablations of one study spread over several jobs: each computes one shard, and the last merges them."""

from typing import Any

import numpy as np
from numpy import ndarray

from raretok.ablation import DocumentSums, merge
from raretok.graph import node_of
from raretok.measure.effects import Prepared, ablate_prepared, collect, effects, prepare
from raretok.study import Study

KIND = "effects-shard"


def measure_shard(study: Study, k: int, shards: int) -> None:
    """Compute the ablations of the k-th of several jobs, k from 0; the jobs may run concurrently.

    Each job runs the forward pass. Nothing is done if the effects are already stored.
    """
    if not study.is_kept(effects):
        _shard(study, _prepare(study), k, shards)


def measure(study: Study, shards: int = 1) -> None:
    """Measure the effects of a study, merging the shards left by ``measure_shard``, unless they are stored."""
    if shards == 1:
        study.get(effects)
        return

    def compute() -> dict[str, ndarray]:
        prepared = _prepare(study)
        sums = merge([_shard(study, prepared, k, shards) for k in range(shards)])
        return collect(study.inputs.model, prepared, sums)

    study.keep(effects, compute)
    for k in range(shards):
        study.store.drop(KIND, _key(study, k, shards))


def _shard(study: Study, prepared: Prepared, k: int, shards: int) -> DocumentSums:
    """Compute and store the per-document sums of one shard."""

    def compute() -> dict[str, ndarray]:
        sums = ablate_prepared(study.inputs.model, prepared, study.settings.tolerance, (k, shards))
        return {name: np.asarray(value) for name, value in vars(sums).items()}

    m = study.store.arrays(KIND, _key(study, k, shards), compute, study.about)
    exactness = (float(m["fallback_share"]), float(m["largest_bound"]))
    return DocumentSums(m["net"], m["activity"], m["square"], m["weight"], m["count"], *exactness)


def _key(study: Study, k: int, shards: int) -> dict[str, Any]:
    return study.key(effects) | {"shard": [k, shards]}


def _prepare(study: Study) -> Prepared:
    needs = {name: study.get(need) for name, need in node_of(effects).arguments.items()}
    return prepare(**needs, seed=study.settings.seed)

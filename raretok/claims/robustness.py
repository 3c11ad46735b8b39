"""C22: kinds of ablation."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from raretok.claims.declaration import Simulation, claim
from raretok.claims.verdicts import Judgement, Verdict, decide, interval_of
from raretok.findings import robustness
from raretok.measure.effects import band_sums
from raretok.stats.streams import stream
from raretok.stats.sums import SplitHalfSums, split_half_sums

QUESTION = "Does the outcome depend on how neurons are ablated?"
SIMILAR = 0.8
"""Rank correlation, corrected for noise, at and above which two kinds of ablation rank the neurons alike."""
NEURONS = 150


@dataclass(frozen=True)
class Material:
    """Effects of some neurons on rare targets with controls, by document, and weights."""

    net: ndarray
    weight: ndarray


def material(study: Any, seed: int = 0) -> Material:
    """Return the effects of some neurons of a study."""
    net, weight = study.get(band_sums).of("rare with controls")
    return Material(net[:, stream(seed, "claims.robustness.neurons").permutation(net.shape[1])[:NEURONS]], weight)


def simulated(kind: str, real: Material, seed: int) -> dict[Any, pd.DataFrame]:
    """Simulate three noisy measurements of the same effects; in one, a third of the neurons may have changed places."""
    rng = stream(seed, "claims.robustness", kind)
    net, weight = real.net, real.weight
    index = np.arange(net.shape[1])
    if kind == "another ranking":
        some = rng.permutation(index)[: len(index) // 3]
        index[some] = rng.permutation(some)
    residual = net - np.outer(weight, net.sum(0) / weight.sum())
    noise = 0.3 * residual * rng.choice([-1.0, 1.0], (len(weight), 1))

    def sums(one: ndarray) -> SplitHalfSums:
        both, w = np.stack([one, one], axis=1), np.stack([weight, weight], axis=1)
        return split_half_sums(both, None, w, rng.integers(0, 2, len(w)), robustness.BANDS)

    kinds = {"mean": sums(net), "zero": sums(net[:, index] + noise), "resample": sums(net + noise)}
    return {robustness.replacements: robustness.replacements(kinds, seed)}


ANOTHER, SAME = (Simulation(kind, material, partial(simulated, kind)) for kind in ("another ranking", "same ranking"))


@claim(
    "C22",
    "the kind of ablation does not matter",
    source="reviewers of D",
    reported="–",
    quantity="lowest rank correlation of mean with another kind",
    reads=(robustness.replacements,),
    threshold=SIMILAR,
    nulls=[ANOTHER],
    plants=[SAME],
)
def any_ablation(replacements: pd.DataFrame) -> Judgement:
    """C22: mean, zero and resample ablation rank the neurons alike at rare targets."""
    table = replacements
    part = table[(table["band"] == "rare with controls") & (table["first"] == "mean")] if len(table) else table
    if not len(part):
        return Judgement(Verdict.INCONCLUSIVE, "there are no rare targets with controls")
    row = dict(part.sort_values("corrected").iloc[0])
    apart = part.loc[part["high"] < SIMILAR, "second"]
    verdict, why = decide(
        ((part["low"] >= SIMILAR).all(), Verdict.SUPPORTED, "all kinds of ablation rank the neurons alike"),
        (
            len(apart),
            Verdict.NOT_SUPPORTED,
            f"mean and {' and '.join(apart)} ablation rank the neurons differently",
        ),
        (True, Verdict.INCONCLUSIVE, "whether all kinds of ablation rank the neurons alike, the data cannot tell"),
    )
    return Judgement(verdict, why, controlled=interval_of(row, "corrected"), n=int(row["neurons"]))

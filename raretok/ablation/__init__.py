"""Δ[token, neuron]: what changes when a neuron of the last MLP is ablated, reduced as it is computed.

``reference`` is a hooked forward pass, ``exact`` the rank-one identity, ``certified`` a second-order pass with a proof. The public
calls stream tiles of positions through the certified pass: ``ablate`` keeps per-document sums, ``pair_effects`` every pair,
``ablate_group`` takes neurons out together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from raretok.ablation.exact import joint_effects
from raretok.ablation.identity import footprints
from raretok.ablation.tiles import (
    PRECISE,
    PairEffects,
    Replacement,
    Replacing,
    Tiles,
    as_replacing,
    make_engine,
    replaced_by,
    tile_inputs,
)
from raretok.model.readout import Readout
from raretok.model.trace import Trace

__all__ = [
    "DocumentSums",
    "PairEffects",
    "Replacement",
    "ablate",
    "ablate_group",
    "make_engine",
    "merge",
    "pair_effects",
    "replaced_by",
    "tile_inputs",
]


@dataclass(frozen=True)
class DocumentSums:
    """Per-document sums over the positions of each band, float64: all that later statistics need.

    ``net`` sums weight·Δ, ``activity`` weight·|Δ|, ``square`` weight·Δ² (nats, for most outputs); ``weight`` sums the weights and
    ``count`` counts positions. ``fallback_share`` of the pairs needed exponentials; no Δ of the loss is off by more than
    ``largest_bound`` (these two are 0 for other outputs than the loss).
    """

    net: Float[ndarray, "document band neuron"]
    activity: Float[ndarray, "document band neuron"]
    square: Float[ndarray, "document band neuron"]
    weight: Float[ndarray, "document band"]
    count: Int[ndarray, "document band"]
    fallback_share: float
    largest_bound: float


def ablate(
    readout: Readout,
    trace: Trace,
    replacement: Replacement | Replacing = "mean",
    weights: Float[ndarray, "band token"] | None = None,
    tolerance: float = 1e-4,
    outputs: Sequence[str] = ("loss",),
    log_unigram: Float[ndarray, " vocab"] | None = None,
    seed: int = 0,
    progress: bool = True,
    share: tuple[int, int] = (0, 1),
) -> dict[str, DocumentSums]:
    """Ablate every neuron at every position of the trace and sum the effects by document and band.

    Args:
        readout: of the model the trace was taken from.
        trace: the positions to ablate at.
        replacement: what activations become – a mean or resample over this trace, or what ``replaced_by`` gave for a larger one.
        weights: what each position counts for in each band, 0 leaves it out; by default one band of all.
        tolerance: what a Δ of the loss may be off by in nats, rounding included.
        outputs: any of ``OUTPUTS``; those beside the loss, the target's logit and the frozen scale cost an exact pass.
        log_unigram: from ``outputs.log_unigram``, for the outputs that need it.
        seed: of resampling.
        progress: show a bar on a terminal.
        share: ``(k, n)`` takes the tiles of the k-th of n jobs alone, k from 0; ``merge`` puts their sums together.

    Returns:
        Of every output, sums in the order of ``np.unique(trace.document)``.

    Raises:
        RaretokError: an effect is not finite, or an output is unknown or lacks what it needs.
    """
    weights = np.ones((1, len(trace))) if weights is None else weights
    documents, document = np.unique(trace.document, return_inverse=True)
    sums = np.zeros((3, len(outputs), len(documents), len(weights), readout.neurons))
    tiles = Tiles(readout, trace, replacement, tolerance, outputs, log_unigram, seed, progress, share)
    for rows, effects in tiles:
        value = effects.value.double().cpu().numpy()
        for d in np.unique(document[rows]):
            here = document[rows] == d
            weight = weights[:, rows][:, here]
            part = value[:, here]
            for total, x in zip(sums, (part, np.abs(part), part**2), strict=True):
                total[:, d] += weight @ x
    if "loss" in outputs:
        _mend_sums(sums[:, outputs.index("loss")], tiles, weights, document)
    by_document = np.eye(len(documents))[document]
    weight, count = (weights @ by_document).T, ((weights > 0) @ by_document).T.astype(np.int64)
    pairs = len(trace) * readout.neurons
    found = {}
    for k, name in enumerate(outputs):
        net, activity, square = sums[:, k]
        fallen, largest = (tiles.fallen / pairs, tiles.largest) if name == "loss" else (0.0, 0.0)
        found[name] = DocumentSums(net, activity, square, weight, count, fallen, largest)
    return found


def merge(shares: Sequence[DocumentSums]) -> DocumentSums:
    """The sums of all jobs from those of each, for one output: ``shares`` are all n parts of one ``share=(k, n)``, in any order. Equal to one job's up to the order of additions in float64; nats."""
    net, activity, square = (sum(getattr(s, name) for s in shares) for name in ("net", "activity", "square"))
    fallen, largest = sum(s.fallback_share for s in shares), max(s.largest_bound for s in shares)
    return DocumentSums(net, activity, square, shares[0].weight, shares[0].count, fallen, largest)


def pair_effects(
    readout: Readout,
    trace: Trace,
    replacement: Replacement | Replacing = "mean",
    tolerance: float = 1e-4,
    outputs: Sequence[str] = ("loss",),
    log_unigram: Float[ndarray, " vocab"] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> PairEffects:
    """``ablate`` without the sums: 4 bytes for every output, token and neuron, and 5 more; for traces that fit so. Nats; ``bound`` says what a Δ of the loss may be off by."""
    tiles = Tiles(readout, trace, replacement, tolerance, outputs, log_unigram, seed, progress)
    found = [part for _, part in tiles]
    value, bound, exact = (torch.cat([getattr(f, n).cpu() for f in found], -2) for n in ("value", "bound", "exact"))
    if tiles.late:
        token, neuron, _ = tiles.late_pairs()
        value[list(outputs).index("loss"), token, neuron] = tiles.precise().to(value)
        bound[token, neuron] = PRECISE
    return PairEffects(value, bound, exact)


def ablate_group(
    readout: Readout, trace: Trace, members: Sequence[int], replacement: Replacement | Replacing = "mean", seed: int = 0
) -> Float[ndarray, " token"]:
    """Δ in nats at every position when some neurons are ablated together, exactly; see ``exact.joint_effects``. Above 0 where the group helped; ids that repeat count once."""
    index = torch.tensor(sorted({int(m) for m in members}), dtype=torch.long)
    residual, delta, target = tile_inputs(readout, trace, as_replacing(trace, replacement, seed))
    feet = footprints(readout, residual)
    found = joint_effects(feet, residual, delta[:, index], target, index.to(residual.device))
    return found.double().cpu().numpy()


def _mend_sums(
    sums: Float[ndarray, "sum document band neuron"], tiles: Tiles, weights: ndarray, document: ndarray
) -> None:
    """Put the float64 effects into the sums in the place of the float32 ones; in place."""
    if not tiles.late:
        return
    token, neuron, value = (x.numpy() for x in tiles.late_pairs())
    old, new = value.astype(np.float64), tiles.precise().numpy()
    changes = (new - old, np.abs(new) - np.abs(old), new**2 - old**2)
    for total, x in zip(sums, changes, strict=True):
        for band, change_of_band in enumerate(weights[:, token] * x):
            np.add.at(total[:, band], (document[token], neuron), change_of_band)

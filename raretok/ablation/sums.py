"""The public calls of the ablation engine.

``ablate`` and ``pair_effects`` stream tiles of positions through the certified pass and return per-document sums and
every pair, respectively; ``ablate_group`` ablates several neurons together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from raretok.ablation.certified import Certified
from raretok.ablation.exact import joint_effects
from raretok.ablation.identity import baseline, logit_attribution
from raretok.ablation.replacement import Replacement
from raretok.ablation.tiles import PRECISE, PairEffects, Replacing, Tiles, as_replacing, tile_inputs
from raretok.model.readout import Readout
from raretok.model.trace import Trace


@dataclass(frozen=True)
class DocumentSums:
    """Per-document sums over the positions of each band in float64, from which all later statistics are computed.

    ``net`` sums weight·Δ, ``activity`` weight·|Δ|, and ``square`` weight·Δ² (Δ is in nats for most outputs); ``weight``
    sums the weights, and ``count`` counts positions. ``fallback_share`` is the share of the pairs that needed
    exponentials, and ``largest_bound`` the largest possible error of a Δ of the loss; both are 0 for other outputs.
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
    tolerance: float | None = None,
    outputs: Sequence[str] = ("loss",),
    log_unigram: Float[ndarray, " vocab"] | None = None,
    seed: int = 0,
    progress: bool = True,
    shard: tuple[int, int] = (0, 1),
    engine: Certified | None = None,
) -> dict[str, DocumentSums]:
    """Ablate every neuron at every position of the trace and sum the effects by document and band.

    Args:
        readout: Readout of the model from which the trace was recorded.
        trace: The positions at which neurons are ablated.
        replacement: What replaces the activations: the name of a replacement computed over this trace, or the values
            that ``replaced_by`` returned, for example for a larger trace.
        weights: Weight of each position in each band; 0 leaves it out. By default there is one band of all positions.
        tolerance: Largest admissible error of a Δ of the loss in nats, measured rounding included; by default that of
            the engine, or 1e-4.
        outputs: Any of ``OUTPUTS``; all but the loss, the target's logit and the frozen scale require an exact pass.
        log_unigram: Result of ``outputs.log_unigram``, for the outputs that need it.
        seed: Seed of resampling.
        progress: Show a progress bar on a terminal.
        shard: ``(k, n)`` restricts the call to the tiles of the k-th of n jobs, k from 0; ``merge`` combines their
            sums.
        engine: The result of ``make_engine`` for this readout and similar positions, which several calls can share; by
            default it is made anew.

    Returns:
        The sums of every output, by name, with documents in the order of ``np.unique(trace.document)``.

    Raises:
        RaretokError: if an effect is not finite, or an output is unknown or lacks an argument that it needs.
    """
    weights = np.ones((1, len(trace))) if weights is None else weights
    documents, document = np.unique(trace.document, return_inverse=True)
    where = readout.w_out.device
    totals = torch.zeros(
        3, len(outputs), len(documents), len(weights), readout.neurons, dtype=torch.float64, device=where
    )
    tiles = Tiles(readout, trace, replacement, tolerance, outputs, log_unigram, seed, progress, shard, engine)
    for rows, effects in tiles:
        here, place = np.unique(document[rows], return_inverse=True)
        by_band = np.eye(len(here))[place].T[:, None] * weights[None, :, rows]
        share, index = torch.from_numpy(by_band).to(where), torch.from_numpy(here).to(where)
        value = effects.value.double()
        for total, x in zip(totals, (value, value.abs(), value.square()), strict=True):
            total.index_add_(1, index, torch.einsum("dbt,otn->odbn", share, x))
    sums = totals.cpu().numpy()
    if "loss" in outputs:
        _mend_sums(sums[:, outputs.index("loss")], tiles, weights, document)
    by_document = np.eye(len(documents))[document]
    weight, count = (weights @ by_document).T, ((weights > 0) @ by_document).T.astype(np.int64)
    pairs = len(trace) * readout.neurons
    by_output = {}
    for k, name in enumerate(outputs):
        net, activity, square = sums[:, k]
        fallen, largest = (tiles.fallen / pairs, tiles.largest) if name == "loss" else (0.0, 0.0)
        by_output[name] = DocumentSums(net, activity, square, weight, count, fallen, largest)
    return by_output


def merge(shards: Sequence[DocumentSums]) -> DocumentSums:
    """Combine the sums of all jobs for one output.

    ``shards`` are the results for all n parts ``shard=(k, n)``, in any order. The sums, in nats, equal those of a
    single job up to the order of additions in float64.
    """
    net, activity, square = (sum(getattr(s, name) for s in shards) for name in ("net", "activity", "square"))
    fallen, largest = sum(s.fallback_share for s in shards), max(s.largest_bound for s in shards)
    return DocumentSums(net, activity, square, shards[0].weight, shards[0].count, fallen, largest)


def pair_effects(
    readout: Readout,
    trace: Trace,
    replacement: Replacement | Replacing = "mean",
    tolerance: float | None = None,
    outputs: Sequence[str] = ("loss",),
    log_unigram: Float[ndarray, " vocab"] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> PairEffects:
    """The effects of every pair, as ``ablate`` computes them before summation, in nats; for traces that fit in memory.

    Every pair takes 4 bytes per output and 5 bytes more. ``bound`` is the largest possible error of a Δ of the loss.
    """
    tiles = Tiles(readout, trace, replacement, tolerance, outputs, log_unigram, seed, progress)
    parts = [part for _, part in tiles]
    value, bound, exact = (
        torch.cat([getattr(f, n).cpu() for f in parts], -2) for n in ("value", "bound", "used_fallback")
    )
    if tiles.late:
        token, neuron, _ = tiles.late_pairs()
        precise = tiles.precise()
        value[list(outputs).index("loss"), token, neuron] = precise.to(value)
        # The values are returned in their own dtype, which rounds them.
        bound[token, neuron] = (PRECISE + precise.abs() * torch.finfo(value.dtype).eps / 2).to(bound)
    return PairEffects(value, bound, exact)


def ablate_group(
    readout: Readout, trace: Trace, members: Sequence[int], replacement: Replacement | Replacing = "mean", seed: int = 0
) -> Float[ndarray, " token"]:
    """Exact Δ in nats at every position when some neurons are ablated together; see ``exact.joint_effects``.

    It is above 0 where the group reduced the loss. Repeated ids count once.
    """
    index = torch.tensor(sorted({int(m) for m in members}), dtype=torch.long)
    inputs = tile_inputs(readout, trace, as_replacing(trace, replacement, seed))
    attribution = logit_attribution(readout, inputs.residual)
    index = index.to(inputs.residual.device)
    effects = []
    for start in range(0, len(trace), JOINT_ROWS):
        residual, delta, target, mlp = inputs.part(slice(start, start + JOINT_ROWS))
        base = baseline(attribution, residual, target, mlp=mlp)
        effects.append(joint_effects(attribution, base, delta[:, index] @ readout.w_out[index])[0])
    return torch.cat(effects).double().cpu().numpy()


JOINT_ROWS = 256
"""Number of positions processed at a time when a group is ablated."""


def _mend_sums(
    sums: Float[ndarray, "sum document band neuron"], tiles: Tiles, weights: ndarray, document: ndarray
) -> None:
    """Replace the float32 effects by the float64 ones in the sums, in place."""
    if not tiles.late:
        return
    token, neuron, value = (x.numpy() for x in tiles.late_pairs())
    old, new = value.astype(np.float64), tiles.precise().numpy()
    changes = (new - old, np.abs(new) - np.abs(old), new**2 - old**2)
    for total, x in zip(sums, changes, strict=True):
        for band, change_of_band in enumerate(weights[:, token] * x):
            np.add.at(total[:, band], (document[token], neuron), change_of_band)

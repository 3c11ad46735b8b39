"""Δ[token, neuron]: what changes when a neuron of the last MLP is ablated, reduced as it is computed.

``reference`` is a hooked forward pass, ``exact`` the rank-one identity, ``certified`` a second-order pass with a proof. The public
calls stream tiles of positions through the certified pass: ``ablate`` keeps per-document sums, ``pair_effects`` every pair,
``ablate_group`` takes neurons out together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from raretok.ablation.certified import Certified
from raretok.ablation.exact import joint_effects, precise_effects
from raretok.ablation.identity import baseline, change, footprints
from raretok.ablation.kernels import WORTH_COMPILING, can_compile
from raretok.ablation.outputs import NEED_UNIGRAM, OUTPUTS, tile_outputs
from raretok.errors import RaretokError
from raretok.model.readout import Readout
from raretok.model.trace import Trace

Replacement = Literal["mean", "zero", "resample"]
Replacing = Float[Tensor, "token neuron"] | Float[Tensor, " neuron"]
TILE_BYTES = 1 << 26
"""A tile holds as many positions as keep a token × vocab array and ``PAIR_ARRAYS`` token × neuron arrays within this."""
PAIR_ARRAYS = 32
EXPONENTIALS = 50
"""Outputs that need exponentials for every pair are as much work as the loss alone at so many times the positions."""
LEAST_TILE = 32


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


@dataclass(frozen=True)
class PairEffects:
    """Every pair's outputs, in the order asked for, and what the loss's may be off by and whether it needed exponentials."""

    value: Float[Tensor, "output token neuron"]
    bound: Float[Tensor, "token neuron"]
    exact: Bool[Tensor, "token neuron"]


def replaced_by(activation: Float[Tensor, "token neuron"], replacement: Replacement, seed: int) -> Replacing:
    """What takes the place of each activation: its mean over the kept positions, zero, or another position's value."""
    if replacement == "mean":
        return activation.double().mean(0).to(activation)
    if replacement == "zero":
        return torch.zeros_like(activation[0])
    generator = torch.Generator().manual_seed(seed)
    return activation[torch.randperm(len(activation), generator=generator)]


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

    Returns:
        Of every output, sums in the order of ``np.unique(trace.document)``.

    Raises:
        RaretokError: an effect is not finite, or an output is unknown or lacks what it needs.
    """
    weights = np.ones((1, len(trace))) if weights is None else weights
    documents, document = np.unique(trace.document, return_inverse=True)
    sums = np.zeros((3, len(outputs), len(documents), len(weights), readout.neurons))
    tiles = _Tiles(readout, trace, replacement, tolerance, outputs, log_unigram, seed, progress)
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
        share, largest = (tiles.fallen / pairs, tiles.largest) if name == "loss" else (0.0, 0.0)
        found[name] = DocumentSums(net, activity, square, weight, count, share, largest)
    return found


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
    """``ablate`` without the sums: 4 bytes for every output, token and neuron, and 5 more; for traces that fit so."""
    tiles = _Tiles(readout, trace, replacement, tolerance, outputs, log_unigram, seed, progress)
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
    """Δ in nats at every position when some neurons are ablated together, exactly; see ``exact.joint_effects``."""
    index = torch.tensor(sorted({int(m) for m in members}), dtype=torch.long)
    residual, delta, target = tile_inputs(readout, trace, _replacing(trace, replacement, seed))
    feet = footprints(readout, residual)
    found = joint_effects(feet, residual, delta[:, index], target, index.to(residual.device))
    return found.double().cpu().numpy()


def make_engine(
    readout: Readout, tolerance: float, positions: int, residual: Float[Tensor, "token d_model"]
) -> Certified:
    """The certified pass as ``ablate`` uses it for so many positions: compiled where that pays; ``residual`` as ``footprints``."""
    compiled = positions * readout.neurons * readout.vocab >= WORTH_COMPILING
    return Certified(footprints(readout, residual), tolerance, compiled and can_compile(readout.w_out.device.type))


def tile_inputs(readout: Readout, trace: Trace, replacing: Replacing) -> tuple[Tensor, Tensor, Tensor]:
    """Residual stream, δ and target of a trace, where the readout is."""
    where = readout.w_out.device
    delta = replacing.to(where) - trace.activation.to(where)
    return trace.residual.to(where), delta, torch.from_numpy(trace.target.astype(np.int64)).to(where)


def _replacing(trace: Trace, replacement: Replacement | Replacing, seed: int) -> Replacing:
    return replaced_by(trace.activation, replacement, seed) if isinstance(replacement, str) else replacement


PRECISE = 1e-9
"""What an effect taken in float64 may be off by, in nats."""


class _Tiles:
    """The outputs of one tile of positions after the other; what was found on the way is there after the last."""

    def __init__(
        self,
        readout: Readout,
        trace: Trace,
        replacement: Replacement | Replacing,
        tolerance: float,
        outputs: Sequence[str],
        log_unigram: Float[ndarray, " vocab"] | None,
        seed: int,
        progress: bool,
    ) -> None:
        if not outputs:
            raise RaretokError(f"outputs is empty: name at least one of {', '.join(OUTPUTS)}")
        if unknown := set(outputs) - set(OUTPUTS):
            raise RaretokError(f"unknown output {', '.join(sorted(unknown))}: choose from {', '.join(OUTPUTS)}")
        if log_unigram is None and (lacking := [name for name in outputs if name in NEED_UNIGRAM]):
            raise RaretokError(f"{lacking[0]} needs log_unigram: give outputs.log_unigram(counts, readout.vocab)")
        self.readout, self.trace, self.tolerance = readout, trace, tolerance
        self.replacing = _replacing(trace, replacement, seed)
        self.outputs, self.progress = tuple(outputs), progress
        self.log_q = None if log_unigram is None else torch.from_numpy(log_unigram).to(readout.w_out.device)
        self.fallen, self.largest = 0, 0.0
        self.late: list[tuple[Tensor, Tensor, Tensor]] = []

    def __iter__(self) -> Iterator[tuple[slice, PairEffects]]:
        from tqdm import tqdm

        readout, trace = self.readout, self.trace
        every_pair = EXPONENTIALS if {"entropy", "kl", "frozen_frequency"} & set(self.outputs) else 1
        engine = make_engine(readout, self.tolerance, len(trace) * every_pair, trace.residual)
        size = max(LEAST_TILE, TILE_BYTES // (4 * (readout.vocab + PAIR_ARRAYS * readout.neurons)))
        with tqdm(total=len(trace), desc="ablating", unit="position", disable=None if self.progress else True) as bar:
            for start in range(0, len(trace), size):
                rows = slice(start, min(start + size, len(trace)))
                found = self._tile(engine, rows)
                if not found.value.isfinite().all():
                    raise RaretokError("an effect is NaN or infinite: the model's activations or weights are damaged")
                yield rows, found
                bar.update(rows.stop - rows.start)

    def _tile(self, engine: Certified, rows: slice) -> PairEffects:
        residual, delta, target = tile_inputs(
            self.readout, self.trace[np.arange(rows.start, rows.stop)], self.part(rows)
        )
        base = baseline(engine.feet, residual, target, engine.compiled)
        moved = change(engine.feet, base, delta)
        value, loss = tile_outputs(engine, base, moved, delta, self.outputs, self.log_q)
        if loss is None:
            return PairEffects(value, torch.zeros_like(delta), torch.zeros_like(delta, dtype=torch.bool))
        self.fallen += int(loss.exact.sum())
        # What float32 leaves too uncertain is done in float64, after the last tile and all at once.
        beyond = loss.bound > self.tolerance if residual.dtype == torch.float32 else torch.zeros_like(loss.exact)
        self.largest = max(self.largest, float(loss.bound.masked_fill(beyond, PRECISE).max()))
        token, neuron = beyond.nonzero(as_tuple=True)
        if len(token):
            self.late.append((token + rows.start, neuron, loss.value[token, neuron]))
        return PairEffects(value, loss.bound, loss.exact)

    def part(self, rows: slice) -> Replacing:
        """What replaces the activations of some positions."""
        return self.replacing if self.replacing.ndim == 1 else self.replacing[rows]

    def late_pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Token, neuron and float32 effect of the pairs for which float32 was not enough."""
        token, neuron, value = (torch.cat(x).cpu() for x in zip(*self.late, strict=True))
        return token, neuron, value

    def precise(self) -> Float[Tensor, " pair"]:
        """The effects of these pairs in float64, in nats."""
        token, neuron, _ = self.late_pairs()
        found = []
        for t, i in zip(torch.split(token, LATE_ROWS), torch.split(neuron, LATE_ROWS), strict=True):
            trace = self.trace[t.numpy()]
            replacing = self.replacing[i] if self.replacing.ndim == 1 else self.replacing[t, i]
            delta = replacing.to(trace.activation.device) - trace.activation[torch.arange(len(t)), i]
            where = self.readout.w_out.device
            arguments = (trace.residual, delta, torch.from_numpy(trace.target.astype(np.int64)), i)
            found.append(precise_effects(self.readout, *(x.to(where) for x in arguments)).cpu())
        return torch.cat(found)


LATE_ROWS = 512
"""Pairs done in float64 at a time."""


def _mend_sums(
    sums: Float[ndarray, "sum document band neuron"], tiles: _Tiles, weights: ndarray, document: ndarray
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

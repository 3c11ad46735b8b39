"""Processing of positions in tiles, each of which goes through the certified pass as a whole.

Pairs for which float32 is not precise enough are recomputed in float64 after the last tile.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from raretok.ablation.certified import Certified
from raretok.ablation.exact import precise_effects
from raretok.ablation.identity import baseline, logit_attribution, logit_shift
from raretok.ablation.kernels import WORTH_COMPILING, can_compile
from raretok.ablation.outputs import NEED_UNIGRAM, OUTPUTS, UNDER_CAP, tile_outputs
from raretok.ablation.replacement import Replacement
from raretok.errors import NotApplicable, RaretokError
from raretok.model.readout import Readout
from raretok.model.trace import Trace

Replacing = Float[Tensor, "token neuron"] | Float[Tensor, " neuron"]
TILE_BYTES, CARD_TILE_BYTES = 1 << 27, 1 << 30
"""Limit in bytes for one token × vocab array and ``PAIR_ARRAYS`` token × neuron arrays of a tile together, on the CPU
and on a graphics card."""
PAIR_ARRAYS = 32
EXPONENTIALS = 50
"""Factor by which outputs that need exponentials for every pair are more work than the loss alone."""
LEAST_TILE = 32


@dataclass(frozen=True)
class PairEffects:
    """The outputs of every pair in the order requested, and for the loss its error bound and whether exponentials were
    needed."""

    value: Float[Tensor, "output token neuron"]
    bound: Float[Tensor, "token neuron"]
    used_fallback: Bool[Tensor, "token neuron"]


def replaced_by(activation: Float[Tensor, "token neuron"], replacement: Replacement, seed: int) -> Replacing:
    """The replacement of each activation: its mean over the kept positions, zero, or another position's value."""
    if replacement == "mean":
        return activation.double().mean(0).to(activation)
    if replacement == "zero":
        return torch.zeros_like(activation[0])
    generator = torch.Generator().manual_seed(seed)
    return activation[torch.randperm(len(activation), generator=generator)]


def make_engine(
    readout: Readout, tolerance: float, positions: int, residual: Float[Tensor, "token d_model"]
) -> Certified:
    """The certified pass as ``ablate`` uses it for a given number of positions, compiled if that saves time.

    ``residual`` is the argument of ``logit_attribution``.
    """
    return Certified(logit_attribution(readout, residual), tolerance, _worth_compiling(readout, positions))


def _worth_compiling(readout: Readout, positions: int) -> bool:
    work = positions * readout.neurons * readout.vocab * (1 if readout.cap is None else EXPONENTIALS)
    return work >= WORTH_COMPILING and can_compile(readout.w_out.device.type)


class TileInputs(NamedTuple):
    """What the passes need to know of some positions, on the device of the readout; ``mlp``: ``Readout.mlp_output``."""

    residual: Float[Tensor, "token d_model"]
    delta: Float[Tensor, "token neuron"]
    target: Int[Tensor, " token"]
    mlp: Float[Tensor, "token d_model"] | None

    def part(self, rows: slice) -> "TileInputs":
        """The inputs at some of the positions."""
        mlp = None if self.mlp is None else self.mlp[rows]
        return TileInputs(self.residual[rows], self.delta[rows], self.target[rows], mlp)


def tile_inputs(readout: Readout, trace: Trace, replacing: Replacing, dtype: torch.dtype | None = None) -> TileInputs:
    """The inputs of the passes at the positions of a trace, in the dtype of the trace or another."""
    where = readout.w_out.device
    activation, residual = _send(trace.activation, where), _send(trace.residual, where)
    delta, target = _send(replacing, where) - activation, _send(torch.from_numpy(trace.target.astype(np.int64)), where)
    dtype = dtype or residual.dtype
    return TileInputs(residual.to(dtype), delta.to(dtype), target, readout.mlp_output(activation.to(dtype)))


def _send(values: Tensor, where: torch.device) -> Tensor:
    """The values on a device; the copy to a graphics card goes on while the card computes."""
    if where.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(where, non_blocking=True)
    return values.to(where)


def as_replacing(trace: Trace, replacement: Replacement | Replacing, seed: int) -> Replacing:
    """The replacement of the activations, computed if it is given by name, and otherwise returned unchanged."""
    return replaced_by(trace.activation, replacement, seed) if isinstance(replacement, str) else replacement


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[int], object]]:
    """A progress bar on a terminal if tqdm is installed, which the engine does not require."""
    if not shown or find_spec("tqdm") is None:
        yield lambda done: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc="ablating", unit="position", disable=None) as bar:
        yield bar.update


TOLERANCE = 1e-4
"""Largest admissible error of an effect by default, in nats."""
PRECISE = 1e-9
"""Largest error of an effect computed in float64, in nats."""


class Tiles:
    """Iterator over tiles of positions and their outputs; its other attributes are complete after the last tile."""

    def __init__(
        self,
        readout: Readout,
        trace: Trace,
        replacement: Replacement | Replacing,
        tolerance: float | None,
        outputs: Sequence[str],
        log_unigram: Float[ndarray, " vocab"] | None,
        seed: int,
        progress: bool,
        shard: tuple[int, int] = (0, 1),
        engine: Certified | None = None,
    ) -> None:
        """The arguments are those of ``ablate``."""
        if not outputs:
            raise RaretokError(f"outputs is empty: name at least one of {', '.join(OUTPUTS)}")
        if unknown := set(outputs) - set(OUTPUTS):
            raise RaretokError(f"unknown output {', '.join(sorted(unknown))}: choose from {', '.join(OUTPUTS)}")
        if log_unigram is None and (lacking := [name for name in outputs if name in NEED_UNIGRAM]):
            raise RaretokError(f"{lacking[0]} needs log_unigram: give outputs.log_unigram(counts, readout.vocab)")
        if readout.cap is not None and (lost := set(outputs) - UNDER_CAP):
            raise NotApplicable(f"{', '.join(sorted(lost))} is not computed where the logits have a soft cap")
        self.readout, self.trace = readout, trace
        self.tolerance = tolerance or (TOLERANCE if engine is None else engine.tolerance)
        self.replacing = as_replacing(trace, replacement, seed)
        self.outputs, self.progress, self.shard, self.engine = tuple(outputs), progress, shard, engine
        self.log_q = None if log_unigram is None else torch.from_numpy(log_unigram).to(readout.w_out.device)
        self.fallen, self.largest = 0, 0.0
        where = readout.w_out.device
        # Counts stay on the device, so that no tile waits for the one before it to be copied.
        self._fallen = torch.zeros((), dtype=torch.long, device=where)
        self._largest = torch.zeros((), dtype=readout.w_out.dtype, device=where)
        self._broken = torch.zeros((), dtype=torch.bool, device=where)
        self.late: list[tuple[Tensor, Tensor, Tensor]] = []

    def __iter__(self) -> Iterator[tuple[slice, PairEffects]]:
        """The rows of each tile and their effects, in order."""
        readout, trace = self.readout, self.trace
        every_pair = EXPONENTIALS if {"entropy", "kl", "frozen_frequency"} & set(self.outputs) else 1
        if self.engine is None:
            engine = make_engine(readout, self.tolerance, len(trace) * every_pair, trace.residual)
        else:
            compiled = self.engine.compiled or _worth_compiling(readout, len(trace) * every_pair)
            engine = self.engine.at(self.tolerance, compiled)
        room = TILE_BYTES if readout.w_out.device.type == "cpu" else CARD_TILE_BYTES
        size = max(LEAST_TILE, room // (4 * (readout.vocab + PAIR_ARRAYS * readout.neurons)))
        starts, (k, n) = range(0, len(trace), size), self.shard
        starts = starts[len(starts) * k // n : len(starts) * (k + 1) // n]
        tiles = [slice(start, min(start + size, len(trace))) for start in starts]
        total = sum(rows.stop - rows.start for rows in tiles)
        with _bar(total, self.progress) as advance:
            for rows in tiles:
                effects = self._tile(engine, rows)
                self._broken |= ~effects.value.isfinite().all()
                yield rows, effects
                advance(rows.stop - rows.start)
        if self._broken:
            raise RaretokError("an effect is NaN or infinite: the model's activations or weights are damaged")
        self.fallen, self.largest = int(self._fallen), float(self._largest)

    def _tile(self, engine: Certified, rows: slice) -> PairEffects:
        residual, delta, target, mlp = tile_inputs(
            self.readout, self.trace[np.arange(rows.start, rows.stop)], self.part(rows)
        )
        base = baseline(engine.attribution, residual, target, engine.compiled, mlp)
        moved = logit_shift(engine.attribution, base, delta)
        value, loss = tile_outputs(engine, base, moved, delta, self.outputs, self.log_q)
        if loss is None:
            return PairEffects(value, torch.zeros_like(delta), torch.zeros_like(delta, dtype=torch.bool))
        self._fallen += loss.used_fallback.sum()
        # Pairs for which float32 is not precise enough are recomputed in float64, all at once after the last tile.
        beyond = (
            loss.bound > self.tolerance if residual.dtype == torch.float32 else torch.zeros_like(loss.used_fallback)
        )
        self._largest = torch.maximum(self._largest, loss.bound.masked_fill(beyond, PRECISE).max())
        token, neuron = beyond.nonzero(as_tuple=True)
        if len(token):
            self.late.append((token + rows.start, neuron, loss.value[token, neuron]))
        return PairEffects(value, loss.bound, loss.used_fallback)

    def part(self, rows: slice) -> Replacing:
        """The replacement of the activations at some positions."""
        return self.replacing if self.replacing.ndim == 1 else self.replacing[rows]

    def late_pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Token, neuron and float32 effect of the pairs for which float32 was not precise enough."""
        token, neuron, value = (torch.cat(x).cpu() for x in zip(*self.late, strict=True))
        return token, neuron, value

    def precise(self) -> Float[Tensor, " pair"]:
        """The effects of these pairs in float64, in nats."""
        token, neuron, _ = self.late_pairs()
        effects = []
        size = max(1, LATE_BYTES // (16 * self.readout.vocab))
        for t, i in zip(torch.split(token, size), torch.split(neuron, size), strict=True):
            trace = self.trace[t.numpy()]
            replacing = self.replacing[i] if self.replacing.ndim == 1 else self.replacing[t, i]
            delta = replacing.to(trace.activation.device) - trace.activation[torch.arange(len(t)), i]
            where = self.readout.w_out.device
            target = torch.from_numpy(trace.target.astype(np.int64))
            residual, delta, target, i = (x.to(where) for x in (trace.residual, delta, target, i))
            mlp = self.readout.mlp_output(trace.activation.to(where).double())
            effects.append(precise_effects(self.readout, residual, delta, target, i, mlp).cpu())
        return torch.cat(effects)


LATE_BYTES = 1 << 28
"""Size of the logits in float64, before and after, of the pairs that are recomputed at a time."""

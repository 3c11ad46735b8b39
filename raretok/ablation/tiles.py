"""Positions in tiles: each goes through the certified pass whole, and what float32 leaves uncertain is done in float64 after the last."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from raretok.ablation.certified import Certified
from raretok.ablation.exact import precise_effects
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


def as_replacing(trace: Trace, replacement: Replacement | Replacing, seed: int) -> Replacing:
    """What replaces the activations, by name or as given."""
    return replaced_by(trace.activation, replacement, seed) if isinstance(replacement, str) else replacement


PRECISE = 1e-9
"""What an effect taken in float64 may be off by, in nats."""


class Tiles:
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
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """The arguments are those of ``ablate``."""
        if not outputs:
            raise RaretokError(f"outputs is empty: name at least one of {', '.join(OUTPUTS)}")
        if unknown := set(outputs) - set(OUTPUTS):
            raise RaretokError(f"unknown output {', '.join(sorted(unknown))}: choose from {', '.join(OUTPUTS)}")
        if log_unigram is None and (lacking := [name for name in outputs if name in NEED_UNIGRAM]):
            raise RaretokError(f"{lacking[0]} needs log_unigram: give outputs.log_unigram(counts, readout.vocab)")
        self.readout, self.trace, self.tolerance = readout, trace, tolerance
        self.replacing = as_replacing(trace, replacement, seed)
        self.outputs, self.progress, self.share = tuple(outputs), progress, share
        self.log_q = None if log_unigram is None else torch.from_numpy(log_unigram).to(readout.w_out.device)
        self.fallen, self.largest = 0, 0.0
        self.late: list[tuple[Tensor, Tensor, Tensor]] = []

    def __iter__(self) -> Iterator[tuple[slice, PairEffects]]:
        """The rows of each tile and their effects, in order."""
        from tqdm import tqdm

        readout, trace = self.readout, self.trace
        every_pair = EXPONENTIALS if {"entropy", "kl", "frozen_frequency"} & set(self.outputs) else 1
        engine = make_engine(readout, self.tolerance, len(trace) * every_pair, trace.residual)
        size = max(LEAST_TILE, TILE_BYTES // (4 * (readout.vocab + PAIR_ARRAYS * readout.neurons)))
        starts, (k, n) = range(0, len(trace), size), self.share
        starts = starts[len(starts) * k // n : len(starts) * (k + 1) // n]
        tiles = [slice(start, min(start + size, len(trace))) for start in starts]
        total = sum(rows.stop - rows.start for rows in tiles)
        with tqdm(total=total, desc="ablating", unit="position", disable=None if self.progress else True) as bar:
            for rows in tiles:
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

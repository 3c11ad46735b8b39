"""Effects to second order, each with a proven bracket; what is not narrow enough is done exactly, as far as needed (method §3).

With Y = X − E[X] and e^y = 1 + y + y²ψ(y), ψ(y) = (e^y − 1 − y)/y² increasing, log E[e^X] − E[X] = log1p(Σ p·Y²ψ(Y)). Over any part of
the vocabulary in which Y lies in [−R₋, R₊],

    ψ(−R₋)·Σ p·Y²  ≤  Σ p·Y²ψ(Y)  ≤  ψ(R₊)·Σ p·Y².

Two parts are used: the head, a quarter of the types that carries most of the probability, and the tail. A pair goes through three
stages and leaves when its bracket is narrow enough: both parts to second order; the head exactly; the tail exactly, too.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raretok.ablation.exact import part_sums
from raretok.ablation.identity import Baseline, Change, Footprints, at_target, baseline, change, reach
from raretok.ablation.kernels import bracket, part_square
from raretok.ablation.rounding import Rounding, calibrate, rounding_of


@dataclass(frozen=True)
class Effects:
    """Δ in nats of a tile, what each value may be off by, and for which pairs the second order was not enough."""

    value: Float[Tensor, "token neuron"]
    bound: Float[Tensor, "token neuron"]
    exact: Bool[Tensor, "token neuron"]


@dataclass(frozen=True)
class PartBracket:
    """Σ p·Y² over a part, and between what Σ p·(e^Y − 1 − Y) is."""

    square: Float[Tensor, "token neuron"]
    lower: Float[Tensor, "token neuron"]
    upper: Float[Tensor, "token neuron"]


class Certified:
    """The pass over tiles of positions; holds what is shared by all tiles."""

    def __init__(self, feet: Footprints, tolerance: float, compiled: bool = False) -> None:
        """``tolerance``: widest bound, in nats, that is accepted without the exact pass."""
        self.feet = feet
        self.tolerance = tolerance
        self.compiled = compiled
        self.calibration = calibrate(feet)
        # In the order of the unembedding, so that rows of types are contiguous for the product.
        squares = torch.empty(feet.u.shape[::-1], dtype=feet.unembed_low.dtype, device=feet.u.device)
        for start in range(0, len(feet.u), 64):
            squares[:, start : start + 64] = feet.u[start : start + 64].square().T
        self.squares = squares

    def __call__(
        self,
        residual: Float[Tensor, "token d_model"],
        delta: Float[Tensor, "token neuron"],
        target: Int[Tensor, " token"],
    ) -> Effects:
        """Effects of all neurons at the positions of one tile."""
        base = baseline(self.feet, residual, target, self.compiled)
        return self.settle(base, change(self.feet, base, delta))

    def settle(self, base: Baseline, moved: Change) -> Effects:
        """Effects of any change α·λ + κ·u of the logits, up to what float32 allows."""
        rounding = rounding_of(self.feet, self.calibration, base, moved)
        head, tail = (self.bracket(base, moved, part) for part in (0, 1))
        guess = head.square / 2 + tail.square / 2
        moment, bound = _settle(guess, head.lower + tail.lower, head.upper + tail.upper, self.tolerance)
        bound += rounding.of(moment + bound)
        wide = ~(bound <= self.tolerance)
        self._refine(base, moved, rounding, tail, wide, moment, bound)
        return Effects(moved.mean + moment - at_target(self.feet, base, moved), bound, wide)

    def bracket(self, base: Baseline, moved: Change, part: int) -> PartBracket:
        """One part of the vocabulary to second order."""
        feet, sums, where = self.feet, base.parts[part], self.feet.parts[part]
        dtype = base.p.dtype
        weighted = (base.weighted_low[:, where] @ feet.unembed_low[:, where].T).to(dtype)
        square = (base.p_low[:, where] @ self.squares[where]).to(dtype)
        # Both factors are rounded, and the product (Cauchy and Schwarz, over types and over coordinates).
        unit = torch.finfo(feet.unembed_low.dtype).eps
        spread = (sums.lam_square * (base.p[:, where] @ feet.unembed_norm[where].square())).sqrt()
        off = (unit * spread + unit / 2 * weighted.norm(dim=1))[:, None] * feet.length
        per_token = (x[:, None] for x in (sums.mass, sums.lam, sums.lam_square))
        found, off = part_square(
            self.compiled,
            feet.low_precision,
            *(moved.alpha, moved.kappa, moved.mean),
            *per_token,
            *(sums.mean_u, weighted @ feet.gained.T, square, off),
        )
        return PartBracket(found, *bracket(self.compiled, found, off, *reach(feet, base, moved, part)))

    def _refine(
        self,
        base: Baseline,
        moved: Change,
        rounding: Rounding,
        tail: PartBracket,
        wide: Bool[Tensor, "token neuron"],
        moment: Float[Tensor, "token neuron"],
        bound: Float[Tensor, "token neuron"],
    ) -> None:
        """Do the head of the wide pairs exactly, and the tail, too, where that is not enough; in place."""
        chosen = wide.flatten().nonzero()[:, 0]
        if not len(chosen):
            return
        sums = base.parts[1]
        token = chosen // wide.shape[1]
        alpha, kappa, mean = (x.flatten()[chosen] for x in (moved.alpha, moved.kappa, moved.mean))
        linear = alpha * sums.lam[token] + kappa * sums.mean_u.flatten()[chosen] - mean * sums.mass[token]
        exact = part_sums(self.feet, base, moved, 0, chosen, self.compiled)
        square, lower, upper = (x.flatten()[chosen] for x in (tail.square, tail.lower, tail.upper))
        found, off = _settle(
            exact + linear + square / 2, exact + linear + lower, exact + linear + upper, self.tolerance
        )
        off += rounding.of(found + off, chosen)
        last = (~(off <= self.tolerance)).nonzero()[:, 0]
        if len(last):
            whole = exact[last] + part_sums(self.feet, base, moved, 1, chosen[last], self.compiled)
            found[last] = torch.log1p(whole)
            off[last] = rounding.of(found[last], chosen[last])
        moment.view(-1)[chosen] = found
        bound.view(-1)[chosen] = off


def _settle(guess: Tensor, lower: Tensor, upper: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """log1p of a guess, moved as far into its bracket as the tolerance asks, and its distance to the farther end."""
    lowest, highest = torch.log1p(lower.clamp_min(-0.999)), torch.log1p(upper)
    spare = 0.9 * tolerance
    moment = torch.minimum(torch.maximum(torch.log1p(guess), highest - spare), lowest + spare)
    moment = torch.minimum(torch.maximum(moment, lowest), highest)
    return moment, torch.maximum(highest - moment, moment - lowest)

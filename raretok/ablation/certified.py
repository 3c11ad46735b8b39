"""Effects to second order, each with a proven bracket; pairs whose bracket is too wide are done exactly (method §3).

With μ and V the mean and variance of X under p, Y = X − μ lies in [−R₋, R₊], and e^y = 1 + y + y²ψ(y) with ψ increasing, so

    log1p(V·ψ(−R₋))  ≤  log E[e^X] − μ  ≤  log1p(V·ψ(R₊)),        ψ(y) = (e^y − 1 − y)/y².

The value returned is V/2 moved into the bracket, and its bound is its distance to the farther end, plus what rounding may add:

- E[u²], the one product as large as the vocabulary times the neurons, is taken in bfloat16 where the hardware has it. All its
  terms are positive, so it is off by at most ``BF16`` of itself, and V by κ² times that: the bracket is widened by as much.
- A float32 sum of n terms is taken to be off by √n·2⁻²⁴ of the sum of their absolute values, which Cauchy and Schwarz bound by
  norms (the rule of Higham and Mary, 2019: roundings are as good as independent; the norms overstate the sum several times).
- A logit off by e changes Δ by at most e·|p' − p|₁, and by Pinsker |p' − p|₁ ≤ √(2 log E[e^(X−μ)]).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raretok.ablation.exact import log_moment
from raretok.ablation.identity import Baseline, Change, Footprints, at_target, baseline, change, reach
from raretok.ablation.kernels import VOCAB_BLOCK, bracket, has_bf16

BF16 = (1 + 2**-8) ** 3 - 1 + 2**-9
"""Two rounded factors and a rounded result, and the roundings of the float32 sum between."""


@dataclass(frozen=True)
class Effects:
    """Δ in nats of a tile, what each value may be off by, and which pairs were done exactly."""

    value: Float[Tensor, "token neuron"]
    bound: Float[Tensor, "token neuron"]
    exact: Bool[Tensor, "token neuron"]


class Certified:
    """The pass over tiles of positions; holds what is shared by all tiles."""

    def __init__(self, feet: Footprints, tolerance: float, compiled: bool = False) -> None:
        """``tolerance``: widest bound, in nats, that is accepted without the exact pass."""
        self.feet = feet
        self.tolerance = tolerance
        self.compiled = compiled
        self.low_precision = feet.u.dtype == torch.float32 and has_bf16(feet.u.device.type)
        squares = feet.u.square().T.contiguous()
        self.squares = squares.bfloat16() if self.low_precision else squares

    def __call__(
        self,
        residual: Float[Tensor, "token d_model"],
        delta: Float[Tensor, "token neuron"],
        target: Int[Tensor, " token"],
    ) -> Effects:
        """Effects of all neurons at the positions of one tile."""
        feet = self.feet
        base = baseline(feet, residual, target, self.compiled)
        moved = change(feet, base, delta)
        variance, off = self._variance(base, moved)
        moment, lower, upper = bracket(self.compiled, variance, off, *reach(feet, base, moved))
        fixed, of_mean, logit = self._rounding(base, moved)
        bound = torch.maximum(upper - moment, moment - lower) + fixed + of_mean + logit * _distance(upper)
        wide = ~(bound <= self.tolerance)
        moment[wide] = log_moment(feet, base, moved, wide, self.compiled)
        bound = torch.where(wide, fixed + logit * _distance(moment), bound)
        return Effects(moved.mean + moment - at_target(feet, base, moved), bound, wide)

    def _variance(self, base: Baseline, moved: Change) -> tuple[Tensor, Tensor]:
        """Var X under p, and by how much its computed value may be off."""
        alpha, kappa = moved.alpha, moved.kappa
        second = base.p.to(self.squares.dtype) @ self.squares
        second = second.to(base.p.dtype)
        cross = 2 * alpha * kappa * base.mean_lam_u
        variance = alpha.square() * base.variance[:, None] + cross + kappa.square() * (second - base.mean_u.square())
        # What float32 itself leaves of the terms of which V is the small sum.
        unit = torch.finfo(base.p.dtype).eps * VOCAB_BLOCK**0.5
        off = kappa.square() * second * (BF16 if self.low_precision else unit) + unit * cross.abs()
        return variance.clamp_min(0.0), off

    def _rounding(self, base: Baseline, moved: Change) -> tuple[Tensor, Tensor, Tensor]:
        """What rounding may add to any Δ, what more to one that rests on the mean of u, and by how much a logit is off."""
        feet = self.feet
        unit = torch.finfo(base.p.dtype).eps / 2
        row = unit * feet.centred.shape[1] ** 0.5
        length = feet.gained.norm(dim=1)
        typical = base.p @ feet.unembed_norm
        kappa = moved.kappa.abs() * length
        logit = row * (base.centred * feet.readout.gain).norm(dim=1) / base.sigma * feet.unembed_norm.max()
        own = row * feet.unembed_norm[base.target]
        alpha = (base.high - base.low)[:, None] * moved.alpha.abs() * row
        fixed = kappa * (own + row * typical)[:, None] + alpha
        return fixed, kappa * (unit * VOCAB_BLOCK**0.5 * typical)[:, None], logit[:, None]


def _distance(moment: Tensor) -> Tensor:
    """At most how far p' is from p in the sum of absolute differences, given log E[e^(X−μ)] (Pinsker)."""
    return (2 * moment.clamp(0.0, 2.0)).sqrt()

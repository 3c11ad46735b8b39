"""Effects to second order, each with a proven bracket; pairs whose bracket is too wide are done exactly (method §3).

With μ and V the mean and variance of X under p, Y = X − μ lies in [−R₋, R₊], and e^y = 1 + y + y²ψ(y) with ψ increasing, so

    log1p(V·ψ(−R₋))  ≤  log E[e^X] − μ  ≤  log1p(V·ψ(R₊)),        ψ(y) = (e^y − 1 − y)/y².

The value returned is V/2 moved into the bracket, and its bound is its distance to the farther end.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raretok.ablation.exact import pair_effects
from raretok.ablation.identity import Baseline, Change, Footprints, baseline, change


@dataclass(frozen=True)
class Effects:
    """Δ in nats of a tile, what each value may be off by (0 where it was done exactly), and which were."""

    value: Float[Tensor, "token neuron"]
    bound: Float[Tensor, "token neuron"]
    exact: Bool[Tensor, "token neuron"]


class Certified:
    """The pass over tiles of positions; holds what is shared by all tiles."""

    def __init__(self, feet: Footprints, tolerance: float) -> None:
        """``tolerance``: widest bound, in nats, that is accepted without the exact pass."""
        self.feet = feet
        self.tolerance = tolerance
        self.squares = feet.u.square().T
        self.highest, self.lowest = feet.u.amax(1), feet.u.amin(1)

    def __call__(
        self,
        residual: Float[Tensor, "token d_model"],
        delta: Float[Tensor, "token neuron"],
        target: Int[Tensor, " token"],
    ) -> Effects:
        """Effects of all neurons at the positions of one tile."""
        feet = self.feet
        base = baseline(feet, residual, target)
        moved = change(feet, base, delta)
        value, bound = self._bracket(base, moved)
        wide = ~(bound <= self.tolerance)
        token, neuron = wide.nonzero(as_tuple=True)
        value[wide] = pair_effects(feet, base, token, neuron, moved)
        bound[wide] = 0.0
        return Effects(value, bound, wide)

    def _bracket(
        self, base: Baseline, moved: Change
    ) -> tuple[Float[Tensor, "token neuron"], Float[Tensor, "token neuron"]]:
        """Second-order Δ and its bound; all sums over the vocabulary are matrix products."""
        feet = self.feet
        alpha, kappa, mean = moved.alpha, moved.kappa, moved.mean
        weighted = base.p * base.lam
        lam_square = (weighted * base.lam).sum(-1, keepdim=True)
        mean_lam_u = (weighted @ feet.unembed.T) @ feet.gained.T
        var_u = base.p @ self.squares - base.mean_u.square()
        variance = alpha.square() * lam_square + 2 * alpha * kappa * mean_lam_u + kappa.square() * var_u
        variance = variance.clamp_min_(0.0)
        high, low = base.lam.amax(1, keepdim=True), base.lam.amin(1, keepdim=True)
        up = torch.maximum(alpha * high, alpha * low) + torch.maximum(kappa * self.highest, kappa * self.lowest) - mean
        down = (
            mean - torch.minimum(alpha * high, alpha * low) - torch.minimum(kappa * self.highest, kappa * self.lowest)
        )
        upper = torch.log1p(variance * psi(up.clamp_min(0.0)))
        lower = torch.log1p(variance * psi(-down.clamp_min(0.0)))
        middle = (variance / 2).clamp(lower, upper)
        target_u = feet.unembed.T[base.target] @ feet.gained.T
        target_lam = base.lam.gather(1, base.target[:, None])
        at_target = alpha * target_lam + kappa * target_u
        return mean + middle - at_target, torch.maximum(upper - middle, middle - lower)


def psi(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """(e^y − 1 − y) / y², increasing, ½ at 0; by its series where the subtraction would lose digits."""
    series = 0.5 + y / 6 + y.square() / 24 + y**3 / 120
    return torch.where(y.abs() < 0.03, series, (torch.expm1(y) - y) / y.square().clamp_min(1e-30))

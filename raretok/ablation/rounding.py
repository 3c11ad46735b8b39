"""What rounding adds to an effect: measured, not bounded.

A worst-case bound on the rounding of long sums is hundreds of times what rounding does, and would send most pairs to the exact
pass for nothing. So once for every run, at the pilot positions, logits are done again in float64 at ``TYPES`` types, and E[U] at
``COORDINATES`` of d_model. Relative to the lengths of the vectors they are products of, none is taken to be off by more than
``MARGIN`` times the root mean square error found there.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raretok.ablation.identity import Baseline, Change, Footprints, baseline

TYPES, COORDINATES = 64, 16
MARGIN = 32.0


@dataclass(frozen=True)
class Calibration:
    """Largest error of a sum taken to occur: of λ by length of the residual, of u by lengths of its factors, and of E[u] by
    those of a neuron's row and of the mean unembedding."""

    logit: float
    footprint: float
    mean: float


@dataclass(frozen=True)
class Rounding:
    """What the terms of Δ may be off by in nats: whatever the pair's effect, and for each unit of |p' − p|₁."""

    fixed: Float[Tensor, "token neuron"]
    logit: Float[Tensor, " token"]

    def of(self, moment: Float[Tensor, "..."], chosen: Int[Tensor, " pair"] | None = None) -> Float[Tensor, "..."]:
        """Rounding of the pairs (all, or those at places of the flattened arrays), given log E[e^(X − μ)].

        A logit off by e changes Δ by at most e·|p' − p|₁, and by Pinsker |p' − p|₁ ≤ √(2 log E[e^(X−μ)]).
        """
        distance = (2 * moment.clamp(0.0, 2.0)).sqrt()
        if chosen is None:
            return self.fixed + distance * self.logit[:, None]
        return self.fixed.flatten()[chosen] + distance * self.logit[chosen // self.fixed.shape[1]]


def calibrate(feet: Footprints) -> Calibration:
    """Hold λ, u and E[U] at the pilot positions to float64."""
    where = feet.order.device
    base = baseline(feet, feet.pilots, torch.zeros(len(feet.pilots), dtype=torch.long, device=where))
    types, coordinates = (
        torch.linspace(0, size - 1, min(count, size), device=where).long()
        for size, count in ((len(feet.order), TYPES), (len(feet.unembed), COORDINATES))
    )
    some = feet.unembed[:, types].double()
    x = base.centred * feet.readout.gain
    # λ is kept centred under p: what is compared are its differences between types, which are all that counts.
    logit = base.lam[:, types] - x.double() @ some
    logit = (logit - logit.mean(1, keepdim=True)) / x.norm(dim=1, keepdim=True)
    u = (feet.u[:, types] - feet.gained.double() @ some) / (feet.length[:, None] * feet.unembed_norm[types])
    mean = base.mean_unembed[:, coordinates] - base.p.double() @ feet.unembed[coordinates].double().T
    mean = mean / (base.p @ feet.unembed_norm)[:, None]
    unit = torch.finfo(base.p.dtype).eps / 16
    logit, u, mean = (MARGIN * (x.nan_to_num().square().mean().sqrt() + unit) for x in (logit, u, mean))
    return Calibration(float(logit), float(u), float(mean))


def rounding_of(feet: Footprints, calibration: Calibration, base: Baseline, moved: Change) -> Rounding:
    """What rounding may add to the effects of a tile."""
    unit = torch.finfo(base.p.dtype).eps
    lam = calibration.logit * (base.centred * feet.readout.gain).norm(dim=1)
    typical = calibration.footprint * feet.unembed_norm[base.target] + calibration.mean * (base.p @ feet.unembed_norm)
    at_target = moved.alpha * base.lam.gather(1, base.target[:, None])
    small = 8 * unit * (moved.mean.abs() + at_target.abs())
    fixed = moved.kappa.abs() * feet.length * typical[:, None] + moved.alpha.abs() * lam[:, None] + small
    return Rounding(fixed, lam / base.sigma + 16 * unit)

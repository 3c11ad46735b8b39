"""Rounding errors of the effects, which are estimated by measurement rather than bounded.

A worst-case bound on the rounding of long sums is hundreds of times larger than the actual error and would send most
pairs to the exact pass without need. Instead, once per run, the logits of the pilot positions are recomputed in float64
at ``TYPES`` types, and E[U] at ``COORDINATES`` coordinates of d_model. Errors are measured relative to the lengths of
the vectors whose products are taken, and none is assumed to exceed ``MARGIN`` times their root mean square.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raretok.ablation.identity import Baseline, LogitAttribution, LogitShift, baseline

TYPES, COORDINATES = 64, 16
MARGIN = 32.0


@dataclass(frozen=True)
class Calibration:
    """Largest assumed relative error of each sum.

    ``logit`` is that of λ relative to the length of the residual stream, ``footprint`` that of u relative to the
    lengths of its two factors, and ``mean`` that of E[u] relative to the lengths of a neuron's row and of the mean
    unembedding.
    """

    logit: float
    footprint: float
    mean: float


@dataclass(frozen=True)
class Rounding:
    """Assumed largest errors of the terms of Δ in nats: ``fixed`` for any effect, ``logit`` per unit of |p' − p|₁."""

    fixed: Float[Tensor, "token neuron"]
    logit: Float[Tensor, " token"]

    def of(self, moment: Float[Tensor, "..."], chosen: Int[Tensor, " pair"] | None = None) -> Float[Tensor, "..."]:
        """Rounding error of all pairs, or of those at the ``chosen`` indices of the flattened arrays.

        ``moment`` is log E[e^(X − μ)]. Errors of the logits of at most e change Δ by at most e·|p' − p|₁, and by
        Pinsker's inequality |p' − p|₁ ≤ √(2 log E[e^(X−μ)]).
        """
        distance = (2 * moment.clamp(0.0, 2.0)).sqrt()
        if chosen is None:
            return self.fixed + distance * self.logit[:, None]
        return self.fixed.flatten()[chosen] + distance * self.logit[chosen // self.fixed.shape[1]]


def calibrate(attribution: LogitAttribution) -> Calibration:
    """Measure the errors of λ, u and E[U] at the pilot positions against float64."""
    where = attribution.order.device
    base = baseline(
        attribution, attribution.pilots, torch.zeros(len(attribution.pilots), dtype=torch.long, device=where)
    )
    types, coordinates = (
        torch.linspace(0, size - 1, min(count, size), device=where).long()
        for size, count in ((len(attribution.order), TYPES), (len(attribution.unembed), COORDINATES))
    )
    some = attribution.unembed[:, types].double()
    x = base.centred * attribution.readout.gain
    # λ is stored centred under p, so only its differences between types, which are all that matters, are compared.
    logit = base.lam[:, types] - x.double() @ some
    logit = (logit - logit.mean(1, keepdim=True)) / x.norm(dim=1, keepdim=True)
    u = (attribution.u[:, types] - attribution.gained.double() @ some) / (
        attribution.length[:, None] * attribution.unembed_norm[types]
    )
    mean = base.mean_unembed[:, coordinates] - base.p.double() @ attribution.unembed[coordinates].double().T
    mean = mean / (base.p @ attribution.unembed_norm)[:, None]
    unit = torch.finfo(base.p.dtype).eps / 16
    logit, u, mean = (MARGIN * (x.nan_to_num().square().mean().sqrt() + unit) for x in (logit, u, mean))
    return Calibration(float(logit), float(u), float(mean))


def rounding_of(attribution: LogitAttribution, calibration: Calibration, base: Baseline, moved: LogitShift) -> Rounding:
    """Rounding errors assumed for the effects of a tile."""
    unit = torch.finfo(base.p.dtype).eps
    lam = calibration.logit * (base.centred * attribution.readout.gain).norm(dim=1)
    typical = calibration.footprint * attribution.unembed_norm[base.target] + calibration.mean * (
        base.p @ attribution.unembed_norm
    )
    at_target = moved.alpha * base.lam.gather(1, base.target[:, None])
    small = 8 * unit * (moved.mean.abs() + at_target.abs())
    fixed = moved.kappa.abs() * attribution.length * typical[:, None] + moved.alpha.abs() * lam[:, None] + small
    if base.mlp is not None and moved.beta is not None:
        mu = calibration.logit * (base.mlp.centred * attribution.readout.gain).norm(dim=1)
        at_target = moved.beta * base.mlp.mu.gather(1, base.target[:, None])
        fixed += moved.beta.abs() * mu[:, None] + 8 * unit * at_target.abs()
    return Rounding(fixed, lam / base.sigma + 16 * unit)

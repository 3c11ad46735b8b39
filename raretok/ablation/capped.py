"""Exact effects where the logits have a soft cap (Gemma-2): Δ = log1p(Σ p·expm1(Y)) − Y_y, with Y the capped shift.

The cap leaves no bracket, so that every pair takes exponentials, as the certified pass reports.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from raretok.ablation.identity import Baseline, LogitAttribution, LogitShift, at_target
from raretok.ablation.kernels import capped_sums, under_cap


def capped_effects(
    attribution: LogitAttribution, base: Baseline, moved: LogitShift, compiled: bool = False
) -> tuple[Float[Tensor, "token neuron"], Float[Tensor, "token neuron"]]:
    """Δ in nats of all pairs, and log E[e^Y] − E[X], which bounds their rounding."""
    cap, offset = attribution.readout.cap, offset_of(base, moved)
    assert cap is not None
    assert base.cap is not None
    tokens, neurons = moved.alpha.shape
    where = moved.alpha.device
    # Sorted by neuron, as the kernel likes it best.
    token = torch.arange(tokens, device=where).repeat(neurons)
    neuron = torch.arange(neurons, device=where).repeat_interleave(tokens)
    terms = [x.T.flatten() for x in (moved.alpha, moved.kappa, offset)]
    third = () if base.mlp is None or moved.beta is None else (moved.beta.T.flatten(), base.mlp.mu)
    rows = (base.p, base.cap.squashed, base.lam, attribution.u)
    sums = capped_sums(compiled, cap, *rows, token, neuron, *terms, *third).reshape(neurons, tokens).T
    squashed = base.cap.squashed.gather(1, base.target[:, None])
    log_mean = torch.log1p(sums)
    return log_mean - under_cap(cap, squashed, at_target(attribution, base, moved) + offset), log_mean


def offset_of(base: Baseline, moved: LogitShift) -> Float[Tensor, "token neuron"]:
    """What the shift X lacks because the stored λ and μ are centred under p."""
    assert base.cap is not None
    offset = moved.alpha * base.cap.mean_lam[:, None]
    if base.mlp is not None and moved.beta is not None:
        offset = offset + moved.beta * base.mlp.mean_mu[:, None]
    return offset

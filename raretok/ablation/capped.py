"""Exact effects where the logits have a soft cap (Gemma-2): Δ = log1p(Σ p·expm1(Y)) − Y_y, with Y the capped shift.

The cap leaves no bracket, so that every pair takes exponentials, as the certified pass reports.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from raretok.ablation.identity import Baseline, LogitAttribution, LogitShift, at_target, reach
from raretok.ablation.kernels import capped_sums, doublings_for, under_cap


def capped_effects(
    attribution: LogitAttribution, base: Baseline, moved: LogitShift, compiled: bool = False
) -> tuple[Float[Tensor, "token neuron"], Float[Tensor, "token neuron"]]:
    """Δ in nats of all pairs, and log E[e^Y] − E[Y], from which their rounding is bounded."""
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
    doublings = doublings_for(furthest_of(attribution, base, moved) * max(1.0, 2 / cap), compiled).T.flatten()
    sums = torch.empty(2, len(token), dtype=base.p.dtype, device=where)
    for count in torch.unique(doublings).tolist():
        k = (doublings == count).nonzero()[:, 0]
        of_pair = (x[k] for x in (token, neuron, *terms))
        chosen = () if not third else (third[0][k], third[1])
        sums[:, k] = capped_sums(compiled, count, cap, *rows, *of_pair, *chosen)
    one, mean = (x.reshape(neurons, tokens).T for x in sums)
    squashed = base.cap.squashed.gather(1, base.target[:, None])
    log_mean = torch.log1p(one)
    value = log_mean - under_cap(cap, squashed, at_target(attribution, base, moved) + offset)
    return value, (log_mean - mean).clamp_min(0.0)


def furthest_of(attribution: LogitAttribution, base: Baseline, moved: LogitShift) -> Float[Tensor, "token neuron"]:
    """An upper bound of |X| over all types."""
    sides = [side for part in (0, 1) for side in reach(attribution, base, moved, part)]
    return torch.stack(sides).amax(0) + moved.mean.abs() + offset_of(base, moved).abs()


def offset_of(base: Baseline, moved: LogitShift) -> Float[Tensor, "token neuron"]:
    """What the shift X lacks because the stored λ and μ are centred under p."""
    assert base.cap is not None
    offset = moved.alpha * base.cap.mean_lam[:, None]
    if base.mlp is not None and moved.beta is not None:
        offset = offset + moved.beta * base.mlp.mean_mu[:, None]
    return offset

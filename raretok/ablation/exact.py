"""The exact effect of ablating a neuron, in O(vocab) for each pair: with μ the mean of X under p,

    Δ = μ + log1p(Σ_v p_v · expm1(X_v − μ)) − X_y.

The sum is never negative (Jensen), so small effects keep their digits and large ones cannot lose the logarithm's argument.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raretok.ablation.identity import Baseline, Change, Footprints, baseline, change, footprints
from raretok.model.readout import Readout

BLOCK_BYTES = 1 << 24
"""Pairs are worked through in blocks whose pair × vocab array is no larger than this."""


def pair_effects(
    feet: Footprints,
    base: Baseline,
    token: Int[Tensor, " pair"],
    neuron: Int[Tensor, " pair"],
    moved: Change,
) -> Float[Tensor, " pair"]:
    """Δ in nats of some (token, neuron) pairs of a tile."""
    alpha, kappa, mean = (x[token, neuron] for x in (moved.alpha, moved.kappa, moved.mean))
    effects = torch.empty_like(alpha)
    block = max(1, BLOCK_BYTES // (base.lam.shape[1] * base.lam.element_size()))
    for start in range(0, len(token), block):
        part = slice(start, start + block)
        t, i = token[part], neuron[part]
        x = feet.u[i].mul_(kappa[part, None]).addcmul_(base.lam[t], alpha[part, None])
        y = x.sub_(mean[part, None])
        y_target = y.gather(1, base.target[t, None])[:, 0]
        effects[part] = torch.log1p((base.p[t] * y.expm1_()).sum(-1)) - y_target
    return effects


def exact_effects(
    readout: Readout,
    residual: Float[Tensor, "token d_model"],
    delta: Float[Tensor, "token neuron"],
    target: Int[Tensor, " token"],
) -> Float[Tensor, "token neuron"]:
    """Δ[t, i] in nats, the change of the loss at t when neuron i's activation changes by δ[t, i]; any range.

    The obviously right twin of the certified pass: every pair by the identity, in the dtype of its arguments.
    """
    feet = footprints(readout)
    base = baseline(feet, residual, target)
    moved = change(feet, base, delta)
    token, neuron = torch.ones_like(delta, dtype=torch.bool).nonzero(as_tuple=True)
    return pair_effects(feet, base, token, neuron, moved).reshape(delta.shape)


def neuron_effects(
    readout: Readout,
    residual: Float[Tensor, "token d_model"],
    delta: Float[Tensor, " token"],
    target: Int[Tensor, " token"],
    neuron: int,
) -> Float[Tensor, " token"]:
    """Δ in nats of one neuron, as ``exact_effects``."""
    alone = replace(readout, w_out=readout.w_out[neuron : neuron + 1])
    return exact_effects(alone, residual, delta[:, None], target)[:, 0]

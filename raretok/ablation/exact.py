"""The exact effect of ablating a neuron, in O(vocab) for each pair: with μ any number near the mean of X under p,

    Δ = μ + log1p(Σ_v p_v · expm1(X_v − μ)) − X_y.

Centred so, small effects keep their digits, and the sum (not negative at the mean, by Jensen) cannot run into −1.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raretok.ablation.identity import Baseline, Change, Footprints, at_target, baseline, change, footprints, reach
from raretok.ablation.kernels import REACH, pair_sums
from raretok.model.readout import Readout


def log_moment(
    feet: Footprints, base: Baseline, moved: Change, chosen: Bool[Tensor, "token neuron"], compiled: bool = False
) -> Float[Tensor, " pair"]:
    """log E[e^(X − μ)] of the chosen pairs, in the order of ``x[chosen]``."""
    up, down = (side[chosen] for side in reach(feet, base, moved))
    token, neuron = chosen.nonzero(as_tuple=True)
    alpha, kappa, mean = moved.alpha[chosen], moved.kappa[chosen], moved.mean[chosen]
    sums = torch.empty_like(alpha)
    short = (torch.maximum(up, down) < REACH) & compiled
    for part, quick in ((short, True), (~short, False)):
        index = part.nonzero()[:, 0]
        index = index[torch.argsort(neuron[index], stable=True)]
        if len(index):
            sums[index] = pair_sums(
                quick, base.p, base.lam, feet.u, token[index], neuron[index], alpha[index], kappa[index], mean[index]
            )
    return torch.log1p(sums)


def exact_effects(
    readout: Readout,
    residual: Float[Tensor, "token d_model"],
    delta: Float[Tensor, "token neuron"],
    target: Int[Tensor, " token"],
) -> Float[Tensor, "token neuron"]:
    """Δ[t, i] in nats, the change of the loss at t when neuron i's activation changes by δ[t, i]; any range.

    The obviously right twin of the certified pass: every pair by the identity, in the dtype of its arguments.
    """
    return tile_effects(footprints(readout), residual, delta, target)


def tile_effects(
    feet: Footprints,
    residual: Float[Tensor, "token d_model"],
    delta: Float[Tensor, "token neuron"],
    target: Int[Tensor, " token"],
    compiled: bool = False,
) -> Float[Tensor, "token neuron"]:
    """``exact_effects`` with the footprints at hand, compiled or not."""
    base = baseline(feet, residual, target, compiled)
    moved = change(feet, base, delta)
    everything = torch.ones_like(delta, dtype=torch.bool)
    moment = log_moment(feet, base, moved, everything, compiled).reshape(delta.shape)
    return moved.mean + moment - at_target(feet, base, moved)


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

"""The exact effect of ablating a neuron, in O(vocab) for each pair: with μ any number near the mean of X under p,

    Δ = μ + log1p(Σ_v p_v · expm1(X_v − μ)) − X_y.

Centred so, small effects keep their digits, and the sum (not negative at the mean, by Jensen) cannot run into −1.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raretok.ablation.identity import (
    Baseline,
    Change,
    Footprints,
    at_target,
    baseline,
    change,
    footprints,
    reach,
    rescale,
)
from raretok.ablation.kernels import VOCAB_BLOCK, doublings_for, pair_sums
from raretok.model.readout import Readout

JOINT_ROWS = 64
"""Positions of a group's ablation done at a time."""


def part_sums(
    feet: Footprints, base: Baseline, moved: Change, part: int, chosen: Int[Tensor, " pair"], compiled: bool = False
) -> Float[Tensor, " pair"]:
    """Σ p·expm1(X − μ) over a part of the vocabulary for the chosen pairs, given as places in the flattened arrays."""
    up, down = (side.flatten()[chosen] for side in reach(feet, base, moved, part))
    alpha, kappa, mean = (x.flatten()[chosen] for x in (moved.alpha, moved.kappa, moved.mean))
    token, neuron = chosen // moved.alpha.shape[1], chosen % moved.alpha.shape[1]
    where = feet.parts[part]
    rows = (base.p[:, where], base.lam[:, where], feet.u[:, where])
    sums = torch.empty_like(alpha)
    doublings = doublings_for(torch.maximum(up, down), compiled)
    for count in torch.unique(doublings).tolist():
        index = (doublings == count).nonzero()[:, 0]
        index = index[neuron[index].argsort(stable=True)]
        sums[index] = pair_sums(compiled, count, *rows, *(x[index] for x in (token, neuron, alpha, kappa, mean)))
    return sums


def exact_effects(
    readout: Readout,
    residual: Float[Tensor, "token d_model"],
    delta: Float[Tensor, "token neuron"],
    target: Int[Tensor, " token"],
) -> Float[Tensor, "token neuron"]:
    """Δ[t, i] in nats, the change of the loss at t when neuron i's activation changes by δ[t, i]; any range.

    The obviously right twin of the certified pass: every pair by the identity, in the dtype of its arguments.
    """
    return tile_effects(footprints(readout, residual), residual, delta, target)


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
    everything = torch.arange(delta.numel(), device=delta.device)
    sums = part_sums(feet, base, moved, 0, everything, compiled) + part_sums(feet, base, moved, 1, everything, compiled)
    return moved.mean + torch.log1p(sums).reshape(delta.shape) - at_target(feet, base, moved)


def joint_effects(
    feet: Footprints,
    residual: Float[Tensor, "token d_model"],
    delta: Float[Tensor, "token member"],
    target: Int[Tensor, " token"],
    members: Int[Tensor, " member"],
) -> Float[Tensor, " token"]:
    """Δ in nats of ablating a group of neurons together: exact, whatever its size, in O(vocab · d_model) for each position.

    The group moves the residual stream by Σ δ_i·w_i: the identity with one row a position, of that length and direction.
    """
    readout, effects = feet.readout, torch.empty_like(residual[:, 0])
    for start in range(0, len(residual), JOINT_ROWS):
        k = slice(start, start + JOINT_ROWS)
        step = readout.centre(delta[k] @ readout.w_out[members])
        centred, sigma = readout.centre(residual[k]), readout.scale(residual[k])
        grown = (2 * (centred * step).sum(1) + step.square().sum(1)) / step.shape[1]
        alpha, new_sigma = rescale(readout, sigma, grown)
        lam = (centred * readout.gain) @ feet.unembed
        x = alpha[:, None] * lam + (step * readout.gain) @ feet.unembed / new_sigma[:, None]
        p = (lam / sigma[:, None] + feet.constant).softmax(1)
        mean = (p * x).sum(1)
        moment = torch.log1p((p * torch.expm1(x - mean[:, None])).sum(1))
        effects[k] = mean + moment - x.gather(1, feet.rank[target[k], None])[:, 0]
    return effects


def precise_effects(
    readout: Readout,
    residual: Float[Tensor, "pair d_model"],
    delta: Float[Tensor, " pair"],
    target: Int[Tensor, " pair"],
    neuron: Int[Tensor, " pair"],
) -> Float[Tensor, " pair"]:
    """Δ of single pairs in float64, as the loss after less the loss before; the unembedding is never held in float64 whole. Nats; off by about 1e-9 at most."""
    before = residual.double()
    after = before + delta.double()[:, None] * readout.w_out[neuron].double()
    rows = torch.cat([before, after])
    normed = readout.centre(rows) / readout.scale(rows)[:, None] * readout.gain.double() + readout.bias.double()
    blocks = [slice(v, v + VOCAB_BLOCK) for v in range(0, readout.vocab, VOCAB_BLOCK)]
    logits = [normed @ readout.unembed[:, w].double() + readout.unembed_bias[w].double() for w in blocks]
    loss = torch.nn.functional.cross_entropy(torch.cat(logits, 1), target.repeat(2), reduction="none")
    return loss[len(target) :] - loss[: len(target)]

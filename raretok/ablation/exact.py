"""The exact effect of ablating a neuron, in O(vocab) for each pair: with μ any number near the mean of X under p,

    Δ = μ + log1p(Σ_v p_v · expm1(X_v − μ)) − X_y.

With this centring, small effects do not suffer from cancellation, and the sum stays away from −1, because it is not
negative if μ is the mean (Jensen's inequality).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raretok.ablation.capped import capped_effects
from raretok.ablation.identity import (
    Baseline,
    LogitAttribution,
    LogitShift,
    at_target,
    baseline,
    logit_attribution,
    logit_shift,
    reach,
    rescale,
)
from raretok.ablation.kernels import VOCAB_BLOCK, capped_sums, doublings_for, pair_sums, under_cap
from raretok.model.readout import Readout


def part_sums(
    attribution: LogitAttribution,
    base: Baseline,
    moved: LogitShift,
    part: int,
    chosen: Int[Tensor, " pair"],
    compiled: bool = False,
) -> Float[Tensor, " pair"]:
    """Σ p·expm1(X − μ) over a part of the vocabulary for the chosen pairs, which index the flattened arrays."""
    up, down = (side.flatten()[chosen] for side in reach(attribution, base, moved, part))
    of_pair = [x.flatten()[chosen] for x in moved.coefficients]
    token, neuron = chosen // moved.alpha.shape[1], chosen % moved.alpha.shape[1]
    where = attribution.parts[part]
    rows = (base.p[:, where], base.lam[:, where], attribution.u[:, where])
    third = () if base.mlp is None else (base.mlp.mu[:, where],)
    sums = torch.empty_like(of_pair[0])
    doublings = doublings_for(torch.maximum(up, down), compiled)
    for count in torch.unique(doublings).tolist():
        index = (doublings == count).nonzero()[:, 0]
        index = index[neuron[index].argsort(stable=True)]
        sums[index] = pair_sums(compiled, count, *rows, *(x[index] for x in (token, neuron, *of_pair)), *third)
    return sums


def exact_effects(
    readout: Readout,
    residual: Float[Tensor, "token d_model"],
    delta: Float[Tensor, "token neuron"],
    target: Int[Tensor, " token"],
    mlp: Float[Tensor, "token d_model"] | None = None,
) -> Float[Tensor, "token neuron"]:
    """Δ[t, i] in nats, the change of the loss at t when neuron i's activation changes by δ[t, i], of any size.

    ``mlp`` is the output of the last MLP where a norm follows it, see ``Readout.mlp_output``.

    This is the simple counterpart of the certified pass, whose correctness is easy to verify: every pair is computed by
    the identity, in the dtype of the arguments.
    """
    return tile_effects(logit_attribution(readout, residual), residual, delta, target, mlp=mlp)


def tile_effects(
    attribution: LogitAttribution,
    residual: Float[Tensor, "token d_model"],
    delta: Float[Tensor, "token neuron"],
    target: Int[Tensor, " token"],
    compiled: bool = False,
    mlp: Float[Tensor, "token d_model"] | None = None,
) -> Float[Tensor, "token neuron"]:
    """``exact_effects`` with precomputed logit attributions, compiled or not."""
    base = baseline(attribution, residual, target, compiled, mlp)
    moved = logit_shift(attribution, base, delta)
    if base.cap is not None:
        return capped_effects(attribution, base, moved, compiled)[0]
    everything = torch.arange(delta.numel(), device=delta.device)
    sums = part_sums(attribution, base, moved, 0, everything, compiled) + part_sums(
        attribution, base, moved, 1, everything, compiled
    )
    return moved.mean + torch.log1p(sums).reshape(delta.shape) - at_target(attribution, base, moved)


def joint_effects(
    attribution: LogitAttribution,
    base: Baseline,
    change: Float[Tensor, "token d_model"],
    times: Sequence[float] = (1.0,),
    compiled: bool = False,
) -> Float[Tensor, "time token"]:
    """Exact Δ in nats when the MLP's output moves by ``change``, and by each of some multiples of it.

    Ablating a group of neurons moves it by Σ δ_i·w_i, whatever the size of the group, so that the rank-one identity
    applies to this vector at each position. All multiples share the matrix product with the unembedding, unless a norm
    follows the MLP.
    """
    if base.mlp is None:
        return _moved_effects(attribution, base, change, times, compiled)
    steps = (attribution.readout.step(base.mlp.out, time * change) for time in times)
    return torch.cat([_moved_effects(attribution, base, step, (1.0,), compiled) for step in steps])


def _moved_effects(
    attribution: LogitAttribution,
    base: Baseline,
    step: Float[Tensor, "token d_model"],
    times: Sequence[float],
    compiled: bool,
) -> Float[Tensor, "time token"]:
    """Exact Δ in nats when the residual stream moves by multiples of ``step``."""
    readout, rows = attribution.readout, torch.arange(len(step), device=step.device)
    centred = readout.centre(step)
    gained = centred * readout.gain
    moved = gained @ attribution.unembed
    along, square = (base.centred * centred).mean(1), centred.square().mean(1)
    mean, at_target = (base.mean_unembed * gained).sum(1), moved.gather(1, base.target[:, None])[:, 0]
    lam_at_target = base.lam.gather(1, base.target[:, None])[:, 0]
    effects = []
    for time in times:
        alpha, sigma = rescale(readout.eps, base.sigma, 2 * time * along + time**2 * square)
        kappa = time / sigma
        if base.cap is not None:
            assert readout.cap is not None
            offset, squashed = alpha * base.cap.mean_lam, base.cap.squashed
            shared = (base.p, squashed, base.lam, moved, rows, rows, alpha, kappa, offset)
            x = alpha * lam_at_target + kappa * at_target + offset
            of_target = under_cap(readout.cap, squashed.gather(1, base.target[:, None])[:, 0], x)
            effects.append(torch.log1p(capped_sums(False, 0, readout.cap, *shared)[0]) - of_target)
            continue
        sums = pair_sums(compiled, 0, base.p, base.lam, moved, rows, rows, alpha, kappa, kappa * mean)
        effects.append(kappa * mean + torch.log1p(sums) - alpha * lam_at_target - kappa * at_target)
    return torch.stack(effects)


def precise_effects(
    readout: Readout,
    residual: Float[Tensor, "pair d_model"],
    delta: Float[Tensor, " pair"],
    target: Int[Tensor, " pair"],
    neuron: Int[Tensor, " pair"],
    mlp: Float[Tensor, "pair d_model"] | None = None,
) -> Float[Tensor, " pair"]:
    """Δ of single pairs in nats, computed in float64 as the loss after minus the loss before the ablation.

    The unembedding is converted to float64 in blocks, never as a whole. The error is at most about 1e-9 nats.
    """
    before, change = residual.double(), delta.double()[:, None] * readout.w_out[neuron].double()
    rows = torch.cat([before, before + readout.step(None if mlp is None else mlp.double(), change)])
    normed = readout.centre(rows) / readout.scale(rows)[:, None] * readout.gain.double() + readout.bias.double()
    blocks = [slice(v, v + VOCAB_BLOCK) for v in range(0, readout.vocab, VOCAB_BLOCK)]
    logits = [normed @ readout.unembed[:, w].double() + readout.unembed_bias[w].double() for w in blocks]
    loss = torch.nn.functional.cross_entropy(readout.capped(torch.cat(logits, 1)), target.repeat(2), reduction="none")
    return loss[len(target) :] - loss[: len(target)]

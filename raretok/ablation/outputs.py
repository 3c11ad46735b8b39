"""What else an ablation changes, of the same tile and always exactly: entropy, divergence from the unigram, direct effects.

With S_f = Σ p·expm1(Y)·f for f = 1, Y, log p and log q (q the unigram distribution), the ablated p' = p·e^Y / (1 + S_1), and every
expectation under p' is one under p and such a sum. A direct effect is the change of the loss when part of what the neuron acts
through is held at its unablated value (Stolfo et al. 2024): the scale of the final norm, or the logits' component along the
centred, normalised log-unigram direction. The share that is mediated by it is 1 − direct effect / total effect.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from raretok.ablation.certified import Certified, Effects
from raretok.ablation.identity import Baseline, Change, at_target, reach
from raretok.ablation.kernels import doublings_for, output_sums

OUTPUTS = ("loss", "entropy", "kl", "target_logit", "frozen_scale", "frozen_frequency")
"""Δ loss; Δ entropy; Δ KL(model ‖ unigram); Δ logit of the target less the mean logit; and the loss's direct effects: with the
final norm's scale frozen, with the log-unigram direction frozen. The first and last two, entropy and divergence in nats."""
NEED_UNIGRAM = ("kl", "frozen_frequency")


def log_unigram(counts: Int[ndarray, " counted"], vocab: int) -> Float[ndarray, " vocab"]:
    """log of the unigram distribution, half a count added to every type of the model's vocabulary. All below 0; their exponentials sum to 1."""
    padded = np.zeros(vocab)
    padded[: len(counts)] = counts[:vocab]
    return np.log((padded + 0.5) / (padded + 0.5).sum())


def tile_outputs(
    engine: Certified,
    base: Baseline,
    moved: Change,
    delta: Float[Tensor, "token neuron"],
    outputs: tuple[str, ...],
    log_q: Float[Tensor, " vocab"] | None,
) -> tuple[Float[Tensor, "output token neuron"], Effects | None]:
    """The outputs of a tile, in their order, and the effects on the loss with their bounds where these are among them.

    ``log_q``: log unigram probabilities in the model's own order of types; needed by ``NEED_UNIGRAM``.
    """
    found: dict[str, Tensor] = {}
    loss = engine.settle(base, moved) if "loss" in outputs else None
    if loss is not None:
        found["loss"] = loss.value
    if "target_logit" in outputs:
        # λ is centred under p; the mean logit is that over the vocabulary.
        raw = ((base.centred * engine.feet.readout.gain) * engine.feet.unembed.T[base.target]).sum(1, keepdim=True)
        found["target_logit"] = at_target(engine.feet, base, moved) + moved.alpha * (
            raw - base.lam.gather(1, base.target[:, None])
        )
    if "frozen_scale" in outputs:
        kappa = delta / base.sigma[:, None]
        frozen = Change(torch.zeros_like(kappa), kappa, kappa * base.mean_u)
        found["frozen_scale"] = engine.settle(base, frozen).value
    if {"entropy", "kl", "frozen_frequency"} & set(outputs):
        found |= _exponential_outputs(engine, base, moved, log_q)
    return torch.stack([found[name] for name in outputs]), loss


def _exponential_outputs(
    engine: Certified, base: Baseline, moved: Change, log_q: Float[Tensor, " vocab"] | None
) -> dict[str, Tensor]:
    feet = engine.feet
    shape, vocab = moved.alpha.shape, len(feet.order)
    unigram = torch.zeros(vocab).to(base.p) if log_q is None else log_q.to(base.p)[feet.order]
    direction = unigram - unigram.mean()
    direction = direction / direction.norm().clamp_min(torch.finfo(direction.dtype).tiny)
    log_p = base.lam / base.sigma[:, None] + feet.constant
    log_p = log_p - (base.p * log_p).sum(1, keepdim=True)
    along = moved.alpha * (base.lam @ direction)[:, None] + moved.kappa * (feet.u @ direction)
    along_mean = along * (base.p @ direction)[:, None]
    ups, downs = zip(*(reach(feet, base, moved, part) for part in (0, 1)), strict=True)
    furthest = torch.stack([*ups, *downs]).amax(0) + along.abs() * (direction.max() - direction.min())
    doublings = doublings_for(furthest, engine.compiled)
    sums = torch.empty(5, *shape, dtype=base.p.dtype, device=base.p.device)
    for count in torch.unique(doublings).tolist():
        chosen = doublings == count
        token, neuron = (x[chosen.nonzero()[:, 1].argsort(stable=True)] for x in chosen.nonzero(as_tuple=True))
        of_pair = (x[token, neuron] for x in (moved.alpha, moved.kappa, moved.mean, along, along_mean))
        rows = (base.p, base.lam, feet.u, log_p, unigram, direction)
        sums[:, token, neuron] = output_sums(engine.compiled, count, *rows, token, neuron, *of_pair)
    one, y, of_log_p, of_log_q, frozen = sums
    log_ratio = torch.log1p(one)
    entropy = log_ratio - (y + of_log_p) / (1 + one)
    unigram_mean = (base.p @ unigram)[:, None]
    x_target = at_target(feet, base, moved) - along * direction[base.target][:, None]
    return {
        "entropy": entropy,
        "kl": -entropy - (of_log_q - unigram_mean * one) / (1 + one),
        "frozen_frequency": moved.mean - along_mean + torch.log1p(frozen) - x_target,
    }

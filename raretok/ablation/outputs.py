"""Other outputs of an ablation besides the loss: entropy, divergence from the unigram distribution, and direct effects.

Let S_f = Σ p·expm1(Y)·f for f = 1, Y, log p and log q, where q is the unigram distribution. The ablated distribution is
p' = p·e^Y / (1 + S_1), and every expectation under p' follows from one under p and such a sum. A direct effect is the
change of the loss when a mediator of the neuron's effect is held at its unablated value (Stolfo et al. 2024): the scale
of the final norm, or the logits' component along the centred, normalised log-unigram direction. The share of the effect
that is mediated is 1 − direct effect / total effect.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from raretok.ablation.certified import Certified, Effects
from raretok.ablation.identity import Baseline, LogitAttribution, LogitShift, at_target, reach
from raretok.ablation.kernels import doublings_for, output_sums

OUTPUTS = ("loss", "entropy", "kl", "target_logit", "frozen_scale", "frozen_frequency")
"""Names of the outputs, each of which is a change Δ: of the loss, of the entropy, of KL(model ‖ unigram), and of the
target's logit minus the mean logit; then the direct effects on the loss with the final norm's scale frozen, and with
the log-unigram direction frozen. All but the logit are in nats."""
NEED_UNIGRAM = ("kl", "frozen_frequency")
UNDER_CAP = {"loss", "frozen_scale"}
"""The outputs that are computed where the logits have a soft cap."""


def log_unigram(counts: Int[ndarray, " counted"], vocab: int) -> Float[ndarray, " vocab"]:
    """Log probabilities of the unigram distribution, with half a count added to every type of the model's vocabulary.

    All values are below 0, and their exponentials sum to 1.
    """
    padded = np.zeros(vocab)
    padded[: len(counts)] = counts[:vocab]
    return np.log((padded + 0.5) / (padded + 0.5).sum())


def tile_outputs(
    engine: Certified,
    base: Baseline,
    moved: LogitShift,
    delta: Float[Tensor, "token neuron"],
    outputs: tuple[str, ...],
    log_q: Float[Tensor, " vocab"] | None,
) -> tuple[Float[Tensor, "output token neuron"], Effects | None]:
    """The outputs of a tile, in the order requested, and the effects on the loss with their bounds if requested.

    ``log_q`` holds the log unigram probabilities in the model's own order of types; ``NEED_UNIGRAM`` lists the outputs
    that need it.
    """
    values: dict[str, Tensor] = {}
    loss = engine.settle(base, moved) if "loss" in outputs else None
    if loss is not None:
        values["loss"] = loss.value
    if "target_logit" in outputs:
        values["target_logit"] = _target_logit(engine.attribution, base, moved)
    if "frozen_scale" in outputs:
        # σ'/σ, because α = 1/σ' − 1/σ.
        ratio = 1 / (1 + moved.alpha * base.sigma[:, None])
        kappa = delta / base.sigma[:, None] if moved.beta is None else moved.kappa * ratio
        beta = None if moved.beta is None else moved.beta * ratio
        frozen = LogitShift(torch.zeros_like(kappa), kappa, kappa * base.mean_u, beta)
        values["frozen_scale"] = engine.settle(base, frozen).value
    if {"entropy", "kl", "frozen_frequency"} & set(outputs):
        values |= _exponential_outputs(engine, base, moved, log_q)
    return torch.stack([values[name] for name in outputs]), loss


def _target_logit(attribution: LogitAttribution, base: Baseline, moved: LogitShift) -> Float[Tensor, "token neuron"]:
    """The change of the target's logit minus the mean over the vocabulary; the stored λ and μ are centred under p."""

    def mean(centred: Float[Tensor, "token d_model"], stored: Float[Tensor, "token vocab"]) -> Tensor:
        raw = ((centred * attribution.readout.gain) * attribution.unembed.T[base.target]).sum(1, keepdim=True)
        return raw - stored.gather(1, base.target[:, None])

    change = at_target(attribution, base, moved) + moved.alpha * mean(base.centred, base.lam)
    if base.mlp is not None and moved.beta is not None:
        change += moved.beta * mean(base.mlp.centred, base.mlp.mu)
    return change


def _exponential_outputs(
    engine: Certified, base: Baseline, moved: LogitShift, log_q: Float[Tensor, " vocab"] | None
) -> dict[str, Tensor]:
    attribution = engine.attribution
    shape, vocab = moved.alpha.shape, len(attribution.order)
    unigram = torch.zeros(vocab).to(base.p) if log_q is None else log_q.to(base.p)[attribution.order]
    direction = unigram - unigram.mean()
    direction = direction / direction.norm().clamp_min(torch.finfo(direction.dtype).tiny)
    log_p = base.lam / base.sigma[:, None] + attribution.constant
    log_p = log_p - (base.p * log_p).sum(1, keepdim=True)
    along = moved.alpha * (base.lam @ direction)[:, None] + moved.kappa * (attribution.u @ direction)
    if base.mlp is not None and moved.beta is not None:
        along += moved.beta * (base.mlp.mu @ direction)[:, None]
    along_mean = along * (base.p @ direction)[:, None]
    ups, downs = zip(*(reach(attribution, base, moved, part) for part in (0, 1)), strict=True)
    furthest = torch.stack([*ups, *downs]).amax(0) + along.abs() * (direction.max() - direction.min())
    doublings = doublings_for(furthest, engine.compiled)
    sums = torch.empty(5, *shape, dtype=base.p.dtype, device=base.p.device)
    for count in torch.unique(doublings).tolist():
        chosen = doublings == count
        token, neuron = (x[chosen.nonzero()[:, 1].argsort(stable=True)] for x in chosen.nonzero(as_tuple=True))
        of_pair = (x[token, neuron] for x in (along, along_mean, *moved.coefficients))
        rows = (base.p, base.lam, attribution.u, log_p, unigram, direction)
        third = () if base.mlp is None else (base.mlp.mu,)
        sums[:, token, neuron] = output_sums(engine.compiled, count, *rows, token, neuron, *of_pair, *third)
    one, y, of_log_p, of_log_q, frozen = sums
    log_ratio = torch.log1p(one)
    entropy = log_ratio - (y + of_log_p) / (1 + one)
    unigram_mean = (base.p @ unigram)[:, None]
    x_target = at_target(attribution, base, moved) - along * direction[base.target][:, None]
    return {
        "entropy": entropy,
        "kl": -entropy - (of_log_q - unigram_mean * one) / (1 + one),
        "frozen_frequency": moved.mean - along_mean + torch.log1p(frozen) - x_target,
    }

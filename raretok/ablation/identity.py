"""The rank-one identity (method §3): what ablating one neuron at one position does to the logits, exactly.

Ablation moves the residual stream from r to r + δ·w, so the scale of the final norm and the logits become

    σ'² = (|C r|² + 2 δ ⟨C r, C w⟩ + δ² |C w|²) / d_model + ε        logits' = (λ + δ·u) / σ' + b

with λ = (γ∘C r)·W_U and u = (γ∘C w)·W_U, and the logits change by X = α·λ + κ·u, α = 1/σ' − 1/σ, κ = δ/σ'. The unembedding is
centred over the vocabulary first, which adds one constant to all logits of a position and so changes nothing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raretok.ablation.kernels import VOCAB_BLOCK, softmax_stats
from raretok.model.readout import Readout


@dataclass(frozen=True)
class Footprints:
    """What does not depend on the position: every neuron's footprint u on the logits, its extremes, and norms."""

    readout: Readout
    unembed: Float[Tensor, "d_model vocab"]
    unembed_norm: Float[Tensor, " vocab"]
    constant: Float[Tensor, " vocab"]
    centred: Float[Tensor, "neuron d_model"]
    gained: Float[Tensor, "neuron d_model"]
    square: Float[Tensor, " neuron"]
    u: Float[Tensor, "neuron vocab"]
    high: Float[Tensor, " neuron"]
    low: Float[Tensor, " neuron"]


@dataclass(frozen=True)
class Baseline:
    """The unablated state of a tile of positions: λ, centred under p, with its variance and extremes; E[u] and E[λu]."""

    centred: Float[Tensor, "token d_model"]
    sigma: Float[Tensor, " token"]
    lam: Float[Tensor, "token vocab"]
    p: Float[Tensor, "token vocab"]
    variance: Float[Tensor, " token"]
    high: Float[Tensor, " token"]
    low: Float[Tensor, " token"]
    mean_u: Float[Tensor, "token neuron"]
    mean_lam_u: Float[Tensor, "token neuron"]
    target: Int[Tensor, " token"]


@dataclass(frozen=True)
class Change:
    """X = α·λ + κ·u for token × neuron, and its mean under p."""

    alpha: Float[Tensor, "token neuron"]
    kappa: Float[Tensor, "token neuron"]
    mean: Float[Tensor, "token neuron"]


def footprints(readout: Readout) -> Footprints:
    """Every neuron's footprint on the logits; 4 · d_mlp · vocab bytes in float32."""
    unembed = (readout.unembed - readout.unembed.mean(1, keepdim=True)).contiguous()
    centred = readout.centre(readout.w_out)
    gained = centred * readout.gain
    u = gained @ unembed
    return Footprints(
        readout=readout,
        unembed=unembed,
        unembed_norm=unembed.norm(dim=0),
        constant=readout.constant,
        centred=centred,
        gained=gained,
        square=centred.square().sum(-1),
        u=u,
        high=u.amax(1),
        low=u.amin(1),
    )


def baseline(
    feet: Footprints, residual: Float[Tensor, "token d_model"], target: Int[Tensor, " token"], compiled: bool = False
) -> Baseline:
    """The unablated state of some positions; everything that costs vocab × d_model."""
    centred = feet.readout.centre(residual)
    sigma = feet.readout.scale(residual)
    p, lam, weighted, variance, high, low = softmax_stats(
        compiled, (centred * feet.readout.gain) @ feet.unembed, sigma, feet.constant
    )
    return Baseline(
        centred=centred,
        sigma=sigma,
        lam=lam,
        p=p,
        variance=variance,
        high=high,
        low=low,
        mean_u=_blocked(p, feet.unembed) @ feet.gained.T,
        mean_lam_u=_blocked(weighted, feet.unembed) @ feet.gained.T,
        target=target,
    )


def _blocked(
    weights: Float[Tensor, "token vocab"], unembed: Float[Tensor, "d_model vocab"]
) -> Float[Tensor, "token d_model"]:
    """weights · unembedᵀ, summed by blocks of types so that rounding does not grow with the vocabulary."""
    total = weights.new_zeros(len(weights), len(unembed))
    for v in range(0, weights.shape[1], VOCAB_BLOCK):
        total.addmm_(weights[:, v : v + VOCAB_BLOCK], unembed[:, v : v + VOCAB_BLOCK].T)
    return total


def change(feet: Footprints, base: Baseline, delta: Float[Tensor, "token neuron"]) -> Change:
    """α and κ of every pair, written so that a small δ loses no digits: α = −(σ'² − σ²) / (σ σ' (σ + σ'))."""
    d_model = feet.centred.shape[1]
    grown = (2 * delta * (base.centred @ feet.centred.T) + delta.square() * feet.square) / d_model
    sigma = base.sigma[:, None]
    new_sigma = (sigma.square() + grown).clamp_min(feet.readout.eps).sqrt()
    kappa = delta / new_sigma
    return Change(-grown / (sigma * new_sigma * (sigma + new_sigma)), kappa, kappa * base.mean_u)


def reach(feet: Footprints, base: Baseline, moved: Change) -> tuple[Tensor, Tensor]:
    """How far X may lie above and below its mean, over all types: token × neuron each."""
    high, low = base.high[:, None], base.low[:, None]
    alpha, kappa, mean = moved.alpha, moved.kappa, moved.mean
    up = torch.maximum(alpha * high, alpha * low) + torch.maximum(kappa * feet.high, kappa * feet.low) - mean
    down = mean - torch.minimum(alpha * high, alpha * low) - torch.minimum(kappa * feet.high, kappa * feet.low)
    return up, down


def at_target(feet: Footprints, base: Baseline, moved: Change) -> Float[Tensor, "token neuron"]:
    """X at each position's target."""
    u = feet.unembed.T[base.target] @ feet.gained.T
    return moved.alpha * base.lam.gather(1, base.target[:, None]) + moved.kappa * u

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

from raretok.model.readout import Readout


@dataclass(frozen=True)
class Footprints:
    """What does not depend on the position: every neuron's footprint u on the logits, and its extremes."""

    readout: Readout
    unembed: Float[Tensor, "d_model vocab"]
    constant: Float[Tensor, " vocab"]
    centred: Float[Tensor, "neuron d_model"]
    gained: Float[Tensor, "neuron d_model"]
    square: Float[Tensor, " neuron"]
    u: Float[Tensor, "neuron vocab"]


@dataclass(frozen=True)
class Baseline:
    """The unablated state of a tile of positions: λ, which has mean 0 under p, and the mean of every u under p."""

    centred: Float[Tensor, "token d_model"]
    square: Float[Tensor, " token"]
    sigma: Float[Tensor, " token"]
    lam: Float[Tensor, "token vocab"]
    p: Float[Tensor, "token vocab"]
    mean_u: Float[Tensor, "token neuron"]
    target: Int[Tensor, " token"]


@dataclass(frozen=True)
class Change:
    """X = α·λ + κ·u for token × neuron, and its mean under p."""

    alpha: Float[Tensor, "token neuron"]
    kappa: Float[Tensor, "token neuron"]
    mean: Float[Tensor, "token neuron"]


def footprints(readout: Readout) -> Footprints:
    """Every neuron's footprint on the logits; 4 · d_mlp · vocab bytes in float32."""
    unembed = readout.unembed - readout.unembed.mean(1, keepdim=True)
    centred = readout.centre(readout.w_out)
    gained = centred * readout.gain
    return Footprints(readout, unembed, readout.constant, centred, gained, centred.square().sum(-1), gained @ unembed)


def baseline(feet: Footprints, residual: Float[Tensor, "token d_model"], target: Int[Tensor, " token"]) -> Baseline:
    """The unablated state of some positions."""
    centred = feet.readout.centre(residual)
    sigma = feet.readout.scale(residual)
    lam = (centred * feet.readout.gain) @ feet.unembed
    p = torch.softmax(lam / sigma[:, None] + feet.constant, -1)
    lam -= (p * lam).sum(-1, keepdim=True)
    mean_u = (p @ feet.unembed.T) @ feet.gained.T
    return Baseline(centred, centred.square().sum(-1), sigma, lam, p, mean_u, target)


def change(feet: Footprints, base: Baseline, delta: Float[Tensor, "token neuron"]) -> Change:
    """α and κ of every pair, written so that a small δ loses no digits: α = −(σ'² − σ²) / (σ σ' (σ + σ'))."""
    d_model = feet.centred.shape[1]
    grown = (2 * delta * (base.centred @ feet.centred.T) + delta.square() * feet.square) / d_model
    sigma = base.sigma[:, None]
    new_sigma = (sigma.square() + grown).clamp_min(feet.readout.eps).sqrt()
    kappa = delta / new_sigma
    return Change(-grown / (sigma * new_sigma * (sigma + new_sigma)), kappa, kappa * base.mean_u)

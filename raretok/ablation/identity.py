"""The rank-one identity (method §3): what ablating one neuron at one position does to the logits, exactly.

Ablation moves the residual stream from r to r + δ·w, so the scale of the final norm and the logits become

    σ'² = (|C r|² + 2 δ ⟨C r, C w⟩ + δ² |C w|²) / d_model + ε        logits' = (λ + δ·u) / σ' + b

with λ = (γ∘C r)·W_U and u = (γ∘C w)·W_U, and the logits change by X = α·λ + κ·u, α = 1/σ' − 1/σ, κ = δ/σ'. The unembedding is
centred over the vocabulary first, which adds one constant to all logits of a position and so changes nothing; and its types are
put in order of probability, so that a prefix – the head – carries most of it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raretok.ablation.kernels import VOCAB_BLOCK, has_bf16, softmax_stats
from raretok.model.readout import Readout

HEAD_SHARE = 4
"""One type in so many is in the head of the vocabulary."""
PILOTS = 64
"""Positions whose probabilities order the vocabulary."""


@dataclass(frozen=True)
class Footprints:
    """What does not depend on the position: every neuron's footprint u on the logits, its extremes, and norms.

    Vocabulary axes are in the order ``order``; ``rank`` is its inverse; ``parts`` are the head and the tail; ``pilots`` are the
    positions whose mean probabilities gave the order.
    """

    readout: Readout
    pilots: Float[Tensor, "pilot d_model"]
    order: Int[Tensor, " vocab"]
    rank: Int[Tensor, " vocab"]
    parts: tuple[slice, slice]
    unembed: Float[Tensor, "d_model vocab"]
    unembed_low: Float[Tensor, "d_model vocab"]
    unembed_norm: Float[Tensor, " vocab"]
    constant: Float[Tensor, " vocab"]
    centred: Float[Tensor, "neuron d_model"]
    gained: Float[Tensor, "neuron d_model"]
    length: Float[Tensor, " neuron"]
    square: Float[Tensor, " neuron"]
    u: Float[Tensor, "neuron vocab"]
    high: Float[Tensor, "part neuron"]
    low: Float[Tensor, "part neuron"]

    @property
    def low_precision(self) -> bool:
        """Whether products that only the variance needs are taken in bfloat16."""
        return self.unembed_low.dtype != self.unembed.dtype


@dataclass(frozen=True)
class Part:
    """Sums over the head or the tail of the vocabulary, weighted by p; λ is centred under p over the whole vocabulary."""

    mass: Float[Tensor, " token"]
    lam: Float[Tensor, " token"]
    lam_square: Float[Tensor, " token"]
    high: Float[Tensor, " token"]
    low: Float[Tensor, " token"]
    mean_u: Float[Tensor, "token neuron"]


@dataclass(frozen=True)
class Baseline:
    """The unablated state of a tile of positions: λ, centred under p; p; E[u], and by parts of the vocabulary."""

    centred: Float[Tensor, "token d_model"]
    sigma: Float[Tensor, " token"]
    lam: Float[Tensor, "token vocab"]
    p: Float[Tensor, "token vocab"]
    p_low: Float[Tensor, "token vocab"]
    weighted_low: Float[Tensor, "token vocab"]
    parts: tuple[Part, ...]
    mean_unembed: Float[Tensor, "token d_model"]
    mean_u: Float[Tensor, "token neuron"]
    target: Int[Tensor, " token"]


@dataclass(frozen=True)
class Change:
    """X = α·λ + κ·u for token × neuron, and its mean under p."""

    alpha: Float[Tensor, "token neuron"]
    kappa: Float[Tensor, "token neuron"]
    mean: Float[Tensor, "token neuron"]


def footprints(readout: Readout, residual: Float[Tensor, "token d_model"]) -> Footprints:
    """Every neuron's footprint on the logits; 4 · d_mlp · vocab bytes in float32.

    ``residual``: positions like those to be ablated at, of which some order the vocabulary.
    """
    pilots = residual[:: max(1, len(residual) // PILOTS)][:PILOTS].to(readout.w_out)
    order = readout.logits(pilots).softmax(1).mean(0).argsort(descending=True, stable=True)
    unembed = readout.unembed[:, order]
    unembed -= unembed.mean(1, keepdim=True)
    centred = readout.centre(readout.w_out)
    gained = centred * readout.gain
    u = gained @ unembed
    low = unembed.dtype == torch.float32 and has_bf16(unembed.device.type)
    cut = -(-readout.vocab // HEAD_SHARE)
    parts = (slice(0, cut), slice(cut, readout.vocab))
    return Footprints(
        readout=readout,
        pilots=pilots,
        order=order,
        rank=order.argsort(),
        parts=parts,
        unembed=unembed,
        unembed_low=unembed.bfloat16() if low else unembed,
        unembed_norm=unembed.norm(dim=0),
        constant=readout.constant[order],
        centred=centred,
        gained=gained,
        length=gained.norm(dim=1),
        square=centred.square().sum(-1),
        u=u,
        high=torch.stack([u[:, w].amax(1) for w in parts]),
        low=torch.stack([u[:, w].amin(1) for w in parts]),
    )


def baseline(
    feet: Footprints, residual: Float[Tensor, "token d_model"], target: Int[Tensor, " token"], compiled: bool = False
) -> Baseline:
    """The unablated state of some positions; everything that costs vocab × d_model."""
    centred = feet.readout.centre(residual)
    sigma = feet.readout.scale(residual)
    p, lam, p_low, weighted_low, *sums = softmax_stats(
        compiled,
        (centred * feet.readout.gain) @ feet.unembed,
        *(sigma, feet.constant, feet.parts[0].stop, feet.unembed_low.dtype),
    )
    mean_unembed = [_blocked(p[:, where], feet.unembed[:, where]) for where in feet.parts]
    parts = [
        Part(mass, one, two, high, low, mean @ feet.gained.T)
        for (mass, one, two, high, low), mean in zip((sums[:5], sums[5:]), mean_unembed, strict=True)
    ]
    return Baseline(
        centred=centred,
        sigma=sigma,
        lam=lam,
        p=p,
        p_low=p_low,
        weighted_low=weighted_low,
        parts=tuple(parts),
        mean_unembed=mean_unembed[0] + mean_unembed[1],
        mean_u=parts[0].mean_u + parts[1].mean_u,
        target=feet.rank[target],
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
    """α and κ of every pair."""
    d_model = feet.centred.shape[1]
    grown = (2 * delta * (base.centred @ feet.centred.T) + delta.square() * feet.square) / d_model
    alpha, new_sigma = rescale(feet.readout, base.sigma[:, None], grown)
    kappa = delta / new_sigma
    return Change(alpha, kappa, kappa * base.mean_u)


def rescale(
    readout: Readout, sigma: Float[Tensor, "token *one"], grown: Float[Tensor, "token *neuron"]
) -> tuple[Tensor, Tensor]:
    """α and σ' where σ² grows by ``grown``, so that a small change loses no digits: α = −(σ'² − σ²) / (σ σ' (σ + σ'))."""
    new_sigma = (sigma.square() + grown).clamp_min(readout.eps).sqrt()
    return -grown / (sigma * new_sigma * (sigma + new_sigma)), new_sigma


def reach(feet: Footprints, base: Baseline, moved: Change, part: int) -> tuple[Tensor, Tensor]:
    """How far X may lie above and below its mean, over the types of a part: token × neuron each, not negative."""
    high, low = base.parts[part].high[:, None], base.parts[part].low[:, None]
    alpha, kappa, mean = moved.alpha, moved.kappa, moved.mean
    u_high, u_low = feet.high[part], feet.low[part]
    up = torch.maximum(alpha * high, alpha * low) + torch.maximum(kappa * u_high, kappa * u_low) - mean
    down = mean - torch.minimum(alpha * high, alpha * low) - torch.minimum(kappa * u_high, kappa * u_low)
    return up.clamp_min_(0.0), down.clamp_min_(0.0)


def at_target(feet: Footprints, base: Baseline, moved: Change) -> Float[Tensor, "token neuron"]:
    """X at each position's target."""
    u = feet.unembed.T[base.target] @ feet.gained.T
    return moved.alpha * base.lam.gather(1, base.target[:, None]) + moved.kappa * u

"""The rank-one identity (method §3) for the exact effect of ablating one neuron at one position on the logits.

Ablation moves the residual stream from r to r + δ·w, so the scale of the final norm and the logits become

    σ'² = (|C r|² + 2 δ ⟨C r, C w⟩ + δ² |C w|²) / d_model + ε        logits' = (λ + δ·u) / σ' + b

with λ = (γ∘C r)·W_U and u = (γ∘C w)·W_U, and the logits change by X = α·λ + κ·u, α = 1/σ' − 1/σ, κ = δ/σ'. Where a
norm with gain g and scale s follows the MLP, whose output is m, the stream moves by (1/s' − 1/s)·g∘C m + δ/s'·g∘C w
instead, and the logits change by X = α·λ + β·μ + κ·u with μ = (γ∘C(g∘C m))·W_U and u of g∘C w.

The unembedding is first centred over the vocabulary, which adds the same constant to all logits of a position and so
leaves the probabilities unchanged, unless there is a soft cap, which sees the constant. Its types are sorted by
probability, so that a prefix, the head, carries most of it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raretok.ablation.kernels import VOCAB_BLOCK, has_bf16, softmax_stats
from raretok.model.readout import Readout

HEAD_SHARE = 4
"""One type in this many is in the head of the vocabulary."""
PILOTS = 64
"""Number of positions whose mean probabilities determine the order of the vocabulary."""


@dataclass(frozen=True)
class LogitAttribution:
    """Quantities that do not depend on the position: every neuron's attribution u to the logits, its extremes, norms.

    Vocabulary axes are in the order ``order``; ``rank`` is its inverse; ``parts`` are the head and the tail; ``pilots``
    are the residual streams of the positions whose mean probabilities determine the order.
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
    inner: Float[Tensor, "neuron d_model"] | None
    """C w in the norm after the MLP, if there is one."""

    @property
    def low_precision(self) -> bool:
        """Whether products that only the variance needs are computed in bfloat16."""
        return self.unembed_low.dtype != self.unembed.dtype


@dataclass(frozen=True)
class MlpPart:
    """Sums over a part of the vocabulary of p·μ, p·μ² and p·λ·μ, and the extremes of μ there."""

    mu: Float[Tensor, " token"]
    mu_square: Float[Tensor, " token"]
    lam_mu: Float[Tensor, " token"]
    high: Float[Tensor, " token"]
    low: Float[Tensor, " token"]


@dataclass(frozen=True)
class MlpBaseline:
    """The unablated output of the MLP where a norm follows it.

    It holds m, C m, and g∘C m centred for the final norm; then μ centred under p, its mean, p·μ, and sums over parts of
    the vocabulary.
    """

    out: Float[Tensor, "token d_model"]
    inner: Float[Tensor, "token d_model"]
    centred: Float[Tensor, "token d_model"]
    mu: Float[Tensor, "token vocab"]
    mean_mu: Float[Tensor, " token"]
    weighted_low: Float[Tensor, "token vocab"]
    parts: tuple[MlpPart, ...]


@dataclass(frozen=True)
class Cap:
    """What a soft cap adds to the unablated state: tanh(logits/cap), and the mean of λ under p."""

    squashed: Float[Tensor, "token vocab"]
    mean_lam: Float[Tensor, " token"]


@dataclass(frozen=True)
class Part:
    """Sums over the head or the tail of the vocabulary, weighted by p, and the extremes of λ there.

    λ is centred under p over the whole vocabulary.
    """

    mass: Float[Tensor, " token"]
    lam: Float[Tensor, " token"]
    lam_square: Float[Tensor, " token"]
    high: Float[Tensor, " token"]
    low: Float[Tensor, " token"]
    mean_u: Float[Tensor, "token neuron"]


@dataclass(frozen=True)
class Baseline:
    """The unablated state of a tile of positions: λ centred under p, p, E[u], and sums over parts of the vocabulary."""

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
    mlp: MlpBaseline | None = None
    cap: Cap | None = None


@dataclass(frozen=True)
class LogitShift:
    """The shift X = α·λ + β·μ + κ·u for every token and neuron, and its mean under p.

    β is None unless a norm follows the MLP.
    """

    alpha: Float[Tensor, "token neuron"]
    kappa: Float[Tensor, "token neuron"]
    mean: Float[Tensor, "token neuron"]
    beta: Float[Tensor, "token neuron"] | None = None

    @property
    def coefficients(self) -> tuple[Tensor, ...]:
        """α, κ, the mean and, if there is one, β."""
        return (self.alpha, self.kappa, self.mean, *(() if self.beta is None else (self.beta,)))


def logit_attribution(readout: Readout, residual: Float[Tensor, "token d_model"]) -> LogitAttribution:
    """Every neuron's attribution to the logits, which takes 4 · d_mlp · vocab bytes in float32.

    ``residual`` holds the residual stream at positions similar to those to be ablated; some of them determine the order
    of the vocabulary.
    """
    pilots = residual[:: max(1, len(residual) // PILOTS)][:PILOTS].to(readout.w_out)
    order = readout.logits(pilots).softmax(1).mean(0).argsort(descending=True, stable=True)
    unembed = readout.unembed[:, order]
    if readout.cap is None:
        unembed -= unembed.mean(1, keepdim=True)
    inner = None if readout.after is None else readout.after.centre(readout.w_out)
    centred = readout.centre(readout.direction)
    gained = centred * readout.gain
    u = gained @ unembed
    low = unembed.dtype == torch.float32 and has_bf16(unembed.device.type)
    cut = -(-readout.vocab // HEAD_SHARE)
    parts = (slice(0, cut), slice(cut, readout.vocab))
    return LogitAttribution(
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
        inner=inner,
    )


def baseline(
    attribution: LogitAttribution,
    residual: Float[Tensor, "token d_model"],
    target: Int[Tensor, " token"],
    compiled: bool = False,
    mlp: Float[Tensor, "token d_model"] | None = None,
) -> Baseline:
    """The unablated state of some positions, which includes all computations of cost vocab × d_model.

    ``mlp`` is the output of the last MLP, for models with a norm after it (``Readout.mlp_output``).
    """
    centred = attribution.readout.centre(residual)
    sigma = attribution.readout.scale(residual)
    raw, cap = (centred * attribution.readout.gain) @ attribution.unembed, attribution.readout.cap
    p, lam, p_low, weighted_low, *sums = softmax_stats(
        compiled and cap is None,
        raw,
        *(sigma, attribution.constant, attribution.parts[0].stop, attribution.unembed_low.dtype, cap),
    )
    mean_unembed = [_blocked(p[:, where], attribution.unembed[:, where]) for where in attribution.parts]
    parts = [
        Part(mass, one, two, high, low, mean @ attribution.gained.T)
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
        target=attribution.rank[target],
        mlp=None if mlp is None else _mlp_baseline(attribution, mlp, p, lam),
        cap=None if cap is None else _cap(attribution, sigma, raw, p, cap),
    )


def _cap(
    attribution: LogitAttribution,
    sigma: Float[Tensor, " token"],
    raw: Float[Tensor, "token vocab"],
    p: Float[Tensor, "token vocab"],
    cap: float,
) -> Cap:
    squashed = torch.tanh((raw / sigma[:, None] + attribution.constant) / cap)
    return Cap(squashed, (p * raw).sum(1))


def _mlp_baseline(
    attribution: LogitAttribution,
    mlp: Float[Tensor, "token d_model"],
    p: Float[Tensor, "token vocab"],
    lam: Float[Tensor, "token vocab"],
) -> MlpBaseline:
    readout, after = attribution.readout, attribution.readout.after
    assert after
    inner = after.centre(mlp)
    centred = readout.centre(after.gain * inner)
    mu = (centred * readout.gain) @ attribution.unembed
    mean_mu = (p * mu).sum(1, keepdim=True)
    mu -= mean_mu
    weighted = p * mu
    parts = [
        MlpPart(
            weighted[:, w].sum(1),
            (weighted[:, w] * mu[:, w]).sum(1),
            (weighted[:, w] * lam[:, w]).sum(1),
            mu[:, w].amax(1),
            mu[:, w].amin(1),
        )
        for w in attribution.parts
    ]
    low = weighted.to(attribution.unembed_low.dtype)
    return MlpBaseline(mlp, inner, centred, mu, mean_mu[:, 0], low, tuple(parts))


def _blocked(
    weights: Float[Tensor, "token vocab"], unembed: Float[Tensor, "d_model vocab"]
) -> Float[Tensor, "token d_model"]:
    """weights · unembedᵀ, summed in blocks of types so that rounding errors do not grow with the vocabulary."""
    total = weights.new_zeros(len(weights), len(unembed))
    for v in range(0, weights.shape[1], VOCAB_BLOCK):
        total.addmm_(weights[:, v : v + VOCAB_BLOCK], unembed[:, v : v + VOCAB_BLOCK].T)
    return total


def logit_shift(attribution: LogitAttribution, base: Baseline, delta: Float[Tensor, "token neuron"]) -> LogitShift:
    """The shift of every pair, given by its coefficients."""
    d_model = attribution.centred.shape[1]
    readout, mlp, along, times = attribution.readout, base.mlp, None, delta
    if mlp is not None:
        assert readout.after
        assert attribution.inner is not None
        # In float64, because a neuron that makes up most of the MLP's output leaves a small difference of large terms.
        inner, rows, change = mlp.inner.double(), attribution.inner.double(), delta.double()
        inside = 2 * change * (inner @ rows.T) + change.square() * rows.square().sum(1)
        along, new_scale = rescale(readout.after.eps, readout.after.scale(inner)[:, None], inside / d_model)
        along, times = along.to(delta), (change / new_scale).to(delta)
    grown = 2 * times * (base.centred @ attribution.centred.T) + times.square() * attribution.square
    if mlp is not None and along is not None:
        both = (mlp.centred @ attribution.centred.T) * times
        alone = along * mlp.centred.square().sum(1, keepdim=True)
        grown += along * (2 * (base.centred * mlp.centred).sum(1, keepdim=True) + 2 * both + alone)
    alpha, new_sigma = rescale(readout.eps, base.sigma[:, None], grown / d_model)
    kappa = times / new_sigma
    return LogitShift(alpha, kappa, kappa * base.mean_u, None if along is None else along / new_sigma)


def rescale(
    eps: float, sigma: Float[Tensor, "token *one"], grown: Float[Tensor, "token *neuron"]
) -> tuple[Tensor, Tensor]:
    """1/σ' − 1/σ and σ' when σ² grows by ``grown``; ``eps`` is the least that σ'² can be.

    The form −(σ'² − σ²) / (σ σ' (σ + σ')) avoids cancellation for small changes.
    """
    new_sigma = (sigma.square() + grown).clamp_min(eps).sqrt()
    return -grown / (sigma * new_sigma * (sigma + new_sigma)), new_sigma


def reach(attribution: LogitAttribution, base: Baseline, moved: LogitShift, part: int) -> tuple[Tensor, Tensor]:
    """Upper bounds of how far X lies above and below its mean over the types of a part.

    Both are token × neuron and not negative.
    """
    terms = [
        (moved.alpha, base.parts[part].high[:, None], base.parts[part].low[:, None]),
        (moved.kappa, attribution.high[part], attribution.low[part]),
    ]
    if base.mlp is not None and moved.beta is not None:
        terms.append((moved.beta, base.mlp.parts[part].high[:, None], base.mlp.parts[part].low[:, None]))
    up, down = -moved.mean, moved.mean
    for times, high, low in terms:
        up = up + torch.maximum(times * high, times * low)
        down = down - torch.minimum(times * high, times * low)
    return up.clamp_min_(0.0), down.clamp_min_(0.0)


def at_target(attribution: LogitAttribution, base: Baseline, moved: LogitShift) -> Float[Tensor, "token neuron"]:
    """The shift X at each position's target."""
    u = attribution.unembed.T[base.target] @ attribution.gained.T
    shift = moved.alpha * base.lam.gather(1, base.target[:, None]) + moved.kappa * u
    if base.mlp is not None and moved.beta is not None:
        shift += moved.beta * base.mlp.mu.gather(1, base.target[:, None])
    return shift

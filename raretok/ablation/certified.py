"""Effects to second order, each with a proven bracket; pairs whose bracket is too wide are done exactly (method §3).

With Y = X − E[X] and e^y = 1 + y + y²ψ(y), ψ(y) = (e^y − 1 − y)/y² increasing, log E[e^X] − E[X] = log1p(Σ p·Y²ψ(Y)).
Over any part of the vocabulary in which Y lies in [−R₋, R₊],

    ψ(−R₋)·Σ p·Y²  ≤  Σ p·Y²ψ(Y)  ≤  ψ(R₊)·Σ p·Y².

The vocabulary has two parts: the head, a quarter of the types that carries most of the probability, and the tail. A
pair passes through three stages and stops when its bracket is narrow enough: both parts are computed to second order,
then the head is computed exactly, and then the tail as well.
"""

from copy import copy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raretok.ablation.capped import capped_effects, furthest_of
from raretok.ablation.exact import part_sums
from raretok.ablation.identity import Baseline, LogitAttribution, LogitShift, at_target, baseline, logit_shift, reach
from raretok.ablation.kernels import bracket, float32_sums, part_square
from raretok.ablation.rounding import Rounding, calibrate, rounding_of


@dataclass(frozen=True)
class Effects:
    """Δ in nats of a tile, an error bound for each value, and the pairs for which the second order did not suffice."""

    value: Float[Tensor, "token neuron"]
    bound: Float[Tensor, "token neuron"]
    used_fallback: Bool[Tensor, "token neuron"]


@dataclass(frozen=True)
class PartBracket:
    """Σ p·Y² over a part of the vocabulary, with lower and upper bounds of Σ p·(e^Y − 1 − Y)."""

    square: Float[Tensor, "token neuron"]
    lower: Float[Tensor, "token neuron"]
    upper: Float[Tensor, "token neuron"]


class Certified:
    """The certified pass over tiles of positions, which holds the data that all tiles share."""

    def __init__(self, attribution: LogitAttribution, tolerance: float, compiled: bool = False) -> None:
        """``tolerance`` is the largest bound, in nats, that is accepted without the exact pass."""
        self.attribution = attribution
        self.tolerance = tolerance
        self.compiled = compiled
        self.calibration = calibrate(attribution)
        # The axes are ordered as [type, neuron], so that blocks of types are contiguous rows for the product.
        squares = torch.empty(
            attribution.u.shape[::-1], dtype=attribution.unembed_low.dtype, device=attribution.u.device
        )
        for start in range(0, len(attribution.u), 64):
            squares[:, start : start + 64] = attribution.u[start : start + 64].square().T
        self.squares = squares

    def at(self, tolerance: float, compiled: bool) -> "Certified":
        """The same pass with another tolerance, compiled or not."""
        other = copy(self)
        other.tolerance, other.compiled = tolerance, compiled
        return other

    def __call__(
        self,
        residual: Float[Tensor, "token d_model"],
        delta: Float[Tensor, "token neuron"],
        target: Int[Tensor, " token"],
        mlp: Float[Tensor, "token d_model"] | None = None,
    ) -> Effects:
        """Effects of all neurons at the positions of one tile, with the arguments that ``tile_inputs`` returns."""
        base = baseline(self.attribution, residual, target, self.compiled, mlp)
        return self.settle(base, logit_shift(self.attribution, base, delta))

    def settle(self, base: Baseline, moved: LogitShift) -> Effects:
        """Effects of any change α·λ + β·μ + κ·u of the logits, as precise as float32 allows."""
        rounding = rounding_of(self.attribution, self.calibration, base, moved)
        if base.cap is not None:
            return self._capped(base, moved, rounding)
        head, tail = (self.bracket(base, moved, part) for part in (0, 1))
        guess = head.square / 2 + tail.square / 2
        moment, bound = _settle(guess, head.lower + tail.lower, head.upper + tail.upper, self.tolerance)
        bound += rounding.of(moment + bound)
        wide = ~(bound <= self.tolerance)
        self._refine(base, moved, rounding, tail, wide, moment, bound)
        return Effects(moved.mean + moment - at_target(self.attribution, base, moved), bound, wide)

    def _capped(self, base: Baseline, moved: LogitShift, rounding: Rounding) -> Effects:
        """Effects under a soft cap, with exponentials for every pair, so that rounding is all that is uncertain."""
        cap = self.attribution.readout.cap
        assert cap is not None
        value, moment = capped_effects(self.attribution, base, moved, self.compiled)
        furthest = furthest_of(self.attribution, base, moved)
        # X is rounded on its way through the cap, its constants included, and the slope of the cap, which multiplies an
        # error of a logit, changes by at most |X|/cap.
        through = 16 * torch.finfo(value.dtype).eps * furthest
        slopes = 2 * rounding.logit[:, None] * furthest / cap
        bound = rounding.of(moment) + through + slopes
        return Effects(value, bound, torch.ones_like(value, dtype=torch.bool))

    def bracket(self, base: Baseline, moved: LogitShift, part: int) -> PartBracket:
        """One part of the vocabulary to second order."""
        attribution, sums, where = self.attribution, base.parts[part], self.attribution.parts[part]
        dtype = base.p.dtype
        with float32_sums(base.p.device.type):
            weighted = (base.weighted_low[:, where] @ attribution.unembed_low[:, where].T).to(dtype)
            square = (base.p_low[:, where] @ self.squares[where]).to(dtype)
        square_norm = base.p[:, where] @ attribution.unembed_norm[where].square()
        off = self._product_error(sums.lam_square * square_norm, weighted)
        per_token = (x[:, None] for x in (sums.mass, sums.lam, sums.lam_square))
        y_square, off = part_square(
            self.compiled,
            attribution.low_precision,
            *(moved.alpha, moved.kappa, moved.mean),
            *per_token,
            *(sums.mean_u, weighted @ attribution.gained.T, square, off),
        )
        if base.mlp is not None:
            y_square, off = self._with_mlp(base, moved, part, square_norm, y_square, off)
        return PartBracket(y_square, *bracket(self.compiled, y_square, off, *reach(attribution, base, moved, part)))

    def _product_error(
        self, square: Float[Tensor, " token"], weighted: Float[Tensor, "token d_model"]
    ) -> Float[Tensor, "token neuron"]:
        """Bound of the rounding of Σ p·λ·u in low precision, of both factors and of the product (Cauchy–Schwarz, over
        types and over coordinates); ``square`` is Σ p·λ² · Σ p·|unembedding|².
        """
        unit = torch.finfo(self.attribution.unembed_low.dtype).eps
        return (unit * square.sqrt() + unit / 2 * weighted.norm(dim=1))[:, None] * self.attribution.length

    def _with_mlp(
        self,
        base: Baseline,
        moved: LogitShift,
        part: int,
        square_norm: Float[Tensor, " token"],
        y_square: Float[Tensor, "token neuron"],
        off: Float[Tensor, "token neuron"],
    ) -> tuple[Float[Tensor, "token neuron"], Float[Tensor, "token neuron"]]:
        """Add the terms with β·μ to Σ p·Y² and to the bound of its rounding."""
        attribution, mlp, where, beta = self.attribution, base.mlp, self.attribution.parts[part], moved.beta
        assert mlp is not None
        assert beta is not None
        sums = mlp.parts[part]
        with float32_sums(beta.device.type):
            weighted = (mlp.weighted_low[:, where] @ attribution.unembed_low[:, where].T).to(beta.dtype)
        own = beta.square() * sums.mu_square[:, None]
        with_lam = 2 * beta * moved.alpha * sums.lam_mu[:, None]
        with_u = 2 * beta * moved.kappa * (weighted @ attribution.gained.T)
        with_mean = 2 * beta * moved.mean * sums.mu[:, None]
        error = 2 * (beta * moved.kappa).abs() * self._product_error(sums.mu_square * square_norm, weighted)
        rounded = 16 * torch.finfo(beta.dtype).eps * (own + with_lam.abs() + with_u.abs() + with_mean.abs() + y_square)
        return (y_square + own + with_lam + with_u - with_mean).clamp_min(0.0), off + error + rounded

    def _refine(
        self,
        base: Baseline,
        moved: LogitShift,
        rounding: Rounding,
        tail: PartBracket,
        wide: Bool[Tensor, "token neuron"],
        moment: Float[Tensor, "token neuron"],
        bound: Float[Tensor, "token neuron"],
    ) -> None:
        """Compute the head of the wide pairs exactly, and the tail as well where needed; works in place."""
        chosen = wide.flatten().nonzero()[:, 0]
        if not len(chosen):
            return
        sums = base.parts[1]
        token = chosen // wide.shape[1]
        alpha, kappa, mean = (x.flatten()[chosen] for x in (moved.alpha, moved.kappa, moved.mean))
        linear = alpha * sums.lam[token] + kappa * sums.mean_u.flatten()[chosen] - mean * sums.mass[token]
        if base.mlp is not None and moved.beta is not None:
            linear += moved.beta.flatten()[chosen] * base.mlp.parts[1].mu[token]
        exact = part_sums(self.attribution, base, moved, 0, chosen, self.compiled)
        square, lower, upper = (x.flatten()[chosen] for x in (tail.square, tail.lower, tail.upper))
        refined, off = _settle(
            exact + linear + square / 2, exact + linear + lower, exact + linear + upper, self.tolerance
        )
        off += rounding.of(refined + off, chosen)
        last = (~(off <= self.tolerance)).nonzero()[:, 0]
        if len(last):
            whole = exact[last] + part_sums(self.attribution, base, moved, 1, chosen[last], self.compiled)
            refined[last] = torch.log1p(whole)
            off[last] = rounding.of(refined[last], chosen[last])
        moment.view(-1)[chosen] = refined
        bound.view(-1)[chosen] = off


def _settle(guess: Tensor, lower: Tensor, upper: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """log1p of a guess, moved into its bracket as far as the tolerance requires, and its distance to the far end."""
    lowest, highest = torch.log1p(lower.clamp_min(-0.999)), torch.log1p(upper)
    spare = 0.9 * tolerance
    moment = torch.minimum(torch.maximum(torch.log1p(guess), highest - spare), lowest + spare)
    moment = torch.minimum(torch.maximum(moment, lowest), highest)
    return moment, torch.maximum(highest - moment, moment - lowest)

"""Null models of rank curves: noise of the size measured in the data, alone or added to light-tailed effects.

A null model draws an effect θ for each neuron; its measurements in the two halves are θ + noise_A and θ + noise_B.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Kind = Literal["noise", "half_normal", "exponential", "lognormal"]
NULLS: tuple[Kind, ...] = ("noise", "half_normal", "exponential", "lognormal")
_WIDEST = 4.0


def noise(
    sums: Float[ndarray, "document neuron"],
    weight: Float[ndarray, " document"],
    draws: int,
    rng: np.random.Generator,
) -> Float[ndarray, "draw neuron"]:
    """Draws of the error of a weighted mean over documents: normal, with the documents' covariance between neurons.

    A draw is Σ g_d e_d / Σ weight with g ~ N(0, 1), where e_d is the document's sums minus its weight times the mean.
    The marginal distribution is N(0, SE²).
    """
    total, count = weight.sum(), len(weight)
    residual = sums - weight[:, None] * (sums.sum(0) / total)
    return rng.standard_normal((draws, count)) @ residual * (np.sqrt(count / (count - 1)) / total)


def effects_like(
    kind: Kind,
    square: float,
    error: Float[ndarray, "draw neuron"],
    observed: Float[ndarray, " neuron"],
    rng: np.random.Generator,
) -> Float[ndarray, "draw neuron"]:
    """Independent effects of random sign, whose mean square is ``square`` in every draw.

    Args:
        kind: Kind of distribution. The lognormal's σ is chosen in every draw so that the draw with its error added is
            as concentrated as the data, measured by mean(x²) / mean(|x|)². This match makes the lognormal the null
            model that is hardest to distinguish from the data.
        square: Mean square of the effects, free of noise.
        error: Measurement errors; their shape is that of the draws.
        observed: The measured effects.
        rng: Random generator for the draws.
    """
    sign = rng.choice([-1.0, 1.0], error.shape)
    if kind == "noise" or square <= 0:
        return np.zeros(error.shape)
    if kind == "half_normal":
        return _scaled(rng.standard_normal(error.shape), square)
    if kind == "exponential":
        return _scaled(sign * rng.exponential(1.0, error.shape), square)
    z = rng.standard_normal(error.shape)
    target = _concentration(observed[None])
    low, high = np.zeros((len(error), 1)), np.full((len(error), 1), _WIDEST)
    for _ in range(12):
        middle = (low + high) / 2
        short = _concentration(_scaled(sign * np.exp(middle * z), square) + error) < target
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return _scaled(sign * np.exp((low + high) / 2 * z), square)


def _scaled(effects: Float[ndarray, "draw neuron"], square: float) -> Float[ndarray, "draw neuron"]:
    return effects * np.sqrt(square / (effects**2).mean(-1, keepdims=True))


def _concentration(x: Float[ndarray, "draw neuron"]) -> Float[ndarray, "draw 1"]:
    return (x**2).mean(-1, keepdims=True) / np.abs(x).mean(-1, keepdims=True) ** 2


def percentile(estimate: float, null: Float[ndarray, " draw"]) -> float:
    """Quantile of an estimate in the draws of a null model; NaN if it is missing, or at least half of the draws are.

    The value is (below + ½ equal + ½) / (draws + 1), which is never exactly 0 or 1.
    """
    there = np.isfinite(null)
    if not np.isfinite(estimate) or there.mean() <= 0.5:
        return float("nan")
    null = null[there]
    below, equal = float((null < estimate).sum()), float((null == estimate).sum())
    return (below + equal / 2 + 0.5) / (len(null) + 1)

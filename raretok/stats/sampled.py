"""Statistics of a population of which a part was measured, where each measured value stands for a number of values.

The weights are inverse probabilities of inclusion (Horvitz and Thompson 1952): 1 for values that were measured in any
case, N/n for n values drawn from N others. With all weights 1 the statistics are the ordinary ones. Ranks and medians
are those of a population in which each value is repeated as often as its weight says.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

AT_ONCE = 1 << 24
"""Largest number of pairs of values that are compared at a time."""


def ranks(values: Float[ndarray, "draw x"], weight: Float[ndarray, "draw x"]) -> Float[ndarray, "draw x"]:
    """Estimated rank of every value in the population: the weight of smaller values plus half that of equal ones."""
    parts = []
    for v, w in _parts(values, weight):
        below = (v[:, :, None] > v[:, None, :]) + 0.5 * (v[:, :, None] == v[:, None, :])
        parts.append(np.einsum("dxy,dy->dx", below, w))
    return np.concatenate(parts)


def spearman(
    a: Float[ndarray, "draw x"], b: Float[ndarray, "draw x"], weight: Float[ndarray, "draw x"]
) -> Float[ndarray, " draw"]:
    """Rank correlation of two rows of values, −1…1; NaN where a row is constant."""
    share = weight / weight.sum(1, keepdims=True)
    x, y = (r - (share * r).sum(1, keepdims=True) for r in (ranks(a, weight), ranks(b, weight)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((share * x * y).sum(1) / np.sqrt((share * x**2).sum(1) * (share * y**2).sum(1)))


def gini(
    values: Float[ndarray, "draw x"], weight: Float[ndarray, "draw x"], drawn: Bool[ndarray, " x"] | None = None
) -> Float[ndarray, " draw"]:
    """Gini coefficient of values that are not negative: half the mean difference of two values over their mean.

    ``drawn`` marks the values of the random sample, by default those of a weight above 1. Of n drawn values for N, two
    different ones are both in the sample with probability n(n − 1)/(N(N − 1)), by which their difference is weighted.
    """
    chosen = (weight > 1).any(0) if drawn is None else drawn
    pair = np.ones((values.shape[1], values.shape[1]))
    if (n := int(chosen.sum())) > 1:
        total = weight[0, chosen].sum()
        pair[np.ix_(chosen, chosen)] = n * (total - 1) / ((n - 1) * total)
    parts = []
    for v, w in _parts(values, weight):
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = np.einsum("dx,dxy,xy,dy->d", w, np.abs(v[:, :, None] - v[:, None, :]), pair, w, optimize=True)
            parts.append(apart / (2 * w.sum(1) * (w * v).sum(1)))
    return np.concatenate(parts)


def median(values: Float[ndarray, "draw x"], weight: Float[ndarray, "draw x"]) -> Float[ndarray, " draw"]:
    """Median of the population, or the mean of its two middle values; NaN in rows that have a NaN."""
    order = np.argsort(values, axis=1)
    held = np.cumsum(np.take_along_axis(weight, order, 1), axis=1) - weight.sum(1, keepdims=True) / 2
    ends = [(held >= -1e-9).argmax(1), (held > 1e-9).argmax(1)]
    at = np.take_along_axis(order, np.stack(ends, 1), 1)
    middle = np.take_along_axis(values, at, 1).mean(1)
    return np.where(np.isnan(values).any(1), np.nan, middle)


def resampled_weights(weight: Float[ndarray, " x"], draws: int, rng: np.random.Generator) -> Float[ndarray, "draw x"]:
    """Weights for resamples in which the values that stand for several are drawn again, with replacement."""
    drawn = np.flatnonzero(weight > 1)
    weights = np.tile(weight, (draws, 1))
    if len(drawn):
        weights[:, drawn] *= rng.multinomial(len(drawn), np.full(len(drawn), 1 / len(drawn)), size=draws)
    return weights


def _parts(*arrays: Float[ndarray, "draw x"]) -> list[tuple[ndarray, ...]]:
    draws, size = arrays[0].shape
    step = max(1, AT_ONCE // size**2)
    cuts: Int[ndarray, " cut"] = np.arange(step, draws, step)
    return list(zip(*(np.split(x, cuts) for x in arrays), strict=True))

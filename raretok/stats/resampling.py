"""Uncertainty by resampling whole documents, reliability between halves, and false-discovery control (method §4)."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import stats
from scipy.stats import norm, t

LEVEL = 0.05
"""Of every test."""
RESAMPLES = 1000
SPLITS = 200


def ratio(sums: Float[ndarray, "document neuron"], weight: Float[ndarray, " document"]) -> Float[ndarray, " neuron"]:
    """Weighted mean over all documents: Σ sums / Σ weight; NaN where no document has weight."""
    total = weight.sum()
    return sums.sum(0) / total if total > 0 else np.full(sums.shape[1], np.nan)


def bootstrap_counts(documents: int, resamples: int, seed: int) -> Float[ndarray, "resample document"]:
    """How often each document is drawn in each resample; every row sums to ``documents``."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(documents, np.full(documents, 1 / documents), size=resamples).astype(float)


def bootstrap_ratio(
    sums: Float[ndarray, "document neuron"],
    weight: Float[ndarray, " document"],
    counts: Float[ndarray, "resample document"],
) -> Float[ndarray, "resample neuron"]:
    """The weighted mean in every resample of documents. In the sums' unit per unit of weight; NaN in resamples that draw no weight."""
    total = counts @ weight
    with np.errstate(invalid="ignore", divide="ignore"):
        return (counts @ sums) / total[:, None]


def row_range(
    resampled: Float[ndarray, "resample neuron"],
) -> tuple[Float[ndarray, " neuron"], Float[ndarray, " neuron"]]:
    """95 % range of every column, over the resamples that drew any weight; NaN where none did."""
    there = resampled[np.isfinite(resampled).all(1)]
    if not len(there):
        missing = np.full(resampled.shape[1], np.nan)
        return missing, missing
    low, high = np.percentile(there, [2.5, 97.5], axis=0)
    return low, high


def interval(
    estimate: float,
    resampled: Float[ndarray, " resample"],
    moved: bool = True,
    most: float = np.inf,
    units: int | None = None,
) -> tuple[float, float]:
    """95 % interval: quantiles of the resamples, moved so that their median is the estimate; NaN if half of them are missing.

    Resampling adds noise of its own, which shifts whatever depends on noise (a sum of magnitudes, a correlation) in one direction.

    Args:
        estimate: of the data.
        resampled: of each resample; NaN where it has none.
        moved: False leaves the quantiles where they are.
        most: the largest value that the statistic can have.
        units: how many were resampled, where they are few: quantiles of resamples are too narrow by √((n−1)/n) and by the normal in the place of Student's t.
    """
    if not np.isfinite(estimate) or np.isfinite(resampled).mean() <= 0.5:
        return float("nan"), float("nan")
    low, middle, high = np.nanpercentile(resampled, [2.5, 50, 97.5])
    by = estimate - middle if moved else 0.0
    wide = 1.0 if units is None else float(t.ppf(0.975, units - 1) / norm.ppf(0.975) * np.sqrt(units / (units - 1)))
    low, high = (middle + by + wide * (end - middle) for end in (low, high))
    return float(min(low, most)), float(min(high, most))


def by_document(sums: ndarray, document: Int[ndarray, " window"], axis: int) -> ndarray:
    """Sums over windows along an axis as sums over documents, these in the order of their first windows."""
    _, first, index = np.unique(document, return_index=True, return_inverse=True)
    if len(first) == len(document):
        return sums
    place = np.argsort(np.argsort(first))[index]
    found = np.zeros((len(first), *np.moveaxis(sums, axis, 0).shape[1:]), dtype=sums.dtype)
    np.add.at(found, place, np.moveaxis(sums, axis, 0))
    return np.moveaxis(found, 0, axis)


def split_halves(documents: int, splits: int, seed: int) -> Float[ndarray, "split document"]:
    """Random halves: 1 for documents of the first half, 0 for the second."""
    generator = np.random.default_rng(seed)
    return generator.permuted(np.tile(np.arange(documents) % 2, (splits, 1)), axis=1).astype(float)


def resample_within(half: Float[ndarray, "draw document"], rng: np.random.Generator) -> Float[ndarray, "draw document"]:
    """Of every draw, how often each document of its half (marked 1) is drawn when the half is resampled."""
    size = half.sum(1).astype(int)
    return np.stack([rng.multinomial(n, h / n) for n, h in zip(size, half, strict=True)]).astype(float)


def reliability(
    sums: Float[ndarray, "document neuron"],
    weight: Float[ndarray, " document"],
    halves: Float[ndarray, "split document"],
) -> Float[ndarray, " split"]:
    """Spearman–Brown corrected correlation 2r / (1 + r) of the neurons' means in two halves of the documents.

    How well a ranking by all documents would repeat on as many new ones; at most 1, near 0 for pure noise. One value
    for each split; NaN where a half has no weight or no spread.
    """
    first, second = (bootstrap_ratio(sums, weight, h) for h in (halves, 1 - halves))
    r = row_correlation(first, second)
    return 2 * r / (1 + r)


def row_correlation(a: Float[ndarray, "row neuron"], b: Float[ndarray, "row neuron"]) -> Float[ndarray, " row"]:
    """Pearson's r of each row of one array with that of the other, in −1…1; NaN without spread."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def two_sided_p(
    estimate: Float[ndarray, " neuron"], error: Float[ndarray, " neuron"], documents: int
) -> Float[ndarray, " neuron"]:
    """p of estimate/error under Student's t with documents − 1 degrees of freedom; 1 where the error is 0 or missing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(error > 0, np.abs(estimate) / error, 0.0)
    return np.asarray(2 * stats.t.sf(t, max(documents - 1, 1)))


def fdr(p: Float[ndarray, " test"]) -> Float[ndarray, " test"]:
    """q-values of Benjamini and Hochberg (1995), in 0…1 and in the order of ``p``. Raises ``ValueError`` where a p is not in 0…1."""
    return np.asarray(stats.false_discovery_control(p, method="bh"))


def top(values: Float[ndarray, " neuron"], count: int) -> Bool[ndarray, " neuron"]:
    """Which entries are among the ``count`` largest, of equal ones the first; all, where there are fewer."""
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(-values, kind="stable")[:count]] = True
    return chosen


def swap_documents(
    rare: tuple[Float[ndarray, "document neuron"], Float[ndarray, " document"]],
    other: tuple[Float[ndarray, "document neuron"], Float[ndarray, " document"]],
    draws: int,
    seed: int,
) -> tuple[Float[ndarray, "draw neuron"], Float[ndarray, "draw neuron"]]:
    """Weighted means of two bands after their labels were exchanged in random documents: what they would be if labels meant nothing.

    Args:
        rare: sums and weights of the one band.
        other: of the other, of like total weight.
        draws: permutations.
        seed: of the exchanges.
    """
    exchanged = np.random.default_rng(seed).integers(0, 2, (draws, len(rare[1]))).astype(float)

    def mixed(kept: Float[ndarray, "draw document"]) -> Float[ndarray, "draw neuron"]:
        sums, weight = (kept @ x + (1 - kept) @ y for x, y in zip(rare, other, strict=True))
        return sums / weight[:, None]

    with np.errstate(invalid="ignore", divide="ignore"):
        return mixed(1 - exchanged), mixed(exchanged)

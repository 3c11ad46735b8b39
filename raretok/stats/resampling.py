"""Uncertainty by resampling whole documents, reliability between halves, and false-discovery control (method §4)."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import stats
from scipy.stats import norm, t

from raretok.stats.streams import stream

LEVEL = 0.05
"""Significance level of every test."""
RESAMPLES = 1000
SPLITS = 200


def ratio(sums: Float[ndarray, "document neuron"], weight: Float[ndarray, " document"]) -> Float[ndarray, " neuron"]:
    """Weighted mean over all documents, Σ sums / Σ weight; NaN if the total weight is 0."""
    total = weight.sum()
    return sums.sum(0) / total if total > 0 else np.full(sums.shape[1], np.nan)


def bootstrap_counts(documents: int, resamples: int, seed: int, name: str = "") -> Float[ndarray, "resample document"]:
    """How often each document is drawn in each resample; every row sums to ``documents``.

    The counts depend only on the arguments, so analyses that share a seed and a name share their resamples.
    """
    generator = stream(seed, "documents drawn", name)
    return generator.multinomial(documents, np.full(documents, 1 / documents), size=resamples).astype(float)


def bootstrap_ratio(
    sums: Float[ndarray, "document neuron"],
    weight: Float[ndarray, " document"],
    counts: Float[ndarray, "resample document"],
) -> Float[ndarray, "resample neuron"]:
    """The weighted mean in every resample of documents, in the sums' unit per unit of weight.

    The mean is NaN in resamples whose total weight is 0.
    """
    total = counts @ weight
    with np.errstate(invalid="ignore", divide="ignore"):
        return (counts @ sums) / total[:, None]


def row_range(
    resampled: Float[ndarray, "resample neuron"],
) -> tuple[Float[ndarray, " neuron"], Float[ndarray, " neuron"]]:
    """95% range of every column over the resamples whose values are all finite; NaN if there are none."""
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
    """95% interval: quantiles of the resamples, shifted so that their median is the estimate.

    Resampling adds noise of its own, which biases any statistic that depends on the noise level (a sum of magnitudes, a
    correlation) in one direction; the shift corrects for that. The interval is NaN if the estimate or at least half of
    the resamples are missing.

    Args:
        estimate: Value of the statistic in the data.
        resampled: Value of the statistic in each resample, NaN where it has none.
        moved: False leaves the quantiles unshifted.
        most: Largest value that the statistic can have.
        units: Number of resampled units n, to be given where it is small. Quantiles of resamples are then too narrow by
            the factor √((n−1)/n), and because they correspond to the normal distribution rather than Student's t; both
            are corrected.
    """
    if not np.isfinite(estimate) or np.isfinite(resampled).mean() <= 0.5:
        return float("nan"), float("nan")
    low, middle, high = np.nanpercentile(resampled, [2.5, 50, 97.5])
    by = estimate - middle if moved else 0.0
    wide = 1.0 if units is None else float(t.ppf(0.975, units - 1) / norm.ppf(0.975) * np.sqrt(units / (units - 1)))
    low, high = (middle + by + wide * (end - middle) for end in (low, high))
    return float(min(low, most)), float(min(high, most))


def by_document(sums: ndarray, document: Int[ndarray, " window"], axis: int) -> ndarray:
    """Convert sums by window along an axis to sums by document, in the order of the documents' first windows."""
    _, first, index = np.unique(document, return_index=True, return_inverse=True)
    if len(first) == len(document):
        return sums
    place = np.argsort(np.argsort(first))[index]
    totals = np.zeros((len(first), *np.moveaxis(sums, axis, 0).shape[1:]), dtype=sums.dtype)
    np.add.at(totals, place, np.moveaxis(sums, axis, 0))
    return np.moveaxis(totals, 0, axis)


def split_halves(documents: int, splits: int, seed: int) -> Float[ndarray, "split document"]:
    """Random halves of the documents: 1 marks a document of the first half, 0 one of the second."""
    generator = stream(seed, "halves of documents")
    return generator.permuted(np.tile(np.arange(documents) % 2, (splits, 1)), axis=1).astype(float)


def resample_within(half: Float[ndarray, "draw document"], rng: np.random.Generator) -> Float[ndarray, "draw document"]:
    """How often each document is drawn when, in every draw, the half that is marked 1 is resampled."""
    size = half.sum(1).astype(int)
    return np.stack([rng.multinomial(n, h / n) for n, h in zip(size, half, strict=True)]).astype(float)


def reliability(
    sums: Float[ndarray, "document neuron"],
    weight: Float[ndarray, " document"],
    halves: Float[ndarray, "split document"],
) -> Float[ndarray, " split"]:
    """Spearman–Brown corrected correlation 2r / (1 + r) of the neurons' means in two halves of the documents.

    It estimates how well the means over all documents would replicate on as many new ones: at most 1, and near 0 for
    pure noise. There is one value per split, which is NaN where a half has no weight or its means have no variance.
    """
    first, second = (bootstrap_ratio(sums, weight, h) for h in (halves, 1 - halves))
    r = row_correlation(first, second)
    return 2 * r / (1 + r)


def row_correlation(a: Float[ndarray, "row neuron"], b: Float[ndarray, "row neuron"]) -> Float[ndarray, " row"]:
    """Pearson's r of each row of one array with that of the other, in −1…1; NaN where a row is constant."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def two_sided_p(
    estimate: Float[ndarray, " neuron"], error: Float[ndarray, " neuron"], documents: int
) -> Float[ndarray, " neuron"]:
    """Two-sided p-value of estimate/error under Student's t with documents − 1 degrees of freedom.

    It is 1 where the error is 0 or missing.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(error > 0, np.abs(estimate) / error, 0.0)
    return np.asarray(2 * stats.t.sf(t, max(documents - 1, 1)))


def fdr(p: Float[ndarray, " test"]) -> Float[ndarray, " test"]:
    """q-values of Benjamini and Hochberg (1995), in 0…1 and in the order of ``p``.

    Raises ``ValueError`` if a p-value is not in 0…1.
    """
    return np.asarray(stats.false_discovery_control(p, method="bh"))


def top(values: Float[ndarray, " neuron"], count: int) -> Bool[ndarray, " neuron"]:
    """Which entries are among the ``count`` largest; ties go to the first, and all are chosen if there are fewer."""
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(-values, kind="stable")[:count]] = True
    return chosen


def swap_documents(
    rare: tuple[Float[ndarray, "document neuron"], Float[ndarray, " document"]],
    other: tuple[Float[ndarray, "document neuron"], Float[ndarray, " document"]],
    draws: int,
    seed: int,
    name: str = "",
) -> tuple[Float[ndarray, "draw neuron"], Float[ndarray, "draw neuron"]]:
    """Weighted means of two bands after their labels are exchanged in random documents: a permutation null.

    Args:
        rare: Sums and weights of one band.
        other: Sums and weights of the other band, whose total weight should be similar.
        draws: Number of permutations.
        seed: Seed of the exchanges.
        name: Name of what is exchanged, which makes two exchanges with the same seed independent.
    """
    exchanged = stream(seed, "exchanged labels", name).integers(0, 2, (draws, len(rare[1]))).astype(float)

    def mixed(kept: Float[ndarray, "draw document"]) -> Float[ndarray, "draw neuron"]:
        sums, weight = (kept @ x + (1 - kept) @ y for x, y in zip(rare, other, strict=True))
        return sums / weight[:, None]

    with np.errstate(invalid="ignore", divide="ignore"):
        return mixed(1 - exchanged), mixed(exchanged)

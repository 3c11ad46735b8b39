"""Rank curves of a study and of its nulls: the same two measurements are made of data, resamples and nulls."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from raretok.stats.breaks import fit_breaks
from raretok.stats.nulls import NULLS, Kind, effects_like, noise
from raretok.stats.rankcurve import binned, log_positive, ordered, rank_bins, shape
from raretok.stats.resampling import RESAMPLES, bootstrap_counts, bootstrap_ratio, ratio, row_correlation
from raretok.stats.streams import stream
from raretok.stats.sums import SplitHalfSums

BANDS = ("rare", "matched", "common")
MEASURES = ("net", "activity")
DRAWS = 400
"""Number of draws of each null, and of permutations."""
Curves = dict[str, tuple[Float[ndarray, "draw neuron"], Float[ndarray, "draw neuron"]]]


def measured_twice(
    data: SplitHalfSums, band: str, measure: str, form: str, seed: int, draws: int, nulls: Sequence[Kind] = NULLS
) -> Curves:
    """Return the two measurements of every curve, by source.

    The sources are the observed curve, its resamples (of the second measurement only), and the nulls. In the published
    form both measurements use all documents; in the controlled form they use halves A and B. All values are in nats.
    The activity has no ``noise`` null.
    """
    rng = stream(seed, "regimes.nulls", band, measure)
    halves = (None, None) if form == "published" else (0, 1)
    parts = [data.of(band, half, measure) for half in halves]
    first, second = (ratio(*part)[None] for part in parts)
    curves: Curves = {"observed": (first, second)}
    if form == "controlled":
        counts = bootstrap_counts(len(parts[1][1]), max(draws, RESAMPLES // 2), seed)
        drawn = bootstrap_ratio(*parts[1], counts)
        curves["resampled"] = np.broadcast_to(first, drawn.shape), drawn
    if not nulls:
        return curves
    errors = [noise(*part, draws, rng) for part in (parts[:1] if form == "published" else parts)]
    a, b = (ratio(*data.of(band, half, measure)) for half in (0, 1))
    square = max(float((a * b).mean()), 0.0)  # noise-free, as noise is independent between halves
    observed, whole = ratio(*data.of(band, None, measure)), noise(*data.of(band, None, measure), draws, rng)
    for kind in nulls:
        if kind == "noise" and measure == "activity":
            continue
        effects = effects_like(kind, square, whole, observed, rng)
        if measure == "activity":
            effects = np.abs(effects)
        curves[kind] = (effects + errors[0], effects + errors[-1])
    return curves


def curve_statistics(
    data: SplitHalfSums,
    band: str,
    measure: str,
    form: str,
    first: Float[ndarray, "draw neuron"],
    second: Float[ndarray, "draw neuron"],
) -> dict[str, Float[ndarray, " draw"]]:
    """Compute every statistic of each curve, by name."""
    values = ordered(first, second)
    if form == "published":
        return shape(values, width=0.0)
    error = noise_size(*data.of(band, 1, measure))
    return shape(values) | {"agreement": row_correlation(first, second)} | break_statistics(values, first, error)


def noise_size(
    sums: Float[ndarray, "document neuron"], weight: Float[ndarray, " document"]
) -> Float[ndarray, " neuron"]:
    """Compute the standard error of the weighted mean over documents in closed form, in nats.

    It is √(Σ residual² · n/(n−1)) / Σ weight.
    """
    residual = sums - weight[:, None] * ratio(sums, weight)
    return np.sqrt((residual**2).sum(0) * len(weight) / max(len(weight) - 1, 1)) / weight.sum()


def break_statistics(
    values: Float[ndarray, "draw rank"], first: Float[ndarray, "draw neuron"], error: Float[ndarray, " neuron"]
) -> dict[str, Float[ndarray, " draw"]]:
    """Fit two breaks to the upper half of each curve.

    Values are weighted by their standard errors and by the sampling scatter of the ranks: the variance of ln value is
    (SE/value)² + 1/rank, because the k-th largest of many independent values has a relative scatter of about 1/√k. The
    lower half is left out because independent effects of every kind fall off steeply there.
    """
    bins = rank_bins(values.shape[1])
    upper = bins.ln_rank <= np.log(values.shape[1] / 2)
    means = binned(values, bins)
    squared = np.take_along_axis(np.broadcast_to(error**2, first.shape), np.argsort(-np.abs(first), axis=-1), -1)
    relative = binned(squared, bins) / bins.count / np.where(means > 0, means, np.inf) ** 2
    y = log_positive(means)
    weight = 1 / (relative + np.exp(-bins.ln_rank))
    fit = fit_breaks(bins.ln_rank[upper], y[:, upper], weight[:, upper])
    position, slope = fit.position, fit.slope
    first_share, second_share = (np.exp(position) / values.shape[1]).T
    return {
        "break_1": position[:, 0],
        "break_2": position[:, 1],
        "plateau_share": first_share,
        "middle_share": second_share - first_share,
        "decay_share": 1 - second_share,
        "flattening": slope[:, 0] - slope[:, 1],
        "steepening": slope[:, 1] - slope[:, 2],
        "breaks": np.where(np.isnan(position[:, 0]), np.nan, fit.chosen),
    }

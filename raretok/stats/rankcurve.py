"""The shape of a rank curve: head, middle and tail in ln value against ln rank, and its concentration (method §5).

A curve is read from two measurements: ``ordered(a, b)`` orders by |a| and takes b with the sign of a, so that selection
noise in the order does not bias the values; ``ordered(x, x)`` is the usual sorted |x|. Every function takes many curves
at once, one per row.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

HEAD_END, MIDDLE_END = 3.5, 5.5
"""The published boundaries of the regimes in ln rank."""
HEAD = int(np.exp(HEAD_END))
"""Number of ranks in the published head, which are 1 to 33."""
BIN_WIDTH = 0.2
LEAST_BINS = 3
SHAPE = ("head_excess", "head_slope", "middle_slope", "middle_r2", "tail_deficit", "top_share", "gini")
"""Names of the statistics that ``shape`` returns."""


@dataclass(frozen=True)
class Bins:
    """Bins of neighbouring ranks: the index of the first rank, the number of ranks, and their mean ln rank."""

    start: Int[ndarray, " bin"]
    count: Int[ndarray, " bin"]
    ln_rank: Float[ndarray, " bin"]


@cache
def rank_bins(neurons: int, width: float = BIN_WIDTH) -> Bins:
    """Bins of width at most ``width`` in ln rank, which are single ranks at the head of the curve.

    No bin crosses a published boundary; with a ``width`` of 0 every rank is a bin of its own.
    """
    ln_rank = np.log(np.arange(1, neurons + 1))
    if width > 0:
        ends = [0.0, HEAD_END, MIDDLE_END, max(ln_rank[-1], MIDDLE_END) + 1e-9]
        edges = np.concatenate([np.arange(b, a, -width)[::-1] for a, b in pairwise(ends)])
        start = np.unique(np.concatenate([[0], np.searchsorted(ln_rank, edges, side="right")]))
        start = start[start < neurons]
    else:
        start = np.arange(neurons)
    count = np.diff(np.append(start, neurons))
    return Bins(start, count, np.add.reduceat(ln_rank, start) / count)


def ordered(
    first: Float[ndarray, "draw neuron"], second: Float[ndarray, "draw neuron"]
) -> Float[ndarray, "draw neuron"]:
    """Rows of ``second`` in descending order of |first|, with the sign of ``first``."""
    order = np.argsort(-np.abs(first), axis=-1)
    return np.take_along_axis(second * np.sign(first), order, -1)


def binned(values: Float[ndarray, "draw rank"], bins: Bins) -> Float[ndarray, "draw bin"]:
    """Mean of the values in each bin of ranks."""
    return np.add.reduceat(values, bins.start, axis=-1) / bins.count


def log_positive(values: Float[ndarray, "draw bin"]) -> Float[ndarray, "draw bin"]:
    """Natural logarithm of the positive values, NaN elsewhere."""
    return np.log(np.where(values > 0, values, np.nan))


def shape(values: Float[ndarray, "draw rank"], width: float = BIN_WIDTH) -> dict[str, Float[ndarray, " draw"]]:
    """The statistics of each curve, by name (``SHAPE``).

    ``middle_slope`` and ``middle_r2`` come from least squares of ln value on ln rank between the published boundaries,
    with equal weight for every rank. ``head_excess`` is the mean over the head of ln value minus that line,
    extrapolated (> 0 above the line, < 0 for a flat head), and ``tail_deficit`` the mean of the line minus ln value
    beyond the middle. ``head_slope`` is the least-squares slope in the head. ``top_share`` is Σ of the first 33 values
    over Σ |value|, and ``gini`` the concentration in this order: 0 if all values are equal, → 1 if one rank holds
    everything. A bin whose mean is not positive has no logarithm and is left out. A statistic is NaN where its part of
    the curve has fewer than three bins.
    """
    neurons = values.shape[-1]
    bins = rank_bins(neurons, width)
    y = log_positive(binned(values, bins))
    head, tail = bins.ln_rank < HEAD_END, bins.ln_rank > MIDDLE_END
    middle = ~head & ~tail
    slope, offset, r2 = _line(y, bins, middle)
    head_slope, _, _ = _line(y, bins, head)
    above = y - (offset[:, None] + slope[:, None] * bins.ln_rank)
    size = np.abs(values).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "head_excess": _mean(above, bins, head),
            "head_slope": head_slope,
            "middle_slope": slope,
            "middle_r2": r2,
            "tail_deficit": -_mean(above, bins, tail),
            "top_share": values[:, :HEAD].sum(-1) / size,
            "gini": _concentration(values),
        }


def gini(values: Float[ndarray, "draw x"]) -> Float[ndarray, " draw"]:
    """Gini coefficient of the magnitudes in each row: 0 if all are equal, → 1 if one holds everything."""
    return _concentration(-np.sort(-np.abs(values), axis=-1))


def _concentration(values: Float[ndarray, "draw rank"]) -> Float[ndarray, " draw"]:
    count = values.shape[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (values @ (count + 1 - 2.0 * np.arange(1, count + 1))) / (count * np.abs(values).sum(-1))


def _mean(y: Float[ndarray, "draw bin"], bins: Bins, part: Bool[ndarray, " bin"]) -> Float[ndarray, " draw"]:
    weight = bins.count * part * np.isfinite(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((weight > 0).sum(-1) >= LEAST_BINS, np.nansum(y * weight, -1) / weight.sum(-1), np.nan)


def _line(
    y: Float[ndarray, "draw bin"], bins: Bins, part: Bool[ndarray, " bin"]
) -> tuple[Float[ndarray, " draw"], Float[ndarray, " draw"], Float[ndarray, " draw"]]:
    """Slope, intercept and R² of y on ln rank over the bins in ``part``, weighted by their numbers of ranks."""
    weight = bins.count * part * np.isfinite(y)
    enough = (weight > 0).sum(-1) >= LEAST_BINS
    total = np.where(enough, weight.sum(-1), np.nan)[:, None]
    y = np.where(weight > 0, y, 0.0)
    x_mean = (weight @ bins.ln_rank)[:, None] / total
    y_mean = (weight * y).sum(-1, keepdims=True) / total
    dx, dy = bins.ln_rank - x_mean, y - y_mean
    xx, xy, yy = ((weight * a * b).sum(-1) for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = xy / xx
        return slope, y_mean[:, 0] - slope * x_mean[:, 0], xy**2 / (xx * yy)


def local_slopes(values: Float[ndarray, " rank"], window: float = 0.5) -> tuple[ndarray, ndarray]:
    """Least-squares slopes in a window that slides over ln rank, as in the published method.

    Returns the centres of the windows and the slopes, which are NaN where fewer than 3 ranks are positive.
    """
    ln_rank = np.log(np.arange(1, len(values) + 1))
    y = log_positive(values[None])
    centres = np.arange(window, ln_rank[-1] - window / 2, window / 4)
    bins = rank_bins(len(values), 0.0)
    slopes = [_line(y, bins, np.abs(ln_rank - c) <= window / 2)[0][0] for c in centres]
    return centres, np.array(slopes)

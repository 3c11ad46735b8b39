"""Rank curves of independent draws, the baseline for judging a straight line in a rank curve.

These curves result from sorting alone.
"""

import numpy as np
import pandas as pd

from raretok.stats.rankcurve import binned, rank_bins, shape
from raretok.stats.streams import stream

LOGNORMAL_SIGMA = 1.2
"""Standard deviation of ln value of the lognormal draws."""
POWER_LAW_EXPONENT = 1.2
"""Exponent of the survival function of the power-law draws: P(value > x) = x^−1.2."""


def simulated_rankings(neurons: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate sorted draws of half-normal, exponential, lognormal and power-law distributions.

    The draws are scaled to a median of 1.

    Args:
        neurons: number of draws of each distribution.
        seed: of the draws.

    Returns:
        The curves, one row per distribution and bin of ranks: ``distribution``, ``rank`` (geometric mean of the bin),
        ``value`` (mean of the bin).
        Their statistics, one row per distribution: ``distribution``, ``middle_r2``, ``middle_slope``, ``head_excess``,
        as in ``stats.rankcurve.shape`` with one bin per rank.
    """
    rng = stream(seed, "simulated_rankings")
    drawn = {
        "half-normal": np.abs(rng.standard_normal(neurons)),
        "exponential": rng.exponential(1.0, neurons),
        "lognormal": rng.lognormal(0.0, LOGNORMAL_SIGMA, neurons),
        "power law": (1 - rng.random(neurons)) ** (-1 / POWER_LAW_EXPONENT),
    }
    values = np.stack([-np.sort(-x / np.median(x)) for x in drawn.values()])
    bins = rank_bins(neurons)
    curves = [
        pd.DataFrame({"distribution": name, "rank": np.exp(bins.ln_rank), "value": mean})
        for name, mean in zip(drawn, binned(values, bins), strict=True)
    ]
    measured = shape(values, 0.0)
    names = ("middle_r2", "middle_slope", "head_excess")
    statistics = pd.DataFrame({"distribution": list(drawn)} | {name: measured[name] for name in names})
    return pd.concat(curves, ignore_index=True), statistics

"""The mean of replicates of one design, with its interval, and the interval of a further replicate."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import t

from raretok.stats.resampling import LEVEL


@dataclass(frozen=True)
class Replicated:
    """The mean of ``count`` replicates, the 95% interval of the mean, and that of the estimate in a new replicate.

    Replicates of one design have equal weights, for which the interval of Hartung and Knapp is Student's.
    """

    count: int
    mean: float
    low: float
    high: float
    next_low: float
    next_high: float


def replicated(estimates: Float[ndarray, " replicate"]) -> Replicated:
    """Summarise the estimates of replicates; those that are NaN are left out, and one alone has no interval."""
    there = np.asarray(estimates, dtype=float)
    there = there[np.isfinite(there)]
    count = len(there)
    if count < 2:
        return Replicated(count, float(there[0]) if count else np.nan, *[np.nan] * 4)
    mean, spread = float(there.mean()), float(there.std(ddof=1)) * float(t.ppf(1 - LEVEL / 2, count - 1))
    within, ahead = spread / np.sqrt(count), spread * np.sqrt(1 + 1 / count)
    return Replicated(count, mean, mean - within, mean + within, mean - ahead, mean + ahead)

"""Tests of whether a tail follows a power law, by the method of Clauset, Shalizi and Newman (2009).

The density is p(x) = (α − 1)/x_min · (x/x_min)^−α for x ≥ x_min. The fit chooses the x_min that minimises the
Kolmogorov–Smirnov distance between the tail and its own fit, the p-value comes from refitting synthetic data, and rival
distributions are fitted to the same tail and compared by Vuong's likelihood ratio (SIAM Review 51, 661–703).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy import optimize, special, stats

RIVALS = ("lognormal", "exponential", "stretched exponential", "truncated power law")
LEAST_TAIL = 10
_CHUNK = 1 << 22
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
_NEGLIGIBLE = 45.0
"""Exponent t for which e^−t is negligible relative to 1."""


@dataclass(frozen=True)
class TailFit:
    """A fitted power law.

    ``alpha`` is the exponent and ``error`` its standard error (α − 1)/√n; the tail begins at ``x_min`` and has ``tail``
    values; ``distance`` is its Kolmogorov–Smirnov distance to the fit.
    """

    alpha: float
    error: float
    x_min: float
    tail: int
    distance: float


def fit_tail(values: Float[ndarray, " value"], candidates: int | None = None) -> TailFit:
    """Fit a power law to the upper tail of positive values.

    Args:
        values: The values in any order; those that are not positive are left out.
        candidates: Number of values to try as x_min, evenly spaced in rank; by default all that leave ten above.

    Raises:
        ValueError: if there are fewer than 20 positive values.
    """
    x = np.sort(values[values > 0])
    if len(x) < 2 * LEAST_TAIL:
        raise ValueError(f"{len(x)} positive values are too few for a tail")
    tried = np.unique(x[:-LEAST_TAIL], return_index=True)[1]
    if candidates is not None and candidates < len(tried):
        tried = tried[np.linspace(0, len(tried) - 1, candidates).round().astype(int)]
    log = np.log(x)
    above = len(x) - tried
    rest = np.cumsum(log[::-1])[::-1][tried] - above * log[tried]
    alpha = 1 + above / np.maximum(rest, 1e-300)
    distance = np.empty(len(tried))
    size = max(1, _CHUNK // len(x))
    index = np.arange(len(x))
    first = np.searchsorted(x, x)  # The empirical distribution is the share below each value, as in the authors' code.
    for rows in (slice(s, s + size) for s in range(0, len(tried), size)):
        start, n = tried[rows, None], above[rows, None]
        inside = index >= start
        fitted = -np.expm1(-(alpha[rows, None] - 1) * (log - log[start]))
        distance[rows] = np.where(inside, np.abs(fitted - (first - start) / n), 0.0).max(-1)
    best = int(distance.argmin())
    exponent, tail = float(alpha[best]), int(above[best])
    return TailFit(exponent, (exponent - 1) / np.sqrt(tail), float(x[tried[best]]), tail, float(distance[best]))


def fit_top(values: Float[ndarray, " value"], count: int) -> TailFit:
    """Fit a power law to the ``count`` largest positive values, or to all of them if there are fewer.

    Raises:
        ValueError: if there are fewer than 10 positive values.
    """
    x = np.sort(values[values > 0])[-count:]
    if len(x) < LEAST_TAIL:
        raise ValueError(f"{len(x)} positive values are too few for a tail")
    rest = np.log(x / x[0])
    alpha = 1 + len(x) / max(float(rest.sum()), 1e-300)
    fitted = -np.expm1(-(alpha - 1) * rest)
    distance = np.abs(fitted - np.searchsorted(x, x) / len(x)).max()
    return TailFit(alpha, (alpha - 1) / np.sqrt(len(x)), float(x[0]), len(x), float(distance))


def plausibility(
    values: Float[ndarray, " value"], draws: int, rng: np.random.Generator, candidates: int = 100
) -> float:
    """Goodness-of-fit p-value: the share of synthetic data sets that a power law fits worse; > 0.1 is plausible.

    Synthetic values follow the fitted power law above x_min and are resampled from the data below it.
    """
    x = values[values > 0]
    fit = fit_tail(x, candidates)
    below = x[x < fit.x_min]
    worse = 0
    for _ in range(draws):
        n = rng.binomial(len(x), fit.tail / len(x)) if len(below) else len(x)
        tail = fit.x_min * (1 - rng.random(n)) ** (-1 / (fit.alpha - 1))
        drawn = np.concatenate([tail, rng.choice(below, len(x) - n)]) if len(below) else tail
        worse += fit_tail(drawn, candidates).distance >= fit.distance
    return (worse + 1) / (draws + 1)


def compare(values: Float[ndarray, " value"], fit: TailFit) -> pd.DataFrame:
    """Compare the power law with each of ``RIVALS`` on the tail.

    Columns: ``rival``; ``ratio`` (log likelihood of the power law minus that of the rival, over its standard error; > 0
    favours the power law); ``p`` (two-sided, of a ratio that large if both were equally far from the truth; for the
    truncated power law, the χ² probability of the nested test); ``nested`` (p of the power law as a special case of the
    rival; NaN for the exponential).

    The power law lies on the boundary of the truncated power law and is a limit of the lognormal and the stretched
    exponential, so twice the log likelihood ratio is 0 with probability ½ and otherwise χ² with one degree of freedom
    (Malevergne, Pisarenko and Sornette, Physical Review E 83, 036111).
    """
    x = values[values >= fit.x_min] / fit.x_min
    own = np.log(fit.alpha - 1) - fit.alpha * np.log(x)
    rows = []
    for rival in RIVALS:
        gap = own - _DENSITIES[rival](x, fit.alpha)
        total, error = float(gap.sum()), float(gap.std() * np.sqrt(len(x)))
        p = float(special.erfc(abs(total) / error / np.sqrt(2))) if error > 0 else 1.0
        within = float(stats.chi2.sf(2 * max(-total, 0.0), 1))
        rows.append(
            {"rival": rival, "ratio": total / error if error > 0 else 0.0}
            | {"p": within if rival == "truncated power law" else p}
            | {"nested": np.nan if rival == "exponential" else within / 2 if total < 0 else 1.0}
        )
    return pd.DataFrame(rows)


# Each function returns the log density of a rival on x ≥ 1 at its maximum likelihood.


def _exponential(x: Float[ndarray, " tail"], _: float) -> Float[ndarray, " tail"]:
    rate = 1 / (x.mean() - 1)
    return np.log(rate) - rate * (x - 1)


def _lognormal(x: Float[ndarray, " tail"], _: float) -> Float[ndarray, " tail"]:
    log = np.log(x)

    def density(q: Float[ndarray, " two"]) -> Float[ndarray, " tail"]:
        mean, sd = q[0], np.exp(q[1])
        return stats.norm.logpdf(log, mean, sd) - log - stats.norm.logsf(0, mean, sd)

    return _best(density, [[log.mean(), np.log(log.std())], [-2.0, 0.5], [-10.0, 1.5]])


def _stretched(x: Float[ndarray, " tail"], _: float) -> Float[ndarray, " tail"]:
    log = np.log(x)

    def density(q: Float[ndarray, " two"]) -> Float[ndarray, " tail"]:
        shape, scale = np.exp(q)  # pdf ∝ shape · scale · x^(shape − 1) · exp(−scale · x^shape)
        return np.log(shape * scale) + (shape - 1) * log - scale * np.expm1(shape * log)

    return _best(density, [[0.0, 0.0], [-1.0, 1.0], [-2.0, 2.0]])


def _truncated(x: Float[ndarray, " tail"], alpha: float) -> Float[ndarray, " tail"]:
    log = np.log(x)

    def density(q: Float[ndarray, " two"]) -> Float[ndarray, " tail"]:
        exponent, rate = q[0], np.exp(q[1])
        return -exponent * log - rate * (x - 1) - _log_mass(exponent, rate)

    return _best(density, [[alpha, -8.0], [alpha, np.log(0.1 / x.mean())], [1.0, np.log(1 / x.mean())]])


def _log_mass(exponent: float, rate: float) -> float:
    """ln ∫₁^∞ x^−exponent · exp(−rate (x − 1)) dx, by Gauss–Legendre quadrature in ln x."""
    end = np.log1p(_NEGLIGIBLE / rate)
    if exponent > 1:
        end = min(end, _NEGLIGIBLE / (exponent - 1))
    t = (_NODES + 1) * end / 2
    return float(np.log((np.exp((1 - exponent) * t - rate * np.expm1(t)) * _WEIGHTS).sum() * end / 2))


def _best(
    density: Callable[[Float[ndarray, " two"]], Float[ndarray, " tail"]], starts: list[list[float]]
) -> Float[ndarray, " tail"]:
    def loss(q: Float[ndarray, " two"]) -> float:
        with np.errstate(all="ignore"):
            value = -float(density(q).sum())
        return value if np.isfinite(value) else 1e300

    fits = [optimize.minimize(loss, s, method="Nelder-Mead", options={"maxiter": 600}) for s in starts]
    return density(min(fits, key=lambda f: f.fun).x)


_DENSITIES: dict[str, Callable[[Float[ndarray, " tail"], float], Float[ndarray, " tail"]]] = {
    "lognormal": _lognormal,
    "exponential": _exponential,
    "stretched exponential": _stretched,
    "truncated power law": _truncated,
}

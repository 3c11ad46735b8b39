"""Continuous piecewise-linear regression with 0, 1 or 2 breaks, for many curves at once.

The fit is weighted least squares over a grid of break positions, and BIC selects the number of breaks. It is
implemented here because the maintained libraries for segmented regression take no weights and fit one curve at a time.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

STEP, APART, MARGIN = 0.2, 0.8, 0.8
"""Spacing of the grid of break positions, least distance between two breaks, and least distance of a break from the
ends, in units of x."""
_CHUNK = 1 << 22
"""Largest total number of entries in the normal matrices that are solved at once."""


@dataclass(frozen=True)
class Breaks:
    """The best fit with two breaks, and the number of breaks that BIC selects.

    ``position`` holds the positions of the two breaks, ``slope`` the slopes before, between and after them, and ``bic``
    the BIC of the fits with 0, 1 and 2 breaks.
    """

    position: Float[ndarray, "curve two"]
    slope: Float[ndarray, "curve three"]
    bic: Float[ndarray, "curve three"]

    @property
    def chosen(self) -> Int[ndarray, " curve"]:
        """Number of breaks with the least BIC."""
        return self.bic.argmin(-1)


def fit_breaks(
    x: Float[ndarray, " point"], y: Float[ndarray, "curve point"], weight: Float[ndarray, "curve point"]
) -> Breaks:
    """Fit y = c + s₀x + (s₁−s₀)(x−b₁)₊ + (s₂−s₁)(x−b₂)₊ by weighted least squares, over all b₁ < b₂ of a grid.

    Args:
        x: Abscissae in ascending order.
        y: Values of the curves; NaN marks a missing value.
        weight: Inverse variances up to a factor; the error scale of each curve is estimated.

    Returns:
        The fits; all values are NaN for curves with fewer than 8 points, or too short for two breaks.
    """
    weight = np.where(np.isfinite(y), weight, 0.0)
    y = np.where(np.isfinite(y), y, 0.0)
    points = (weight > 0).sum(-1)
    grid = np.arange(x[0] + MARGIN, x[-1] - MARGIN + 1e-9, STEP) if len(x) else np.empty(0)
    pairs = np.array([p for p in combinations(grid, 2) if p[1] - p[0] >= APART - 1e-9])
    if not len(pairs):
        return Breaks(*(np.full((len(y), size), np.nan) for size in (2, 3, 3)))
    none, _ = _fit(x, y, weight, np.empty((1, 0)))
    one, _ = _fit(x, y, weight, grid[:, None])
    two, solutions = _fit(x, y, weight, pairs)
    best = two.argmin(-1)
    rss = np.stack([none[:, 0], one.min(-1), two.min(-1)], -1)
    n = np.maximum(points, 1)[:, None]
    bic = n * np.log(np.maximum(rss, 1e-300) / n) + np.array([2, 4, 6]) * np.log(n)
    poor = points < 8
    slope = np.cumsum(solutions[:, 1:], -1)
    return Breaks(*(np.where(poor[:, None], np.nan, v) for v in (pairs[best], slope, bic)))


def _fit(
    x: Float[ndarray, " point"],
    y: Float[ndarray, "curve point"],
    weight: Float[ndarray, "curve point"],
    breaks: Float[ndarray, "candidate number"],
) -> tuple[Float[ndarray, "curve candidate"], Float[ndarray, "curve coefficient"]]:
    """Weighted residual sum of squares of each curve for each candidate, and the coefficients of the best."""
    hinges = np.maximum(x[None, :, None] - breaks[:, None, :], 0.0)
    base = np.broadcast_to(np.stack([np.ones_like(x), x], -1), (len(breaks), len(x), 2))
    design = np.concatenate([base, hinges], -1)
    k = design.shape[-1]
    squares = np.einsum("cpi,cpj->pcij", design, design).reshape(len(x), -1)
    flat = design.transpose(1, 0, 2).reshape(len(x), -1)
    rss = np.empty((len(y), len(breaks)))
    best = np.empty((len(y), k))
    size = max(1, _CHUNK // squares.shape[1])
    for rows in (slice(s, s + size) for s in range(0, len(y), size)):
        w, wy = weight[rows], weight[rows] * y[rows]
        normal = (w @ squares).reshape(-1, len(breaks), k, k) + 1e-10 * np.eye(k)
        right = (wy @ flat).reshape(-1, len(breaks), k)
        solved = np.linalg.solve(normal, right[..., None])[..., 0]
        rss[rows] = (wy * y[rows]).sum(-1, keepdims=True) - (solved * right).sum(-1)
        best[rows] = np.take_along_axis(solved, rss[rows].argmin(-1)[:, None, None], 1)[:, 0]
    return rss, best

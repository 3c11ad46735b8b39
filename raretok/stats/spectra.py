"""Spectra of weight matrices: how heavy their tails are, compared with matrices of independent entries (method §8).

A matrix Z of n standardised rows and d columns has the correlation matrix Ξ = Z Zᵀ/d with n eigenvalues of mean 1. For
independent entries they follow the Marchenko–Pastur law with aspect ratio n/d.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.special import entr

from raretok.stats.eigen import eigenvalues
from raretok.stats.powerlaw import TailFit, fit_tail

STATISTICS = ("hill", "stable_rank", "entropy", "mp_distance")
"""Names of the statistics that ``spectrum_statistics`` returns."""
AT_ONCE = 1 << 22
"""Largest number of entries in the matrices that are held at a time."""
_GRID = 2001


def row_correlations(rows: Float[ndarray, "*x n d"]) -> Float[ndarray, "*x n n"]:
    """Ξ = Z Zᵀ/d in float64, where Z holds the standardised rows: the rows' correlations over the columns."""
    z = rows - rows.mean(-1, keepdims=True, dtype=np.float64)
    z /= np.maximum(z.std(-1, keepdims=True), 1e-300)
    return np.asarray(z @ np.swapaxes(z, -1, -2) / rows.shape[-1])


def spectra(correlations: Float[ndarray, "x n n"]) -> Float[ndarray, "x n"]:
    """Eigenvalues of every Ξ in descending order."""
    return np.maximum(eigenvalues(correlations)[..., ::-1], 0.0)


def group_spectra(correlations: Float[ndarray, "row row"], groups: Int[ndarray, "x n"]) -> Float[ndarray, "x n"]:
    """Eigenvalues of Ξ of some groups of rows, each of which is a part of the matrix of all rows' correlations."""
    step = max(1, AT_ONCE // groups.shape[1] ** 2)
    parts = (groups[k : k + step] for k in range(0, len(groups), step))
    return np.concatenate([spectra(correlations[p[:, :, None], p[:, None, :]]) for p in parts])


def gaussian_spectra(count: int, rows: int, columns: int, rng: np.random.Generator) -> Float[ndarray, "count n"]:
    """Eigenvalues of Ξ of matrices of independent normal entries."""
    step = max(1, AT_ONCE // (rows * columns))
    sizes = [min(step, count - k) for k in range(0, count, step)]
    return np.concatenate([spectra(row_correlations(rng.standard_normal((n, rows, columns)))) for n in sizes])


def hill(eigenvalues: Float[ndarray, "x n"], k: int) -> Float[ndarray, " x"]:
    """Hill's exponent of the survival function over the k largest eigenvalues (Hill 1975).

    It is 1 / mean of ln(λ_j/λ_{k+1}), j = 1 … k, and ``inf`` where all of these logarithms are 0. The exponent of the
    density, which is used in the literature on heavy-tailed self-regularisation, is larger by 1. The eigenvalues must
    be in descending order, and k < n.
    """
    if not 1 <= k < eigenvalues.shape[-1]:
        raise ValueError(f"k = {k} must be from 1 to {eigenvalues.shape[-1] - 1}, one less than the eigenvalues")
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / np.log(eigenvalues[..., :k] / eigenvalues[..., k : k + 1]).mean(-1)


def mp_edges(ratio: float, variance: float = 1.0) -> tuple[float, float]:
    """Edges of the support of the Marchenko–Pastur law with aspect ratio n/d (Marchenko and Pastur 1967)."""
    return variance * (1 - np.sqrt(ratio)) ** 2, variance * (1 + np.sqrt(ratio)) ** 2


def mp_cdf(x: Float[ndarray, "*any"], ratio: float, variance: float = 1.0) -> Float[ndarray, "*any"]:
    """Distribution function of the eigenvalues of Ξ under independence; for n > d, a share 1 − d/n of them is 0."""
    low, high = mp_edges(ratio, variance)
    # The substitution x = middle − half · cos θ removes the square roots of the density at both edges.
    theta = np.linspace(0, np.pi, _GRID)
    at = (low + high) / 2 - (high - low) / 2 * np.cos(theta)
    density = ((high - low) / 2 * np.sin(theta)) ** 2 / (2 * np.pi * ratio * variance * np.maximum(at, 1e-300))
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(theta))])
    whole = min(1.0, 1 / ratio)
    return np.asarray((1 - whole + whole * np.interp(x, at, mass / mass[-1])) * (x >= 0))


def mp_distance(eigenvalues: Float[ndarray, "x n"], ratio: float) -> Float[ndarray, " x"]:
    """Kolmogorov–Smirnov distance of the eigenvalues to the Marchenko–Pastur law with the true aspect ratio."""
    ascending = eigenvalues[..., ::-1]
    n = ascending.shape[-1]
    zero = ascending <= 1e-9 * ascending[..., -1:]  # for n > d many eigenvalues are 0, where the law has a jump
    fitted = mp_cdf(np.where(zero, 0.0, ascending), ratio)
    step = np.arange(n + 1) / n
    up = np.maximum(step[1:], zero.mean(-1, keepdims=True))
    below = np.abs(np.where(zero, 0.0, step[:-1] - fitted))
    return np.maximum(np.abs(up - fitted), below).max(-1)


def spectrum_statistics(eigenvalues: Float[ndarray, "x n"], columns: int) -> dict[str, Float[ndarray, " x"]]:
    """Statistics of spectra, by name (``STATISTICS``).

    ``hill`` is Hill's exponent at k = n/2, which is smaller for heavier tails; ``stable_rank`` is Σλ/λ₁; ``entropy`` is
    −Σ p ln p / ln n with p = λ/Σλ, which is 1 if all eigenvalues are equal; ``mp_distance`` is the Kolmogorov–Smirnov
    distance to the Marchenko–Pastur law.
    """
    n = eigenvalues.shape[-1]
    share = np.maximum(eigenvalues / eigenvalues.sum(-1, keepdims=True), 0)
    return {
        "hill": hill(eigenvalues, n // 2),
        "stable_rank": eigenvalues.sum(-1) / eigenvalues[..., 0],
        "entropy": entr(share).sum(-1) / np.log(n),
        "mp_distance": mp_distance(eigenvalues, n / columns),
    }


@dataclass(frozen=True)
class Layer:
    """Spectrum of a whole weight matrix W of N rows and d columns: the eigenvalues of WᵀW/N in ascending order.

    ``variance`` and ``edge`` belong to the fitted Marchenko–Pastur bulk, ``spikes`` is the number of eigenvalues beyond
    its edge, and ``tail`` the power-law fit of the largest eigenvalues.
    """

    eigenvalues: Float[ndarray, " d"]
    variance: float
    edge: float
    spikes: int
    tail: TailFit


def layer_spectrum(weight: Float[ndarray, "n d"]) -> Layer:
    """Spectrum of a weight matrix.

    The variance of the bulk is chosen so that the median eigenvalue equals the median of the Marchenko–Pastur law
    (Gavish and Donoho 2014). Where many eigenvalues are spikes, they raise the median, so that the edge is
    overestimated rather than underestimated.
    """
    rows, columns = weight.shape
    ratio = columns / rows
    values = np.linalg.eigvalsh(weight.astype(np.float64).T @ weight.astype(np.float64) / rows)
    values = np.maximum(values, 0)
    positive = values[values > 1e-12 * values[-1]]
    low, high = mp_edges(ratio)
    grid = np.linspace(low, high, _GRID)
    cdf = mp_cdf(grid, ratio)
    middle = float(np.interp(0.5 * (1 + max(0.0, 1 - 1 / ratio)), cdf, grid))
    variance = float(np.median(positive)) / middle
    edge = variance * high
    return Layer(values, variance, edge, int((values > edge).sum()), fit_tail(positive))

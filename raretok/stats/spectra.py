"""Spectra of weight matrices: how heavy a tail is, and what a matrix of independent entries would show (method §8).

A matrix of n rows and d columns, its rows standardised, has the correlation matrix Ξ = Z Zᵀ/d with n eigenvalues of mean 1; for independent entries
they follow the law of Marchenko and Pastur with aspect ratio n/d.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.special import entr

from raretok.stats.powerlaw import TailFit, fit_tail

STATISTICS = ("hill", "stable_rank", "entropy", "mp_distance")
"""Of ``spectrum_statistics``."""
_GRID = 2001


def spectra(rows: Float[ndarray, "x n d"]) -> Float[ndarray, "x n"]:
    """Eigenvalues of Ξ = Z Zᵀ/d in descending order, Z the rows less their mean over their standard deviation."""
    z = rows - rows.mean(-1, keepdims=True)
    z /= np.maximum(z.std(-1, keepdims=True), 1e-300)
    return np.maximum(np.linalg.eigvalsh(z @ np.swapaxes(z, -1, -2) / rows.shape[-1])[..., ::-1], 0.0)


def hill(eigenvalues: Float[ndarray, "x n"], k: int) -> Float[ndarray, " x"]:
    """Hill's exponent of the survival function over the k largest: 1 / mean of ln(λ_j/λ_{k+1}), j = 1 … k. ``inf`` where the k largest are equal (Hill 1975).

    The exponent of the density, as in the literature on heavy-tailed self-regularisation, is one more. Descending eigenvalues; k < n.
    """
    if not 1 <= k < eigenvalues.shape[-1]:
        raise ValueError(f"k = {k} must be from 1 to {eigenvalues.shape[-1] - 1}, one less than the eigenvalues")
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / np.log(eigenvalues[..., :k] / eigenvalues[..., k : k + 1]).mean(-1)


def mp_edges(ratio: float, variance: float = 1.0) -> tuple[float, float]:
    """Ends of the Marchenko–Pastur law of aspect ratio n/d. Source: Marchenko and Pastur (1967)."""
    return variance * (1 - np.sqrt(ratio)) ** 2, variance * (1 + np.sqrt(ratio)) ** 2


def mp_cdf(x: Float[ndarray, "*any"], ratio: float, variance: float = 1.0) -> Float[ndarray, "*any"]:
    """Distribution function of the eigenvalues of Ξ under independence; for n > d a share 1 − d/n of them is 0."""
    low, high = mp_edges(ratio, variance)
    # x = middle − half · cos θ takes the square roots at both ends out of the density
    theta = np.linspace(0, np.pi, _GRID)
    at = (low + high) / 2 - (high - low) / 2 * np.cos(theta)
    density = ((high - low) / 2 * np.sin(theta)) ** 2 / (2 * np.pi * ratio * variance * np.maximum(at, 1e-300))
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(theta))])
    whole = min(1.0, 1 / ratio)
    return np.asarray((1 - whole + whole * np.interp(x, at, mass / mass[-1])) * (x >= 0))


def mp_distance(eigenvalues: Float[ndarray, "x n"], ratio: float) -> Float[ndarray, " x"]:
    """Kolmogorov–Smirnov distance of the eigenvalues to the law with the true aspect ratio."""
    ascending = eigenvalues[..., ::-1]
    n = ascending.shape[-1]
    zero = ascending <= 1e-9 * ascending[..., -1:]  # where n > d, many are, and the law has a jump there
    fitted = mp_cdf(np.where(zero, 0.0, ascending), ratio)
    step = np.arange(n + 1) / n
    up = np.maximum(step[1:], zero.mean(-1, keepdims=True))
    below = np.abs(np.where(zero, 0.0, step[:-1] - fitted))
    return np.maximum(np.abs(up - fitted), below).max(-1)


def spectrum_statistics(eigenvalues: Float[ndarray, "x n"], columns: int) -> dict[str, Float[ndarray, " x"]]:
    """Statistics of spectra, by name (``STATISTICS``).

    ``hill``: exponent at k = n/2, smaller is heavier; ``stable_rank``: Σλ/λ₁; ``entropy``: −Σ p ln p / ln n of p = λ/Σλ, 1 if all are equal;
    ``mp_distance``: KS distance to Marchenko–Pastur.
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
    """Spectrum of a whole weight matrix W of N rows and d columns: eigenvalues of WᵀW/N, ascending.

    ``variance`` and ``edge``: of the Marchenko–Pastur bulk that fits; ``spikes``: eigenvalues beyond its edge; ``tail``: power-law fit of the largest.
    """

    eigenvalues: Float[ndarray, " d"]
    variance: float
    edge: float
    spikes: int
    tail: TailFit


def layer_spectrum(weight: Float[ndarray, "n d"]) -> Layer:
    """Spectrum of a weight matrix. The bulk's variance is that at which the median eigenvalue is the law's (Gavish and Donoho, 2014).

    Where many eigenvalues are spikes the median is one of a larger bulk, and the edge lies too far out rather than too near.
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

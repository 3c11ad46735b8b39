"""Piecewise-linear fits: exact on noiseless data, as good as a brute-force fit, calibrated on planted and on
straight ones.
"""

import numpy as np
import pytest

from raretok.stats.breaks import STEP, fit_breaks

X = np.linspace(0, 7, 40)


def bent(first=2.0, second=5.0, slopes=(-0.2, -1.2, -3.0)):
    s0, s1, s2 = slopes
    return s0 * X + (s1 - s0) * np.maximum(X - first, 0) + (s2 - s1) * np.maximum(X - second, 0)


def test_noiseless_breaks_are_found():
    fit = fit_breaks(X, bent()[None], np.ones((1, 40)))
    assert fit.position[0] == pytest.approx([2.0, 5.0], abs=STEP / 2 + 1e-9)
    assert fit.slope[0] == pytest.approx([-0.2, -1.2, -3.0], abs=0.15)
    assert fit.chosen[0] == 2


def test_agrees_with_a_fit_of_every_pair_by_least_squares():
    rng = np.random.default_rng(0)
    y = bent() + 0.2 * rng.standard_normal(40)
    weight = rng.uniform(0.2, 2, 40)
    best = (np.inf, None)
    grid = np.arange(X[0] + 0.8, X[-1] - 0.8 + 1e-9, STEP)
    for a in grid:
        for b in grid[grid >= a + 0.8 - 1e-9]:
            design = np.stack([np.ones(40), X, np.maximum(X - a, 0), np.maximum(X - b, 0)], 1)
            root = np.sqrt(weight)
            beta, *_ = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)
            rss = float((weight * (y - design @ beta) ** 2).sum())
            best = min(best, (rss, (a, b, *np.cumsum(beta[1:]))), key=lambda pair: pair[0])
    fit = fit_breaks(X, y[None], weight[None])
    assert [*fit.position[0], *fit.slope[0]] == pytest.approx(best[1], abs=1e-5)
    assert fit.bic[0, 2] == pytest.approx(40 * np.log(best[0] / 40) + 6 * np.log(40), abs=1e-6)


def test_a_straight_line_has_no_breaks_and_missing_points_do_not_count():
    rng = np.random.default_rng(1)
    y = -1.5 * X + 0.2 * rng.standard_normal((200, 40))
    assert np.mean(fit_breaks(X, y, np.ones_like(y)).chosen == 0) > 0.9
    holes = bent()[None].copy()
    holes[0, ::4] = np.nan
    assert fit_breaks(X, holes, np.ones((1, 40))).position[0] == pytest.approx([2.0, 5.0], abs=STEP / 2 + 1e-9)
    holes[0, 7:] = np.nan
    assert np.isnan(fit_breaks(X, holes, np.ones((1, 40))).position).all()


def test_bootstrap_intervals_hold_the_planted_breaks():
    """Points scatter, and each data set's own interval – residuals resampled – holds the truth in at least 90 % of
    sets.
    """
    rng = np.random.default_rng(2)
    held = []
    for _ in range(60):
        noise = 0.15 * rng.standard_normal(40)
        y = bent() + noise
        again = y + 0.15 * rng.standard_normal((200, 40))
        fit = fit_breaks(X, again, np.ones_like(again))
        low, high = np.percentile(fit.position, [2.5, 97.5], axis=0)
        held.append((low - STEP / 2 <= [2.0, 5.0]) & (high + STEP / 2 >= [2.0, 5.0]))
    assert np.mean(held, axis=0).min() >= 0.9


@pytest.mark.parametrize("points", [0, 1, 5])
def test_a_curve_that_is_too_short_for_two_breaks_has_none(points):
    fit = fit_breaks(np.linspace(0, 1, points), np.zeros((3, points)), np.ones((3, points)))
    assert fit.position.shape == (3, 2)
    assert all(np.isnan(x).all() for x in (fit.position, fit.slope, fit.bic))

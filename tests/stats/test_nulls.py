"""Nulls have the noise of the data, the spread they promise, and percentiles that are uniform under themselves."""

import numpy as np
import pytest

from raretok.stats.nulls import NULLS, effects_like, noise, percentile


def test_noise_has_the_covariance_of_the_mean_over_documents():
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 9, 60).astype(float)
    common = rng.standard_normal((60, 1))
    each = rng.standard_normal((60, 5)) + 2 * common
    sums = weight[:, None] * (each + np.arange(5))
    drawn = noise(sums, weight, 40_000, rng)
    residual = sums - weight[:, None] * (sums.sum(0) / weight.sum())
    expected = residual.T @ residual * 60 / 59 / weight.sum() ** 2
    assert np.allclose(np.cov(drawn.T), expected, rtol=0.05, atol=0.02 * expected.max())
    assert np.allclose(drawn.mean(0), 0, atol=4 * np.sqrt(expected.max() / 40_000))


@pytest.mark.parametrize("kind", NULLS)
def test_effects_have_the_mean_square_in_every_draw(kind):
    rng = np.random.default_rng(1)
    error = 0.1 * rng.standard_normal((50, 400))
    effects = effects_like(kind, 4.0, error, rng.standard_normal(400), rng)
    assert np.allclose((effects**2).mean(1), 0.0 if kind == "noise" else 4.0)
    if kind != "noise":
        assert abs(np.sign(effects).mean()) < 0.05


def test_the_lognormal_is_as_concentrated_as_the_data():
    rng = np.random.default_rng(2)
    observed = rng.lognormal(0, 1.1, 800) * rng.choice([-1, 1], 800)
    error = 0.05 * rng.standard_normal((60, 800))
    drawn = effects_like("lognormal", float((observed**2).mean()), error, observed, rng) + error
    target = (observed**2).mean() / np.abs(observed).mean() ** 2
    assert np.allclose((drawn**2).mean(1) / np.abs(drawn).mean(1) ** 2, target, rtol=0.02)


def test_percentiles_are_uniform_under_the_null_and_missing_where_it_is():
    rng = np.random.default_rng(3)
    places = [percentile(float(x), rng.standard_normal(99)) for x in rng.standard_normal(2000)]
    assert np.mean(np.array(places) >= 0.95) == pytest.approx(0.05, abs=0.015)
    assert 0 < min(places) < max(places) < 1
    assert percentile(2.0, np.array([1.0, 2.0, 3.0])) == pytest.approx(0.5)
    assert np.isnan(percentile(float("nan"), np.ones(5)))
    assert np.isnan(percentile(1.0, np.array([1.0, np.nan, np.nan])))

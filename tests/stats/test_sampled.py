"""Statistics of a sampled population: the ordinary ones where all is measured, and those of the repeated values."""

import numpy as np
import pytest
from scipy import stats

from raretok.stats import rankcurve, sampled


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).gamma(1.0, 1.0, (5, 40))


def test_with_equal_weights_the_statistics_are_the_ordinary_ones(values):
    other, one = values**2 + np.random.default_rng(1).gamma(1.0, 1.0, values.shape), np.ones(values.shape)
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(values, other, strict=True)]
    np.testing.assert_allclose(sampled.spearman(values, other, one), expected)
    np.testing.assert_allclose(sampled.gini(values, one), rankcurve.gini(values))
    by_hand = np.array([[1.0, 1, 1, 1], [0, 0, 0, 1], [1, 3, 0, 0]])
    np.testing.assert_allclose(sampled.gini(by_hand, np.ones((3, 4))), [0, 0.75, 5 / 8])
    np.testing.assert_allclose(sampled.median(values, one), np.median(values, axis=1))
    np.testing.assert_allclose(sampled.median(values[:, :39], one[:, :39]), np.median(values[:, :39], axis=1))


def test_a_weight_counts_as_repetition(values):
    weight = np.random.default_rng(2).integers(1, 5, values.shape).astype(float)
    other = np.random.default_rng(3).permuted(values, axis=1)
    for k, w in enumerate(weight.astype(int)):
        a, b = np.repeat(values[k], w), np.repeat(other[k], w)
        row = (values[[k]], other[[k]], weight[[k]])
        assert sampled.spearman(*row)[0] == pytest.approx(stats.spearmanr(a, b).statistic)
        assert sampled.median(row[0], row[2])[0] == pytest.approx(np.median(a))


def test_gini_of_samples_is_that_of_the_population_on_average():
    rng = np.random.default_rng(4)
    population = rng.gamma(0.5, 1.0, 200)
    truth = rankcurve.gini(population[None])[0]
    found = []
    for _ in range(800):
        rows = np.concatenate([np.arange(10), 10 + rng.permutation(190)[:16]])
        weight = np.concatenate([np.ones(10), np.full(16, 190 / 16)])
        found.append(sampled.gini(population[None, rows], weight[None])[0])
    assert np.mean(found) == pytest.approx(truth, abs=0.012)


def test_missing_and_constant_values_have_no_statistic():
    row, one = np.array([[1.0, np.nan, 3.0]]), np.ones((1, 3))
    assert np.isnan(sampled.median(row, one)).all()
    assert np.isnan(sampled.spearman(np.ones((1, 3)), np.array([[1.0, 2, 3]]), one)).all()


def test_only_values_that_stand_for_several_are_resampled():
    drawn = sampled.resampled_weights(np.array([1.0, 1, 4, 4, 4]), 500, np.random.default_rng(0))
    assert (drawn[:, :2] == 1).all()
    np.testing.assert_allclose(drawn[:, 2:].sum(1), 12)
    assert len(np.unique(drawn[:, 2])) > 2
    assert (sampled.resampled_weights(np.ones(4), 3, np.random.default_rng(0)) == 1).all()

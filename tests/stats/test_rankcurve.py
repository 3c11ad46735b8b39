"""Rank curves: hand-computed statistics, exact power laws, and what noise does to order and value."""

import numpy as np
import pytest

from raretok.stats.rankcurve import HEAD, SHAPE, binned, local_slopes, ordered, rank_bins, shape


def power_law(neurons=1000, slope=-1.3):
    return (np.arange(1, neurons + 1.0) ** slope)[None]


def test_order_comes_from_the_first_measurement_and_values_from_the_second():
    first, second = np.array([[0.1, -3.0, 2.0]]), np.array([[5.0, -1.0, -0.5]])
    assert ordered(first, second).tolist() == [[1.0, -0.5, 5.0]]
    assert ordered(first, first).tolist() == [[3.0, 2.0, 0.1]]


@pytest.mark.parametrize("neurons", [50, 300, 1536, 4096])
def test_bins_cover_every_rank_once_and_keep_the_published_boundaries(neurons):
    bins = rank_bins(neurons)
    assert bins.count.sum() == neurons
    assert (bins.start == np.concatenate([[0], np.cumsum(bins.count)[:-1]])).all()
    assert bins.start[0] == 0
    for boundary in (HEAD, int(np.exp(5.5))):
        assert boundary in bins.start or boundary >= neurons
    last = bins.start + bins.count
    assert (np.log(last / (bins.start + 1)) <= 0.2 + 1e-9).all()
    assert bins.count[:4].tolist() == [1, 1, 1, 1]


def test_a_power_law_is_straight_and_has_no_excess():
    for width in (0.0, 0.2):
        found = shape(power_law(), width)
        assert set(found) == set(SHAPE)
        assert found["middle_slope"][0] == pytest.approx(-1.3, abs=0.01)
        assert found["head_slope"][0] == pytest.approx(-1.3, abs=0.01)
        assert found["middle_r2"][0] == pytest.approx(1, abs=1e-4)
        assert found["head_excess"][0] == pytest.approx(0, abs=0.02)
        assert found["tail_deficit"][0] == pytest.approx(0, abs=0.02)


def test_a_lifted_and_a_flat_head_are_told_apart():
    lifted, flat = power_law(), power_law()
    lifted[:, :HEAD] *= np.e
    flat[:, :HEAD] = flat[:, HEAD - 1]
    assert shape(lifted)["head_excess"][0] == pytest.approx(1, abs=0.02)
    mean_drop = np.mean(-1.3 * (np.log(33) - np.log(np.arange(1, 34))))
    assert shape(flat, 0.0)["head_excess"][0] == pytest.approx(mean_drop, abs=0.01)
    assert shape(flat)["head_slope"][0] == pytest.approx(0, abs=1e-9)


def test_concentration_by_hand():
    equal, one = np.ones((1, 100)), np.zeros((1, 100))
    one[0, 0] = 1
    assert shape(equal)["gini"][0] == pytest.approx(0)
    assert shape(one)["gini"][0] == pytest.approx(0.99)
    assert shape(equal)["top_share"][0] == pytest.approx(0.33)
    assert shape(one)["top_share"][0] == pytest.approx(1)


def test_without_a_positive_middle_there_is_no_line():
    values = power_law()
    values[:, HEAD:] *= -1
    found = shape(values)
    assert np.isnan(found["middle_slope"][0])
    assert np.isnan(found["head_excess"][0])
    assert np.isfinite(found["head_slope"][0])


def test_noise_has_a_sorted_curve_but_no_held_out_one():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200, 1000))
    assert np.isfinite(shape(ordered(a, a))["middle_r2"]).all()
    assert shape(ordered(a, a))["middle_r2"].mean() > 0.95
    assert abs(shape(ordered(a, b))["top_share"].mean()) < 0.01
    assert abs(binned(ordered(a, b), rank_bins(1000))[:, 0].mean()) < 0.2


def test_local_slopes_of_a_power_law_are_level():
    centres, slopes = local_slopes(power_law()[0])
    inside = slopes[np.isfinite(slopes)]
    assert len(inside) > 10
    assert np.allclose(inside, -1.3, atol=1e-6)
    assert (np.diff(centres) > 0).all()

"""The mean of replicates and the intervals around it: by hand, and as often right as they say."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from raretok.stats.replicates import replicated


def test_by_hand():
    found = replicated(np.array([1.0, 2.0, 3.0, np.nan]))
    assert (found.count, found.mean) == (3, 2.0)
    # the 97.5 % point of Student's t with two degrees of freedom is 4.303, and the standard deviation is 1
    assert found.low == pytest.approx(2 - 4.303 / np.sqrt(3), abs=1e-3)
    assert found.next_high == pytest.approx(2 + 4.303 * np.sqrt(4 / 3), abs=1e-3)


def test_the_interval_is_that_of_a_test_of_the_mean():
    values = np.random.default_rng(0).normal(3, 2, 5)
    found, expected = replicated(values), ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_intervals_hold_the_mean_and_a_further_replicate_in_nineteen_of_twenty():
    rng = np.random.default_rng(1)
    drawn = rng.normal(0.3, 1, (4000, 6))
    found = [replicated(x[:5]) for x in drawn]
    assert np.mean([f.low <= 0.3 <= f.high for f in found]) == pytest.approx(0.95, abs=0.015)
    held = [f.next_low <= x <= f.next_high for f, x in zip(found, drawn[:, 5], strict=True)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("values", "mean"), [([2.0], 2.0), ([np.nan, 4.0], 4.0), ([], np.nan)])
def test_one_replicate_has_no_interval(values, mean):
    found = replicated(np.array(values))
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert np.isnan([found.low, found.high, found.next_low, found.next_high]).all()

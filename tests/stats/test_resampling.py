import numpy as np
import pytest

from raretok.stats.resampling import (
    bootstrap_counts,
    bootstrap_ratio,
    by_document,
    fdr,
    interval,
    ratio,
    reliability,
    row_correlation,
    row_range,
    split_halves,
    swap_documents,
    top,
    two_sided_p,
)


def test_ratio_by_hand():
    sums, weight = np.array([[2.0, 0.0], [4.0, 3.0]]), np.array([1.0, 2.0])
    assert ratio(sums, weight).tolist() == [2.0, 1.0]
    assert np.isnan(ratio(sums, np.zeros(2))).all()


def test_resamples_draw_every_document_alike():
    counts = bootstrap_counts(30, 4000, 0)
    assert (counts.sum(1) == 30).all()
    assert np.abs(counts.mean(0) - 1).max() < 0.1


def test_a_resample_equals_repeating_the_documents():
    rng = np.random.default_rng(0)
    sums, weight, counts = rng.random((5, 3)), rng.random(5), np.array([[2, 0, 1, 1, 1.0]])
    repeated = np.repeat(np.arange(5), counts[0].astype(int))
    assert np.allclose(bootstrap_ratio(sums, weight, counts)[0], ratio(sums[repeated], weight[repeated]))


def test_resamples_without_weight_are_left_out_of_ranges():
    draws = np.concatenate([np.arange(101.0)[:, None] * [1, 2], np.full((5, 2), np.nan)])
    low, high = row_range(draws)
    assert low == pytest.approx([2.5, 5])
    assert high == pytest.approx([97.5, 195])
    assert np.isnan(row_range(draws[-5:])).all()


def test_document_bootstrap_covers_where_a_token_one_would_not():
    """Tokens of one document share a mean: 95 % intervals by documents hold the truth about 95 % of the time."""
    rng = np.random.default_rng(1)
    documents, per, trials = 80, 25, 400
    own = rng.normal(size=(documents, trials))
    sums = per * own + np.sqrt(per) * rng.normal(size=(documents, trials))
    draws = bootstrap_ratio(sums, np.full(documents, float(per)), bootstrap_counts(documents, 600, 2))
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    assert 0.90 <= np.mean((low < 0) & (high > 0)) <= 0.98
    token_error = np.sqrt((own.var() + 1) / (documents * per))
    assert draws.std(0).mean() > 3 * token_error


def test_halves_are_disjoint_and_even():
    halves = split_halves(21, 50, 0)
    assert set(np.unique(halves)) == {0.0, 1.0}
    assert set(halves.sum(1)) == {10.0}
    assert len({tuple(h) for h in halves}) > 40


@pytest.mark.parametrize(("signal", "low", "high"), [(0.0, -0.35, 0.35), (1.0, 0.9, 1.0)])
def test_reliability_of_noise_and_of_signal(signal, low, high):
    """Var(signal) against noise: with signal s and noise variance 1/documents, reliability is s² / (s² +
    1/documents).
    """
    rng = np.random.default_rng(0)
    sums = rng.normal(size=(40, 500)) + signal * rng.normal(size=500)
    values = reliability(sums, np.ones(40), split_halves(40, 50, 0))
    assert low < np.median(values) < high
    assert (values <= 1).all()


def test_p_values_are_uniform_under_the_null():
    """t statistics of 20 document means."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(20, 20_000))
    p = two_sided_p(data.mean(0), data.std(0, ddof=1) / np.sqrt(20), 20)
    for level in (0.01, 0.05, 0.5):
        assert np.mean(p < level) == pytest.approx(level, rel=0.15)
    assert two_sided_p(np.ones(1), np.zeros(1), 20).tolist() == [1.0]


def test_fdr_by_hand():
    assert fdr(np.array([0.01, 0.04, 0.03, 0.5])) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])


def test_top_takes_the_largest():
    assert top(np.array([3.0, 1.0, 2.0, 5.0]), 2).tolist() == [True, False, False, True]


def test_an_interval_is_centred_on_the_estimate_and_covers():
    rng = np.random.default_rng(0)
    truth, held = 0.0, []
    for _ in range(300):
        sample = rng.standard_normal(80)
        resampled = sample[rng.integers(0, 80, (400, 80))].mean(1) + 0.3  # a resample that is biased
        low, high = interval(float(sample.mean()), resampled)
        held.append(low <= truth <= high)
    assert np.mean(held) > 0.9
    assert interval(0.99, np.linspace(0.9, 1.1, 101), most=1.0)[1] == 1.0
    assert interval(0.5, np.linspace(0, 2, 101), moved=False) == pytest.approx((0.05, 1.95))
    assert np.isnan(interval(1.0, np.array([np.nan, np.nan, 1.0]))).all()


def test_exchanging_labels_makes_bands_alike_and_keeps_their_sum():
    rng = np.random.default_rng(1)
    weight = np.full(40, 1 / 40)
    rare = (rng.normal(1, 0.1, (40, 3)) / 40, weight)
    other = (rng.normal(0, 0.1, (40, 3)) / 40, weight)
    a, b = swap_documents(rare, other, 500, 0)
    assert a.shape == b.shape == (500, 3)
    assert abs((a - b).mean()) < 0.05
    assert np.allclose(a + b, rare[0].sum(0) + other[0].sum(0))


def test_intervals_from_few_units_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = {None: [], 8: []}
    for seed in range(600):
        data = rng.standard_normal(8)
        means = bootstrap_ratio(data[:, None], np.ones(8), bootstrap_counts(8, 400, seed))[:, 0]
        for units, found in held.items():
            low, high = interval(float(data.mean()), means, units=units)
            found.append(low <= 0 <= high)
    assert np.mean(held[None]) < 0.92
    assert 0.93 <= np.mean(held[8]) <= 0.975


def test_windows_of_a_document_are_summed_in_the_order_of_the_documents():
    document = np.array([7, 3, 7, 5])
    assert by_document(np.array([1.0, 2, 4, 8]), document, 0).tolist() == [5, 2, 8]
    sums = np.arange(8.0).reshape(2, 4)
    assert by_document(sums, document, 1).tolist() == [[2, 1, 3], [10, 5, 7]]
    assert by_document(sums, np.array([4, 3, 2, 1]), 1) is sums


def test_rows_correlate_as_numpy_says():
    a, b = np.random.default_rng(0).standard_normal((2, 3, 50))
    a[2] = 1.0
    assert row_correlation(a, b)[:2] == pytest.approx([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)][:2])
    assert np.isnan(row_correlation(a, b)[2])

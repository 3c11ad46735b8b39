"""Statistics of groups by hand and against sklearn's definitions, controls that are what they say, and resamples
that repeat documents.
"""

import numpy as np
import pandas as pd
import pytest

from raretok.stats.groups import (
    STATISTICS,
    balance,
    between,
    group_statistics,
    matched_groups,
    moments,
    random_groups,
    resampled_statistics,
)


def activations(rows=900, neurons=40, factors=0, seed=0):
    """Independent neurons with means of one sign, the first ten of which share some factors."""
    rng = np.random.default_rng(seed)
    a = rng.gamma(2.0, 1.0, (rows, neurons)).astype(np.float32)
    if factors:
        shared = rng.standard_normal((rows, factors)) @ rng.standard_normal((factors, 10))
        a[:, :10] += shared
    return a


def test_correlation_and_cosine_are_those_of_the_rows():
    a = activations(factors=2).astype(float)
    found = moments(a, np.ones(len(a)))
    assert np.allclose(found.correlation, np.corrcoef(a.T), atol=1e-10)
    unit = a / np.linalg.norm(a, axis=0)
    assert np.allclose(found.cosine, unit.T @ unit, atol=1e-10)
    assert found.rows == pytest.approx(len(a))


def test_weights_repeat_rows():
    a = activations(rows=200)
    weight = np.random.default_rng(1).integers(0, 4, 200).astype(float)
    repeated = moments(np.repeat(a, weight.astype(int), axis=0), np.ones(int(weight.sum())))
    found = moments(a, weight)
    assert np.allclose(found.raw, repeated.raw)
    assert np.allclose(found.mean, repeated.mean)


def test_group_statistics_by_their_definitions():
    a = activations(factors=3)
    found, group = moments(a, np.ones(len(a))), np.array([2, 5, 7, 11, 20])
    got = {k: v[0] for k, v in group_statistics(found, group[None]).items()}
    assert set(got) == set(STATISTICS)
    r = np.corrcoef(a.T.astype(float))
    rest = np.setdiff1d(np.arange(40), group)
    inside = r[np.ix_(group, group)]
    assert got["within_r"] == pytest.approx(inside[np.triu_indices(5, 1)].mean())
    assert got["rest_r"] == pytest.approx(r[np.ix_(group, rest)].mean())
    values = np.linalg.eigvalsh(inside)[::-1]
    assert got["information"] == pytest.approx(-0.5 * np.log(np.linalg.det(inside)))
    assert got["components"] == pytest.approx((np.cumsum(values) / 5 < 0.95).sum() / 5 + 0.2)
    assert got["participation"] == pytest.approx(values.sum() ** 2 / (values**2).sum() / 5, abs=0.01)


def test_the_number_of_components_is_that_of_scikit_learn():
    from sklearn.decomposition import PCA

    a = activations(factors=3)[:, :10].astype(float)
    z = (a - a.mean(0)) / a.std(0)
    held = PCA(n_components=0.95, svd_solver="full").fit(z)
    got = group_statistics(moments(a, np.ones(len(a))), np.arange(10)[None])
    assert got["components"][0] == held.n_components_ / 10


def test_participation_is_one_for_independent_neurons_however_few_the_rows():
    found = [
        group_statistics(moments(activations(rows=60, seed=s), np.ones(60)), np.arange(30)[None])["participation"][0]
        for s in range(40)
    ]
    assert np.mean(found) == pytest.approx(1, abs=0.03)


def test_a_factor_group_has_fewer_dimensions_and_shares_information():
    found = moments(activations(factors=2), np.ones(900))
    drawn = random_groups(40, 10, 200, np.random.default_rng(0))
    own, others = (group_statistics(found, g) for g in (np.arange(10)[None], drawn))
    assert own["participation"][0] < others["participation"].min()
    assert own["information"][0] > others["information"].max()


def test_independent_neurons_have_a_positive_cosine_and_no_correlation():
    found = group_statistics(moments(activations(), np.ones(900)), np.arange(10)[None])
    assert found["within_cosine"][0] > 0.5
    assert abs(found["within_r"][0]) < 0.03


def test_resamples_are_repeated_documents():
    rng = np.random.default_rng(3)
    a, weight, document = activations(rows=300, factors=1), rng.random(300), rng.integers(0, 12, 300)
    weight[::7] = 0
    counts = np.concatenate([np.ones((1, 12)), rng.multinomial(12, np.full(12, 1 / 12), 3)]).astype(float)
    group = np.array([0, 3, 4, 8, 17, 30])
    got = resampled_statistics(a, weight, document, group, counts)
    for k, count in enumerate(counts):
        repeated = moments(a, weight * count[document])
        expected = group_statistics(repeated, group[None])
        for name in ("within_r", "rest_r", "within_cosine", "rest_cosine", "components", "information"):
            assert got[name][k] == pytest.approx(expected[name][0], abs=1e-9), name


def test_between_is_the_mean_over_pairs_of_one_each():
    matrix = np.arange(36.0).reshape(6, 6)
    assert between(matrix, np.array([[0, 1]]), np.array([[4, 5]]))[0] == pytest.approx(matrix[:2, 4:].mean())


def test_matched_groups_are_near_outside_and_without_repeats():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((500, 3)) * [1, 10, 100]
    group = np.argsort(-features[:, 0])[:30]
    drawn = matched_groups(features, group, 200, rng)
    assert drawn.shape == (200, 30)
    assert not np.isin(drawn, group).any()
    assert all(len(set(g)) == 30 for g in drawn)
    table = balance(
        pd.DataFrame(features, columns=["a", "b", "c"]),
        group,
        {"matched": drawn, "random": random_groups(500, 30, 200, rng)},
    ).set_index("feature")
    assert abs(table.loc["a", "matched"]) < abs(table.loc["a", "random"]) / 2
    assert table["matched"].abs().max() < 1
    with pytest.raises(ValueError, match="5 neurons outside a group of 10"):
        matched_groups(features[:15], np.arange(10), 3, rng)


def test_random_groups_have_no_repeats_and_reach_everyone():
    drawn = random_groups(20, 5, 400, np.random.default_rng(0))
    assert all(len(set(g)) == 5 for g in drawn)
    assert np.bincount(drawn.ravel(), minlength=20).min() > 60


def test_a_resample_without_weight_gives_nothing_and_spoils_nothing():
    rng = np.random.default_rng(2)
    activation, document = rng.standard_normal((60, 8)), np.repeat(np.arange(6), 10)
    weight = (document < 2).astype(float)
    counts = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 2, 2, 1, 1], [2, 0, 1, 1, 1, 1]], dtype=float)
    found = resampled_statistics(activation, weight, document, np.arange(3), counts)
    alone = resampled_statistics(activation, weight, document, np.arange(3), counts[[0, 2]])
    for name, values in found.items():
        assert np.isnan(values[1])
        assert values[[0, 2]] == pytest.approx(alone[name])

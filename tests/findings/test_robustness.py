"""Agreement of measurements: equal ones agree, independent ones do not, and more text makes a list stabler."""

import numpy as np
import pandas as pd
import pytest

from raretok.ablation import DocumentSums
from raretok.findings import robustness
from raretok.stats.sums import SplitHalfSums

DOCUMENTS, NEURONS = 60, 120
BANDS = ("rare with controls", "matched", "rare", "rare input", "half of types", "half of types input", "common", "all")


def made(seed: int, effect: np.ndarray, noise: float) -> SplitHalfSums:
    rng = np.random.default_rng(seed)
    weight = np.repeat(rng.integers(3, 9, DOCUMENTS)[:, None], len(BANDS), axis=1).astype(float)
    net = weight[:, :, None] * (effect + noise * rng.standard_normal((DOCUMENTS, len(BANDS), NEURONS)))
    count = np.ones(weight.shape, dtype=np.int64)
    return SplitHalfSums(
        DocumentSums(net, np.abs(net), net**2, weight, count, 0.0, 0.0), np.arange(DOCUMENTS) % 2, BANDS
    )


EFFECT = np.random.default_rng(9).standard_t(3, NEURONS)


def test_equal_measurements_agree_and_independent_ones_do_not():
    one = made(0, EFFECT, 0.5)
    same = robustness.compare(one.of("rare"), one.of("rare"), 0)
    assert same["spearman"] == 1
    assert same["jaccard"] == 1
    other = made(1, np.random.default_rng(10).standard_t(3, NEURONS), 0.5)
    apart = robustness.compare(one.of("rare"), other.of("rare"), 0, paired=False)
    assert abs(apart["spearman"]) < 0.3
    assert apart["jaccard"] < 0.4


def test_the_interval_of_a_rank_correlation_covers_it():
    covered = 0
    truth = np.random.default_rng(11).standard_normal((2, NEURONS))
    effects = truth[0], 0.8 * truth[0] + 0.6 * truth[1]
    exact = float(robustness._spearman(effects[0][None], effects[1][None])[0])
    for seed in range(40):
        found = robustness.compare(
            made(seed, effects[0], 0.5).of("rare"), made(seed + 100, effects[1], 0.5).of("rare"), seed
        )
        covered += found["low"] <= exact <= found["high"] + 0.01
    assert covered >= 32


def test_kinds_of_ablation_are_compared_in_pairs():
    kinds = {"mean": made(0, EFFECT, 0.3), "zero": made(1, -EFFECT, 0.3), "resample": made(2, EFFECT, 0.3)}
    table = robustness.replacements(kinds, 0).set_index(["band", "first", "second"])
    assert len(table) == 6
    assert table.loc[("matched", "mean", "zero"), "spearman"] < -0.8
    assert table.loc[("matched", "mean", "resample"), "spearman"] > 0.8
    assert table.loc[("matched", "mean", "resample"), "corrected"] > 0.95


def test_noise_alone_does_not_make_two_kinds_of_ablation_differ():
    """The same effects, measured with noise that the kinds share in part: the plain correlation is low, the
    corrected one is not.
    """
    truth = np.random.default_rng(5).standard_normal(NEURONS)
    held = []
    for seed in range(20):
        kinds = {k: made(3 * seed + i, truth, 4.0) for i, k in enumerate(("mean", "zero", "resample"))}
        table = robustness.replacements(kinds, seed)
        part = table[(table["first"] == "mean") & (table["band"] == "rare with controls")]
        assert (part["spearman"] < 0.8).any()
        held.append(bool((part["high"] >= 1).all()))
    assert np.mean(held) >= 0.8


def test_definitions_and_corpora_compare_bands():
    one, two = made(0, EFFECT, 0.3), made(1, EFFECT, 0.3)
    assert set(robustness.definitions(one, 0)["second"]) == {
        "rare input",
        "half of types",
        "half of types input",
        "common",
    }
    corpora = robustness.across_corpora(one, two, 0).set_index("band")
    assert (corpora["spearman"] > 0.8).all()
    assert (corpora["within"] > 0.8).all()


def test_more_text_makes_a_stabler_list():
    curve = robustness.learning_curve(made(0, EFFECT, 3.0), 0)
    by_size = curve.groupby("fraction")[["pearson", "spearman", "jaccard"]].median()
    assert (by_size.diff().dropna() > 0).all().all()
    assert (curve[curve["fraction"] == 1]["documents"] == DOCUMENTS // 2).all()
    noise = robustness.learning_curve(made(0, np.zeros(NEURONS), 3.0), 0)
    assert abs(noise["pearson"].median()) < 0.1


def test_a_learning_curve_is_summarised_by_its_median_and_the_middle_of_its_splits():
    splits = {"fraction": 0.5, "targets": [10.0, 20, 30], "pearson": [0.1, 0.3, 0.8]}
    table = pd.DataFrame(splits | {"spearman": 0.5, "jaccard": 0.0})
    summary = robustness.learning_curve_summary(table).set_index("measure")
    assert summary.loc["pearson", ["targets", "value", "low", "high"]].tolist() == pytest.approx([20, 0.3, 0.14, 0.7])
    assert summary.loc["spearman", ["value", "low", "high"]].tolist() == [0.5, 0.5, 0.5]

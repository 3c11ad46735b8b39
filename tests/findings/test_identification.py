"""The identification finds what was planted, finds nothing where nothing is, and splits by document."""

import numpy as np
import pandas as pd
import pytest

from raretok.ablation import DocumentSums
from raretok.data.positions import BANDS
from raretok.errors import NotApplicable
from raretok.findings.identification import (
    effects,
    overlap,
    published_head,
    rank_curves,
    rare_token_neurons,
    reliability,
)
from raretok.stats.rankcurve import HEAD
from raretok.stats.sums import SplitHalfSums


def simulated(documents=120, neurons=300, specific=(), hard=(), seed=0, size=0.05):
    """Sums of noisy effects; ``specific`` act on rare targets only, ``hard`` on rare and matched ones alike."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(5, 20, (documents, len(BANDS))).astype(float)
    mean = np.zeros((len(BANDS), neurons))
    for band in ("rare", "rare with controls"):
        mean[BANDS.index(band), list(specific)] += size
    for band in ("rare", "rare with controls", "matched"):
        mean[BANDS.index(band), list(hard)] += 10 * size
    style = 0.05 * rng.standard_t(4, size=(documents, 1, neurons))
    noise = 0.3 * rng.standard_t(4, size=(documents, len(BANDS), neurons)) / np.sqrt(weight)[:, :, None]
    net = weight[:, :, None] * (mean + style + noise)
    sums = DocumentSums(net, np.abs(net), net**2, weight, weight.astype(np.int64), 0.0, 0.0)
    return SplitHalfSums(sums, np.arange(documents) % 2, BANDS)


def test_planted_neurons_are_found_and_hard_ones_are_not():
    found = rare_token_neurons(simulated(specific=range(20), hard=range(20, 60), size=0.15), 0)
    chosen = set(found["neuron"][found["controlled"]])
    assert (found["selected"] >= found["controlled"]).all()
    assert len(chosen & set(range(20))) >= 18
    assert len(chosen & set(range(20, 60))) <= 3
    assert (found["direction"][:60] == "boost").all()
    assert found["s"][:20].mean() == pytest.approx(0.15, rel=0.2)


def test_without_controls_there_are_effects_but_no_identification():
    data = simulated()
    for band in ("rare with controls", "matched"):
        data.sums.weight[:, BANDS.index(band)] = 0
    assert set(effects(data, 0)["band"]) == set(BANDS) - {"rare with controls", "matched"}
    assert "rare" in set(reliability(data, 0)["band"])
    with pytest.raises(NotApplicable, match="only 0 rare targets have common targets as hard, fewer than 200"):
        rare_token_neurons(data, 0)


def test_nothing_is_found_in_noise():
    """Where no neuron is specific, in at most about 5 % of data sets is any named."""
    named = [rare_token_neurons(simulated(seed=s, hard=range(30)), s)["controlled"].any() for s in range(40)]
    assert np.mean(named) <= 0.125  # 5 % ± 2 SE of 40 trials


def test_intervals_cover_the_planted_effect():
    table = effects(simulated(specific=range(150), seed=5), 0)
    rare = table[table["band"] == "rare"].iloc[:150]
    assert np.mean((rare["low"] < 0.05) & (rare["high"] > 0.05)) > 0.88
    assert np.isclose(rare["net"], (rare["net_a"] + rare["net_b"]) / 2, atol=0.02).all()


def test_reliability_is_high_with_signal_and_nil_without():
    table = reliability(simulated(specific=range(150), size=0.3), 0).set_index("band")
    assert table.loc["rare", "reliability"] > 0.85
    assert table.loc["rare", "low"] <= table.loc["rare", "reliability"] <= table.loc["rare", "high"]
    # the documents' own style is noise to all bands alike
    assert abs(table.loc["common", "reliability"]) < 0.4


def test_published_head_is_within_sign_class():
    net = np.concatenate([np.linspace(1, 2, 100), -np.linspace(0.01, 0.02, 100)])
    head, rank = published_head(net)
    assert head[:100].sum() == head[100:].sum() == HEAD
    assert rank[99] == rank[199] == 1
    assert head[99]
    assert head[199]
    assert not head[0]


def test_overlap_counts():
    found = rare_token_neurons(simulated(specific=range(20), size=0.15), 0)
    table = overlap(found).set_index("direction")
    assert table.loc["both", "controlled"] == found["controlled"].sum()
    assert table.loc["both", "in both"] == (found["controlled"] & found["published"]).sum()
    assert table.loc["boost", "published"] + table.loc["suppress", "published"] == table.loc["both", "published"]


def test_resamples_without_weight_do_not_hide_the_neurons():
    data = simulated(documents=40, specific=range(5), size=3.0)
    matched = data.sums.weight[:, BANDS.index("matched")]
    matched[8:] = 0  # some resamples of a half draw no document that has controls
    found = rare_token_neurons(data, 0)
    assert found["controlled"][:5].all()
    assert found[["se", "low", "high", "se_b"]].notna().all(axis=None)


def test_a_rank_curve_has_the_order_of_one_half_and_the_sizes_of_the_other():
    rows = {"band": "rare", "neuron": range(10), "net_a": [1, -10, 2, 3, 4, 5, 6, 7, 8, 9], "net_b": np.arange(10.0)}
    bands = [pd.DataFrame(rows | {"band": band}) for band in ("rare", "matched", "common")]
    curve = rank_curves(pd.concat(bands)).query("band == 'rare'")
    assert curve["rank"].tolist() == list(range(1, 11))
    assert curve["neuron"].tolist() == [1, 9, 8, 7, 6, 5, 4, 3, 2, 0]
    # The sizes in this order are -1, 9, 8, 7, 6, 5, 4, 3, 2, 0, and a mean reaches four ranks to each side.
    np.testing.assert_allclose(curve["size"].iloc[[0, 4, 9]], [(-1 + 9 + 8 + 7 + 6) / 5, 43 / 9, (5 + 4 + 3 + 2) / 5])

"""Influence of heads: planted routing is found, equal heads are alike, and the arithmetic."""

import numpy as np
import pandas as pd
import pytest

from raretok.findings import heads as head_choice
from raretok.findings import routing
from raretok.findings.groups import Group

LAYERS, HEADS, WINDOWS, NEURONS = 5, 6, 40, 60


def of_every_head(heads: np.ndarray, layers: np.ndarray, weight: np.ndarray) -> head_choice.HeadEffects:
    """Effects in a model of which every head is ablated."""
    count, whole = len(heads), len(layers)
    chosen = head_choice.Chosen(np.arange(count), np.ones(count), np.arange(whole), count // whole)
    return head_choice.HeadEffects(heads, layers, weight, chosen)


def made(seed: int, routed: bool) -> head_choice.HeadEffects:
    """Heads of log-normal strength; where routed, half of them are others at rare targets."""
    rng = np.random.default_rng(seed)
    strength = np.repeat(np.exp(rng.standard_normal(LAYERS * HEADS))[:, None], 2, axis=1)
    if routed:
        strength[: LAYERS * HEADS // 2, 0] = rng.permutation(strength[: LAYERS * HEADS // 2, 0])
    weight = np.stack([rng.integers(2, 10, WINDOWS), rng.integers(40, 60, WINDOWS)], axis=1).astype(float)
    noise = np.exp(0.2 * rng.standard_normal((LAYERS * HEADS, WINDOWS, 2, NEURONS)))
    heads = strength[:, None, :, None] * weight[None, :, :, None] * noise
    whole = 3 * heads.reshape(LAYERS, HEADS, WINDOWS, 2, NEURONS).max(1)
    return of_every_head(heads, whole, weight)


def table(seed: int, routed: bool) -> pd.DataFrame:
    group = np.arange(20)
    matching = pd.DataFrame(np.random.default_rng(seed).standard_normal((NEURONS, 2)), columns=["a", "b"])
    found = routing.statistics(made(seed, routed), {"controlled": Group("B", group, group)}, matching, seed, draws=40)
    return found.set_index("statistic")


def test_the_same_heads_are_called_so_and_other_heads_are_not():
    same, routed = table(0, False), table(0, True)
    assert same.loc["similarity", "low"] > 0.9
    assert abs(same.loc["gini_difference", "estimate"]) < 0.02
    assert same.loc["similarity", "ceiling"] > 0.9
    assert routed.loc["similarity", "high"] < 0.8
    assert routed.loc["similarity", "ceiling"] > 0.9
    assert 2.5 < same.loc["ratio", "estimate"] < 3.5


def test_statistics_by_hand():
    heads = np.array([[[1.0, 4.0], [2.0, 3.0], [3.0, 2.0], [4.0, 1.0]]])
    data = of_every_head(np.zeros((4, 1, 2, 1)), np.zeros((2, 1, 2, 1)), np.ones((1, 2)))
    found = routing._statistics(data, heads, np.array([[[6.0, 8.0], [8.0, 6.0]]]))
    np.testing.assert_allclose(found["similarity"][0], -1)
    np.testing.assert_allclose(found["gini_difference"], 0, atol=1e-15)
    np.testing.assert_allclose(found["median_head"], 2.5)
    layers = np.array([[6 / 2, 8 / 4], [8 / 4, 6 / 2]])
    np.testing.assert_allclose(found["ratio"], np.median(layers.mean(1)))
    np.testing.assert_allclose(found["average_ratio"], np.median([(6 + 8) / 2 / 2.5, (8 + 6) / 2 / 2.5]))


def test_a_sample_of_the_heads_has_the_statistics_of_all():
    rng = np.random.default_rng(5)
    layers, by_layer = 20, 10
    strength = np.exp(rng.standard_normal((layers * by_layer, 2)) * 0.3 + rng.standard_normal((layers * by_layer, 1)))
    whole = 3 * strength.reshape(layers, by_layer, 2).max(1)
    weight, members = np.ones((1, 2)), np.arange(1)
    everything = of_every_head(strength[:, None, :, None], whole[:, None, :, None], weight)
    truth = routing._of_groups(everything, members[None])
    index = np.arange(len(strength))
    noisy = strength * np.exp(0.4 * rng.standard_normal(strength.shape))
    screened = pd.DataFrame({"layer": index // by_layer, "head": index % by_layer})
    screened = screened.assign(rare=noisy[:, 0], common=noisy[:, 1])
    found = {name: [] for name in routing.STATISTICS}
    for seed in range(200):
        chosen = head_choice.choose(screened, False, np.random.default_rng(seed))
        assert chosen.represents.sum() == len(strength)
        assert len(np.unique(chosen.head)) == len(chosen.head) <= 2 + 16 + 4 * 2 + 16
        part = head_choice.HeadEffects(
            strength[chosen.head][:, None, :, None], whole[chosen.layer][:, None, :, None], weight, chosen
        )
        for name, value in routing._of_groups(part, members[None]).items():
            found[name].append(value[0])
    for name, apart in {"similarity": 0.1, "gini_rare": 0.03, "gini_common": 0.03, "median_head": 0.15}.items():
        assert abs(np.mean(found[name]) / truth[name][0] - 1) < apart, name
    assert 2.9 < np.mean(found["ratio"]) < 3.3  # The screen may miss a layer's strongest head.
    every = head_choice.choose(screened, True, rng)
    np.testing.assert_array_equal(every.head, index)


def test_layers_that_differ_make_the_ratio_of_a_few_uncertain():
    rng = np.random.default_rng(0)
    documents, by_layer = 30, 8
    weight = np.ones((documents, 2))
    index = np.arange(16 * by_layer)
    screened = pd.DataFrame({"layer": index // by_layer, "head": index % by_layer, "rare": 1.0, "common": 1.0})
    chosen = head_choice.choose(screened, False, rng)
    heads = np.ones((len(chosen.head), documents, 2, NEURONS)) * np.exp(
        0.05 * rng.standard_normal((1, documents, 1, 1))
    )
    times = np.array([1.2, 2.0, 2.8, 3.6])[:, None, None, None]
    data = head_choice.HeadEffects(heads, times * heads[: len(times)], weight, chosen)
    matching = pd.DataFrame(rng.standard_normal((NEURONS, 2)), columns=["a", "b"])
    group = Group("B", np.arange(20), np.arange(20))
    table = routing.statistics(data, {"controlled": group}, matching, 0, draws=20).set_index("statistic")
    assert table.loc["ratio", "estimate"] == pytest.approx(2.4)
    assert table.loc["ratio", "low"] < 1.7
    assert table.loc["ratio", "high"] > 2.9


def test_the_screen_chooses_the_strongest_and_the_most_specific_heads():
    index = np.arange(120)
    screened = pd.DataFrame({"layer": index // 6, "head": index % 6, "rare": 1.0, "common": 1.0})
    screened.loc[7, "rare"], screened.loc[90, "common"] = 9.0, 8.0
    screened.loc[20:34, "rare"] = 2.0
    chosen = head_choice.choose(screened, False, np.random.default_rng(0))
    certain = set(chosen.head[chosen.represents == 1].tolist())
    assert {7, 90, *range(20, 35)} <= certain
    assert chosen.layer.tolist() == [0, 6, 13, 19]


def test_heads_layers_and_screen_have_the_influences():
    data = made(1, False)
    members = np.arange(10)
    sets = {"controlled": Group("B", members, members)}
    heads, layers = routing.heads(data, sets, 0), routing.whole_layers(data, sets)
    whole = data.heads[..., members].mean(-1).sum(1) / data.weight.sum(0)
    np.testing.assert_allclose(heads[["rare", "common"]].to_numpy(), whole)
    assert (heads["low"] <= heads["difference"]).all()
    assert (heads["difference"] <= heads["high"]).all()
    assert heads[["layer", "head"]].drop_duplicates().shape[0] == LAYERS * HEADS
    rare = layers[layers["band"] == "rare"]
    np.testing.assert_allclose(rare["strongest"], whole[:, 0].reshape(LAYERS, HEADS).max(1))
    np.testing.assert_allclose(rare["average"], whole[:, 0].mean())
    twice = heads[["layer", "head"]].assign(rare=2 * whole[:, 0], common=2 * whole[:, 1])
    screen = routing.screen(twice, heads)
    np.testing.assert_allclose(screen["screened"], 2 * screen["ablated"])
    error = routing.screen_error(screen)
    assert error["band"].tolist() == ["rare", "common"]
    np.testing.assert_allclose(error[["spearman", "factor"]], 1)


def test_a_band_without_positions_gives_no_statistics():
    data = made(2, False)
    empty = data.weight.copy()
    empty[:, 0] = 0
    heads, layers = data.of(np.arange(5))
    one = np.ones((1, WINDOWS))
    found = routing._statistics(data, routing._means(heads, empty, one), routing._means(layers, empty, one))
    assert all(np.isnan(x).all() for x in found.values())

"""Influence of heads: planted routing is found, equal heads are alike, and the arithmetic."""

import numpy as np
import pandas as pd

from raretok.findings import routing
from raretok.findings.groups import Group
from raretok.stats.rankcurve import gini

LAYERS, HEADS, WINDOWS, NEURONS = 5, 6, 40, 60


def made(seed: int, routed: bool) -> routing.HeadEffects:
    """Heads of log-normal strength; where routed, half of them are others at rare targets."""
    rng = np.random.default_rng(seed)
    strength = np.repeat(np.exp(rng.standard_normal(LAYERS * HEADS))[:, None], 2, axis=1)
    if routed:
        strength[: LAYERS * HEADS // 2, 0] = rng.permutation(strength[: LAYERS * HEADS // 2, 0])
    weight = np.stack([rng.integers(2, 10, WINDOWS), rng.integers(40, 60, WINDOWS)], axis=1).astype(float)
    noise = np.exp(0.2 * rng.standard_normal((LAYERS * HEADS, WINDOWS, 2, NEURONS)))
    heads = strength[:, None, :, None] * weight[None, :, :, None] * noise
    whole = 3 * heads.reshape(LAYERS, HEADS, WINDOWS, 2, NEURONS).max(1)
    return routing.HeadEffects(heads, whole, weight)


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
    found = routing._statistics(heads, np.array([[[6.0, 8.0], [8.0, 6.0]]]))
    assert found["similarity"][0] == -1
    np.testing.assert_allclose(found["gini_difference"], 0, atol=1e-15)
    np.testing.assert_allclose(found["median_head"], 2.5)
    layers = np.array([[6 / 2, 8 / 4], [8 / 4, 6 / 2]])
    np.testing.assert_allclose(found["ratio"], np.median(layers.mean(1)))
    np.testing.assert_allclose(
        found["average_ratio"], np.median([np.mean([6 / 1.5, 8 / 3.5]), np.mean([8 / 3.5, 6 / 1.5])])
    )


def test_gini_by_hand():
    np.testing.assert_allclose(
        gini(np.array([[1.0, 1, 1, 1], [0, 0, 0, 1], [1, 3, 0, 0]])), [0, 0.75, (2 * (1 * 3 + 3 * 4) / (4 * 4) - 5 / 4)]
    )


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
    squares = (whole[:, None, :] ** 2) * data.weight * len(members)
    screened = routing.screened(data, members, squares)
    np.testing.assert_allclose(screened["screened"], screened["ablated"])


def test_a_band_without_positions_gives_no_statistics():
    data = made(2, False)
    empty = data.weight.copy()
    empty[:, 0] = 0
    heads, layers = data.of(np.arange(5))
    one = np.ones((1, WINDOWS))
    found = routing._statistics(routing._means(heads, empty, one), routing._means(layers, empty, one))
    assert all(np.isnan(x).all() for x in found.values())

"""Signed modularity against networkx where weights are positive, and by hand where they are not."""

import networkx as nx
import numpy as np
import pytest

from raretok.stats.modularity import modularity, partition, shuffled


def blocks(sizes, inside, outside, noise, seed=0):
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(sizes)), sizes)
    weight = np.where(label[:, None] == label, inside, outside) + noise * rng.standard_normal((len(label),) * 2)
    weight = (weight + weight.T) / 2
    np.fill_diagonal(weight, 0)
    return weight, label


@pytest.mark.parametrize("resolution", [0.5, 1.0, 1.5])
def test_it_is_that_of_networkx_for_positive_weights(resolution):
    weight, label = blocks((8, 12, 5), 1.0, 0.3, 0.1)
    graph = nx.from_numpy_array(np.abs(weight))
    parts = [set(np.flatnonzero(label == k)) for k in range(3)]
    expected = nx.community.modularity(graph, parts, weight="weight", resolution=resolution)
    assert modularity(np.abs(weight), label, resolution) == pytest.approx(expected)
    best = max(
        nx.community.modularity(graph, p, weight="weight", resolution=resolution)
        for p in (
            nx.community.louvain_communities(graph, weight="weight", resolution=resolution, seed=s) for s in range(5)
        )
    )
    found, _ = partition(np.abs(weight), np.random.default_rng(0), resolution)
    assert found >= best - 1e-9


def test_signed_weights_by_hand():
    # two positive pairs that repel each other: w+ = 2 edges of 1, w− = 4 edges of 1
    weight = np.array([[0, 1, -1, -1], [1, 0, -1, -1], [-1, -1, 0, 1], [-1, -1, 1, 0.0]])
    # Q+ = 1/2, Q− = −1/2, shares 1/3 and 2/3: Q = 1/3 · 1/2 + 2/3 · 1/2
    assert modularity(weight, np.array([0, 0, 1, 1])) == pytest.approx(0.5)
    assert modularity(weight, np.zeros(4, dtype=int)) == pytest.approx(0)
    found, community = partition(weight, np.random.default_rng(0))
    assert found == pytest.approx(0.5)
    assert (community[:2] == community[0]).all()
    assert (community[2:] == community[2]).all()


def test_planted_communities_are_found_and_stand_out_from_shuffled_weights():
    rng = np.random.default_rng(1)
    weight, label = blocks((10, 10, 10), 0.4, 0.0, 0.2)
    found, community = partition(weight, rng)
    assert modularity(weight, community) == pytest.approx(found)
    assert len(set(zip(community, label, strict=True))) == 3
    null = [partition(shuffled(weight, rng), rng)[0] for _ in range(60)]
    assert found > max(null)
    noise, _ = blocks((10, 10, 10), 0.0, 0.0, 0.2, seed=2)
    place = np.mean([partition(shuffled(noise, rng), rng)[0] < partition(noise, rng)[0] for _ in range(60)])
    assert 0.01 < place < 0.99


def test_shuffling_keeps_the_weights():
    weight, _ = blocks((4, 4), 1.0, -0.5, 0.3)
    moved = shuffled(weight, np.random.default_rng(0))
    assert np.allclose(moved, moved.T)
    upper = np.triu_indices(8, 1)
    assert sorted(moved[upper]) == sorted(weight[upper])
    assert modularity(np.zeros((3, 3)), np.zeros(3, dtype=int)) == 0

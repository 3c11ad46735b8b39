"""First-order effects by layer: a planted layer is found, noise has no energy, and the arithmetic."""

import numpy as np

from raretok.findings import layers

LAYERS, WINDOWS, NEURONS = 4, 60, 80


def made(seed: int, sizes: tuple[float, ...]) -> layers.Attributions:
    """Noise of one size, and rare-specific effects whose root mean square is that of the noise of the mean times
    ``sizes``.
    """
    rng = np.random.default_rng(seed)
    weight = rng.integers(3, 9, (WINDOWS, 2)).astype(float)
    net = rng.standard_normal((LAYERS, WINDOWS, 2, NEURONS)) * np.sqrt(weight)[None, :, :, None]
    error = np.sqrt((1 / weight.sum(0)).sum())
    signal = np.array(sizes)[:, None] * error * rng.standard_normal((LAYERS, NEURONS))
    net[:, :, 0] += weight[None, :, :1] * signal[:, None]
    return layers.Attributions(net, weight)


def test_a_larger_last_layer_is_found():
    table = layers.layer_effects(made(0, (1, 1, 1, 3)), 0, resamples=200)
    assert table["energy"].argmax() == LAYERS - 1
    assert table["above"].iloc[-1] > 0.95
    assert table["low"].iloc[-1] > 0
    np.testing.assert_allclose(table["share"].sum(), 1)
    assert table["reliability"].iloc[-1] > 0.8


def test_noise_has_no_energy_on_average():
    energies = [
        layers.layer_effects(made(s, (0, 0, 0, 0)), s, resamples=60)[["energy", "low", "high"]] for s in range(25)
    ]
    values = np.stack([e["energy"].to_numpy() for e in energies])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(values.size)
    covered = np.mean([((e["low"] <= 0) & (e["high"] >= 0)).mean() for e in energies])
    assert covered > 0.8


def test_the_largest_of_many_noisy_layers_is_not_ahead_of_the_last():
    rng = np.random.default_rng(0)
    ahead = []
    for seed in range(20):
        data = layers.Attributions(rng.standard_normal((30, 24, 2, 40)), np.full((24, 2), 5.0))
        ahead.append(layers.layer_effects(data, seed, resamples=200)["ahead"].iloc[-1])
    assert np.mean(ahead) <= 0.15


def test_a_larger_earlier_layer_is_ahead_and_nothing_is_ahead_of_it():
    table = layers.layer_effects(made(3, (0, 3, 0, 1)), 0, resamples=200)
    assert table["ahead"].tolist() == [True, False, True, True]


def test_windows_without_rare_targets_have_no_energy():
    data = made(4, (1, 1, 1, 1))
    data.weight[1:, 0] = 0
    table = layers.layer_effects(data, 0, resamples=50)
    assert table["energy"].isna().all()
    assert not table["ahead"].any()


def test_energy_and_specific_effects_by_hand():
    net = np.array([[[[2.0], [1.0]], [[6.0], [1.0]]]])  # one layer, two windows, two bands, one neuron
    data = layers.Attributions(net, np.array([[1.0, 1.0], [2.0, 1.0]]))
    np.testing.assert_allclose(data.specific(np.ones((1, 2)))[0, 0], 8 / 3 - 1)
    np.testing.assert_allclose(layers._energy(data, np.array([[1.0, 0]]), np.array([[0, 1.0]])), [[(2 - 1) * (3 - 1)]])


def test_agreement_with_exact_effects_is_one_for_the_same_numbers():
    data = made(1, (1, 1, 1, 1))
    table = layers.against_exact(data, 2 * data.net[-1], data.weight)
    np.testing.assert_allclose(table["pearson"], 1)
    np.testing.assert_allclose(table["slope"], 0.5)


def test_checked_neurons_are_of_all_layers_and_in_range():
    data = made(2, (1, 1, 1, 1))
    chosen = layers.to_check(data, 0)
    assert {layer for layer, _ in chosen} == set(range(LAYERS))
    assert all(0 <= neuron < NEURONS for _, neuron in chosen)
    ablated = np.ones((len(chosen), 2))
    rows = layers.check_rows(chosen, data, ablated, np.array([2.0, 2.0]))
    np.testing.assert_allclose(rows["ablated"], 0.5)

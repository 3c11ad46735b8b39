"""Spectra against the law they must follow, by hand, and against weightwatcher on real matrices."""

import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import integrate

from raretok.repository import MODELS
from raretok.stats.eigen import eigenvalues
from raretok.stats.spectra import (
    gaussian_spectra,
    group_spectra,
    hill,
    layer_spectrum,
    mp_cdf,
    mp_distance,
    mp_edges,
    row_correlations,
    spectra,
    spectrum_statistics,
)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.99, 2.0, 5.0])
def test_the_law_is_the_integral_of_its_density(ratio):
    low, high = mp_edges(ratio)

    def density(x):
        return np.sqrt((high - x) * (x - low)) / (2 * np.pi * ratio * x)

    for x in np.linspace(low, high, 7)[1:]:
        mass, _ = integrate.quad(density, low, x)
        assert mp_cdf(np.array(x), ratio) == pytest.approx(max(0, 1 - 1 / ratio) + mass, abs=1e-3)
    assert mp_cdf(np.array(-1.0), ratio) == 0
    assert mp_cdf(np.array(0.0), ratio) == pytest.approx(max(0, 1 - 1 / ratio), abs=1e-9)


@pytest.mark.parametrize(("n", "d"), [(40, 400), (200, 100)])
def test_gaussian_rows_follow_the_law_and_scaled_ones_too(n, d):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20, n, d)) * rng.lognormal(0, 1, (1, n, 1)) + 3
    found = spectra(row_correlations(rows))
    assert found.sum(-1) == pytest.approx(np.full(20, n))
    assert mp_distance(found, n / d).mean() < 0.06
    shared = rows / rows.std(-1, keepdims=True) + 2 * rng.standard_normal((20, 1, d))
    assert mp_distance(spectra(row_correlations(shared)), n / d).mean() > 0.1


def test_spectra_of_groups_are_those_of_their_rows():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((30, 50)).astype(np.float32) * 7 + 2
    groups = np.stack([rng.permutation(30)[:6] for _ in range(5)])
    expected = [np.linalg.eigvalsh(np.corrcoef(rows[g].astype(float)))[::-1] for g in groups]
    np.testing.assert_allclose(group_spectra(row_correlations(rows), groups), expected, atol=1e-12)


def test_gaussian_spectra_follow_the_law():
    found = gaussian_spectra(20, 40, 400, np.random.default_rng(2))
    assert found.shape == (20, 40)
    assert mp_distance(found, 0.1).mean() < 0.06


def test_hill_by_hand_and_on_a_pareto_tail():
    values = np.array([[8.0, 4.0, 2.0, 1.0]])
    assert hill(values, 2)[0] == pytest.approx(2 / (np.log(4) + np.log(2)))
    draws = np.sort(np.random.default_rng(0).pareto(2.5, (50, 4000)) + 1)[:, ::-1]
    assert hill(draws, 400).mean() == pytest.approx(2.5, rel=0.03)
    with pytest.raises(ValueError, match="k = 4 must be from 1 to 3"):
        hill(values, 4)


def test_statistics_of_equal_and_of_one_large_eigenvalue():
    equal = spectrum_statistics(np.full((1, 10), 1.0) + np.linspace(1e-9, 0, 10), 50)
    assert equal["stable_rank"][0] == pytest.approx(10)
    assert equal["entropy"][0] == pytest.approx(1)
    one = spectrum_statistics(np.array([[10.0, *np.linspace(1e-3, 1e-4, 9)]]), 50)
    assert one["stable_rank"][0] == pytest.approx(1, abs=1e-3)
    assert one["entropy"][0] < 0.02
    assert one["hill"][0] < equal["hill"][0]


def test_planted_spikes_are_counted():
    rng = np.random.default_rng(1)
    weight = 0.02 * rng.standard_normal((1000, 200))
    clean = layer_spectrum(weight)
    assert clean.spikes <= 1
    assert clean.variance == pytest.approx(0.0004, rel=0.03)
    for k in range(3):
        direction = rng.standard_normal(200)
        weight += 0.1 * rng.standard_normal((1000, 1)) * direction / np.linalg.norm(direction) * (k + 1)
    assert layer_spectrum(weight).spikes == 3


@pytest.mark.parametrize(
    ("step", "name", "same_bulk"),
    [
        (0, "dense_4h_to_h", True),
        (0, "dense_h_to_4h", True),
        (512, "dense_4h_to_h", True),
        (512, "dense_h_to_4h", True),
        (4096, "dense_4h_to_h", True),
        # theirs fits the density below a bend, ours the median: where the bulk is no longer one, they differ
        (4096, "dense_h_to_4h", False),
    ],
)
def test_real_layers_have_the_tail_and_the_spikes_of_weightwatcher(step, name, same_bulk):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import weightwatcher

        weight = load_file(MODELS / "reviews-neox" / f"step{step}" / "model.safetensors")[
            f"gpt_neox.layers.3.mlp.{name}.weight"
        ].float()
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight.data = weight
        theirs = weightwatcher.WeightWatcher(model=torch.nn.Sequential(layer)).analyze(mp_fit=True).iloc[0]
    ours = layer_spectrum((weight if weight.shape[0] > weight.shape[1] else weight.T).numpy())
    assert ours.tail.alpha == pytest.approx(theirs["alpha"], rel=1e-3)
    assert ours.tail.tail == theirs["num_pl_spikes"]
    assert ours.tail.distance == pytest.approx(theirs["D"], abs=1e-4)
    assert ours.eigenvalues[-1] * max(weight.shape) == pytest.approx(theirs["lambda_max"], rel=1e-3)
    if same_bulk:
        assert abs(ours.spikes - theirs["num_spikes"]) <= 1
        assert ours.edge * max(weight.shape) == pytest.approx(theirs["bulk_max"], rel=0.25)
    else:
        assert ours.spikes < theirs["num_spikes"]


def test_threads_change_no_eigenvalue(monkeypatch):
    rows = np.random.default_rng(3).standard_normal((300, 40, 60))
    matrices = row_correlations(rows)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    np.testing.assert_array_equal(eigenvalues(matrices), np.linalg.eigvalsh(matrices))

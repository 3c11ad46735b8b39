"""Three ways to one number: a hooked forward pass, the identity, and the certified pass, on every form of model."""

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, EXACT_FORMS, FORMS

from raretok import NotApplicable, RaretokError
from raretok.ablation import ablate, make_engine, merge, pair_effects, replaced_by, tile_inputs
from raretok.ablation.certified import Certified
from raretok.ablation.exact import exact_effects, tile_effects
from raretok.ablation.identity import logit_attribution
from raretok.ablation.kernels import psi
from raretok.ablation.reference import hooked_effects


@pytest.mark.parametrize("architecture", EXACT_FORMS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_identity_equals_hooked_forward_pass(traced, architecture, dtype, limit):
    model, windows, trace, mean = traced(architecture, dtype)
    effects = exact_effects(model.readout, *tile_inputs(model.readout, trace, mean))
    assert effects.abs().max() > 0.01
    for neuron in (0, 5, model.readout.neurons - 1):
        hooked = hooked_effects(model, windows.tokens, neuron, mean[neuron]).flatten()
        assert (hooked - effects[:, neuron]).abs().max() <= limit


@pytest.mark.parametrize("architecture", FORMS)
def test_certified_values_are_within_their_bounds(traced, architecture):
    model, _, trace, mean = traced(architecture, torch.float64)
    inputs = tile_inputs(model.readout, trace, mean)
    truth = exact_effects(model.readout, *inputs)
    for tolerance in (1e-2, 1e-4, 1e-6):
        effects = Certified(logit_attribution(model.readout, trace.residual), tolerance)(*inputs)
        assert ((effects.value - truth).abs() <= effects.bound + 1e-12).all()
        assert effects.bound.max() <= tolerance
        assert not effects.used_fallback.all()


@pytest.mark.parametrize("architecture", FORMS)
@pytest.mark.parametrize("compiled", [False, True])
def test_float32_bounds_hold_rounding_included(traced, architecture, compiled):
    """The fast path as it is used – float32, bfloat16 where there is hardware, compiled or not – against float64."""
    model, _, trace, mean = traced(architecture, torch.float32)
    inputs = tile_inputs(model.readout, trace, mean)
    truth = exact_effects(model.readout.to(torch.float64), *tile_inputs(model.readout, trace, mean, torch.float64))
    effects = Certified(logit_attribution(model.readout, trace.residual), 1e-4, compiled)(*inputs)
    error = (effects.value - truth).abs()
    assert (error <= effects.bound).all()
    assert effects.bound.max() < 1e-3
    assert 0 < effects.used_fallback.float().mean() < 1


@pytest.mark.parametrize("compiled", [False, True])
def test_the_exact_pass_is_as_good_as_float32_can_be(traced, compiled):
    model, _, trace, mean = traced("gpt_neox", torch.float32)
    target = torch.from_numpy(trace.target.astype(np.int64))
    delta = mean - trace.activation
    delta[:, ::7] *= 20  # beyond the reach of the short exponential
    truth = exact_effects(model.readout.to(torch.float64), trace.residual.double(), delta.double(), target)
    effects = tile_effects(logit_attribution(model.readout, trace.residual), trace.residual, delta, target, compiled)
    assert ((effects - truth).abs() <= 2e-6 + 2e-6 * truth.abs()).all()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_soft_cap_leaves_every_pair_within_its_rounding(traced, compiled):
    model, _, trace, mean = traced("gemma2", torch.float32, count=20)
    truth = exact_effects(model.readout.to(torch.float64), *tile_inputs(model.readout, trace, mean, torch.float64))
    engine = Certified(logit_attribution(model.readout, trace.residual), 1e-4, compiled)
    effects = engine(*tile_inputs(model.readout, trace, mean))
    assert ((effects.value - truth).abs() <= effects.bound).all()
    assert effects.used_fallback.all(), "the cap leaves no bracket"
    loose = model.readout.logits(trace.residual).abs().amax()
    assert loose > 2, "the cap of 3 acts"
    with pytest.raises(NotApplicable, match="entropy is not computed where the logits have a soft cap"):
        ablate(model.readout, trace, mean, outputs=("entropy",))


def test_psi_is_smooth_and_increasing():
    y = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    exact = torch.where(y == 0, 0.5, (torch.exp(y) - 1 - y) / y.square().clamp_min(1e-300))
    far = y.abs() > 0.05
    assert (psi(y)[far] - exact[far]).abs().max() < 1e-9
    assert (psi(y).diff() > 0).all()


@pytest.mark.parametrize("replacement", ["mean", "zero", "resample"])
def test_sums_are_the_weighted_sums_of_the_effects(traced, replacement, monkeypatch):
    model, _, trace, _ = traced("gpt_neox", torch.float64, count=4)
    replacing = replaced_by(trace.activation, replacement, 3)
    target = torch.from_numpy(trace.target.astype(np.int64))
    truth = exact_effects(model.readout, trace.residual, replacing - trace.activation, target).numpy()
    weights = np.random.default_rng(0).random((2, len(trace))) * (np.arange(len(trace)) % 3 > 0)
    results = []
    monkeypatch.setattr("raretok.ablation.tiles.LEAST_TILE", 1)
    for tile_bytes in (1 << 12, 1 << 15, 1 << 26):
        monkeypatch.setattr("raretok.ablation.tiles.TILE_BYTES", tile_bytes)
        results.append(ablate(model.readout, trace, replacing, weights, tolerance=1e-6)["loss"])
    for sums in results:
        for d, k in np.ndindex(sums.weight.shape):
            here = trace.document == np.unique(trace.document)[d]
            assert sums.weight[d, k] == pytest.approx(weights[k, here].sum())
            assert sums.count[d, k] == (weights[k, here] > 0).sum()
            assert sums.net[d, k] == pytest.approx(weights[k, here] @ truth[here], abs=1e-6 * here.sum())
            assert sums.activity[d, k] == pytest.approx(weights[k, here] @ np.abs(truth[here]), abs=1e-6 * here.sum())
            assert sums.square[d, k] == pytest.approx(weights[k, here] @ truth[here] ** 2, abs=1e-5 * here.sum())
    assert np.abs(results[0].net - results[2].net).max() < 1e-10


def test_no_change_has_no_effect(traced):
    model, _, trace, _ = traced("llama", torch.float32, count=1)
    target = torch.from_numpy(trace.target.astype(np.int64))
    assert (exact_effects(model.readout, trace.residual, torch.zeros_like(trace.activation), target) == 0).all()


def test_a_large_change_is_still_exact(traced):
    """Changes that turn the prediction around neither overflow nor lose the logarithm's argument."""
    model, _, trace, _ = traced("llama", torch.float32, count=1)
    target = torch.from_numpy(trace.target.astype(np.int64))
    delta = 30 * torch.randn(trace.activation.shape, generator=torch.Generator().manual_seed(0))
    effects = exact_effects(model.readout, trace.residual, delta, target)
    for i in (0, 7):
        moved = trace.residual.double() + delta[:, [i]].double() * model.readout.w_out[i].double()
        readout = model.readout.to(torch.float64)
        loss = [
            torch.nn.functional.cross_entropy(readout.logits(r), target, reduction="none")
            for r in (moved, trace.residual.double())
        ]
        truth = loss[0] - loss[1]
        assert truth.abs().max() > 1
        assert (effects[:, i] - truth).abs().max() < 1e-4


def test_a_broken_activation_stops_the_run(traced):
    model, _, trace, mean = traced("gpt2", torch.float32, count=1)
    trace.activation[3, 5] = float("nan")
    with pytest.raises(RaretokError, match="NaN or infinite"):
        ablate(model.readout, trace, mean, np.ones((1, len(trace))))


@pytest.mark.parametrize("architecture", FORMS)
def test_no_pair_of_a_million_is_beyond_its_bound(traced, architecture):
    """Of each family of forms, as the engine is used; the trained models' million is in the benchmark."""
    count = 210 if architecture in ARCHITECTURES else 640
    model, _, trace, mean = traced(architecture, count=count)
    found = pair_effects(model.readout, trace, mean, progress=False)
    truth = exact_effects(model.readout.to(torch.float64), *tile_inputs(model.readout, trace, mean, torch.float64))
    error = (found.value[0] - truth).abs()
    assert error.numel() * (len(ARCHITECTURES) if architecture in ARCHITECTURES else 1) > 1e6
    assert (error <= found.bound).all()
    assert found.bound.max() <= 1e-4


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gemma2"])
def test_pairs_beyond_float32_are_done_in_float64(traced, architecture):
    """Where the tolerance is finer than float32 can keep, nearly all pairs are, and the sums are made of them."""
    model, _, trace, mean = traced(architecture, count=2)
    truth = exact_effects(model.readout.to(torch.float64), *tile_inputs(model.readout, trace, mean, torch.float64))
    found = pair_effects(model.readout, trace, mean, tolerance=1e-7, progress=False)
    assert (found.bound <= 1e-7 + 6e-8 * truth.abs()).all(), "values are returned in float32"
    assert ((found.value[0] - truth).abs() <= found.bound).all()
    sums = ablate(model.readout, trace, mean, tolerance=1e-7, progress=False)["loss"]
    assert np.abs(sums.net.sum((0, 1)) - truth.sum(0).numpy()).max() < 1e-6 * len(trace)
    assert np.abs(sums.square.sum((0, 1)) - truth.square().sum(0).numpy()).max() < 1e-6 * len(trace)
    assert sums.largest_bound <= 1e-7


def test_results_do_not_depend_on_tiles_or_threads(traced, monkeypatch):
    model, _, trace, mean = traced("gpt_neox", count=4)
    monkeypatch.setattr("raretok.ablation.tiles.LEAST_TILE", 1)
    found, threads = [], torch.get_num_threads()
    for tile_bytes, count in ((1 << 11, threads), (1 << 26, threads), (1 << 26, 1)):
        monkeypatch.setattr("raretok.ablation.tiles.TILE_BYTES", tile_bytes)
        torch.set_num_threads(count)
        try:
            found.append(pair_effects(model.readout, trace, mean, progress=False).value)
        finally:
            torch.set_num_threads(threads)
    assert (found[0] - found[1]).abs().max() < 1e-6
    assert (found[2] - found[1]).abs().max() < 1e-6


@pytest.mark.parametrize("jobs", [2, 3, 7])
def test_the_sums_of_several_jobs_are_those_of_one(traced, jobs, monkeypatch):
    model, _, trace, _ = traced("gpt_neox", torch.float32, count=4)
    monkeypatch.setattr("raretok.ablation.tiles.LEAST_TILE", 8)
    monkeypatch.setattr("raretok.ablation.tiles.TILE_BYTES", 1)
    weights = np.stack([np.ones(len(trace)), np.arange(len(trace)) % 3])
    arguments = {"weights": weights, "outputs": ("loss", "entropy"), "progress": False}
    whole = ablate(model.readout, trace, **arguments)
    parts = [ablate(model.readout, trace, shard=(k, jobs), **arguments) for k in range(jobs)]
    for name, one in whole.items():
        several = merge([part[name] for part in parts])
        assert np.any(parts[0][name].net != one.net)
        for field in ("net", "activity", "square"):
            a, b = getattr(one, field), getattr(several, field)
            np.testing.assert_allclose(a, b, rtol=0, atol=len(trace) * np.finfo(np.float64).eps * np.abs(a).max())
        np.testing.assert_array_equal(one.weight, several.weight)
        np.testing.assert_array_equal(one.count, several.count)
        assert several.largest_bound == one.largest_bound
        assert several.fallback_share == pytest.approx(one.fallback_share)


def test_a_shared_engine_gives_the_numbers_of_its_own(traced):
    model, _, trace, mean = traced("llama")
    engine = make_engine(model.readout, 1e-6, len(trace), trace.residual)
    shared = ablate(model.readout, trace, mean, engine=engine, progress=False)["loss"]
    own = ablate(model.readout, trace, mean, tolerance=1e-6, progress=False)["loss"]
    np.testing.assert_array_equal(shared.net, own.net)
    assert shared.largest_bound <= 1e-6
    loose = ablate(model.readout, trace, mean, tolerance=1e-2, engine=engine, progress=False)["loss"]
    assert loose.fallback_share < shared.fallback_share
    assert engine.tolerance == 1e-6

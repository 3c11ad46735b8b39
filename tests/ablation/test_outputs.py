"""Entropy, divergence, direct effects and joint ablation, each against what its definition says in float64."""

import numpy as np
import pytest
import torch
from conftest import EXACT_FORMS, FORMS, VOCAB

from raretok import RaretokError
from raretok.ablation import ablate, ablate_group, pair_effects
from raretok.ablation.outputs import OUTPUTS, log_unigram
from raretok.ablation.reference import hooked_group_effects

NEURONS = (0, 3, 17, 60)


def by_definition(readout, trace, target, delta, log_q):
    """Every output of one neuron per row of ``delta`` [neuron, token], from logits before and after in float64."""
    r = trace.residual.double()
    readout = readout.to(torch.float64)
    mlp = readout.mlp_output(trace.activation.double())
    log_q = torch.from_numpy(log_q)

    def entropy_kl_loss_logit(logits):
        log_p = logits.log_softmax(-1)
        p = log_p.exp()
        entropy = -(p * log_p).sum(-1)
        kl = (p * (log_p - log_q)).sum(-1)
        of_target = logits.gather(1, target[:, None])[:, 0] - logits.mean(1)
        return torch.stack([-log_p.gather(1, target[:, None])[:, 0], entropy, kl, of_target])

    before = readout.logits(r)
    start = entropy_kl_loss_logit(before)
    scale = readout.scale(r)[:, None]
    q = log_q - log_q.mean()
    q = q / q.norm()
    found = []
    for i, d in zip(NEURONS, delta, strict=True):
        moved = r + readout.step(mlp, d[:, None].double() * readout.w_out[i])
        after = readout.logits(moved)
        frozen_scale = (readout.centre(moved) / scale * readout.gain) @ readout.unembed + readout.constant
        along = ((after - before) @ q)[:, None] * q
        loss, entropy, kl, logit = entropy_kl_loss_logit(after) - start
        frozen = [(entropy_kl_loss_logit(x) - start)[0] for x in (frozen_scale, after - along)]
        found.append(torch.stack([loss, entropy, kl, logit, *frozen]))
    return torch.stack(found, -1)


@pytest.mark.parametrize("architecture", FORMS)
@pytest.mark.parametrize("compiled", [False, True])
def test_outputs_are_what_their_definitions_say(traced, architecture, compiled, monkeypatch):
    monkeypatch.setattr("raretok.ablation.tiles.WORTH_COMPILING", 0 if compiled else 10**15)
    model, _, trace, mean = traced(architecture, count=2)
    log_q = log_unigram(np.random.default_rng(0).integers(0, 1000, VOCAB), model.readout.vocab)
    found = pair_effects(model.readout, trace, mean, outputs=OUTPUTS, log_unigram=log_q, progress=False)
    target = torch.from_numpy(trace.target.astype(np.int64))
    delta = (mean - trace.activation).T[list(NEURONS)]
    truth = by_definition(model.readout, trace, target, delta, log_q)
    error = (found.value[:, :, list(NEURONS)] - truth).abs().amax((1, 2))
    assert truth.abs().amax((1, 2)).min() > 1e-3
    assert error[0] <= 1e-4
    assert error[4] <= 1.1e-4
    assert error[[1, 2, 3, 5]].max() < 2e-5


@pytest.mark.parametrize("architecture", EXACT_FORMS)
def test_a_frozen_scale_equals_a_hooked_forward_pass_with_the_scale_frozen(traced, architecture):
    """The direct effect once more, through the model's own final norm and unembedding with the norm's denominator
    held.
    """
    model, windows, trace, mean = traced(architecture, torch.float64, count=1)
    found = pair_effects(model.readout, trace, mean, 1e-9, outputs=("frozen_scale",), progress=False).value[0]
    for i in NEURONS:
        hooked = hooked_group_effects(model, windows.tokens, [i], mean[[i]], freeze_scale=True).flatten()
        assert (found[:, i] - hooked).abs().max() < 1e-9


@pytest.mark.parametrize("architecture", EXACT_FORMS)
def test_a_group_equals_a_hooked_forward_pass(traced, architecture):
    model, windows, trace, mean = traced(architecture, torch.float64)
    members = [2, 5, 11, 40, 41]
    hooked = hooked_group_effects(model, windows.tokens, members, mean[members]).flatten().numpy()
    found = ablate_group(model.readout, trace, members, mean)
    assert np.abs(found).max() > 0.01
    assert np.abs(found - hooked).max() < 1e-10


def test_mean_over_the_trace_is_the_default(traced):
    model, _, trace, mean = traced("llama", torch.float64)
    with_mean = ablate(model.readout, trace, mean, progress=False)["loss"]
    by_name = ablate(model.readout, trace, "mean", progress=False)["loss"]
    assert (with_mean.net == by_name.net).all()
    assert by_name.net.shape == (len(np.unique(trace.document)), 1, model.readout.neurons)


def test_padded_types_count_as_the_model_counts_them(traced):
    """A vocabulary larger than the tokenizer's: its unused types are in the softmax, and never a target."""
    model, _, trace, mean = traced("llama")
    found = pair_effects(model.readout, trace, mean, progress=False).value[0]
    r, i = trace.residual.double(), 7
    readout, target = model.readout.to(torch.float64), torch.from_numpy(trace.target.astype(np.int64))
    assert readout.vocab > trace.target.max() + 50
    moved = r + (mean - trace.activation)[:, [i]].double() * readout.w_out[i]
    loss = [torch.nn.functional.cross_entropy(readout.logits(x), target, reduction="none") for x in (moved, r)]
    assert (found[:, i] - (loss[0] - loss[1])).abs().max() < 1e-4


def test_what_is_missing_is_said(traced):
    model, _, trace, mean = traced("gpt2", count=1)
    with pytest.raises(RaretokError, match="unknown output loudness: choose from loss, entropy"):
        ablate(model.readout, trace, mean, outputs=("loudness",))
    with pytest.raises(RaretokError, match="kl needs log_unigram"):
        ablate(model.readout, trace, mean, outputs=("loss", "kl"))


def test_unigram_probabilities_sum_to_one_and_none_is_zero():
    log_q = log_unigram(np.array([3, 0, 1]), 5)
    assert np.exp(log_q).sum() == pytest.approx(1)
    assert np.exp(log_q[0]) == pytest.approx(3.5 / 6.5)
    assert np.isfinite(log_q).all()

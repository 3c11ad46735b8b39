"""Properties that hold for any weights and positions (hypothesis draws them)."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given, settings

from raretok.ablation.certified import Certified
from raretok.ablation.exact import joint_effects, tile_effects
from raretok.ablation.identity import baseline, logit_attribution, logit_shift
from raretok.ablation.outputs import log_unigram, tile_outputs
from raretok.model.readout import Readout

TOLERANCE = 1e-8
DRAWN = settings(max_examples=60, deadline=None)


@st.composite
def cases(draw):
    """A random readout of small dimensions with some positions: readout, residual, δ, target, generator."""
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tokens, neurons, d_model, vocab = (draw(st.integers(*r)) for r in ((1, 5), (1, 7), (2, 9), (2, 40)))

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    readout = Readout(
        w_out=normal(neurons, d_model) * draw(st.floats(0.01, 2)),
        gain=1 + normal(d_model) / 3,
        bias=normal(d_model),
        eps=1e-5,
        centred=draw(st.booleans()),
        unembed=normal(d_model, vocab) * draw(st.floats(0.1, 2)),
        unembed_bias=normal(vocab),
    )
    target = torch.randint(vocab, (tokens,), generator=rng)
    return readout, normal(tokens, d_model) * 2, normal(tokens, neurons), target, rng


def effects(readout, residual, delta, target):
    """By the certified pass, whose values lie within the tolerance."""
    return Certified(logit_attribution(readout, residual), TOLERANCE)(residual, delta, target).value


@DRAWN
@given(cases())
def test_certified_is_exact_up_to_its_bound(case):
    readout, residual, delta, target, _ = case
    found = Certified(logit_attribution(readout, residual), 1e-3)(residual, delta, target)
    truth = tile_effects(logit_attribution(readout, residual), residual, delta, target)
    assert ((found.value - truth).abs() <= found.bound + 1e-11 * (1 + truth.abs())).all()
    assert found.bound.max() <= 1e-3


@DRAWN
@given(cases())
def test_no_change_has_no_effect(case):
    readout, residual, delta, target, _ = case
    assert (effects(readout, residual, torch.zeros_like(delta), target).abs() < 1e-12).all()


@DRAWN
@given(cases())
def test_permuting_neurons_permutes_effects(case):
    readout, residual, delta, target, rng = case
    order = torch.randperm(readout.neurons, generator=rng)
    permuted = effects(replace(readout, w_out=readout.w_out[order]), residual, delta[:, order], target)
    assert torch.allclose(permuted, effects(readout, residual, delta, target)[:, order], atol=3 * TOLERANCE, rtol=0)


@DRAWN
@given(cases(), st.floats(-50, 50))
def test_a_constant_on_all_logits_changes_nothing(case, constant):
    readout, residual, delta, target, rng = case
    column = torch.randn(len(readout.unembed), 1, generator=rng, dtype=torch.float64)
    raised = replace(readout, unembed=readout.unembed + column, unembed_bias=readout.unembed_bias + constant)
    before, after = (effects(r, residual, delta, target) for r in (readout, raised))
    assert torch.allclose(before, after, atol=3 * TOLERANCE, rtol=0)


@DRAWN
@given(cases())
def test_folding_the_gain_into_the_unembedding_changes_nothing(case):
    readout, residual, delta, target, _ = case
    folded = replace(
        readout,
        gain=torch.ones_like(readout.gain),
        bias=torch.zeros_like(readout.bias),
        unembed=readout.gain[:, None] * readout.unembed,
        unembed_bias=readout.constant,
    )
    before, after = (effects(r, residual, delta, target) for r in (readout, folded))
    assert torch.allclose(before, after, atol=3 * TOLERANCE, rtol=0)


@DRAWN
@given(cases())
def test_a_group_of_one_is_a_neuron_and_of_none_is_nothing(case):
    readout, residual, delta, target, _ = case
    attribution = logit_attribution(readout, residual)
    single, base = tile_effects(attribution, residual, delta, target), baseline(attribution, residual, target)
    for i in range(readout.neurons):
        one, none = joint_effects(attribution, base, delta[:, [i]] @ readout.w_out[[i]], (1.0, 0.0))
        assert torch.allclose(one, single[:, i], atol=1e-10, rtol=1e-10)
        assert (none.abs() < 1e-13).all()


@DRAWN
@given(cases())
def test_the_divergence_stays_positive_and_outputs_agree(case):
    """KL(p' ‖ unigram) = KL(p ‖ unigram) + ΔKL ≥ 0, and entropy' ≥ 0."""
    readout, residual, delta, target, _ = case
    log_q = torch.from_numpy(log_unigram(np.arange(readout.vocab), readout.vocab))
    engine = Certified(logit_attribution(readout, residual), TOLERANCE)
    base = baseline(engine.attribution, residual, target)
    moved = logit_shift(engine.attribution, base, delta)
    found, _ = tile_outputs(engine, base, moved, delta, ("entropy", "kl"), log_q)
    log_p = readout.logits(residual).log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1, keepdim=True)
    divergence = (log_p.exp() * (log_p - log_q)).sum(1, keepdim=True)
    assert (entropy + found[0] >= -1e-9).all()
    assert (divergence + found[1] >= -1e-9).all()

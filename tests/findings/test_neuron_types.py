"""Entropy and token-frequency neurons: one of each is planted and found, a random layer has none; overlaps and what
remains, by hand.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from raretok.ablation import DocumentSums, ablate, replaced_by
from raretok.ablation.outputs import log_unigram
from raretok.findings import neuron_types
from raretok.model.readout import Readout
from raretok.model.trace import Trace
from raretok.stats.sums import SplitHalfSums

D_MODEL, NEURONS, VOCAB, TOKENS = 48, 120, 400, 240
OUTPUTS = ("loss", "entropy", "kl", *neuron_types.PATHS)


def layer(planted: bool) -> tuple[Readout, Trace, np.ndarray]:
    """A random layer with a LayerNorm; where planted, neuron 0 writes where nothing is read, neuron 1 along the
    log-unigram distribution.
    """
    rng = np.random.default_rng(3)
    counts = np.ceil(2000 / np.arange(1, VOCAB + 1)).astype(int)
    log_q = log_unigram(counts, VOCAB)
    unembed = rng.standard_normal((D_MODEL, VOCAB)) * 0.3
    direction = log_q - log_q.mean()
    unembed -= np.outer(unembed @ direction, direction) / (direction @ direction)
    unembed[0] = 0.5 * direction
    unembed[1] *= 1e-3
    unembed -= unembed.mean(0)
    w_out = rng.standard_normal((NEURONS, D_MODEL)) * 0.1
    activation = rng.standard_normal((TOKENS, NEURONS))
    if planted:
        w_out[0] = 0
        w_out[0, 1] = 4.0
        activation[:, 0] = 2 + rng.standard_normal(TOKENS)
        w_out[1] = 0
        w_out[1, 0] = 1.0
        activation[:, 1] *= 2
    residual = rng.standard_normal((TOKENS, D_MODEL)) + activation @ w_out
    readout = Readout(
        *(torch.tensor(x, dtype=torch.float32) for x in (w_out, np.ones(D_MODEL), np.zeros(D_MODEL))),
        1e-5,
        True,
        *(torch.tensor(x, dtype=torch.float32) for x in (unembed, np.zeros(VOCAB))),
    )
    residual = torch.tensor(residual, dtype=torch.float32)
    target = torch.multinomial(readout.logits(residual).softmax(1), 1, generator=torch.Generator().manual_seed(0))[
        :, 0
    ].numpy()
    index = np.arange(TOKENS)
    trace = Trace(
        torch.tensor(activation, dtype=torch.float32),
        residual,
        target,
        target,
        index // 8,
        index // 8,
        index // 8 % 2,
        index % 8,
        np.zeros(TOKENS),
    )
    return readout, trace, log_q


def kinds_of(planted: bool) -> pd.DataFrame:
    readout, trace, log_q = layer(planted)
    mean = replaced_by(trace.activation, "mean", 0)
    found = ablate(readout, trace, mean, outputs=OUTPUTS, log_unigram=log_q, progress=False)
    half = np.unique(trace.document) % 2
    return neuron_types.neuron_types(
        neuron_types.geometry(readout, log_q), {o: SplitHalfSums(s, half, ("all",)) for o, s in found.items()}
    )


def test_planted_neurons_are_found_and_no_others():
    kinds = kinds_of(True)
    assert kinds.index[kinds["entropy_neuron"]].tolist() == [0]
    assert kinds.index[kinds["frequency_neuron"]].tolist() == [1]
    assert kinds.loc[0, "null_0.05"] > 5 * kinds["null_0.05"].median()
    assert abs(kinds.loc[1, "frequency_cosine"]) > 0.95
    table = neuron_types.sensitivity(kinds)
    assert (table["entropy neurons"] > 2 * table["all neurons"]).all()
    thresholds = neuron_types.thresholds(kinds, pd.DataFrame({"controlled": kinds["neuron"] < 1, "published": False}))
    assert (thresholds["entropy neurons"] >= 1).all()
    assert (thresholds["rare-token neurons among them"] >= 1).all()


def test_a_random_layer_has_none():
    kinds = kinds_of(False)
    assert not kinds["either"].any()


def test_geometry_against_the_definitions():
    readout, _, log_q = layer(True)
    found = neuron_types.geometry(readout, log_q)
    w, u = readout.w_out.double().numpy(), readout.unembed.double().numpy()
    w = w - w.mean(1, keepdims=True)
    u = u - u.mean(0) - (u - u.mean(0)).mean(1, keepdims=True)
    cosine = (w @ u) / np.outer(np.linalg.norm(w, axis=1), np.linalg.norm(u, axis=0))
    np.testing.assert_allclose(found["norm"], np.linalg.norm(w, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found["logit_variance"], cosine.var(1), rtol=1e-3)
    direction = log_q - log_q.mean()
    along = (w @ u) @ direction / np.linalg.norm(w @ u, axis=1) / np.linalg.norm(direction)
    np.testing.assert_allclose(found["frequency_cosine"], along, atol=1e-4)
    left, size, _ = np.linalg.svd(u)
    bottom = left[:, np.argsort(size)][:, : 1 + round(0.1 * D_MODEL)]
    np.testing.assert_allclose(found["null_0.1"], ((w @ bottom) ** 2).sum(1) / (w**2).sum(1), rtol=1e-3)


def test_overlap_by_hand():
    kinds = pd.DataFrame(
        {
            "entropy_neuron": [True, True, False, False],
            "frequency_neuron": [False, False, True, False],
            "either": [True, True, True, False],
        }
    )
    found = pd.DataFrame({"controlled": [True, True, False, False], "published": [False] * 4})
    table = neuron_types.type_overlap(kinds, found).set_index(["group", "kind"])
    row = table.loc[("controlled", "entropy")]
    assert row["both"] == 2
    assert row["expected"] == 1
    assert row["p"] == pytest.approx(1 / 6)
    assert row["low"] == pytest.approx(0.025 ** (1 / 2))
    assert np.isnan(table.loc[("published", "either"), "share"])


def test_what_remains_is_the_direct_share():
    rng = np.random.default_rng(4)
    weight = np.ones((30, 3))
    s = rng.standard_normal(20)
    net = 0.01 * rng.standard_normal((30, 3, 20)) + np.array([0, 1, 0])[None, :, None] * s

    def halves(times: float) -> SplitHalfSums:
        sums = DocumentSums(times * net, np.abs(net), net**2, weight, np.ones((30, 3), dtype=int), 0.0, 0.0)
        return SplitHalfSums(sums, np.arange(30) % 2, neuron_types.BANDS)

    outputs = {"loss": halves(1), "frozen_scale": halves(0.9), "frozen_frequency": halves(0.25)}
    found = pd.DataFrame({"s_a": s, "selected": np.arange(20) < 10, "published": False})
    table = neuron_types.direct_effect_share(outputs, found, 0).set_index("path")
    np.testing.assert_allclose(table["share"], [0.9, 0.25], rtol=1e-6)
    np.testing.assert_allclose(table["total"], np.abs(s[:10]).mean(), rtol=0.02)
    assert neuron_types.direct_effect_share(outputs, found.assign(selected=False), 0).empty


def test_a_sample_of_positions_is_unbiased_for_each_band():
    rng = np.random.default_rng(5)
    weights = {
        "all": rng.exponential(size=500),
        "rare with controls": np.repeat([1.0, 0.0], [400, 100]),
        "matched": np.repeat([0.0, 3.0], [450, 50]),
    }
    value = rng.standard_normal(500)
    kept, drawn = neuron_types.sample_positions(weights, 0, most=300)
    assert drawn.sum(1).tolist() == [300, 300, 50]
    for b, w in enumerate(weights.values()):
        truth = (w * value).sum() / w.sum()
        assert abs((drawn[b] * value[kept]).sum() / drawn[b].sum() - truth) < 0.2
    assert not (drawn[1] * (weights["rare with controls"][kept] == 0)).any()

"""Hooks of an independent library, and the committed benchmark, whose error says what to do where it is missing."""

import copy

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from raretok import RaretokError, Study
from raretok.ablation.reference import hooked_effects
from raretok.measure.checks import benchmark_records, benchmark_table
from raretok.measure.precision import precision_table
from raretok.model.lens import bridge_effects, bridge_of
from raretok.model.load import wrap_model


def test_the_committed_benchmark_is_whole():
    records = benchmark_records()
    of = {(r["name"], r["method"]): r for r in records}
    assert {name for name, _ in of} == {"SmolLM2-135M", "Pythia-410M dimensions", "Gemma-3-270M dimensions"}
    for (name, _), record in of.items():
        ratio = of[name, "published"]["us_per_pair"] / record["us_per_pair"]
        assert record["ratio_to_published"] == pytest.approx(ratio)
        assert record["peak_mib"] > 0
        assert record["machine"] == records[0]["machine"]
    certified = of["SmolLM2-135M", "certified"]
    assert certified["checked_pairs"] >= 1e6
    assert certified["beyond_bound"] == 0
    assert certified["max_error"] <= 1e-4
    for name in {name for name, _ in of}:
        assert set(benchmark_table(records, name)["way"]) == {method for n, method in of if n == name}


def test_a_missing_benchmark_says_how_to_make_it(tmp_path):
    with pytest.raises(RaretokError, match="run `make bench`"):
        benchmark_records(tmp_path / "results.json")
    (tmp_path / "results.json").write_text("[{")
    with pytest.raises(RaretokError, match="is not a readable list of results"):
        benchmark_records(tmp_path / "results.json")


def test_a_missing_measurement_of_the_precision_says_how_to_make_it(tmp_path):
    with pytest.raises(RaretokError, match="`make precision` measures it"):
        precision_table(tmp_path / "precision.csv")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_moves_the_pass_a_little_and_the_readout_not_at_all(models, corpus_file, architecture):
    settings = {"model": str(models[architecture]), "corpus": str(corpus_file), "windows": 120, "length": 64}
    half, single = (Study(**settings, sample=300, device="cpu", dtype=d) for d in ("bfloat16", "float32"))
    a, b = (study.get("effects.effects") for study in (half, single))
    apart = np.abs(a["loss"] - b["loss"])
    assert 1e-4 < np.median(apart) < 0.1
    assert a["checks"][1] < 1e-3  # The engine still agrees with hooks on the model itself.
    assert half.key("effects.effects") != single.key("effects.effects")
    correlation = np.corrcoef(a["net"][:, 0].sum(0), b["net"][:, 0].sum(0))[0, 1]
    assert correlation > 0.95


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_hooks_of_transformer_lens_give_the_same_effects(traced, architecture):
    model, windows, _, mean = traced(architecture)
    before = copy.deepcopy(model.network.state_dict())
    bridge = bridge_of(model)
    for neuron in (0, 41):
        found = bridge_effects(bridge, windows.tokens, neuron, mean[neuron])
        expected = hooked_effects(model, windows.tokens, neuron, mean[neuron])
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
        assert float(expected.abs().max()) > 1e-3
    after = model.network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_model_that_transformer_lens_cannot_represent_has_no_bridge(traced, caplog):
    model, *_ = traced("gpt_neox")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    network = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=400, attention_bias=False, **small))
    assert bridge_of(wrap_model(model.entry, network, model.tokenizer, "cpu")) is None
    assert "transformer-lens cannot represent" in caplog.text

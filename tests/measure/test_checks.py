"""Hooks of an independent library, and the committed benchmark, whose error says what to do where it is missing."""

import copy

import pytest
import torch
from conftest import ARCHITECTURES
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from raretok import RaretokError
from raretok.ablation.reference import hooked_effects
from raretok.measure.checks import benchmark_records, benchmark_table
from raretok.model.lens import bridge_effects, bridge_of
from raretok.model.load import wrap_model


def test_the_committed_benchmark_is_whole():
    records = benchmark_records()
    of = {(r["name"], r["method"]): r for r in records}
    assert {name for name, _ in of} == {"SmolLM2-135M", "Pythia-410M dimensions"}
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

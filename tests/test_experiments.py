"""The experiments of a study, on tiny models of every architecture: they run, agree with each other, and are kept."""

import numpy as np
import pytest
from conftest import ARCHITECTURES

from raretok import NotApplicable, Study
from raretok.findings.groups import headline
from raretok.graph import Of


@pytest.fixture
def settings(models, corpus_file):
    return {"corpus": str(corpus_file), "windows": 120, "length": 64, "sample": 300, "device": "cpu"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_experiment_runs_and_is_kept(models, settings, architecture, monkeypatch):
    study = Study(model=str(models[architecture]), **settings)
    neurons = study.inputs.model.readout.neurons
    heads = 2 if architecture == "gpt_neox" else 4  # the last layer of a parallel model cannot reach its MLP
    assert len(study.table("neuron_types.neuron_types")) == neurons
    assert study.get("routing.head_effects").heads.shape[::3] == (heads, neurons)
    assert set(study.table("routing.statistics")["group"]) == {headline(study.get("groups.neuron_sets"))}
    assert len(study.table("routing.screened_heads")) == heads
    assert len(study.get("routing.screen")) == 2 * heads
    assert len(study.table("layers.layer_effects")) == 2
    assert len(study.table("intervention.scaling", groups={"some": np.arange(5)})) == 2 * 8 * 3
    assert study.table("intervention.scaling", groups={}).empty
    assert study.table("intervention.pruning")["k"].max() == neurons
    assert study.table("intervention.joint_groups")["k"].max() == 10
    assert len(study.claims(("C17", "C18", "C20", "C21", "C22", "C23"))) == 6
    assert len(study.table("layers.layer_checks")) == 8
    assert (study.table("layers.layer_agreement")["spearman"] > 0.5).all()
    monkeypatch.setattr("raretok.measure.inputs.load_model", lambda *a, **k: pytest.fail("measured again"))
    again = Study(model=str(models[architecture]), **settings)
    for name in (
        *("neuron_types.neuron_types", "neuron_types.type_overlap", "neuron_types.direct_effect_share"),
        *("routing.statistics", "robustness.replacements", "robustness.definitions", "robustness.learning_curve"),
        *("intervention.joint_groups", "intervention.pruning"),
        *("layers.layer_effects", "layers.layer_agreement", "layers.layer_checks"),
    ):
        np.testing.assert_array_equal(
            again.table(name).select_dtypes("number"), study.table(name).select_dtypes("number")
        )


def test_mean_ablation_of_the_experiments_is_that_of_the_study(models, settings):
    study = Study(model=str(models["llama"]), **settings)
    mean, sums = study.get("robustness.replacement_sums")["mean"], study.get("effects.band_sums")
    for band in ("rare with controls", "matched"):
        ours, whole = mean.of(band), sums.of(band)
        np.testing.assert_allclose(ours[1], whole[1])
        np.testing.assert_allclose(ours[0], whole[0], atol=2e-4 * whole[1].max())
    other = Study(model=str(models["llama"]), **settings | {"seed": 1})
    table = study.table("robustness.across_corpora", second=Of(other, "effects.band_sums"))
    assert set(table["band"]) == {"rare", "common", "all"}


def test_a_model_of_one_parallel_layer_has_no_routing(tmp_path, models, settings):
    from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM

    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 96, "max_position_embeddings": 64}
    config = GPTNeoXConfig(num_hidden_layers=1, vocab_size=400, bos_token_id=0, eos_token_id=0, **small)
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(models["gpt_neox"]).save_pretrained(tmp_path)
    study = Study(model=str(tmp_path), **settings)
    with pytest.raises(NotApplicable, match="one layer"):
        study.table("routing.statistics")
    verdicts = study.claims(("C17", "C20", "C23")).set_index("id")
    assert list(verdicts.index) == ["C17", "C20", "C23"]
    assert verdicts.loc["C17", "verdict"] == "not applicable"
    assert "no attention head" in verdicts.loc["C17", "why"]
    assert verdicts.loc["C23", "why"] == "there is no other layer to compare with"

"""The experiments of a study, on tiny models of every architecture: they run, agree with each other, and are kept."""

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from raretok import NotApplicable, Study
from raretok.ablation import ablate
from raretok.book.facts import routing as facts
from raretok.claims import routing as rules
from raretok.findings import heads, routing
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


@pytest.mark.parametrize("replacement", ["mean", "zero"])
def test_mean_ablation_of_the_experiments_is_that_of_the_engine(models, settings, replacement):
    study = Study(model=str(models["llama"]), replacement=replacement, **settings)
    kinds, trace = study.get("robustness.replacement_sums"), study.get("effects.trace")
    weights = study.get("effects.band_weights")
    of_band = np.stack([weights[band] for band in ("rare with controls", "matched")])
    for kind, values in (("mean", torch.from_numpy(study.get("effects.mean_activation"))), ("zero", "zero")):
        sums = ablate(study.get("effects.readout"), trace, values, of_band, progress=False)["loss"]
        for b, band in enumerate(("rare with controls", "matched")):
            ours, weight = kinds[kind].of(band)
            np.testing.assert_allclose(weight, sums.weight[:, b])
            np.testing.assert_allclose(ours, sums.net[:, b], atol=2e-4 * weight.max())


def test_another_text_is_compared_band_by_band(models, settings):
    study = Study(model=str(models["llama"]), **settings)
    other = Study(model=str(models["llama"]), **settings | {"seed": 1})
    table = study.table("robustness.across_corpora", second=Of(other, "effects.band_sums"))
    assert set(table["band"]) == {"rare", "common", "all"}


def test_some_heads_stand_for_all_unless_every_head_is_asked_for(tmp_path, models, settings, monkeypatch):
    monkeypatch.setattr(routing, "EVERY", 4)
    for name, number in {"SPECIFIC": 2, "SAMPLED": 3, "LAYERS": 2, "OF_LAYER": 1}.items():
        monkeypatch.setattr(heads, name, number)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=80, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(models["llama"]).save_pretrained(tmp_path / "model")
    some, every = (Study(model=str(tmp_path / "model"), every_head=e, **settings) for e in (False, True))
    assert some.key("routing.head_influences") != every.key("routing.head_influences")
    tables = {}
    for study in (some, every):
        tables[study] = study.table("routing.statistics").set_index(["group", "statistic"])
        assert set(tables[study]["heads"]) == {12}
        assert study.table("routing.heads")["represents"].sum() == pytest.approx(12)
        assert not (study.claims(("C17", "C18"))["verdict"] == "not applicable").any()
        assert facts.facts(study)["ablated"] == str(len(study.table("routing.heads")))
        assert len(rules.simulated("bands exchanged", rules.material(study), 0)[routing.statistics])
    assert set(tables[every]["ablated"]) == {12}
    assert 5 <= tables[some]["ablated"].iloc[0] < 12
    ratio = tables[some].xs("ratio", level="statistic")
    assert ratio["matched"].isna().all()
    assert tables[every].xs("ratio", level="statistic")["matched"].notna().all()
    a, b = (t.xs("median_head", level="statistic")["estimate"] for t in tables.values())
    np.testing.assert_allclose(a, b, rtol=0.5)
    joint = some.table("routing.heads").merge(every.table("routing.heads"), on=["layer", "head"])
    np.testing.assert_allclose(joint["rare_x"], joint["rare_y"], rtol=1e-3)


def test_a_model_of_one_parallel_layer_has_no_routing(tmp_path, models, settings):
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

"""The experiments of a study, on tiny models of every architecture: they run, agree with each other, and are kept."""

import numpy as np
import pytest
from conftest import ARCHITECTURES

from raretok import Study
from raretok.claims import CLAIMS
from raretok.model.passes import NoHeads


@pytest.fixture
def settings(models, corpus_file):
    return {"corpus": str(corpus_file), "windows": 120, "length": 64, "sample": 300, "device": "cpu"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_experiment_runs_and_is_kept(models, settings, architecture, monkeypatch):
    study = Study(model=str(models[architecture]), **settings)
    neurons = study.model.readout.neurons
    heads = 2 if architecture == "gpt_neox" else 4  # the last layer of a parallel model cannot reach its MLP
    assert len(study.relatives()) == neurons
    assert study.influences.heads.shape[::3] == (heads, neurons)
    assert set(study.routing()["group"]) == {study.headline}
    assert len(study.screened_heads(study.headline)) == 2 * heads
    assert len(study.layer_effects()) == 2
    assert len(study.scaling({"some": np.arange(5)})) == 2 * 8 * 3
    assert study.scaling({}).empty
    assert study.pruning()["k"].max() == neurons
    assert study.joint_groups()["k"].max() == 10
    found = study.claims(("C17", "C18", "C20", "C21", "C22", "C23"))
    assert len(found) == 6
    assert len(study.layer_checks()) == 8
    agreement = study.layer_agreement()
    assert (agreement["spearman"] > 0.5).all()
    monkeypatch.setattr("raretok.reading.load_model", lambda *a, **k: pytest.fail("measured again"))
    again = Study(model=str(models[architecture]), **settings)
    for table in (
        "relatives",
        "kinship",
        "remaining",
        "routing",
        "replacements",
        "definitions",
        "learning_curve",
        "joint_groups",
        "pruning",
        "layer_effects",
        "layer_agreement",
        "layer_checks",
    ):
        np.testing.assert_array_equal(
            getattr(again, table)().select_dtypes("number"), getattr(study, table)().select_dtypes("number")
        )


def test_mean_ablation_of_the_experiments_is_that_of_the_study(models, settings):
    study = Study(model=str(models["llama"]), **settings)
    mean = study.replaced["mean"]
    for band in ("rare with controls", "matched"):
        ours, whole = mean.of(band), study.halves.of(band)
        np.testing.assert_allclose(ours[1], whole[1])
        np.testing.assert_allclose(ours[0], whole[0], atol=2e-4 * whole[1].max())
    other = Study(model=str(models["llama"]), **settings | {"seed": 1})
    assert set(study.across_corpora(other)["band"]) == {"rare", "common", "all"}


def test_a_model_of_one_parallel_layer_has_no_routing(tmp_path, models, settings):
    from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM

    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 96, "max_position_embeddings": 64}
    config = GPTNeoXConfig(num_hidden_layers=1, vocab_size=400, bos_token_id=0, eos_token_id=0, **small)
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(models["gpt_neox"]).save_pretrained(tmp_path)
    study = Study(model=str(tmp_path), **settings)
    with pytest.raises(NoHeads, match="one layer"):
        study.routing()
    found = study.claims(("C17", "C20", "C23")).set_index("id")
    assert list(found.index) == ["C20", "C23"]
    assert found.loc["C23", "why"] == "there is no other layer to compare with"


def test_every_claim_needs_a_table_that_a_study_makes():
    assert all(callable(getattr(Study, claim.needs)) for claim in CLAIMS)

"""The experiments of a study, on tiny models of every architecture: they run, agree with each other, and are kept."""

import numpy as np
import pytest
from conftest import ARCHITECTURES

from raretok import Study
from raretok.claims import CLAIMS


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
    assert set(study.routing()["group"]) <= {"published", "controlled"}  # none: so few neurons have no equals
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


def test_every_claim_needs_a_table_that_a_study_makes():
    assert all(callable(getattr(Study, claim.needs)) for claim in CLAIMS)

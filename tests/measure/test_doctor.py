"""The doctor looks at everything, tells what is wrong once, and measures nothing."""

import pytest

from raretok import Study
from raretok.measure.doctor import examine


def findings(study):
    return {f.what: f for f in examine(study.inputs, lambda: study.table("checks.first_token"))}


@pytest.fixture
def settings(models, corpus_file):
    return {"model": models["gpt_neox"], "corpus": corpus_file, "windows": 60, "length": 32, "device": "cpu"}


def test_everything_is_said_of_a_study_that_can_be_done(settings, own_store):
    found = findings(Study(**settings))
    assert not any(f.wrong for f in found.values())
    assert "2 parallel layers, d_model 32, 96 neurons in the last MLP, 400 token types" in found["model"].found
    assert "60 of 32 tokens, from 60 documents" in found["windows"].found
    assert "<|endoftext|>' is used: a mean loss of" in found["first token"].found
    assert "no checkpoints" in found["checkpoints"].found
    assert "GiB for the effects of all neurons" in found["cost"].found
    assert not list(own_store.glob("effects.effects/*")), "nothing is measured"


def test_forms_of_the_last_layers_are_named(settings, models):
    found = findings(Study(**settings | {"model": models["gemma2"]}))
    assert "RMSNorm, a norm after the MLP, soft cap of 3: every pair takes exponentials" in found["readout"].found


@pytest.mark.parametrize(
    ("changed", "what", "says"),
    [
        ({"model": "gpt2"}, "model", "run `raretok fetch gpt2`"),
        ({"corpus": "/nowhere/text.csv"}, "text", "no file /nowhere/text.csv"),
        ({"windows": 10**6}, "windows", "ask for at most"),
        ({"length": 80}, "windows", "do not fit the model's context of 64"),
        ({"device": "cuda:9"}, "model", "there is no device cuda:9 here"),
        ({"counts": "/nowhere/counts.json"}, "frequencies", "/nowhere/counts.json"),
    ],
)
def test_what_is_wrong_is_told_once_and_the_rest_is_looked_at(settings, changed, what, says):
    found = findings(Study(**settings | changed))
    assert says in found[what].wrong
    assert sum(says in f.wrong for f in found.values()) == 1
    assert "checkpoints" in found

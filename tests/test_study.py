"""A whole study on tiny models, and everything a user can get wrong."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ARCHITECTURES, VOCAB

from raretok import RaretokError, Study
from raretok.data.positions import BANDS


@pytest.fixture
def settings(models, corpus_file):
    return {
        "model": str(models["gpt_neox"]),
        "corpus": str(corpus_file),
        "windows": 120,
        "length": 64,
        "sample": 300,
        "device": "cpu",
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_study_runs_and_keeps_its_tables(models, settings, architecture, own_store, monkeypatch):
    study = Study(**settings | {"model": str(models[architecture])})
    effects, found = study.effects(), study.identification()
    neurons = study.model.readout.neurons
    assert len(effects) == neurons * len(BANDS)
    assert len(found) == neurons
    assert not effects["net"].isna().any()
    assert study.checks()["value"].iloc[1] < 1e-4
    assert study.bands().set_index("band").loc["rare", "ablated"] >= 200
    monkeypatch.setattr(Study, "_measure", lambda self: pytest.fail("measured twice"))
    again = Study(**settings | {"model": str(models[architecture])})
    pd.testing.assert_frame_equal(again.effects(), effects)


def test_only_what_changes_the_numbers_changes_the_key(settings, models, tmp_path):
    key = Study(**settings).key
    assert Study(**settings | {"device": "auto", "store": tmp_path / "other"}).key == key
    changes = [
        {"windows": 119},
        {"seed": 1},
        {"replacement": "zero"},
        {"sample": 301},
        {"tolerance": 1e-3},
        {"model": str(models["llama"])},
    ]
    keys = [json.dumps(Study(**settings | change).key) for change in changes]
    assert len({json.dumps(key), *keys}) == len(changes) + 1


def test_tokens_and_contexts_are_those_of_the_text(settings):
    study = Study(**settings)
    types = study.types()
    assert types["count"].is_monotonic_decreasing
    assert types["count"].sum() == len(study.text.ids)
    contexts = study.contexts([3])
    assert contexts["activation"].is_monotonic_decreasing
    prints = study.footprint([3], top=5)
    assert len(prints) == 5
    assert prints["promotes_logit"].is_monotonic_decreasing


def test_no_pair_of_the_audit_is_beyond_its_bound(settings):
    audit = Study(**settings).certificate(positions=6)
    assert len(audit) == 6 * 96
    assert (audit["error"].abs() <= audit["bound"]).all()
    assert audit["effect"].abs().max() > 1e-3


def test_training_counts_are_used_where_given(settings, tmp_path):
    counts = np.random.default_rng(0).permutation(np.arange(1, VOCAB + 1))
    np.save(tmp_path / "c.npy", counts)
    study = Study(**settings | {"counts": str(tmp_path / "c.npy")})
    assert (study.frequency.counts == counts).all()
    np.save(tmp_path / "short.npy", counts[:-1])
    with pytest.raises(RaretokError, match="short.npy holds counts of shape"):
        _ = Study(**settings | {"counts": str(tmp_path / "short.npy")}).frequency


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windws": 3}, "windws: Extra inputs are not permitted. The parameters are model, step, corpus"),
        ({"windows": "3"}, "windows: Input should be a valid integer"),
        ({"windows": 0}, "windows: Input should be greater than or equal to 2"),
        ({"replacement": "median"}, "replacement: Input should be 'mean', 'zero' or 'resample'"),
    ],
)
def test_bad_settings_list_the_right_ones(settings, change, message):
    with pytest.raises(RaretokError, match=message):
        Study(**settings | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windows": 100_000}, "fewer than windows=100000: ask for at most"),
        ({"windows": 25}, "band rare has .* targets, fewer than 200"),
        ({"length": 100}, "do not fit gpt_neox's context of 64"),
        ({"model": "nothing"}, "unknown model 'nothing'"),
        ({"step": 5}, "has no step 5: it has no training checkpoints"),
        ({"corpus": "nothing"}, "unknown corpus 'nothing'"),
    ],
)
def test_what_cannot_be_measured_says_why_and_leaves_nothing(settings, change, message, own_store):
    with pytest.raises(RaretokError, match=message):
        Study(**settings | change).effects()
    assert not list(own_store.glob("effects*/*"))


def test_a_corpus_of_few_documents_says_so(settings, tmp_path, documents):
    (tmp_path / "few.csv").write_text("text\n" + " ".join(documents[:150]) + "\n")
    with pytest.raises(RaretokError, match="the windows come from 1 documents of few.csv, fewer than 20"):
        Study(**settings | {"corpus": str(tmp_path / "few.csv")}).effects()


def test_a_text_too_short_for_one_window_says_so(settings, tmp_path):
    (tmp_path / "short.txt").write_text("a few words")
    with pytest.raises(RaretokError, match="short.txt has 0 windows of 64 tokens, fewer than windows=120"):
        Study(**settings | {"corpus": str(tmp_path / "short.txt")}).effects()

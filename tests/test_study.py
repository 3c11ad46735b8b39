"""A whole study on tiny models, and everything a user can get wrong."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ARCHITECTURES, VOCAB, make_model

from raretok import NotApplicable, RaretokError, Study
from raretok.data.frequency import UnigramCounts
from raretok.data.positions import BANDS
from raretok.data.text import Windows
from raretok.findings import corpus
from raretok.graph import NODES, load_all, node_of
from raretok.measure.effects import collect, effects


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


def never(*_, **__):
    pytest.fail("computed again")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_study_runs_and_keeps_its_tables(models, settings, architecture, monkeypatch):
    study = Study(**settings | {"model": str(models[architecture])})
    table = study.table("identification.effects")
    neurons = study.inputs.model.readout.neurons
    assert len(table) == neurons * table["band"].nunique()
    assert table["band"].nunique() >= len(BANDS) - 1  # a type may be more than a tenth of a small vocabulary's text
    assert len(study.table("identification.rare_token_neurons")) == neurons
    assert not table["net"].isna().any()
    assert study.table("effects.checks")["value"].iloc[1] < 1e-4
    assert study.table("effects.bands").set_index("band").loc["rare", "ablated"] >= 200
    monkeypatch.setattr("raretok.measure.inputs.load_model", never)
    again = Study(**settings | {"model": str(models[architecture])})
    pd.testing.assert_frame_equal(again.identification.effects(), table)


def test_only_what_changes_the_numbers_changes_the_key(settings, models, tmp_path):
    key = Study(**settings).key(effects)
    assert Study(**settings | {"device": "auto", "store": tmp_path / "other"}).key(effects) == key
    changes = [
        {"windows": 119},
        {"seed": 1},
        {"replacement": "zero"},
        {"sample": 301},
        {"tolerance": 1e-3},
        {"model": str(models["llama"])},
    ]
    keys = [json.dumps(Study(**settings | change).key(effects)) for change in changes]
    assert len({json.dumps(key), *keys}) == len(changes) + 1


def test_a_study_is_small_and_says_what_it_is(settings):
    study = Study(**settings)
    public = {name for name in dir(study) if not name.startswith("_")}
    assert public == {
        *("settings", "inputs", "store", "about"),
        *(
            "table",
            "get",
            "keep",
            "key",
            "digest",
            "is_kept",
            "noted",
            "at",
            "on_part",
            "over_training",
            "claims",
            "release",
        ),
    }
    assert repr(study).startswith("Study(model='gpt_neox', corpus='")
    assert "windows=120" in repr(study)


def test_tables_are_reached_by_name_and_by_attribute_and_wrong_names_list_the_right_ones(settings):
    study = Study(**settings)
    pd.testing.assert_frame_equal(study.regimes.published(), study.table("regimes.published"))
    assert "curves" in dir(study.regimes)
    with pytest.raises(RaretokError, match=r"no table 'regimes.curvs': choose from .*regimes.curves"):
        study.table("regimes.curvs")
    with pytest.raises(RaretokError, match=r"no table 'nothing': choose from .*coactivation, corpus"):
        study.table("nothing")
    with pytest.raises(RaretokError, match=r"regimes.curves has no parameter band: it has draws, bands"):
        study.table("regimes.curves", band="rare")
    with pytest.raises(RaretokError, match=r"groups.neuron_sets is no table but dict"):
        study.table("groups.neuron_sets")
    with pytest.raises(AttributeError, match="a study has no 'nothing'"):
        _ = study.nothing


def test_a_table_that_is_changed_by_its_reader_is_not_changed_for_the_next(settings):
    study = Study(**settings)
    for table in (study.table("effects.bands"), study.effects.bands()):
        table.loc[:, "ablated"] = -1
    assert (study.table("effects.bands")["ablated"] >= 0).all()


def test_tokens_and_contexts_are_those_of_the_text(settings):
    study = Study(**settings)
    types = study.table("corpus.types")
    assert Study(**settings | {"frequency": "text"}).table("corpus.types")["count"].is_monotonic_decreasing
    assert types["count"].sum() == len(study.inputs.text.tokens.ids)
    contexts = study.table("neuron_cards.max_activating_contexts", neurons=[3])
    assert contexts["activation"].is_monotonic_decreasing
    tokens = study.table("neuron_cards.top_tokens", neurons=[3], top=5)
    assert len(tokens) == 5
    assert tokens["promotes_logit"].is_monotonic_decreasing


def test_no_pair_of_the_audit_is_beyond_its_bound(settings):
    audit = Study(**settings).table("checks.certificate", positions=6)
    assert len(audit) == 6 * 96
    assert (audit["error"].abs() <= audit["bound"]).all()
    assert audit["effect"].abs().max() > 1e-3


def test_training_counts_are_used_where_given(settings, tmp_path):
    counts = np.random.default_rng(0).permutation(np.arange(1, VOCAB + 1))
    np.save(tmp_path / "c.npy", counts)
    study = Study(**settings | {"counts": str(tmp_path / "c.npy")})
    assert (study.inputs.frequency.counts == counts).all()
    np.save(tmp_path / "short.npy", counts[:-1])
    with pytest.raises(RaretokError, match=r"short.npy holds counts of shape"):
        _ = Study(**settings | {"counts": str(tmp_path / "short.npy")}).inputs.frequency


@pytest.mark.parametrize("by", ["training", "merges", "words", "text"])
def test_what_ranks_the_types_is_chosen_and_is_in_the_key(settings, tmp_path, by):
    np.save(tmp_path / "c.npy", np.arange(1, VOCAB + 1))
    counts = {"counts": str(tmp_path / "c.npy")} if by == "training" else {}
    studies = [Study(**settings), Study(**settings | counts | {"frequency": by})]
    keys = {json.dumps(s.key("effects.effects"), sort_keys=True) for s in studies}
    # this tokenizer has merges, so that they are what auto takes
    assert len(keys) == (1 if by == "merges" else 2)
    sources = studies[1].table("corpus.sources").set_index("source")
    assert sources.index[sources["used"]].tolist() == [by]
    assert sources.loc[by, ["agreement", "shared"]].tolist() == pytest.approx([1, 1])
    others = sources[(sources.index != by) & (sources["reason"] == "")]
    assert len(others) >= 2
    assert (others["agreement"] < 0.999).all()


def test_short_documents_are_packed_and_resampled_as_documents(models, tmp_path, documents):
    short = [" ".join(d.split()[:12]) for d in documents * 3]
    path = tmp_path / "short.txt"
    path.write_text("\n".join(f"{k} {d}" for k, d in enumerate(short)), encoding="utf-8")
    given = {"model": models["gpt_neox"], "corpus": str(path), "documents": "lines", "windows": 100, "length": 64}
    with pytest.raises(RaretokError, match="has 0 windows of 64 tokens"):
        _ = Study(**given).inputs.windows
    study = Study(**given, pack=True, sample=300, device="cpu")
    measured = study.get("effects.effects")
    windows = study.inputs.windows
    assert windows.count > 150
    assert len(np.unique(measured["document"])) > 150
    at = windows.documents[measured["window"], measured["position"] + 1]
    assert (measured["document"] == at).all()
    # the mark between documents is no target that anything is said about, even if the training text has it
    np.save(tmp_path / "c.npy", np.r_[10**6, np.arange(1, VOCAB)])
    for counted in (study, Study(**given, pack=True, sample=300, device="cpu", counts=str(tmp_path / "c.npy"))):
        chosen = counted.get("effects.selection")
        marks = counted.get("effects.effects")["target"][chosen.rows] == study.inputs.bos
        assert not chosen.weights[:, marks].any()
    assert len(study.get("effects.band_sums").half) == len(np.unique(measured["document"][measured["rows"]]))


def test_a_text_of_token_ids_is_that_of_its_tokenizer(models, tmp_path, documents):
    tokenizer = Study(model=models["gpt_neox"], corpus="movie-reviews").inputs.tokenizer
    ids = [[0, *tokenizer(d)["input_ids"], 0] for d in documents]
    pd.DataFrame({"input_ids": ids}).to_parquet(tmp_path / "ids.parquet")
    settings = {"model": models["gpt_neox"], "corpus": str(tmp_path / "ids.parquet"), "text_column": "input_ids"}
    corpus = Study(**settings).inputs.text.corpus
    assert list(corpus.documents) == list(dict.fromkeys(documents))
    other = [[1 + (i + 7) % (len(tokenizer) - 1) for i in each] for each in ids]
    pd.DataFrame({"input_ids": other}).to_parquet(tmp_path / "ids.parquet")
    with pytest.raises(RaretokError, match=r"the token ids of \d+ of 200 documents are not those that .* gives"):
        _ = Study(**settings).inputs.text.corpus


def test_sources_agree_with_themselves_whatever_the_length_of_the_counts(settings, tmp_path):
    np.save(tmp_path / "c.npy", np.arange(1, VOCAB + 1))
    study = Study(**settings | {"counts": str(tmp_path / "c.npy")})
    padded = np.r_[study.inputs.frequency.counts, np.zeros(40, dtype=int)]
    counted = {
        "training": UnigramCounts(padded, "padded"),
        **{k: study.inputs.frequencies[k] for k in ("merges", "text")},
    }
    table = corpus.sources(counted["training"], counted, study.inputs.tokenizer).set_index("source")
    assert table.loc["training", ["agreement", "shared"]].tolist() == pytest.approx([1, 1])


def test_a_source_that_is_not_there_says_why(settings, tmp_path):
    with pytest.raises(RaretokError, match="has no counts: give them as --counts FILE"):
        _ = Study(**settings | {"frequency": "training"}).inputs.frequency
    np.save(tmp_path / "c.npy", np.arange(1, VOCAB + 1))
    with pytest.raises(RaretokError, match="counts are given, but frequency is words: leave one of them out"):
        Study(**settings | {"frequency": "words", "counts": str(tmp_path / "c.npy")})
    windows = Study(**settings).inputs.windows
    given = Study(settings["model"], (windows.tokens, windows.document), frequency="words", device="cpu")
    with pytest.raises(RaretokError, match="the windows are given as token ids, without their words"):
        _ = given.inputs.frequency


# What a study may be given

NUMBERS = ["net", "se", "low", "high", "activity"]


def test_a_model_in_memory_is_measured_like_its_folder_and_stays_as_it_is(models, settings):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(models["gpt_neox"])
    tokenizer = AutoTokenizer.from_pretrained(models["gpt_neox"])
    before = {name: p.clone() for name, p in model.named_parameters()}
    study = Study(model, tokenizer=tokenizer, **{k: v for k, v in settings.items() if k != "model"})
    table = study.table("identification.effects")
    pd.testing.assert_frame_equal(table, Study(**settings).table("identification.effects"))
    assert all((p == before[name]).all() and p.requires_grad for name, p in model.named_parameters())
    with pytest.raises(RaretokError, match="a model in memory needs its tokenizer"):
        Study(model)
    changed = make_model("gpt_neox")
    with_other = Study(changed.half(), tokenizer=tokenizer, corpus=settings["corpus"], windows=120, length=64)
    assert with_other.inputs.weights != study.inputs.weights


def test_documents_and_windows_in_memory_are_a_corpus(settings, documents, models):
    by_file = Study(**settings).table("identification.effects")
    by_list = Study(**settings | {"corpus": documents})
    assert by_list.inputs.text.corpus.digest == Study(**settings).inputs.text.corpus.digest
    pd.testing.assert_frame_equal(by_list.table("identification.effects"), by_file)
    windows = Study(**settings).inputs.windows
    given = Windows(windows.tokens, windows.document, windows.half)
    rest = {k: v for k, v in settings.items() if k not in ("windows", "length")}
    study = Study(**rest | {"corpus": given})
    assert (study.settings.windows, study.settings.length) == (120, 64)
    assert study.inputs.digest("windows") == Study(**settings).inputs.digest("windows")
    by_arrays = Study(**rest | {"corpus": (windows.tokens.astype(np.int64), windows.document)})
    assert by_arrays.inputs.windows.tokens.shape == (120, 64)
    assert set(by_arrays.inputs.windows.half) == {0, 1}
    with pytest.raises(RaretokError, match="windows have tokens .* of float64"):
        Study(**rest | {"corpus": (windows.tokens * 0.5, windows.document)})
    with pytest.raises(RaretokError, match="a corpus in memory is a list of texts"):
        Study(**rest | {"corpus": 7})


def test_paths_and_numpy_integers_are_what_they_stand_for(settings, models, corpus_file):
    study = Study(models["gpt_neox"], corpus_file, windows=np.int64(120), length=np.int32(64), sample=300, device="cpu")
    assert study.settings == Study(**settings).settings
    with pytest.raises(RaretokError, match="windows: Input should be a valid integer"):
        Study(windows=True)


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
        Study(**settings | change).get(effects)
    assert not list(own_store.glob("effects*/*"))


def test_a_corpus_of_few_documents_says_so(settings, tmp_path, documents):
    (tmp_path / "few.csv").write_text("text\n" + " ".join(documents[:150]) + "\n")
    with pytest.raises(RaretokError, match=r"the windows come from 1 documents of few.csv, fewer than 20"):
        Study(**settings | {"corpus": str(tmp_path / "few.csv")}).get(effects)


def test_a_text_too_short_for_one_window_says_so(settings, tmp_path):
    (tmp_path / "short.txt").write_text("a few words")
    with pytest.raises(RaretokError, match=r"short.txt has 0 windows of 64 tokens, fewer than windows=120"):
        Study(**settings | {"corpus": str(tmp_path / "short.txt")}).get(effects)


# What is computed again

EFFECTS = "effects.effects"


@pytest.fixture
def counting(monkeypatch):
    """Codes of computations that a test edits, and the names of what was computed, in order."""
    computed, edited = [], {}
    original = Study._compute

    def compute(self, node):
        if node.kind in ("table", "arrays"):
            computed.append(node.name)
        return original(self, node)

    def code(node):
        return edited.get(node.name) or node.__dict__.setdefault("_code", real(node))

    real = type(node_of("regimes.curves")).code.func
    monkeypatch.setattr(Study, "_compute", compute)
    monkeypatch.setattr("raretok.graph.Node.code", property(code))
    return computed, edited


def test_an_edited_rule_recomputes_its_verdict_alone(settings, counting):
    computed, edited = counting
    Study(**settings).claims()
    computed.clear()
    Study(**settings).claims()
    assert computed == []
    edited["claims.C1"] = "other"
    Study(**settings).claims()
    assert computed == ["claims.C1"]


def test_an_edited_kernel_recomputes_effects_and_nothing_below_where_they_come_out_equal(settings, counting):
    computed, edited = counting
    before = Study(**settings).claims()
    computed.clear()
    edited[EFFECTS] = "other"
    pd.testing.assert_frame_equal(Study(**settings).claims(), before)
    assert computed == [EFFECTS]


def test_where_effects_change_what_reads_them_is_computed_again_and_weights_are_not(settings, counting, monkeypatch):
    computed, edited = counting
    Study(**settings).claims()
    computed.clear()
    edited[EFFECTS] = "other"
    monkeypatch.setattr(
        "raretok.measure.effects.collect", lambda *given: (kept := collect(*given)) | {"net": kept["net"] * 1.0001}
    )
    Study(**settings).claims()
    assert {EFFECTS, "identification.rare_token_neurons", "regimes.statistics"} <= set(computed)
    assert "effects.all_weights" not in computed


def test_every_declared_computation_says_what_it_is():
    load_all()
    for node in NODES.values():
        assert (node.function.__doc__ or "").strip(), node.name
        assert len(node.needs) <= len(node.parameters)


def test_a_model_without_checkpoints_has_no_tables_over_training(settings):
    with pytest.raises(NotApplicable, match="gpt_neox has no checkpoints"):
        Study(**settings).over_training("identification.effects")
    verdict = Study(**settings).claims(["C7"]).iloc[0]
    assert verdict["verdict"] == "not applicable"
    assert "no checkpoint" in verdict["why"]

"""All studies of a results folder side by side: names, order, scopes, costs."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import ARCHITECTURES

from raretok import RaretokError, Study, StudySettings
from raretok.book.report import CHAPTERS
from raretok.charts import claims as say
from raretok.charts import models as charts
from raretok.charts.theme import save_link
from raretok.claims import Verdict, all_claims, questions, rank_curve_claims
from raretok.claims.wording import SIGNS, sign_table
from raretok.store import Store
from raretok.sweep.summary import _names, identity, read_summaries, summarise


@pytest.fixture(scope="module")
def made(models, corpus_file, tmp_path_factory):
    """Three models, one of them with two seeds and one with both scopes."""
    store = Store(tmp_path_factory.mktemp("summaries"))
    settings = {"corpus": str(corpus_file), "windows": 120, "length": 64, "sample": 300, "store": store}
    for architecture in ARCHITECTURES:
        summarise(Study(model=str(models[architecture]), **settings), "rank-curve")
    summarise(Study(model=str(models["gpt2"]), seed=1, **settings), "rank-curve")
    return store, settings


def test_every_study_is_there_once_with_its_own_name(made, models):
    found = read_summaries(made[0])
    assert sorted(found.studies["study"]) == ["gpt2, seed 0", "gpt2, seed 1", "gpt_neox", "llama"]
    assert found.studies["architecture"].tolist().count("gpt2") == 2
    assert found.studies["parameters"].is_monotonic_increasing
    for table in (found.claims, found.curves):
        assert set(table["study"]) == set(found.studies["study"])
    assert set(found.claims["id"]) <= set(rank_curve_claims())


def test_the_verdicts_and_sizes_are_those_of_the_study(made, models):
    store, _ = made
    found, study = read_summaries(store), Study(model=str(models["llama"]), **made[1])
    mine = found.claims[found.claims["study"] == "llama"].reset_index(drop=True)
    expected = study.claims(rank_curve_claims())
    pd.testing.assert_frame_equal(mine[expected.columns], expected, check_dtype=False)
    row = found.studies.set_index("study").loc["llama"]
    weights = sum(p.numel() for p in study.inputs.model.network.parameters())
    assert (row["parameters"], row["neurons"], row["layers"], row["vocab"]) == (weights, 80, 2, 400)
    assert row["tokens"] == 120 * 64
    assert row["rare_targets"] == study.table("effects.bands").set_index("band").loc["rare", "ablated"]


def test_costs_are_those_of_the_work_not_of_looking_it_up(made, models):
    store, settings = made
    before = read_summaries(store).studies.set_index("study").loc["llama"]
    seconds = [m["seconds"] for _, m in store.manifests("effects.effects")]
    assert before["seconds"] > min(seconds) > 0
    summarise(Study(model=str(models["llama"]), **settings), "rank-curve")
    assert read_summaries(store).studies.set_index("study").loc["llama"]["seconds"] == before["seconds"]


def test_own_seconds_leave_out_what_was_made_on_the_way(tmp_path, monkeypatch):
    store, now = Store(tmp_path), [0.0]
    monkeypatch.setattr("raretok.store.time.perf_counter", lambda: now[0])

    def taking(seconds):
        now[0] += seconds
        return pd.DataFrame({"a": [1]})

    store.table("outer", {}, lambda: store.table("inner", {}, lambda: taking(30)) + taking(2))
    seconds = {folder.parent.name: manifest["seconds"] for folder, manifest in store.manifests()}
    assert seconds == {"inner": 30, "outer": 2}


def test_of_checkpoints_the_last_is_shown(made):
    found = read_summaries(made[0])
    studies = pd.concat([found.studies.assign(step=k, study=found.studies["study"] + f" @ {k}") for k in (1, 512, 8)])
    last = type(found)(studies.reset_index(drop=True), found.claims, found.curves).last()
    assert last.studies["step"].unique().tolist() == [512]
    assert len(last.studies) == len(found.studies)


def test_a_study_with_all_claims_takes_the_place_of_its_rank_curve(made, models, tmp_path):
    store = Store(shutil.copytree(made[0].root, tmp_path / "copy"))
    settings = made[1] | {"store": store}
    summarise(Study(model=str(models["gpt_neox"]), **settings))
    found = read_summaries(store)
    assert found.studies["study"].tolist().count("gpt_neox") == 1
    assert len(found.claims[found.claims["study"] == "gpt_neox"]) > len(rank_curve_claims())


def test_an_empty_folder_has_no_studies(tmp_path):
    found = read_summaries(Store(tmp_path))
    assert found.studies.empty
    assert found.claims.empty
    assert found.curves.empty
    assert found.last().studies.empty
    with pytest.raises(RaretokError, match="no studies in the results folder .*raretok sweep"):
        read_summaries(Store(tmp_path), needed=True)


def test_signs_stand_where_the_verdicts_are(made):
    claims = read_summaries(made[0]).claims
    table = sign_table(claims).set_index("study")
    for row in claims.to_dict("records"):
        assert table.loc[row["study"], row["id"]] == SIGNS[Verdict(row["verdict"])]


@pytest.mark.parametrize("copies", [1, 10])
def test_charts_and_tables_hold_few_and_many_studies(made, copies):
    found = read_summaries(made[0])
    tables = [
        pd.concat([t.assign(study=t["study"] + f" {k}") for k in range(copies)], ignore_index=True)
        for t in (found.studies, found.claims, found.curves)
    ]
    studies, claims, curves = tables
    spec = charts.rank_curves(curves, studies).to_dict()
    assert {row["study"] for rows in spec["datasets"].values() for row in rows} == set(studies["study"])
    spec = charts.statistics(claims, studies).to_dict()
    options = spec["params"][0]["bind"]["options"]
    assert options == list(dict.fromkeys(claims.dropna(subset=["controlled"])["id"]))
    html = (
        charts.statistic_table(claims).to_html()
        + charts.study_table(studies).to_html()
        + charts.cost_table(studies).to_html()
    )
    assert all(html.count(study) >= 3 for study in studies["study"])


@pytest.mark.parametrize(("value", "text"), [(999, "999"), (3_614_976, "3.61M"), (1.345e8, "134M"), (6.9e9, "6.9B")])
def test_large_numbers_are_said_in_three_digits(value, text):
    assert charts.si(value) == text


def test_the_scorecard_leads_to_the_chapter_of_each_claim_and_escapes_what_it_shows(made):
    claims = read_summaries(made[0]).claims
    one = claims[claims["study"] == "llama"].assign(why="<script>alert(1)</script>")
    page = say.scorecard(one, "<b>llama</b>").to_html()
    assert '<a href="regimes.html">C1 a few neurons have outsize influence on rare tokens</a>' in page
    assert "<script>" not in page
    assert "<b>" not in page
    assert all(f"{SIGNS[Verdict(v)]} {v}" in page for v in one["verdict"])


def test_every_claim_s_rule_is_in_the_room_of_a_chapter():
    for claim in all_claims():
        assert (CHAPTERS / f"{claim.room}.md").is_file()
    assert set(questions()) == {claim.room for claim in all_claims()}


def test_at_a_glance_every_claim_of_every_study_has_its_sign_and_its_chapter(made):
    claims = read_summaries(made[0]).claims
    page = say.at_a_glance(claims.assign(why="<i>why</i>")).to_html()
    for row in claims.to_dict("records"):
        room = next(c.room for c in all_claims() if c.id == row["id"])
        assert f'<a href="{room}.html">{row["id"]} ' in page
    for verdict, sign in SIGNS.items():
        count = (claims["verdict"] == verdict).sum()
        assert page.count(f'raretok-{verdict.name.lower()}" title="&lt;i&gt;why&lt;/i&gt;">{sign}<') == count
    assert page.count("raretok-chip") == len(claims)
    assert "<i>" not in page


def test_two_models_in_folders_of_one_name_stay_two(models, corpus_file, tmp_path):
    store = Store(tmp_path / "own")
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "final").symlink_to(models["gpt2" if place == "a" else "llama"])
        study = Study(
            model=str(tmp_path / place / "final"),
            corpus=str(corpus_file),
            windows=120,
            length=64,
            store=store,
            device="cpu",
        )
        summarise(study, "rank-curve")
    found = read_summaries(store)
    assert found.studies["study"].is_unique
    assert len(found.last().studies) == 2
    assert len(sign_table(found.last().claims)) == 2


def test_files_that_have_changed_make_another_study_with_another_name(models, corpus_file, tmp_path):
    store, folders = (
        Store(tmp_path / "own"),
        [tmp_path / place / "of/one/long/path/to/a/folder/final" for place in "ab"],
    )
    text = shutil.copy(corpus_file, tmp_path)
    folders = [Path(shutil.copytree(models["llama"], folder)) for folder in folders]

    def measure(folder):
        settings = {"corpus": text, "windows": 120, "length": 64, "store": store, "device": "cpu"}
        summarise(Study(model=str(folder), **settings), "rank-curve")

    for folder in folders:  # the same weights
        measure(folder)
    config = json.loads((folders[0] / "config.json").read_text())
    (folders[0] / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    measure(folders[0])
    Path(text).write_text(Path(text).read_text() + "One more document.\n")
    measure(folders[0])
    found = read_summaries(store)
    assert found.studies["study"].is_unique
    assert len(found.studies) == len(found.last().studies) == len(sign_table(found.last().claims)) == 4


def test_known_counts_are_told_from_none():
    settings = StudySettings().model_dump() | {"named": "m", "model": "m", "weights": "w", "corpus_digest": "c"}
    rows = [settings | {"counts": counts, "counts_digest": counts} for counts in (None, "a.npy")]
    studies = pd.DataFrame(rows).astype({"step": "Int64"})
    assert _names(studies) == ["m, counts none", "m, counts a.npy"]


def test_a_counts_file_that_is_gone_is_told(models, corpus_file, tmp_path):
    study = Study(model=str(models["llama"]), corpus=str(corpus_file), counts=str(tmp_path / "gone.npy"))
    with pytest.raises(RaretokError, match=r"no counts file .*gone\.npy"):
        identity(study)


def test_a_table_can_be_saved_from_the_page_itself(made):
    claims = read_summaries(made[0]).claims
    link = say.scorecard(claims, "all").to_html()
    assert 'download="a&quot;b.csv"' in save_link(claims, 'a"b')
    saved = base64.b64decode(re.search(r"base64,([^\"]+)", link)[1]).decode()
    again = pd.read_csv(io.StringIO(saved))
    assert again["id"].tolist() == claims["id"].tolist()
    assert again["verdict"].tolist() == claims["verdict"].tolist()

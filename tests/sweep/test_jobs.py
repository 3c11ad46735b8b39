"""The jobs of a sweep: what they leave, and that nothing stale or damaged counts as done."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from model.test_hub import settle

from raretok import RaretokError, Study
from raretok.model import hub
from raretok.model.registry import MODELS
from raretok.store import Store
from raretok.sweep.jobs import evict, fetch, finished, held_device, marker, run_job, states
from raretok.sweep.shards import KIND as SHARD
from raretok.sweep.shards import measure, measure_shard
from raretok.sweep.spec import Sweep
from raretok.sweep.summary import KIND, read_summaries, summarise


def plan_of(model, corpus, **more):
    entry = {"model": str(model), "corpus": str(corpus), "windows": 120, "length": 64, "claims": "rank-curve"}
    return Sweep.model_validate({"studies": [entry | more]})


@pytest.fixture(scope="module")
def measured(models, corpus_file, tmp_path_factory):
    """A store and a folder of results in which one study is done."""
    root = tmp_path_factory.mktemp("sweep")
    plan = plan_of(models["gpt_neox"], corpus_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RARETOK_STORE", str(root / "store"))
        run_job("measure", plan, root / "out", *plan.jobs())
    return plan, root


@pytest.fixture
def done(measured, tmp_path, monkeypatch):
    """The same, to be spoilt."""
    plan, root = measured
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("RARETOK_STORE", str(tmp_path / "store"))
    return plan, tmp_path / "out", Store(), next(iter(plan.jobs()))


def test_a_measured_study_is_finished_and_not_measured_again(done, monkeypatch):
    plan, out, store, name = done
    assert list(finished(plan, out, store)) == [name]
    before = marker(out, name).read_bytes()
    monkeypatch.setattr("raretok.measure.inputs.load_model", lambda *_, **__: pytest.fail("measured twice"))
    monkeypatch.setattr(Study, "claims", lambda *_: pytest.fail("judged twice"))
    run_job("measure", plan, out, name)
    assert marker(out, name).read_bytes() == before
    [row] = states(plan, out, store)
    assert row["measured"] == "yes"
    assert row["seconds"] > 0
    assert row["peak_mib"] > 100


@pytest.mark.parametrize("damage", ["claims", "manifest", "marker", "nothing kept"])
def test_a_damaged_result_is_not_finished_is_not_shown_and_is_made_again(done, damage):
    plan, out, store, name = done
    [folder] = (store.root / KIND).iterdir()
    whole = read_summaries(store)
    if damage == "claims":
        data = (folder / "claims.parquet").read_bytes()
        (folder / "claims.parquet").write_bytes(data[: len(data) // 2])
    elif damage == "manifest":
        (folder / "manifest.json").write_text("{")
    elif damage == "marker":
        marker(out, name).write_text('{"inputs": 3}')
    else:
        shutil.rmtree(folder)
    assert finished(plan, out, store) == {}
    assert states(plan, out, store)[0]["measured"] == "no"
    if damage != "marker":
        assert read_summaries(store).studies.empty
    run_job("measure", plan, out, name)
    assert list(finished(plan, out, store)) == [name]
    pd.testing.assert_frame_equal(read_summaries(store).claims, whole.claims)


def test_changed_weights_text_or_code_make_a_study_unfinished(done, models, tmp_path, monkeypatch):
    plan, out, store, _ = done
    with monkeypatch.context() as patch:
        patch.setattr("raretok.sweep.summary.code_of_everything", lambda: "other")
        assert finished(plan, out, store) == {}
        assert read_summaries(store).studies.empty
    folder = shutil.copytree(models["gpt_neox"], tmp_path / "model")
    text = shutil.copy(plan.studies[0].corpus, tmp_path)
    moved = plan_of(folder, text)
    [other] = moved.jobs()
    shutil.copytree(out, tmp_path / "other")
    run_job("measure", moved, tmp_path / "other", other)
    assert list(finished(moved, tmp_path / "other", store)) == [other]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 0.1}))
    assert finished(moved, tmp_path / "other", store) == {}
    (folder / "config.json").write_text(json.dumps(config))
    Path(text).write_text(Path(text).read_text() + "One more document.\n")
    assert finished(moved, tmp_path / "other", store) == {}


def test_shards_in_any_order_give_the_tables_of_one_job(done, models, corpus_file):
    plan, out, store, name = done
    one = Study(store=store, **plan.jobs()[name].settings.model_dump())
    spread, elsewhere = plan_of(models["gpt_neox"], corpus_file, jobs=3), out.with_name("elsewhere")
    other = Study(store=Store(out.with_name("store of shards")), **plan.jobs()[name].settings.model_dump())
    for k in (2, 0, 1):
        measure_shard(other, k, 3)
        other = Study(store=other.store, **other.settings.model_dump())
    assert len(list((other.store.root / SHARD).iterdir())) == 3
    measure(other, 3)
    assert not list((other.store.root / SHARD).iterdir())
    for field in ("net", "activity", "square"):
        a, b = (getattr(study.get("effects.band_sums").sums, field) for study in (one, other))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(a).max())
    first, second = summarise(one, "rank-curve"), summarise(other, "rank-curve")
    numbers = ["published", "controlled", "low", "high", "null"]
    tables = [pd.read_parquet(folder / "claims.parquet") for folder in (first, second)]
    np.testing.assert_allclose(*(t[numbers].to_numpy(float) for t in tables), rtol=1e-6)
    assert (tables[0]["verdict"] == tables[1]["verdict"]).all()
    run_job("shard", spread, elsewhere, name, "1-3")
    assert (elsewhere / "shards" / name / "1-3.done").is_file()


@pytest.fixture
def hub_cache(tmp_path, models, monkeypatch):
    """A hub cache, and a hub that fills it as the real one would."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    real = __import__("huggingface_hub").snapshot_download

    def download(source, revision, local_files_only=False, **more):
        if not local_files_only:
            settle(cache, models["gpt_neox"], source, revision, f"{int(revision.removeprefix('step')):040x}")
        return real(source, revision=revision, local_files_only=True)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return cache


def steps_of(*steps, **more):
    plan = Sweep.model_validate({"studies": [{"model": "pythia-70m", "steps": list(steps), "fetch": True} | more]})
    return plan.jobs()


def test_a_checkpoint_that_the_sweep_fetched_goes_and_one_that_was_here_stays(hub_cache, tmp_path):
    entry, out = MODELS["pythia-70m"], tmp_path / "out"
    hub.fetch(entry, 0)
    for job in steps_of(0, 512).values():
        fetch(job, out)
        assert hub.snapshot(entry, job.settings.step).is_dir()
        evict(job, out)
    assert hub.snapshot(entry, 0).is_dir()
    with pytest.raises(RaretokError, match="not on this machine"):
        hub.snapshot(entry, 512)


def test_a_study_whose_weights_are_gone_is_still_finished(hub_cache, corpus_file, tmp_path):
    more = {"corpus": str(corpus_file), "windows": 120, "length": 64, "claims": "rank-curve", "fetch": True}
    plan = Sweep.model_validate({"studies": [{"model": "pythia-70m", "steps": [8]} | more]})
    [(name, job)] = plan.jobs().items()
    out, store = tmp_path / "out", Store()
    fetch(job, out)
    run_job("measure", plan, out, name)
    evict(job, out)
    assert list(finished(plan, out, store)) == [name]
    [study] = read_summaries(store).studies.to_dict("records")
    assert study["study"] == "pythia-70m @ 8"
    assert study["weights"] == f"EleutherAI/pythia-70m@{8:040x}"


def test_jobs_on_one_machine_take_a_gpu_each(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with (
        held_device(tmp_path, "auto") as first,
        held_device(tmp_path, "cuda") as second,
        held_device(tmp_path, "cpu") as third,
    ):
        assert (first, second, third) == ("cuda:0", "cuda:1", "cpu")
        with pytest.raises(RaretokError, match="all 2 GPUs are taken"), held_device(tmp_path, "cuda"):
            pass
    with held_device(tmp_path, "cuda") as again:
        assert again == "cuda:0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with held_device(tmp_path, "cuda") as given:
        assert given == "cuda"


@pytest.mark.parametrize(("task", "name", "says"), [("measure", "x", "no study x"), ("dance", None, "no task dance")])
def test_an_unknown_job_lists_the_right_ones(done, task, name, says):
    plan, out, _, known = done
    with pytest.raises(RaretokError, match=says):
        run_job(task, plan, out, name or known)


def test_results_appear_whole(tmp_path, monkeypatch):
    from raretok.sweep.jobs import write

    write(tmp_path / "a" / "b.json", "old")
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "a" / "b.json", "new")
    monkeypatch.undo()
    assert (tmp_path / "a" / "b.json").read_text() == "old"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.json"]

"""Whole sweeps on this machine: resuming, faults, and what is told of them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from raretok import RaretokError
from raretok.store import Store
from raretok.sweep.jobs import marker
from raretok.sweep.spec import Sweep, load_sweep
from raretok.sweep.summary import KIND, read_summaries
from raretok.sweep.workflow import _cancel_leftovers, run_sweep, stale

SMALL = {"OMP_NUM_THREADS": "1", "TORCH_COMPILE_DISABLE": "1"}
"""What suits small models: to compile takes longer than what is compiled."""


def raretok(folder, *arguments, **more):
    """The command in a process of its own, whose results are in ``folder/store``."""
    environment = os.environ | SMALL | {"RARETOK_STORE": str(folder / "store")}
    command = [sys.executable, "-m", "raretok", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, **more)


PROFILE = {"cores": 2, "set-threads": ["share=1", "measure=1", "report=1"]}
"""Two jobs side by side: they are small."""


def sweep(folder, *arguments, out="out"):
    return raretok(folder, "sweep", "--out", out, "--profile", "profile", *arguments)


def write_sweep(folder, models, corpus_file, chapters=(), **more):
    (folder / "profile").mkdir(parents=True)
    (folder / "profile" / "config.yaml").write_text(yaml.safe_dump(PROFILE))
    entry = {"corpus": str(corpus_file), "windows": 120, "length": 64, "claims": "rank-curve"} | more
    studies = [{"model": str(models["gpt_neox"])} | entry, {"model": str(models["llama"]), "chapters": []} | entry]
    (folder / "sweep.yml").write_text(yaml.safe_dump({"studies": studies, "chapters": list(chapters)}))
    return load_sweep(folder / "sweep.yml")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, models, corpus_file):
    """A finished sweep over two models with one chapter each, and what the command said."""
    folder = tmp_path_factory.mktemp("swept")
    plan = write_sweep(folder, models, corpus_file, ["identification"])
    return folder, plan, sweep(folder)


@pytest.fixture
def plain(swept, tmp_path):
    """The same studies without chapters, not begun."""
    folder, _, _ = swept
    content = yaml.safe_load((folder / "sweep.yml").read_text()) | {"chapters": []}
    content["studies"][1]["model"] = str(shutil.copytree(content["studies"][1]["model"], tmp_path / "llama"))
    (tmp_path / "sweep.yml").write_text(yaml.safe_dump(content))
    shutil.copytree(folder / "profile", tmp_path / "profile")
    return tmp_path


@pytest.fixture
def copy(swept, tmp_path):
    folder, plan, _ = swept
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy", plan


def test_a_sweep_leaves_tables_notebooks_pages_and_a_summary(swept):
    folder, plan, done = swept
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The comparison and all chapters: out/book/index.html" in done.stdout
    studies, claims = pd.read_csv(folder / "out/studies.csv"), pd.read_csv(folder / "out/claims.csv")
    assert set(studies["study"]) == set(claims["study"]) == {"gpt_neox", "llama"}
    first, second = plan.jobs()
    notebook = nbformat.read(folder / "out/reports" / first / "identification.ipynb", 4)
    assert any("raretok-chart" in str(o) for c in notebook.cells for o in c.get("outputs", []))
    page = (folder / "out/book/0/identification.html").read_text()
    assert "raretok-chart" in page
    assert "{glue:text}" not in page
    assert first in done.stdout
    assert second in done.stdout
    index = (folder / "out/book/index.html").read_text()
    assert "Model by model" in index
    assert "https://cdn" not in index


def test_a_finished_sweep_has_nothing_to_do(copy):
    folder, _ = copy
    before = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.ipynb")}
    done = sweep(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr
    assert {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.ipynb")} == before


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path, models, corpus_file):
    plan = write_sweep(tmp_path, models, corpus_file, ["identification"])
    done = sweep(tmp_path, "--dry-run")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    first, second = plan.jobs()
    for job in (f"measure {first}", f"measure {second}", f"chapter identification for {first}"):
        assert job in told
    assert not list((tmp_path / "out").glob("studies/*"))
    assert not (tmp_path / "store" / KIND).exists()


def test_checkpoints_are_fetched_so_many_ahead_and_deleted_after(tmp_path, models, corpus_file):
    write_sweep(tmp_path, models, corpus_file)
    studies = [{"model": "pythia-70m", "steps": [0, 1, 2], "fetch": True}]
    (tmp_path / "sweep.yml").write_text(yaml.safe_dump({"studies": studies, "ahead": 1}))
    told = re.sub(r"_movie-reviews", "", sweep(tmp_path, "--dry-run").stdout)
    reasons = dict(re.findall(r"Job \d+: (.*)\nReason: (.*)", told))
    assert "evicted" not in reasons["fetch pythia-70m_step0"]
    assert "evicted/pythia-70m_step0.json" in reasons["fetch pythia-70m_step1"]
    assert "evicted/pythia-70m_step1.json" in reasons["fetch pythia-70m_step2"]
    assert "fetched/pythia-70m_step2.json" in reasons["measure pythia-70m_step2"]
    assert "studies/pythia-70m_step2.json" in reasons["delete pythia-70m_step2"]


def test_a_damaged_table_is_made_again_with_what_hangs_on_it(copy):
    folder, plan = copy
    (first, second), store = plan.jobs(), Store(folder / "store")
    whole = read_summaries(store).claims
    for place, manifest in store.manifests(KIND):
        if manifest["inputs"]["model"].endswith("gpt_neox"):
            data = (place / "claims.parquet").read_bytes()
            (place / "claims.parquet").write_bytes(data[:40] + b"?" + data[41:])
    assert set(read_summaries(store).claims["study"]) == {"llama"}
    told = sweep(folder, "--dry-run").stdout
    for job in (f"measure {first}", f"chapter identification for {first}", "compare all", "make the pages"):
        assert job in told
    assert f"measure {second}" not in told
    assert marker(folder / "out", first).is_file(), "a dry run takes nothing away"
    done = sweep(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"measure {first}" in done.stdout + done.stderr
    assert f"measure {second}" not in done.stdout + done.stderr
    pd.testing.assert_frame_equal(read_summaries(store).claims, whole)


def test_weights_that_are_gone_are_fetched_again_only_where_they_are_needed(tmp_path, monkeypatch):
    plan = Sweep.model_validate({"studies": [{"model": "pythia-70m", "steps": [0, 1, 2, 4], "fetch": True}]})
    plan = plan.model_copy(update={"chapters": ["corpus"]})  # of the last step
    for name in plan.jobs():
        for kind in ("fetched", "studies", "evicted"):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / f"{name}.json").write_text("{}")
    intact, spoilt, here, unexecuted = plan.jobs()
    monkeypatch.setattr("raretok.sweep.workflow.finished", lambda *_: {intact: "", unexecuted: ""})
    monkeypatch.setattr("raretok.sweep.workflow.hub.here", lambda _, step: step == plan.jobs()[here].settings.step)
    found = {file.relative_to(tmp_path).as_posix() for file in stale(plan, tmp_path, Store(tmp_path))}
    again = {f"{kind}/{name}.json" for kind in ("fetched", "evicted") for name in (spoilt, unexecuted)}
    assert found == again | {f"studies/{spoilt}.json", f"studies/{here}.json"}


def test_only_logs_of_this_run_are_of_jobs_that_failed(plain, monkeypatch):
    out, plan = plain / "out", load_sweep(plain / "sweep.yml")
    before, now = (out / "logs/measure" / f"{name}.log" for name in plan.jobs())
    before.parent.mkdir(parents=True)
    before.write_text("it went well")
    os.utime(before, (0, 0))
    real = subprocess.run

    def fail(command, **more):
        now.write_text("it failed")
        return real(["false"], **more)

    monkeypatch.setattr("raretok.sweep.workflow.subprocess.run", fail)
    _, failed = run_sweep(plain / "sweep.yml", out, str(plain / "profile"))
    assert failed == [now]


def tools(folder, monkeypatch, **scripts):
    """Commands that stand in for a cluster's own."""
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr("raretok.sweep.workflow.time.sleep", lambda _: None)


def test_jobs_that_an_earlier_sweep_left_are_cancelled_and_no_others(tmp_path, monkeypatch):
    jobs, gone = tmp_path / "jobs", tmp_path / "gone"
    jobs.write_text("1 raretok-x_a\n2 \n3 raretok-y_a\n")
    # The first question is not answered; a job that has just ended makes scancel fail.
    asked = f"[ -e {tmp_path}/asked ] || {{ touch {tmp_path}/asked; exit 1; }}; [ -e {gone} ] || cat {jobs}"
    tools(tmp_path, monkeypatch, squeue=asked, scancel=f'echo "$@" > {gone}; exit 1')
    _cancel_leftovers("raretok-x")
    assert gone.read_text() == "1\n"


@pytest.mark.parametrize(
    ("squeue", "told"),
    [("echo no controller >&2; exit 1", "no controller"), ("echo 7 raretok-x_a", "jobs 7 of an earlier sweep")],
)
def test_a_cluster_that_does_not_answer_or_jobs_that_stay_are_told(tmp_path, monkeypatch, squeue, told):
    tools(tmp_path, monkeypatch, squeue=squeue, scancel="true")
    with pytest.raises(RaretokError, match=told):
        _cancel_leftovers("raretok-x")


def test_a_failed_job_a_killed_scheduler_and_two_sweeps_at_once(swept, plain):
    """Two sweeps share a store, one model is damaged, one of the sweeps is killed with its jobs; then it is mended."""
    folder, tmp_path = swept[0], plain
    content = yaml.safe_load((tmp_path / "sweep.yml").read_text())
    broken = Path(content["studies"][1]["model"])
    data = (broken / "model.safetensors").read_bytes()
    good, bad = load_sweep(tmp_path / "sweep.yml").jobs()
    environment = os.environ | SMALL | {"RARETOK_STORE": str(tmp_path / "store")}
    command = [sys.executable, "-m", "raretok", "sweep", "--profile", "profile", "--out"]
    more = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    try:
        (broken / "model.safetensors").write_bytes(data[: len(data) // 2])
        first, second = (subprocess.Popen([*command, out], start_new_session=True, **more) for out in ("one", "two"))
        while not (tmp_path / "two" / "logs").is_dir():
            assert second.poll() is None
            time.sleep(0.1)
        third = sweep(tmp_path, out="one")
        os.killpg(second.pid, signal.SIGKILL)
        second.communicate()
        told, complaint = first.communicate()
    finally:
        (broken / "model.safetensors").write_bytes(data)
    assert third.returncode == 2
    assert "another sweep is writing to one: wait for it, or name another folder" in third.stderr
    assert first.returncode == 1, told + complaint
    assert f"failed: see one/logs/measure/{bad}.log" in complaint
    assert "is damaged" in (tmp_path / f"one/logs/measure/{bad}.log").read_text()
    assert marker(tmp_path / "one", good).is_file()
    assert not marker(tmp_path / "one", bad).is_file()
    store, whole = Store(tmp_path / "store"), read_summaries(Store(folder / "store")).claims
    shown = read_summaries(store).claims
    pd.testing.assert_frame_equal(shown, whole[whole["study"] == "gpt_neox"].reset_index(drop=True))
    done = sweep(tmp_path, out="two")
    assert done.returncode == 0, done.stdout + done.stderr
    pd.testing.assert_frame_equal(read_summaries(store).claims, whole)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "two/claims.csv"), pd.read_csv(folder / "out/claims.csv"))


def test_a_full_disk_is_told_and_loses_nothing(plain):
    tmp_path, plan = plain, load_sweep(plain / "sweep.yml")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"not run: a small file system needs root to mount it ({mounted.stderr.strip()})")
    try:
        (tmp_path / "store").symlink_to(small)
        done = raretok(tmp_path, "job", "measure", next(iter(plan.jobs())), "--out", "out")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "cannot be written (no space left on its disk)" in done.stderr
        assert not marker(tmp_path / "out", next(iter(plan.jobs()))).exists()
        assert read_summaries(Store(small)).studies.empty
        assert not list(small.rglob(".draft-*"))
        subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
        done = raretok(tmp_path, "job", "measure", next(iter(plan.jobs())), "--out", "out")
        assert done.returncode == 0, done.stderr
        assert len(read_summaries(Store(small)).studies) == 1
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("profile", ["nothing", "profiles"])
def test_an_unknown_profile_lists_the_right_ones(swept, tmp_path, profile):
    folder, _, _ = swept
    with pytest.raises(RaretokError, match=f"no profile {profile}: choose from .*local, slurm"):
        run_sweep(folder / "sweep.yml", tmp_path / "out", profile)

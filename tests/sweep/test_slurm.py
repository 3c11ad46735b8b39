"""A sweep on a real Slurm of one node: a job is cancelled, the scheduler killed, and the tables are those of one
process.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from one_node import slurm, why_not

from raretok import RaretokError, Study
from raretok.repository import ROOT
from raretok.store import Store
from raretok.sweep.jobs import marker
from raretok.sweep.spec import load_sweep
from raretok.sweep.summary import read_summaries, summarise
from raretok.sweep.workflow import run_sweep

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"not run: {why_not()}")


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: sockets have no room for a long one
    try:
        with slurm(folder) as environment:
            yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait(condition, seconds=90):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.2)
    return found


def test_a_cancelled_job_and_a_killed_scheduler_change_no_table(cluster, models, corpus_file, tmp_path):
    entry = {"corpus": str(corpus_file), "windows": 120, "length": 64, "claims": "rank-curve", "memory_mb": 2000}
    studies = [{"model": str(models["gpt_neox"]), "jobs": 2} | entry, {"model": str(models["llama"])} | entry]
    (tmp_path / "sweep.yml").write_text(yaml.safe_dump({"studies": studies}))
    settings = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    settings |= {"slurm-init-seconds-before-status-checks": 1, "latency-wait": 5}
    settings["set-threads"] = ["shard=1", "measure=1"]
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/config.yaml").write_text(yaml.safe_dump(settings))
    environment = cluster | {"RARETOK_STORE": str(tmp_path / "store")}
    command = [sys.executable, "-m", "raretok", "sweep", "--profile", "slurm"]

    def queue(*states):
        asked = ["squeue", "-h", f"--states={','.join(states)}", "--format=%A"]
        return subprocess.run(asked, env=cluster, capture_output=True, text=True).stdout.split()

    first = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    cancelled = wait(lambda: queue("RUNNING"))[0]
    subprocess.run(["scancel", cancelled], env=cluster, check=True)
    wait(lambda: any(int(job) > int(cancelled) + 2 for job in queue("RUNNING", "COMPLETED")))  # it was tried again
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert queue("RUNNING", "PENDING"), "the cluster goes on without its scheduler"
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not queue("RUNNING", "PENDING")
    plan = load_sweep(tmp_path / "sweep.yml")
    assert all(marker(tmp_path / "sweep", name).is_file() for name in plan.jobs())
    here = Store(tmp_path / "here")
    for job in plan.jobs().values():
        summarise(Study(store=here, **job.settings.model_dump()), "rank-curve")
    ours, theirs = read_summaries(here), read_summaries(Store(tmp_path / "store"))
    pd.testing.assert_frame_equal(theirs.claims, ours.claims, rtol=1e-6)
    pd.testing.assert_frame_equal(theirs.curves, ours.curves, rtol=1e-6)


def test_a_machine_without_slurm_says_so(models, corpus_file, tmp_path, monkeypatch):
    entry = {"model": str(models["llama"]), "corpus": str(corpus_file)}
    (tmp_path / "sweep.yml").write_text(yaml.safe_dump({"studies": [entry]}))
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(RaretokError, match="no squeue"):
        run_sweep(tmp_path / "sweep.yml", tmp_path / "out", "slurm")

"""Execution of a whole sweep: Snakemake schedules the jobs; this module starts it and reports the results."""

import fcntl
import getpass
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import torch
import yaml

from raretok.errors import RaretokError
from raretok.model import hub
from raretok.model.registry import find_model
from raretok.repository import PROFILES, ROOT, require
from raretok.store import Store
from raretok.sweep.jobs import finished, marker, states
from raretok.sweep.spec import Sweep, load_sweep

RETRIES = 3
"""Number of retries of a failed job, for a busy hub, an occupied port, or too little memory at the first attempt."""


def run_sweep(
    path: Path, out: Path, profile: str = "local", dry_run: bool = False
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Run all jobs of a sweep that are not done yet.

    Args:
        path: Path of ``sweep.yml``.
        out: Folder of the results.
        profile: ``local``, ``slurm``, or a folder with a Snakemake profile.
        dry_run: Only print what would be done.

    Returns:
        One row per study, see ``jobs.states``; and the logs of the jobs that failed.

    Raises:
        RaretokError: if the sweep or profile is invalid, Snakemake is missing or fails, or another sweep uses the
            folder.
    """
    plan, place, store = load_sweep(path), _profile(profile), Store()
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out) as lock:
        again = list(stale(plan, out, store))
        if not dry_run:
            for file in again:
                file.unlink()
        environment = os.environ | {"RARETOK_STORE": str(store.root.resolve())}
        command = _command(path, out, place, dry_run)
        if dry_run and again:
            command += ["--forcerun", *(file.relative_to(out).as_posix() for file in again)]
        if _settings(place).get("executor") == "slurm":
            prefix = f"raretok-{hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:8]}"
            command += ["--slurm-jobname-prefix", prefix]
            if not dry_run:
                _cancel_leftovers(prefix)
        started = time.time()
        done = subprocess.run(command, env=environment, check=False, pass_fds=[lock.fileno()])
    if dry_run:
        if done.returncode:
            raise RaretokError("Snakemake cannot plan this sweep: its own message is above")
        return [], []
    rows = states(plan, out, store)
    logs = [
        log for left, log in outputs(plan, out) if not left.exists() and log.exists() and log.stat().st_mtime >= started
    ]
    if done.returncode and not logs:
        raise RaretokError(f"Snakemake failed with exit code {done.returncode}: its own message is above")
    return rows, logs


def _profile(profile: str) -> Path:
    if find_spec("snakemake") is None:
        raise RaretokError("Snakemake is not installed: pip install -e '.[sweep]'")
    place = PROFILES / profile if (PROFILES / profile).is_dir() else Path(profile)
    if not (place / "config.yaml").is_file():
        known = ", ".join(sorted(p.name for p in PROFILES.glob("*")))
        raise RaretokError(f"no profile {profile}: choose from {known}, or give a folder with a config.yaml")
    return place


def _command(path: Path, out: Path, profile: Path, dry_run: bool) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(require(ROOT / "Snakefile")),
        "--profile",
        str(profile),
    ]
    command += ["--directory", str(out.resolve()), "--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime"]
    gpus = [] if "executor" in _settings(profile) else [f"gpu={max(torch.cuda.device_count(), 1)}"]
    # Retries are not set in the rules, because a cluster's job runs Snakemake itself, which would multiply them.
    command += ["--keep-going", "--retries", str(RETRIES), "--resources", "downloads=1", *gpus]
    command += ["--config", f"sweep={path.resolve()}", f"out={out.resolve()}"]
    return [*command, "--dry-run", "--quiet", "host"] if dry_run else command


def _settings(profile: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((profile / "config.yaml").read_text(encoding="utf-8")) or {})


def _cancel_leftovers(prefix: str) -> None:
    """Cancel the cluster jobs of an earlier, killed Snakemake on this folder, so that no job runs twice at once.

    Raises:
        RaretokError: if there is no Slurm, or the jobs do not end.
    """
    if not shutil.which("squeue"):
        raise RaretokError("this machine has no squeue: the profile is for a machine that submits to Slurm")
    query = ["squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%A %j"]
    cancelled = False
    for _ in range(120):
        asked = subprocess.run(query, capture_output=True, text=True, check=False)
        queued = [line.partition(" ") for line in asked.stdout.splitlines()]
        left = [number for number, _, name in queued if name.strip().startswith(f"{prefix}_")]
        if not left and not asked.returncode:
            return
        if left and not cancelled:
            subprocess.run(["scancel", *left], check=False)  # fails for a job that has just ended
            cancelled = True
        time.sleep(0.5)
    if asked.returncode:
        raise RaretokError(f"Slurm does not say which jobs there are: {asked.stderr.strip() or 'squeue failed'}")
    raise RaretokError(f"jobs {', '.join(left)} of an earlier sweep on this folder do not end: see `squeue`")


@contextmanager
def _alone(out: Path) -> Iterator[IO[str]]:
    """Lock a folder of results until both this process and the Snakemake that it started have ended in any way."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RaretokError(
                f"another sweep is writing to {out}: wait for it, or name another folder with --out"
            ) from None
        yield file


def stale(plan: Sweep, out: Path, store: Store) -> Iterator[Path]:
    """Yield the files that mark a job as done although it is not, or no longer.

    When they are deleted, Snakemake repeats these jobs and those that depend on them.
    """
    done = finished(plan, out, store)
    for name, job in plan.jobs().items():
        files = [] if name in done else [marker(out, name)]
        executed = all((out / "reports" / name / f"{c}.ipynb").is_file() for c in job.chapters)
        needed = job.fetched and not (name in done and executed)
        if needed and not hub.here(find_model(job.settings.model), job.settings.step):
            files += [out / kind / f"{name}.json" for kind in ("fetched", "evicted")]
        yield from (file for file in files if file.is_file())


def outputs(plan: Sweep, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the output files of the jobs of a sweep, each with the log of its job."""
    logs = out / "logs"  # the same folder as in the Snakefile
    for name, job in plan.jobs().items():
        if job.fetched:
            yield out / "fetched" / f"{name}.json", logs / "fetch" / f"{name}.log"
        for part in job.shards:
            yield out / "shards" / name / f"{part}.done", logs / "shard" / name / f"{part}.log"
        yield marker(out, name), logs / "measure" / f"{name}.log"
        for chapter in job.chapters:
            yield out / "reports" / name / f"{chapter}.ipynb", logs / "report" / name / f"{chapter}.log"
    yield out / "models.ipynb", logs / "compare.log"
    yield out / "book" / "index.html", logs / "book.log"

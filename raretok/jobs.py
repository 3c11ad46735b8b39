"""The jobs of a sweep: each does one thing, leaves one file when it is done, and does nothing where that is there already."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from raretok.data.text import Corpus
from raretok.errors import RaretokError
from raretok.model import hub
from raretok.model.registry import find_model
from raretok.report import execute, render
from raretok.store import Store, hash_of, replacing
from raretok.study import Study
from raretok.summary import KIND, costs, identity, read_summaries, summarise
from raretok.sweep import Job, Sweep


def run_job(task: str, plan: Sweep, out: Path, name: str = "", part: str = "") -> None:
    """Do one job of a sweep: ``fetch``, ``share``, ``measure``, ``forget`` or ``report`` of the study ``name``, or ``compare`` or ``book`` of all.

    Args:
        task: what to do.
        plan: the sweep.
        out: folder of its results.
        name: of the study, one of ``plan.jobs()``.
        part: of a share ``k-n``, of a report the chapter.

    Raises:
        RaretokError: no such task or study, or it failed.
    """
    jobs, store = plan.jobs(), Store()
    if task == "compare":
        return compare(out, store)
    if task == "book":
        return book(plan, out)
    if name not in jobs:
        raise RaretokError(f"no study {name} in this sweep: it has {', '.join(jobs)}")
    job = jobs[name]
    if task == "fetch":
        return fetch(job, out)
    if task == "forget":
        return forget(job, out)
    if task == "report":
        return execute(part, job.config, out / "reports" / name / f"{part}.ipynb", store)
    if task not in ("share", "measure"):
        raise RaretokError(f"no task {task}: choose from fetch, share, measure, forget, report, compare, book")
    with placed(out, job.entry.device) as device:
        study = Study(device=device, store=store, **job.config.model_dump())
        if task == "share":
            k, n = (int(x) for x in part.split("-"))
            study.measure_share(k, n)
            write(out / "shares" / name / f"{part}.done", "")
        else:
            measure(study, job, out)


def measure(study: Study, job: Job, out: Path) -> None:
    """Measure and summarise a study, and leave the identity of its summary."""
    study.measure(job.entry.jobs)
    summarise(study, job.entry.claims)
    inputs = identity(study, job.entry.claims)
    write(marker(out, job.name), json.dumps({"kind": KIND, "inputs": inputs}, indent=1) + "\n")


def fetch(job: Job, out: Path) -> None:
    """See to it that a checkpoint is on this machine, and note whether it was before."""
    entry, step = find_model(job.config.model), job.config.step
    if not (here := hub.here(entry, step)):
        hub.fetch(entry, step)
    write(out / "fetched" / f"{job.name}.json", json.dumps({"was_here": here}) + "\n")


def forget(job: Job, out: Path) -> None:
    """Delete a checkpoint that this sweep downloaded."""
    was_here = json.loads((out / "fetched" / f"{job.name}.json").read_text(encoding="utf-8"))["was_here"]
    freed = 0 if was_here else hub.forget(find_model(job.config.model), job.config.step)
    write(out / "forgotten" / f"{job.name}.json", json.dumps({"bytes": freed}) + "\n")


def compare(out: Path, store: Store) -> None:
    """Write the verdicts of every study in the store, and execute the chapter that puts them side by side."""
    found = read_summaries(store)
    execute("models", None, out / "models.ipynb", store)
    write(out / "studies.csv", found.studies.to_csv(index=False))
    write(out / "claims.csv", found.claims.to_csv(index=False))


def book(plan: Sweep, out: Path) -> None:
    """Make a book of the comparison and all executed chapters."""
    reports = {
        name.replace("_", ", "): [out / "reports" / name / f"{chapter}.ipynb" for chapter in job.chapters]
        for name, job in plan.jobs().items()
        if job.chapters
    }
    render("Rare-token neurons, model by model", out / "models.ipynb", reports, out / "book")


def marker(out: Path, name: str) -> Path:
    """The file that says that a study is measured and summarised, and where."""
    return out / "studies" / f"{name}.json"


def noted(out: Path, name: str) -> dict[str, Any] | None:
    """The identity of a study's summary as its job left it, None if there is none."""
    try:
        found = json.loads(marker(out, name).read_text(encoding="utf-8"))
        return dict(found["inputs"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def finished(plan: Sweep, out: Path, store: Store) -> dict[str, str]:
    """Of every study whose summary is there, intact, and of the package, weights and text as they are now, its key.

    Of weights that are no longer on this machine, the digest that was noted counts.
    """
    found: dict[str, str] = {}
    corpora: dict[tuple[str, str], Corpus] = {}
    for name, job in plan.jobs().items():
        if not (inputs := noted(out, name)):
            continue
        study = Study(store=store, **job.config.model_dump())
        text = (job.config.corpus, job.config.text_column)
        study.__dict__["corpus"] = corpora[text] if text in corpora else corpora.setdefault(text, study.corpus)
        try:
            weights = study.weights_digest
        except RaretokError:
            weights = str(inputs.get("weights"))
        if inputs == identity(study, job.entry.claims, weights) and store.intact(KIND, inputs):
            found[name] = hash_of(inputs)
    return found


@contextmanager
def placed(out: Path, device: str) -> Iterator[str]:
    """The device of a job: where this machine has several GPUs, the first that no other job of the sweep holds."""
    count = torch.cuda.device_count()
    if device == "cpu" or count < 2 or "CUDA_VISIBLE_DEVICES" in os.environ:
        yield device
        return
    while True:
        with ExitStack() as held:
            for index in range(count):
                file = held.enter_context((out / f".gpu{index}").open("w"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield f"cuda:{index}"
                return
        if device == "auto":  # Snakemake does not count the GPUs for it: it waits for one
            time.sleep(1)
            continue
        raise RaretokError(f"all {count} GPUs are taken by other jobs of this sweep: ask for fewer jobs at once")


def write(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def states(plan: Sweep, out: Path, store: Store) -> list[dict[str, Any]]:
    """A row for each study: whether it is measured, how many of its chapters are executed, what it cost."""
    done, all_costs = finished(plan, out, store), costs(store)
    rows = []
    for name, job in plan.jobs().items():
        executed = [c for c in job.chapters if (out / "reports" / name / f"{c}.ipynb").is_file()]
        row = {"study": name, "measured": "yes" if name in done else "no"}
        row["chapters"] = f"{len(executed)}/{len(job.chapters)}"
        cost = {"seconds": float("nan"), "peak_mib": float("nan")}
        if name in done:
            about = json.loads((store.root / KIND / done[name] / "study.json").read_text(encoding="utf-8"))
            cost |= all_costs.get(about["effects"], {})
        rows.append(row | cost)
    return rows

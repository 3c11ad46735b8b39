"""The jobs of a sweep, each of which does one task and writes a file when it is done."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from raretok.book.report import execute, render
from raretok.data.hub import dataset_file, fetch_dataset
from raretok.data.readers import TextLayout
from raretok.data.text import is_dataset, load_corpus
from raretok.errors import RaretokError
from raretok.model import hub
from raretok.model.registry import find_model
from raretok.store import Store, hash_of, replacing
from raretok.study import Study
from raretok.sweep.shards import measure as measure_effects
from raretok.sweep.shards import measure_shard
from raretok.sweep.spec import Job, Sweep
from raretok.sweep.summary import KIND, costs, identity, read_summaries, summarise


def run_job(task: str, plan: Sweep, out: Path, name: str = "", part: str = "") -> None:
    """Run one job of a sweep.

    Args:
        task: ``fetch``, ``shard``, ``measure``, ``evict`` or ``report`` for one study, or ``compare`` or ``book`` for
            all.
        plan: The sweep.
        out: Folder of the sweep's results.
        name: Name of the study, one of ``plan.jobs()``.
        part: The part ``k-n`` for a shard, or the chapter for a report.

    Raises:
        RaretokError: if there is no such task or study, or the job failed.
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
    if task == "evict":
        return evict(job, out)
    if task == "report":
        execute(part, job.settings, out / "reports" / name / f"{part}.ipynb", store)
        return None
    if task not in ("shard", "measure"):
        raise RaretokError(f"no task {task}: choose from fetch, shard, measure, evict, report, compare, book")
    with held_device(out, job.entry.device) as device:
        study = Study(device=device, store=store, **job.settings.model_dump())
        if task == "shard":
            k, n = (int(x) for x in part.split("-"))
            measure_shard(study, k, n)
            write(out / "shards" / name / f"{part}.done", "")
        else:
            measure(study, job, out)


def measure(study: Study, job: Job, out: Path) -> None:
    """Measure and summarise a study, and write the identity of its summary."""
    measure_effects(study, job.entry.jobs)
    summarise(study, job.entry.claims)
    inputs = identity(study, job.entry.claims)
    write(marker(out, job.name), json.dumps({"kind": KIND, "inputs": inputs}, indent=1) + "\n")


def fetch(job: Job, out: Path) -> None:
    """Download a checkpoint and the text, unless they are on this machine, and record whether the checkpoint was."""
    entry, step = find_model(job.settings.model), job.settings.step
    here = entry.kind != "hub" or hub.here(entry, step)
    if not here:
        hub.fetch(entry, step)
    if is_dataset(job.settings.corpus) and not dataset_file(job.settings.corpus).is_file():
        fetch_dataset(job.settings.corpus)
    write(out / "fetched" / f"{job.name}.json", json.dumps({"was_here": here}) + "\n")


def evict(job: Job, out: Path) -> None:
    """Delete a checkpoint if this sweep downloaded it."""
    was_here = json.loads((out / "fetched" / f"{job.name}.json").read_text(encoding="utf-8"))["was_here"]
    freed = 0 if was_here else hub.evict(find_model(job.settings.model), job.settings.step)
    write(out / "evicted" / f"{job.name}.json", json.dumps({"bytes": freed}) + "\n")


def compare(out: Path, store: Store) -> None:
    """Write the verdicts of every study in the store, and execute the chapter that compares them."""
    summaries = read_summaries(store)
    execute("models", None, out / "models.ipynb", store)
    write(out / "studies.csv", summaries.studies.to_csv(index=False))
    write(out / "claims.csv", summaries.claims.to_csv(index=False))


def book(plan: Sweep, out: Path) -> None:
    """Build a book from the comparison and all executed chapters."""
    reports = {
        name.replace("_", ", "): [out / "reports" / name / f"{chapter}.ipynb" for chapter in job.chapters]
        for name, job in plan.jobs().items()
        if job.chapters
    }
    render("Rare-token neurons, model by model", out / "models.ipynb", reports, out / "book")


def marker(out: Path, name: str) -> Path:
    """The file that marks a study as measured and summarised, and holds the identity of its summary."""
    return out / "studies" / f"{name}.json"


def noted(out: Path, name: str) -> dict[str, Any] | None:
    """The identity of a study's summary as its job recorded it, or None if there is none."""
    try:
        note = json.loads(marker(out, name).read_text(encoding="utf-8"))
        return dict(note["inputs"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def finished(plan: Sweep, out: Path, store: Store) -> dict[str, str]:
    """Keys of the summaries of all finished studies, by name.

    A study is finished if its summary exists, is intact, and matches the current package, weights and text. For weights
    that are no longer on this machine, and token ids whose tokenizer is not, the recorded digest is used.
    """
    keys: dict[str, str] = {}
    corpora: dict[tuple[str, TextLayout], str] = {}
    for name, job in plan.jobs().items():
        if not (inputs := noted(out, name)):
            continue
        study = Study(store=store, **job.settings.model_dump())
        text = (job.settings.corpus, job.settings.layout)
        if text not in corpora:
            with suppress(RaretokError):  # A text of token ids is read with its model's tokenizer, if that is here.
                corpora[text] = load_corpus(*text).digest
        corpus = corpora.get(text) or _digest_of_text(study) or str(inputs.get("corpus_digest"))
        try:
            weights = study.inputs.weights
        except RaretokError:
            weights = str(inputs.get("weights"))
        if inputs == identity(study, job.entry.claims, weights, corpus) and store.intact(KIND, inputs):
            keys[name] = hash_of(inputs)
    return keys


def _digest_of_text(study: Study) -> str | None:
    try:
        return study.inputs.text.corpus.digest
    except RaretokError:
        return None


@contextmanager
def held_device(out: Path, device: str) -> Iterator[str]:
    """The device of a job; if this machine has several GPUs, the first that no other job of the sweep holds."""
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
        if device == "auto":  # Snakemake does not count GPUs for such a job, so it waits for one.
            time.sleep(1)
            continue
        raise RaretokError(f"all {count} GPUs are taken by other jobs of this sweep: ask for fewer jobs at once")


def write(path: Path, text: str) -> None:
    """Write a small file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def states(plan: Sweep, out: Path, store: Store) -> list[dict[str, Any]]:
    """One row per study: whether it is measured, how many of its chapters are executed, and its cost."""
    done, all_costs = finished(plan, out, store), costs(store)
    rows = []
    for name, job in plan.jobs().items():
        executed = [c for c in job.chapters if (out / "reports" / name / f"{c}.ipynb").is_file()]
        row = {"study": name, "measured": "yes" if name in done else "no"}
        row["chapters"] = f"{len(executed)}/{len(job.chapters)}"
        cost = {"seconds": float("nan"), "peak_mib": float("nan")}
        if name in done:
            about = json.loads((store.root / KIND / done[name] / "study.json").read_text(encoding="utf-8"))
            cost |= all_costs.get(about["results"], {})
        rows.append(row | cost)
    return rows

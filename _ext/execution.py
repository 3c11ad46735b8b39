"""Sphinx extension: a page runs again when it would show something else, and not when its text alone has changed.

The execution cache knows only the cells of a page. Beside it, a record is kept of each page that ran: the digest of
the code of the package that the page imports, and what it asked its studies for, with the digests of what it got. A
page is run again unless all of it is as it was. Pages that show what is in the results folder, or the commit, run
again when one of these has changed.

Pages are run before they are read, two at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

import jupytext
from jupyter_cache import get_cache
from jupyter_cache.cache.db import NbCacheRecord
from jupyter_cache.executors.basic import ExecutionWorkerLocalMProc, ProcessData
from myst_nb.core.read import is_myst_markdown_notebook
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

import raretok
from raretok.code import digest_of_imports

PACKAGE = Path(raretok.__file__).parent
FOLDER = ("chapters/index", "chapters/models", "chapters/scorecard", "chapters/provenance")
"""Pages that show what is in the results folder, or the commit. The first adds to the folder what the others show."""
AT_ONCE = 2
"""Pages that run at once: most of a page's time is spent on one core, and each holds a model."""
ASKED = "RARETOK_ASKED"
READER = {"type": "plugin", "name": "myst_nb_md"}
log = logging.getLogger(__name__)


def digest(*paths: Path) -> str:
    """Digest of some files."""
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(f"{path}\n".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def data(root: Path) -> str:
    """Digest of what every page may show beside the results of studies: models and data that come with the package,
    the text of claims, and the pinned versions.
    """
    held = [p for p in PACKAGE.rglob("*") if p.suffix in (".json", ".csv") or p.parent.name == "claims"]
    if (beside := root / "raretok").resolve() != PACKAGE.resolve():  # Pages may import the package beside them.
        held += beside.rglob("*.py")
    models = (root / "models").rglob("*")
    return digest(*(p for p in [*held, *models, root / "constraints.txt"] if p.is_file()))


def store(root: Path) -> Path:
    """The results folder, as the pages find it."""
    return Path(os.environ.get("RARETOK_STORE") or root / ".raretok").expanduser()


def folder(root: Path) -> str:
    """Digest of the state of the results folder, and of the commit."""
    entries = sorted(f"{p} {p.stat().st_mtime_ns}" for p in store(root).glob("*/*/manifest.json"))
    commit = b""
    with suppress(OSError):  # Without git the pages show that there is no commit.
        for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
            commit += subprocess.run(["git", "-C", root, *arguments], capture_output=True, check=False).stdout
    return hashlib.sha256("\n".join(entries).encode() + commit).hexdigest()[:16]


def code_of(page: Path) -> str:
    """Digest of all code of the package that the cells of a page import, without what their studies compute."""
    return digest_of_imports("\n".join(c.source for c in jupytext.read(page).cells if c.cell_type == "code"))


class Records:
    """The records of the pages that ran, one file a page beside the execution cache."""

    def __init__(self, app: Sphinx) -> None:
        """Read the state of everything that pages show."""
        self.root, self.place = Path(app.srcdir), Path(app.config.nb_execution_cache_path) / "pages"
        self.place.mkdir(parents=True, exist_ok=True)
        self.now = {"data": data(self.root), "code": digest(*PACKAGE.rglob("*.py"))}

    def path(self, name: str, ending: str = "json") -> Path:
        """The file of a page."""
        return self.place / f"{name.replace('/', '.')}.{ending}"

    def read(self, name: str) -> dict[str, Any]:
        """The record of a page; empty if there is none that can be read."""
        try:
            record = json.loads(self.path(name).read_text(encoding="utf-8"))
            return record if isinstance(record, dict) else {}
        except (OSError, ValueError):
            return {}

    def write(self, name: str, record: dict[str, Any]) -> None:
        """Keep the record of a page; the file appears whole or not at all."""
        draft = self.path(name, "draft")
        draft.write_text(json.dumps(record), encoding="utf-8")
        os.replace(draft, self.path(name))

    def ran(self, name: str, code: str, cells: str) -> None:
        """Keep what a page asked for while it ran.

        ``code`` is the digest of its code when it started, ``cells`` names its entry in the cache.
        """
        notes = self.path(name, "asked")
        asked = sorted(set(notes.read_text(encoding="utf-8").splitlines())) if notes.is_file() else []
        notes.unlink(missing_ok=True)
        state = {"folder": folder(self.root)} if name in FOLDER else {}
        record = {**self.now, **state, "page": code, "cells": cells, "asked": asked}
        self.write(name, {**record, "run": os.urandom(8).hex()})

    def stale(self, pages: dict[str, Path]) -> Iterator[str]:
        """Yield the names of pages that would show something else if they ran."""
        unsure = {}
        for name, page in pages.items():
            record = self.read(name)
            shown = {**self.now, "folder": folder(self.root)} if name in FOLDER else {"data": self.now["data"]}
            if any(record.get(key) != value for key, value in shown.items()):
                yield name
            elif record.get("code") != self.now["code"]:
                if record.get("page") == code_of(page):
                    unsure[name] = record
                else:
                    yield name
        if unsure:
            log.info("the code has changed: asking again for what %d pages show", len(unsure))
            asked = json.dumps({name: record["asked"] for name, record in unsure.items()})
            command = [sys.executable, "-m", "raretok.book.asked"]
            there = {"RARETOK_STORE": str(store(self.root).resolve())}
            done = subprocess.run(
                command,
                input=asked,
                stdout=subprocess.PIPE,
                text=True,
                check=False,
                cwd=self.root,
                env=os.environ | there,
            )
            changed = json.loads(done.stdout) if done.returncode == 0 else list(unsure)
            yield from changed
            for name in set(unsure) - set(changed):
                self.write(name, {**unsure[name], **self.now})


def place(app: Sphinx, config: Config) -> None:
    """Name the folder of the execution cache."""
    config.nb_execution_cache_path = str(Path(app.outdir).parent / ".jupyter_cache")


def pages_of(app: Sphinx) -> dict[str, Path]:
    """The pages that have cells, by name."""
    pages = {name: Path(app.env.doc2path(name)) for name in sorted(app.env.found_docs)}
    return {
        name: page
        for name, page in pages.items()
        if page.suffix == ".md" and is_myst_markdown_notebook(page.read_text(encoding="utf-8"))
    }


def outdated(app: Sphinx, *_: Any) -> list[str]:
    """Run the pages that would show something else, and name all pages that ran since Sphinx last read them."""
    if app.config.nb_execution_mode != "cache":
        return []
    records, pages = Records(app), pages_of(app)
    run(app, records, pages, set(records.stale(pages)))
    read = getattr(app.env, "raretok_runs", {})
    runs = {name: records.read(name).get("run") for name in pages}
    app.env.raretok_runs = runs  # type: ignore[attr-defined]
    return [name for name in pages if runs[name] is None or runs[name] != read.get(name)]


def _is_whole(cache: Any, pk: int) -> bool:
    """Whether a page in the cache can be read: of a build that was killed there may be the record alone, or half a
    file.
    """
    try:
        return bool(cache.get_cache_bundle(pk).nb)
    except (KeyError, ValueError):
        return False


def run(app: Sphinx, records: Records, pages: dict[str, Path], stale: set[str]) -> None:
    """Run the stale pages and those that are not in the cache.

    Pages that show the results folder come after the others, and of these the first, which adds to the folder, before
    the rest.

    A page that fails, or whose process is killed, runs again, and is told, when it is read.
    """
    cache = get_cache(app.config.nb_execution_cache_path)
    phases: list[dict[str, ProcessData]] = [{}, {}, {}]
    codes: dict[str, str] = {}
    for name, path in pages.items():
        page = cache.add_nb_to_project(str(path), read_data=READER)
        found = cache.get_cached_project_nb(page.pk)
        if found is not None:
            same = records.read(name).get("cells") == found.hashkey
            if same and name not in stale and _is_whole(cache, found.pk):
                continue
            NbCacheRecord.remove_records([found.pk], cache.db)
            shutil.rmtree(Path(cache.path) / "executed" / found.hashkey, ignore_errors=True)
        records.path(name).unlink(missing_ok=True)
        phase = 0 if name not in FOLDER else 1 if name == FOLDER[0] else 2
        phases[phase][name] = ProcessData(page.pk, page.uri, cache, None, False)
        codes[name] = code_of(path)
    total, number = sum(map(len, phases)), 0
    for waiting in phases:
        at_once = max(1, min(AT_ONCE, len(waiting)))
        # More threads than cores wait for each other.
        threads = str(max(1, len(os.sched_getaffinity(0)) // at_once)) if hasattr(os, "sched_getaffinity") else "1"
        settle = ("OMP_NUM_THREADS", threads)
        with suppress(BrokenProcessPool), ProcessPoolExecutor(at_once, None, os.environ.setdefault, settle) as pool:
            started = {pool.submit(_run, page, records.path(name, "asked")): name for name, page in waiting.items()}
            for done in as_completed(started):
                number += 1
                name = started[done]
                if done.result() and (found := cache.get_cached_project_nb(waiting[name].pk)):
                    records.ran(name, codes[name], found.hashkey)
                log.info("running pages: %d of %d, %s", number, total, Path(started[done]).stem)


def _run(page: ProcessData, notes: Path) -> bool:
    """Run a page whose studies note what they are asked for; whether it ran to its end."""
    notes.unlink(missing_ok=True)
    os.environ[ASKED] = str(notes)  # The page's kernel inherits it.
    status, _ = ExecutionWorkerLocalMProc()(page)
    return status == 0


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, before myst-nb reads its settings."""
    app.connect("config-inited", place, priority=1)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Sphinx extension: what a chapter shows is as old as the package it ran, not as its own text.

The execution cache knows only the cells of a page. Here its folder is named by a digest of the package, the pinned
versions, the shipped models and the results that come with the package, so that an edit of any of them runs every
chapter again. The chapters that show what is in the results folder, or the commit, are run at every build: these are
in no digest.

Pages that are not in the cache are run before they are read, two at a time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_cache import get_cache
from jupyter_cache.cache.db import NbCacheRecord
from jupyter_cache.executors.basic import ExecutionWorkerLocalMProc, ProcessData
from myst_nb.core.read import is_myst_markdown_notebook
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

ALWAYS = ("chapters/index", "chapters/models", "chapters/scorecard", "chapters/provenance")
"""Pages that are read and run again whatever has changed."""
AT_ONCE = 2
"""Pages that run at once: most of a page's time is spent on one core, and each holds a model."""
READER = {"type": "plugin", "name": "myst_nb_md"}
log = logging.getLogger(__name__)


def digest(root: Path) -> str:
    """Digest of everything outside the pages that a page's numbers come from, the package that pages import
    included.
    """
    found = hashlib.sha256()
    spec = importlib.util.find_spec("raretok")
    imported = Path(spec.origin).parent if spec and spec.origin else root / "raretok"
    package = [p for folder in dict.fromkeys((root / "raretok", imported)) for p in sorted(folder.rglob("*"))]
    code = [p for p in package if p.suffix in (".py", ".json", ".csv")]
    shipped = sorted(p for p in (root / "models").rglob("*") if p.is_file())
    for path in [*code, *shipped, root / "constraints.txt"]:
        found.update(os.path.relpath(path, root).encode() + path.read_bytes())
    return found.hexdigest()[:16]


def salt(app: Sphinx, config: Config) -> None:
    """Name the cache folder; a changed name also makes Sphinx read every page again."""
    config.nb_execution_cache_path = str(Path(app.outdir).parent / ".jupyter_cache" / digest(Path(app.srcdir)))


def always(*_: Any) -> list[str]:
    """Name the pages that are always read again."""
    return list(ALWAYS)


def _is_whole(cache: Any, pk: int) -> bool:
    """Whether a page in the cache can be read: of a build that was killed there may be the record alone, or half a
    file.
    """
    try:
        return bool(cache.get_cache_bundle(pk).nb)
    except (KeyError, ValueError):
        return False


def run_ahead(app: Sphinx, _: Any, names: list[str]) -> None:
    """Run what is not in the cache, and after it what is always run: the front page, which sums up its study, then the
    others.

    A page that fails, or whose process is killed, runs again, and is told, when it is read.
    """
    if app.config.nb_execution_mode != "cache":
        return
    cache = get_cache(app.config.nb_execution_cache_path)
    phases: list[list[ProcessData]] = [[], [], []]
    for name in sorted(names):
        path = Path(app.env.doc2path(name))
        if path.suffix != ".md" or not is_myst_markdown_notebook(path.read_text(encoding="utf-8")):
            continue
        page = cache.add_nb_to_project(str(path), read_data=READER)
        found = cache.get_cached_project_nb(page.pk)
        if found is not None:
            if name not in ALWAYS and _is_whole(cache, found.pk):
                continue
            NbCacheRecord.remove_records([found.pk], cache.db)
            shutil.rmtree(Path(cache.path) / "executed" / found.hashkey, ignore_errors=True)
        phase = 0 if name not in ALWAYS else 1 if name == ALWAYS[0] else 2
        phases[phase].append(ProcessData(page.pk, page.uri, cache, None, False))
    total, number = sum(map(len, phases)), 0
    for pages in phases:
        at_once = max(1, min(AT_ONCE, len(pages)))
        # More threads than cores wait for each other.
        threads = str(max(1, len(os.sched_getaffinity(0)) // at_once)) if hasattr(os, "sched_getaffinity") else "1"
        settle = ("OMP_NUM_THREADS", threads)
        with suppress(BrokenProcessPool), ProcessPoolExecutor(at_once, None, os.environ.setdefault, settle) as pool:
            for done in as_completed([pool.submit(ExecutionWorkerLocalMProc(), page) for page in pages]):
                number += 1
                log.info("running pages: %d of %d, %s", number, total, Path(done.result()[1]).stem)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, before myst-nb reads its settings."""
    app.connect("config-inited", salt, priority=1)
    app.connect("env-get-outdated", always)
    app.connect("env-before-read-docs", run_ahead)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Sphinx extension: what a chapter shows is as old as the package it ran, not as its own text.

The execution cache knows only the cells of a page. Here its folder is named by a digest of the package, the pinned
versions, the shipped models and the results of the benchmarks, so that an edit of any of them runs every chapter again.
The chapters that show what is in the results folder, or the commit, are run at every build: these are in no digest.

Pages that are not in the cache are run before they are read, two at a time.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from jupyter_cache import get_cache
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
    """Digest of everything outside the pages that a page's numbers come from."""
    found = hashlib.sha256()
    shipped = sorted(p for p in (root / "models").rglob("*") if p.is_file())
    results = sorted(p for p in (root / "benchmarks").glob("*") if p.suffix in (".json", ".csv"))
    for path in [*sorted((root / "raretok").rglob("*.py")), *shipped, *results, root / "constraints.txt"]:
        found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:16]


def salt(app: Sphinx, config: Config) -> None:
    """Name the cache folder; a changed name also makes Sphinx read every page again."""
    config.nb_execution_cache_path = str(Path(app.outdir).parent / ".jupyter_cache" / digest(Path(app.srcdir)))


def always(*_: Any) -> list[str]:
    """Name the pages that are always read again."""
    return list(ALWAYS)


def run_ahead(app: Sphinx, _: Any, names: list[str]) -> None:
    """Run what is not in the cache, and last what is always run; a page that fails runs again, and is told, when it is read."""
    if app.config.nb_execution_mode != "cache":
        return
    cache = get_cache(app.config.nb_execution_cache_path)
    left: dict[bool, list[ProcessData]] = {False: [], True: []}
    for name in sorted(names):
        path = Path(app.env.doc2path(name))
        if path.suffix != ".md" or not is_myst_markdown_notebook(path.read_text(encoding="utf-8")):
            continue
        page = cache.add_nb_to_project(str(path), read_data=READER)
        found = cache.get_cached_project_nb(page.pk)
        if found is not None and name in ALWAYS:
            cache.remove_cache(found.pk)
        if found is None or name in ALWAYS:
            left[name in ALWAYS].append(ProcessData(page.pk, page.uri, cache, None, False))
    # More threads than cores wait for each other.
    threads = str(max(1, (os.cpu_count() or 1) // AT_ONCE))
    total, number = sum(map(len, left.values())), 0
    with ProcessPoolExecutor(AT_ONCE, initializer=os.environ.setdefault, initargs=("OMP_NUM_THREADS", threads)) as pool:
        for pages in left.values():
            for done in as_completed([pool.submit(ExecutionWorkerLocalMProc(), page) for page in pages]):
                number += 1
                log.info("running pages: %d of %d, %s", number, total, Path(done.result()[1]).stem)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, before myst-nb reads its settings."""
    app.connect("config-inited", salt, priority=1)
    app.connect("env-get-outdated", always)
    app.connect("env-before-read-docs", run_ahead)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

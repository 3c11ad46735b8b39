"""Sphinx extension: what a chapter shows is as old as the package it ran, not as its own text.

The execution cache knows only the cells of a page. Here its folder is named by a digest of the package, the pinned
versions, the shipped models and the results of the benchmarks, so that an edit of any of them runs every chapter again.
The chapters that show what is in the results folder, or the commit, are run at every build: these are in no digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config


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
    """Pages that are read and run again whatever has changed."""
    return ["chapters/index", "chapters/models", "chapters/scorecard", "chapters/provenance"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, before myst-nb reads its settings."""
    app.connect("config-inited", salt, priority=1)
    app.connect("env-get-outdated", always)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Content-addressed results: an entry is a folder that appears whole or not at all, and is checked before it is read.

Layout: ``<root>/<kind>/<key>/`` with the files of the entry and ``manifest.json``, which names every file's SHA-256. An entry
is written to a temporary folder beside its place and renamed into it, so a kill leaves either nothing or everything. The
manifest also says what the entry cost: seconds, without those of entries made on the way, and the process's peak memory in MiB.
The key is a hash of what changes the content, so a stale entry is one that is never asked for again.
"""

import ast
import errno
import fcntl
import hashlib
import json
import logging
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raretok.errors import RaretokError

FOLDER = ".raretok"
FULL = 1 << 20
"""Bytes: a disk with less is full; not every library says so itself."""
logger = logging.getLogger(__name__)


def default_root() -> Path:
    """``$RARETOK_STORE``, or ``.raretok`` in the nearest folder upward that has one or holds a book, or here."""
    if named := os.environ.get("RARETOK_STORE"):
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER).is_dir() or (folder / "_toc.yml").is_file():
            return folder / FOLDER
    return here / FOLDER


def hash_of(inputs: Mapping[str, Any]) -> str:
    """Key of an entry: SHA-256 of its inputs as canonical JSON, 20 hex digits."""
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@cache
def code_digest(*parts: str) -> str:
    """Digest of the package's modules under ``parts``, blind to comments, docstrings and layout.

    A part of every key: results of code that has changed since are not found.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for part in parts:
        for path in sorted((root / part).rglob("*.py")) if (root / part).is_dir() else [root / f"{part}.py"]:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if (
                    isinstance(body, list)
                    and body
                    and isinstance(body[0], ast.Expr)
                    and isinstance(body[0].value, ast.Constant)
                ):
                    node.body = body[1:]  # type: ignore[attr-defined]
            digest.update(path.relative_to(root).as_posix().encode() + ast.dump(tree).encode())
    return digest.hexdigest()[:16]


class Store:
    """A folder of entries."""

    def __init__(self, root: Path | str | None = None) -> None:
        """``root``: where the entries are; by default ``default_root()``."""
        self.root = Path(root) if root else default_root()
        self._inside = 0.0

    def path(self, kind: str, inputs: Mapping[str, Any]) -> Path:
        """Where the entry of these inputs is, or would be."""
        return self.root / kind / hash_of(inputs)

    def entry(self, kind: str, inputs: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The folder of the entry, built by ``build(folder)`` if it is not there or not intact.

        Raises:
            RaretokError: the store cannot be written.
        """
        place = self.path(kind, inputs)
        if place.is_dir():
            fault = _fault(place)
            if fault is None:
                return place
            logger.warning("%s is damaged (%s) and is computed again", place, fault)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=place.parent))
        except OSError as error:
            raise self._unwritable(str(error.strerror)) from None
        try:
            _write_manifest(draft, inputs, self._timed(build, draft))
            _put(draft, place)
        except OSError as error:
            if error.errno != errno.ENOSPC and shutil.disk_usage(self.root).free > FULL:
                raise
            raise self._unwritable("no space left on its disk") from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return place

    def _unwritable(self, why: str) -> RaretokError:
        return RaretokError(
            f"the results folder {self.root} cannot be written ({why}): set RARETOK_STORE to one that can"
        )

    def _timed(self, build: Callable[[Path], None], draft: Path) -> float:
        """Seconds that an entry took, without those of entries that were made on the way."""
        started, outside, self._inside = time.perf_counter(), self._inside, 0.0
        try:
            build(draft)
        finally:
            taken, inside = time.perf_counter() - started, self._inside
            self._inside = outside + taken
        return taken - inside

    def intact(self, kind: str, inputs: Mapping[str, Any]) -> bool:
        """Whether the entry of these inputs is there, and all its files are as they were written."""
        return _fault(self.path(kind, inputs)) is None

    def manifests(self, kind: str = "*") -> Iterator[tuple[Path, dict[str, Any]]]:
        """Folder and manifest of every entry of a kind, or of all, oldest first; drafts and unreadable ones are left out."""
        found = []
        for path in self.root.glob(f"{kind}/*/manifest.json"):
            with suppress(*UNREADABLE):  # also what another process takes away meanwhile
                found.append((path.stat().st_mtime_ns, path.parent, _manifest(path.parent)))
        for _, folder, manifest in sorted(found, key=lambda x: x[:2]):
            yield folder, manifest

    def drop(self, kind: str, inputs: Mapping[str, Any]) -> None:
        """Remove the entry of these inputs, if it is there."""
        shutil.rmtree(self.path(kind, inputs), ignore_errors=True)

    def table(self, kind: str, inputs: Mapping[str, Any], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table, computed once and kept as Parquet."""
        folder = self.entry(kind, inputs, lambda draft: compute().to_parquet(draft / "table.parquet", index=False))
        return pd.read_parquet(folder / "table.parquet")

    def arrays(
        self, kind: str, inputs: Mapping[str, Any], compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Named arrays, computed once and kept as ``.npy`` files (no pickle)."""

        def build(draft: Path) -> None:
            for name, array in compute().items():
                np.save(draft / f"{name}.npy", array, allow_pickle=False)

        folder = self.entry(kind, inputs, build)
        return {p.stem: np.load(p, allow_pickle=False) for p in sorted(folder.glob("*.npy"))}


def _write_manifest(draft: Path, inputs: Mapping[str, Any], seconds: float) -> None:
    files = {p.relative_to(draft).as_posix(): _sha256(p) for p in sorted(draft.rglob("*")) if p.is_file()}
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20)
    manifest = {"inputs": dict(inputs), "files": files, "seconds": round(seconds, 3), "peak_mib": round(peak)}
    with (draft / "manifest.json").open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside ``path`` that takes its place when the block ends, and goes when it fails: whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _put(draft: Path, place: Path) -> None:
    """Rename a draft into its place. An entry that another process put there first stays; a damaged one goes."""
    while True:
        try:
            draft.rename(place)
            return
        except OSError:
            if not place.is_dir():
                raise
        with (place.parent / ".lock").open("w") as lock:  # of two that replace a damaged one, neither takes the other's
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _fault(place) is None:
                return
            aside = draft.with_name(f"{draft.name}-damaged")
            place.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


UNREADABLE = (OSError, ValueError, RecursionError)
"""What reading a manifest raises where it is missing or not one."""


def _manifest(place: Path) -> dict[str, Any]:
    """The manifest of an entry; a ``ValueError`` says why it is none, or another's."""
    found = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not all(isinstance(found.get(name), dict) for name in ("inputs", "files")):
        raise ValueError("it has no inputs or no files")
    if not all(isinstance(found.get(name, 0), int | float) for name in ("seconds", "peak_mib")):
        raise ValueError("its costs are no numbers")
    if hash_of(found["inputs"]) != place.name:
        raise ValueError("it is another entry's")
    return found


def _fault(place: Path) -> str | None:
    """What is wrong with an entry, None if nothing."""
    try:
        listed = _manifest(place)["files"]
        # Only what lies in the folder is read, whatever the manifest names.
        held = {p.relative_to(place).as_posix(): p for p in place.rglob("*") if p.is_file()}
        for name, sha256 in listed.items():
            if name not in held or _sha256(held[name]) != sha256:
                return f"{name} has changed"
    except UNREADABLE as error:
        return f"unreadable: {error or type(error).__name__}"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

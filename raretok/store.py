"""Content-addressed results: an entry is a folder that appears whole or not at all, and is checked before it is read.

The folder ``<root>/<kind>/<key>/`` holds the files of the entry and ``manifest.json``, which lists the SHA-256 of every
file. An entry is written to a temporary folder beside its final place and then renamed, so that a killed process leaves
either nothing or a complete entry. The manifest also records what the entry cost (its seconds, without those of entries
made on the way, and the process's peak memory in MiB) and the versions of the libraries that made it. The key is a hash
of everything that determines the content, so a stale entry is one that is never asked for again. Beside the hashed
inputs, a manifest describes in words what they are.
"""

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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from raretok.errors import RaretokError

FOLDER = ".raretok"
LIBRARIES = ("torch", "transformers", "transformer-lens", "numpy", "scipy")
FULL = 1 << 20
"""Bytes; a disk with less free space counts as full, because not every library reports a full disk itself."""
T = TypeVar("T")
logger = logging.getLogger(__name__)


def default_root() -> Path:
    """Return the default results folder.

    It is ``$RARETOK_STORE`` if that is set, else ``.raretok`` in the nearest folder upward that has one or holds a
    book, else ``.raretok`` in the working directory.
    """
    if named := os.environ.get("RARETOK_STORE"):
        return Path(named).expanduser()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER).is_dir() or (folder / "_toc.yml").is_file():
            return folder / FOLDER
    return here / FOLDER


def hash_of(inputs: Mapping[str, Any]) -> str:
    """Return the key of an entry: the first 20 hex digits of the SHA-256 of its inputs as canonical JSON."""
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class Store:
    """A folder of entries."""

    def __init__(self, root: Path | str | None = None) -> None:
        """``root`` is the folder that holds the entries; by default it is ``default_root()``."""
        self.root = Path(root).expanduser() if root else default_root()
        self._inside = 0.0

    def path(self, kind: str, inputs: Mapping[str, Any]) -> Path:
        """Return the folder in which the entry of these inputs is, or would be."""
        return self.root / kind / hash_of(inputs)

    def entry(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        build: Callable[[Path], None],
        about: Mapping[str, Any] | None = None,
    ) -> Path:
        """Return the folder of the entry, which ``build(folder)`` fills if the entry is missing or not intact.

        ``about`` describes in words what the entry is about.

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
            _write_manifest(draft, inputs, self._timed(build, draft), about or {})
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
        """Build an entry and return the seconds that it took, without those of entries that were made on the way."""
        started, outside, self._inside = time.perf_counter(), self._inside, 0.0
        try:
            build(draft)
        finally:
            taken, inside = time.perf_counter() - started, self._inside
            self._inside = outside + taken
        return taken - inside

    def intact(self, kind: str, inputs: Mapping[str, Any]) -> bool:
        """Whether the entry of these inputs exists and all its files are as they were written."""
        return _fault(self.path(kind, inputs)) is None

    def manifests(self, kind: str = "*") -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield folder and manifest of every entry of a kind, or of all kinds, oldest first.

        Drafts and unreadable entries are left out.
        """
        entries = []
        for path in self.root.glob(f"{kind}/*/manifest.json"):
            with suppress(*UNREADABLE):  # This covers entries that another process removes meanwhile.
                entries.append((path.stat().st_mtime_ns, path.parent, _manifest(path.parent)))
        for _, folder, manifest in sorted(entries, key=lambda x: x[:2]):
            yield folder, manifest

    def content(self, kind: str, inputs: Mapping[str, Any]) -> str | None:
        """Return a digest of the content of an entry's files; None if there is no such entry.

        Equal content has equal digests, whatever it was computed from.
        """
        try:
            return hash_of(_manifest(self.path(kind, inputs))["files"])
        except UNREADABLE:
            return None

    def drop(self, kind: str, inputs: Mapping[str, Any]) -> None:
        """Remove the entry of these inputs, if it exists."""
        shutil.rmtree(self.path(kind, inputs), ignore_errors=True)

    def table(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        compute: Callable[[], pd.DataFrame],
        about: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return a table, which is computed once and kept as Parquet."""

        def build(draft: Path) -> None:
            compute().to_parquet(draft / "table.parquet", index=False)

        return self._read(lambda folder: pd.read_parquet(folder / "table.parquet"), kind, inputs, build, about)

    def arrays(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        compute: Callable[[], dict[str, np.ndarray]],
        about: Mapping[str, Any] | None = None,
    ) -> dict[str, np.ndarray]:
        """Return named arrays, which are computed once and kept as ``.npy`` files (no pickle)."""

        def build(draft: Path) -> None:
            for name, array in compute().items():
                np.save(draft / f"{name}.npy", array, allow_pickle=False)

        def read(folder: Path) -> dict[str, np.ndarray]:
            names = sorted(_manifest(folder)["files"])
            return {Path(name).stem: np.load(folder / name, allow_pickle=False) for name in names}

        return self._read(read, kind, inputs, build, about)

    def _read(self, read: Callable[[Path], T], kind: str, *entry: Any) -> T:
        """Read an entry, again if another process replaces it meanwhile because it is damaged."""
        while True:
            folder = self.entry(kind, *entry)
            try:
                return read(folder)
            except UNREADABLE:
                if _fault(folder) is None:
                    raise


def _write_manifest(draft: Path, inputs: Mapping[str, Any], seconds: float, about: Mapping[str, Any]) -> None:
    files = {p.relative_to(draft).as_posix(): _sha256(p) for p in sorted(draft.rglob("*")) if p.is_file()}
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20)
    manifest = {
        "about": dict(about),
        "inputs": dict(inputs),
        "files": files,
        "seconds": round(seconds, 3),
        "peak_mib": round(peak),
        "versions": versions(),
    }
    with (draft / "manifest.json").open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())


@cache
def versions() -> dict[str, str]:
    """Return the installed versions of the libraries that results are computed with."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a draft beside ``path``, so that the file is written whole or not at all.

    The draft replaces ``path`` when the block ends and is deleted when the block fails.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _put(draft: Path, place: Path) -> None:
    """Rename a draft into its place; an entry that another process put there first stays unless it is damaged."""
    while True:
        try:
            draft.rename(place)
            return
        except OSError:
            if not place.is_dir():
                raise
        # The lock keeps two processes that replace the same damaged entry from removing each other's new entry.
        with (place.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _fault(place) is None:
                return
            aside = draft.with_name(f"{draft.name}-damaged")
            with suppress(FileNotFoundError):  # Another process has moved it aside and not put its own there yet.
                place.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


UNREADABLE = (OSError, ValueError, RecursionError)
"""The exceptions that reading a manifest raises where the file is missing or is not a manifest."""


def _manifest(place: Path) -> dict[str, Any]:
    """Read the manifest of an entry; a ``ValueError`` says why it is not a manifest, or that it is another entry's."""
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or not all(isinstance(manifest.get(name), dict) for name in ("inputs", "files")):
        raise ValueError("it has no inputs or no files")
    if not all(isinstance(manifest.get(name, 0), int | float) for name in ("seconds", "peak_mib")):
        raise ValueError("its costs are no numbers")
    if hash_of(manifest["inputs"]) != place.name:
        raise ValueError("it is another entry's")
    return manifest


def _fault(place: Path) -> str | None:
    """Describe what is wrong with an entry; None if nothing is."""
    try:
        listed = _manifest(place)["files"]
        # Only files that lie in the folder are read, whatever names the manifest lists.
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

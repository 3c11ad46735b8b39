"""Provenance of the numbers in the book: commit, package versions, digests, and the cost of computing them."""

import hashlib
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version

import pandas as pd

from raretok.data.text import CORPORA
from raretok.errors import RaretokError
from raretok.model.load import model_digest
from raretok.model.registry import MODELS
from raretok.repository import ROOT
from raretok.store import Store


def commit() -> str:
    """The commit of the checkout that contains this package, marked if its files differ; or that there is none."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + (" and changes since" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"not a checkout; version {version('raretok')}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def versions() -> pd.DataFrame:
    """Installed versions of Python and of the packages that the book needs. Columns: ``package``, ``version``."""
    needed = [r for r in requires("raretok") or [] if "extra ==" not in r or re.search(r"extra == ['\"]book['\"]", r)]
    rows = [("python", platform.python_version())]
    for name in sorted({re.split(r"[^\w.-]", r, maxsplit=1)[0] for r in needed}):
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, "not installed"))
    return pd.DataFrame(rows, columns=["package", "version"])


def code_of_package() -> str:
    """Digest of the text of every module of the package."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "raretok").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def digests() -> pd.DataFrame:
    """SHA-256 digests of the inputs of the numbers: the package's code, and all models and corpora that the book uses.

    Columns: ``what``, ``kind``, ``sha256`` (first 16 digits).
    """
    rows = [("raretok", "code", code_of_package())]
    for entry in (e for e in MODELS.values() if not e.parts):
        for step in entry.steps or (None,):
            try:
                if entry.kind in ("shipped", "embedded"):
                    name = entry.name if step is None else f"{entry.name} @ {step}"
                    rows.append((name, "weights and tokenizer", model_digest(entry, step)))
            except RaretokError:
                rows.append((entry.name, "weights and tokenizer", "not on this machine"))
    rows += [(name, "corpus", load().digest) for name, load in CORPORA.items()]
    return pd.DataFrame(rows, columns=["what", "kind", "sha256"]).assign(sha256=lambda t: t["sha256"].str[:16])


def run_times(store: Store) -> pd.DataFrame:
    """Cost of computing each kind of result in a store, over all studies.

    Columns: ``result``, ``entries``, ``seconds``, ``peak_mib`` (of the process).
    """
    rows = [
        (folder.parent.name, manifest.get("seconds", 0.0), manifest.get("peak_mib", 0.0))
        for folder, manifest in store.manifests()
    ]
    table = pd.DataFrame(rows, columns=["result", "seconds", "peak_mib"])
    totals = table.groupby("result").agg(
        entries=("seconds", "size"), seconds=("seconds", "sum"), peak_mib=("peak_mib", "max")
    )
    return totals.sort_values("seconds", ascending=False, kind="stable").reset_index()

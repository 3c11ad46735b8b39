"""Where the numbers of a book come from: its commit, versions, digests, and what computing them took."""

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pandas as pd

from raretok.data.text import CORPORA
from raretok.errors import RaretokError
from raretok.model.load import model_digest
from raretok.model.registry import MODELS
from raretok.store import Store, code_digest

ROOT = Path(__file__).parents[1]


def commit() -> str:
    """The commit of the checkout that this package lies in, with a mark if its files differ; or that it lies in none."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + (" and changes since" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"not a checkout; version {version('raretok')}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def versions() -> pd.DataFrame:
    """Python and the packages that the book needs, as installed: ``package``, ``version``."""
    needed = [r for r in requires("raretok") or [] if "extra ==" not in r or re.search(r"extra == ['\"]book['\"]", r)]
    rows = [("python", platform.python_version())]
    for name in sorted({re.split(r"[^\w.-]", r, maxsplit=1)[0] for r in needed}):
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, "not installed"))
    return pd.DataFrame(rows, columns=["package", "version"])


def digests() -> pd.DataFrame:
    """What the numbers were computed from, as SHA-256: the code of the package, and all models and corpora that come with the book.

    Columns: ``what``, ``kind``, ``sha256`` (first 16 digits).
    """
    rows = [("raretok", "code", code_digest("."))]
    for entry in MODELS.values():
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
    """What each kind of result in a store took, all studies together: ``result``, ``entries``, ``seconds``, ``peak_mib`` (of the process)."""
    rows = [
        (folder.parent.name, manifest.get("seconds", 0.0), manifest.get("peak_mib", 0.0))
        for folder, manifest in store.manifests()
    ]
    table = pd.DataFrame(rows, columns=["result", "seconds", "peak_mib"])
    told = table.groupby("result").agg(
        entries=("seconds", "size"), seconds=("seconds", "sum"), peak_mib=("peak_mib", "max")
    )
    return told.sort_values("seconds", ascending=False, kind="stable").reset_index()

"""Hub models on this machine: functions to locate, download and delete a revision. Only ``fetch`` downloads."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from raretok.data.hub import patiently, reason
from raretok.errors import RaretokError
from raretok.model.registry import ModelEntry

FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt")
"""Patterns of the files that are fetched: weights that are not pickled, settings, and the tokenizer."""


def missing(entry: ModelEntry, step: int | None, error: Exception) -> RaretokError:
    """The error to raise when a model is missing or incomplete on this machine."""
    fetch = f"raretok fetch {entry.name}" + (f" --step {step}" if step is not None else "")
    return RaretokError(
        f"{entry.name} is not on this machine ({type(error).__name__}): run `{fetch}` where the hub can be reached"
    )


def snapshot(entry: ModelEntry, step: int | None) -> Path:
    """The folder of a revision on this machine, named by its commit.

    Raises:
        RaretokError: if it is not on this machine; the message says how to get it.
    """
    from huggingface_hub import snapshot_download

    revision = entry.revision(step)
    try:
        folder = Path(snapshot_download(entry.source, revision=revision, local_files_only=True))
    except (OSError, ValueError) as error:
        raise missing(entry, step, error) from None
    if not (folder / "config.json").is_file():
        raise missing(entry, step, FileNotFoundError())
    return folder


def here(entry: ModelEntry, step: int | None) -> bool:
    """Whether a revision's weights are complete on this machine, which they are not after an interrupted download."""
    try:
        return whole(snapshot(entry, step))
    except RaretokError:
        return False


def steps_here(entry: ModelEntry) -> tuple[int, ...]:
    """The steps of a model's checkpoints that are on this machine, whether or not the model is from the hub."""
    return entry.steps if entry.kind != "hub" else tuple(step for step in entry.steps if here(entry, step))


def whole(folder: Path) -> bool:
    """Whether a folder holds all the weight files that its index names, or any weights if it has no index."""
    indices, named = list(folder.glob("*.safetensors.index.json")), set()
    for path in indices:
        try:
            named |= {str(name) for name in json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return False
    held = {p.name for p in folder.glob("*.safetensors")}
    return bool(held) and named <= held


def fetch(entry: ModelEntry, step: int | None) -> Path:
    """Download a revision's weights and tokenizer if they are not on this machine, and return their folder.

    Raises:
        RaretokError: if there is no such model or revision, the hub cannot be reached, or ``HF_HUB_OFFLINE`` forbids
            it.
    """
    from huggingface_hub import snapshot_download

    revision = entry.revision(step)
    try:
        download = partial(snapshot_download, entry.source, revision=revision, allow_patterns=list(FILES))
        return Path(patiently(download))
    except Exception as error:  # The errors of a broken connection are those of whichever library makes it.
        why = reason(revision, error)
        raise RaretokError(f"{entry.source} could not be fetched: {why}") from None


def evict(entry: ModelEntry, step: int | None) -> int:
    """Delete a revision from this machine's cache, except for the files that other revisions share.

    Returns the number of bytes freed, which is 0 if the revision was not in the cache.
    """
    from huggingface_hub import constants, scan_cache_dir

    try:
        commit = snapshot(entry, step).name
    except RaretokError:
        return 0
    cache = scan_cache_dir(constants.HF_HUB_CACHE)
    # A copy of a repository has the same commits.
    own = frozenset(r for r in cache.repos if (r.repo_type, r.repo_id) == ("model", entry.source))
    strategy = replace(cache, repos=own).delete_revisions(commit)
    strategy.execute()
    return int(strategy.expected_freed_size)

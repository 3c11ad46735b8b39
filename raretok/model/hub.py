"""Models of the model hub on this machine: where a revision is, how it gets here, how it goes. Only ``fetch`` downloads."""

import json
from pathlib import Path

from raretok.errors import RaretokError
from raretok.model.registry import ModelEntry

FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt")
"""What is fetched: weights without pickle, settings, tokenizer."""


def missing(entry: ModelEntry, step: int | None, error: Exception) -> RaretokError:
    """What to say where a model is not, or not whole, on this machine."""
    fetch = f"raretok fetch {entry.name}" + (f" --step {step}" if step is not None else "")
    return RaretokError(
        f"{entry.name} is not on this machine ({type(error).__name__}): run `{fetch}` where the hub can be reached"
    )


def snapshot(entry: ModelEntry, step: int | None) -> Path:
    """The folder of a revision on this machine, named by its commit.

    Raises:
        RaretokError: it is not here; the message says how to get it.
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
    """Whether a revision's weights are all on this machine; a download that broke off leaves less."""
    try:
        return whole(snapshot(entry, step))
    except RaretokError:
        return False


def whole(folder: Path) -> bool:
    """Whether a folder holds all the weights that its index names, or any where there is no index."""
    indices, named = list(folder.glob("*.safetensors.index.json")), set()
    for path in indices:
        try:
            named |= {str(name) for name in json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return False
    held = {p.name for p in folder.glob("*.safetensors")}
    return bool(held) and named <= held


def fetch(entry: ModelEntry, step: int | None) -> Path:
    """Download a revision's weights and tokenizer, if they are not here; the folder.

    Raises:
        RaretokError: no such model or revision, or the hub cannot be reached or is not to be asked (``HF_HUB_OFFLINE``).
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(entry.source, revision=entry.revision(step), allow_patterns=list(FILES)))
    except (OSError, HFValidationError) as error:
        if constants.HF_HUB_OFFLINE:
            raise RaretokError(f"{entry.source} is not here, and HF_HUB_OFFLINE is set: unset it to fetch it") from None
        told = str(error).partition("\n")[0]
        raise RaretokError(f"{entry.source} could not be fetched ({type(error).__name__}: {told})") from None


def forget(entry: ModelEntry, step: int | None) -> int:
    """Delete a revision from this machine's cache; bytes freed, 0 if it was not here. Files that others share stay."""
    from huggingface_hub import constants, scan_cache_dir

    try:
        commit = snapshot(entry, step).name
    except RaretokError:
        return 0
    strategy = scan_cache_dir(constants.HF_HUB_CACHE).delete_revisions(commit)
    strategy.execute()
    return int(strategy.expected_freed_size)

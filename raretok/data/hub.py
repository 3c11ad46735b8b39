"""Datasets of the hub on this machine, and patience with a hub that is busy. Only ``fetch_dataset`` downloads."""

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from raretok.errors import RaretokError
from raretok.store import replacing

T = TypeVar("T")
WAITS = (1, 2, 4, 8, 16, 32)
"""Seconds before each further try, where the hub does not say how long to wait."""
LONGEST_WAIT = 120
"""Most seconds that are waited because the hub says so."""
BUSY = (429, 500, 502, 503, 504)
"""HTTP statuses that pass."""
BROKEN = ("RemoteProtocolError", "ReadError", "ReadTimeout")
"""Names of the errors of a connection that broke off, in whichever library makes it."""
BATCH = 1000


@dataclass(frozen=True)
class DatasetName:
    """A part of a hub dataset: ``owner/name:configuration:split[first:last]``; split is train if it is not given."""

    where: str
    configuration: str | None
    split: str
    first: int
    last: int | None

    @classmethod
    def read(cls, name: str) -> "DatasetName":
        """Read a name. Raises ``RaretokError`` if a part is given in another way than by numbers of documents."""
        where, _, rest = name.partition(":")
        configuration, _, split = rest.partition(":")
        part = re.fullmatch(r"([^\[\]]*)(?:\[(\d*):(\d*)\])?", split)
        if part is None or set("[]") & set(where + configuration):
            raise RaretokError(
                f"{name} names no part of a dataset: give a split, or documents of it by number, as in "
                "owner/name:configuration:train[:1000]"
            )
        return cls(
            where, configuration or None, part[1] or "train", int(part[2] or 0), int(part[3]) if part[3] else None
        )


def dataset_file(name: str) -> Path:
    """Where a fetched part of a dataset is on this machine, whether or not it is there."""
    from huggingface_hub import constants

    plain = re.sub(r"[^\w.-]+", "-", name)
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return Path(constants.HF_HOME) / "raretok" / f"{plain}-{digest}.parquet"


def fetch_dataset(name: str) -> int:
    """Download a part of a hub dataset to this machine, and return its number of documents.

    The documents are streamed, so that no more is read than the files up to the last one asked for.

    Args:
        name: See ``DatasetName``.

    Raises:
        RaretokError: if there is no such dataset, configuration or split, it holds no documents, or the hub cannot be
            reached.
    """
    part, path = DatasetName.read(name), dataset_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        try:
            rows = patiently(lambda: _save(part, draft))
        except ModuleNotFoundError:
            raise
        except Exception as error:  # The libraries raise whatever they like.
            raise RaretokError(f"{name} could not be fetched: {reason(part.split, error)}") from None
        if not rows:
            raise RaretokError(f"{name} holds no documents: ask for others")
    return rows


def _save(part: DatasetName, path: Path) -> int:
    """Write the documents of a part to a Parquet file, and return their number."""
    import datasets
    import pyarrow.parquet
    from tqdm import tqdm

    stream = datasets.load_dataset(part.where, part.configuration, split=part.split, streaming=True)
    stream = stream.skip(part.first) if part.first else stream
    stream = stream if part.last is None else stream.take(part.last - part.first)
    tables = stream.with_format("arrow").iter(batch_size=BATCH)
    rows, writer = 0, None
    try:
        for table in tqdm(tables, desc=f"fetching {part.where}", unit="thousand", disable=None, delay=2):
            writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table.cast(writer.schema))
            rows += len(table)
    finally:
        if writer:
            writer.close()
    return rows


def patiently(download: Callable[[], T]) -> T:
    """Return what ``download`` returns, and try again for a while if the hub is busy or a transfer breaks off."""
    for wait in WAITS:
        try:
            return download()
        except Exception as error:
            if (asked := _passing(error)) is None:
                raise
            seconds = min(asked or wait, LONGEST_WAIT)
            print(f"the hub is busy, or the connection broke: trying again in {seconds:g} s", file=sys.stderr)
            time.sleep(seconds)
    return download()


def _passing(error: BaseException) -> float | None:
    """Seconds that the hub asks to wait, 0 if it does not say how long, and None for an error that will not pass."""
    for each in _causes(error):
        response = getattr(each, "response", None)
        if type(each).__name__ in BROKEN:
            return 0
        if response is not None and response.status_code in BUSY:
            after = response.headers.get("Retry-After", "")
            return float(after) if after.isdigit() else 0
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def reason(revision: str, error: Exception) -> str:
    """Say why something could not be fetched from the hub, and what to do."""
    from huggingface_hub import constants, errors

    names = {type(each).__name__ for each in _causes(error)}
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set: unset it to fetch"
    if isinstance(error, errors.GatedRepoError) or "GatedRepoError" in names:
        return "its owner asks for consent: give it on the hub's page, then log in with `hf auth login`"
    if names & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return "there is no such repository, or it is private: check the name, or log in with `hf auth login`"
    if "RevisionNotFoundError" in names:
        return f"it has no revision {revision}"
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"

"""Readers of user-supplied text files, which yield one document after the other.

They raise ``RaretokError`` where a file has the wrong format; the message says what to do.
"""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from raretok.errors import RaretokError

PARAGRAPH_CHARACTERS = 2000
"""Least number of characters in a document of a plain text file, which is made by joining paragraphs."""


def read_csv(path: Path, column: str) -> Iterator[str]:
    """Yield the column of every row; a byte-order mark before the first column is ignored."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as stream:  # spreadsheets write a byte-order mark
        rows = csv.DictReader(stream)  # accepts any text: it is not strict, and fields have no size limit
        need_column(path, column, rows.fieldnames or [])
        for row in rows:
            yield row[column] or ""


def read_jsonl(path: Path, column: str) -> Iterator[str]:
    """Yield the field of every line that is not blank."""
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                raise RaretokError(f"{path.name} line {number} is not JSON: write one JSON object a line") from None
            if not isinstance(record, dict) or not isinstance(record.get(column), str):
                raise RaretokError(f"{path.name} line {number} has no text field {column!r}: name it as text column")
            yield record[column]


def read_parquet(path: Path, column: str) -> Iterator[str]:
    """Yield the column of every row, with an empty text for values that are not text."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        need_column(path, column, file.schema_arrow.names)
        values = file.read(columns=[column]).column(column).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise RaretokError(f"{path.name} is not a readable Parquet file ({error}): write it again") from None
    yield from (v if isinstance(v, str) else "" for v in values)


def read_txt(path: Path, column: str) -> Iterator[str]:
    """Yield runs of paragraphs with at least ``PARAGRAPH_CHARACTERS`` characters; ``column`` is ignored."""
    held: list[str] = []
    for paragraph in re.split(r"\n\s*\n", path.read_text(encoding="utf-8-sig")):
        held.append(paragraph)
        if sum(map(len, held)) >= PARAGRAPH_CHARACTERS:
            yield "\n\n".join(held)
            held = []
    if held:
        yield "\n\n".join(held)


READERS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    ".txt": read_txt,
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
"""Readers by file suffix; each takes the path and the name of the column with the text, and yields the documents."""


def need_column(path: Path, column: str, columns: Sequence[str]) -> None:
    """Raise ``RaretokError``, whose message lists the columns, if ``column`` is not among them."""
    if column not in columns:
        raise RaretokError(f"{path.name} has no column {column!r}: name one of {', '.join(columns) or '(none)'}")

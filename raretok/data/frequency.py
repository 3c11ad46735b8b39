"""Frequency bands of token types, derived from unigram counts (method §2)."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
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
    """How often each token type occurs in a stated corpus, and what ranks the types by frequency.

    ``order`` grows with frequency and is NaN for types that it does not rank; without it the counts rank the types.
    """

    counts: Int[ndarray, " vocab"]
    source: str
    order: Float[ndarray, " vocab"] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the counts and of the order."""
        digest = hashlib.sha256(np.ascontiguousarray(self.counts, dtype=np.int64).tobytes())
        if self.order is not None:
            digest.update(np.ascontiguousarray(self.order, dtype=np.float64).tobytes())
        return digest.hexdigest()

    @cached_property
    def bands(self) -> dict[str, Bool[ndarray, " vocab"]]:
        """The bands of the types, see ``type_bands``."""
        return type_bands(self.counts, self.order)

    @property
    def ranking(self) -> Float[ndarray, " vocab"]:
        """What ranks the types, larger for more frequent ones and NaN for types without a rank."""
        return self.counts.astype(float) if self.order is None else self.order


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


def cumulative_mass(
    counts: Int[ndarray, " vocab"], order: Float[ndarray, " vocab"] | None = None
) -> tuple[Float[ndarray, " vocab"], Float[ndarray, " vocab"]]:
    """Share of all tokens whose type is less frequent than this one, and that share with the types as frequent as it.

    Types without a rank count for nothing, and have NaN.
    """
    order = counts.astype(float) if order is None else order
    ranked = ~np.isnan(order)
    values, inverse = np.unique(order[ranked], return_inverse=True)
    share = np.bincount(inverse, weights=counts[ranked], minlength=len(values)) / counts[ranked].sum()
    upper = np.cumsum(share)
    below, mass = np.full((2, len(counts)), np.nan)
    below[ranked], mass[ranked] = (upper - share)[inverse], upper[inverse]
    return below, mass


def type_bands(
    counts: Int[ndarray, " vocab"], order: Float[ndarray, " vocab"] | None = None
) -> dict[str, Bool[ndarray, " vocab"]]:
    """Bands of token types by frequency; a type that never occurs or has no rank is in no band.

    ``rare`` holds the rarest types that together make up at most 5% of the token mass, ``common`` the most frequent
    types that make up at least half of it, ``half of types`` the rarer half of the types that occur (the published
    band), and ``decile k`` the types of the k-th tenth of the token mass. Types of equal frequency are never split
    between bands.

    Args:
        counts: How often each type occurs, which gives the mass.
        order: What ranks the types, larger for more frequent ones and NaN for types without a rank; else the counts.
    """
    below, mass = cumulative_mass(counts, order)
    order = counts.astype(float) if order is None else order
    occurs = (counts > 0) & ~np.isnan(order)
    rank = np.searchsorted(np.sort(order[occurs]), order, side="right") / max(occurs.sum(), 1)
    bands = {
        "rare": occurs & (mass <= RARE_MASS),
        "common": occurs & (mass > 1 - COMMON_MASS),
        "half of types": occurs & (rank <= 0.5),
    }
    decile = np.clip(np.floor((below + mass) / 2 * 10), 0, 9)
    return bands | {name: occurs & (decile == k) for k, name in enumerate(DECILES)}


def type_table(frequency: UnigramCounts, show: Callable[[Any], list[str]]) -> pd.DataFrame:
    """Table of all token types that occur and have a rank, in descending order of frequency.

    ``show`` turns token ids into texts. Columns: ``token``, ``text``, ``count``, ``rank`` (from 1), ``band`` (rare,
    between or common), ``decile`` (1: rarest).
    """
    counts, bands = frequency.counts, frequency.bands
    by = frequency.ranking
    ids = np.flatnonzero((counts > 0) & ~np.isnan(by))
    order = ids[np.lexsort((-counts[ids], -by[ids]))]
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

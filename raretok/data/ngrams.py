"""Baselines for a model: n-gram models with interpolated Kneser–Ney smoothing, estimated on its own training tokens.

The highest order uses counts, and every lower order the number of different preceding tokens (Kneser and Ney 1995).
Each order has one absolute discount D = n₁ / (n₁ + 2 n₂), and the lowest is interpolated with a uniform distribution.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from raretok.errors import RaretokError


@dataclass(frozen=True)
class _Level:
    """Counts of n-grams by key, and for each of their contexts the sum of counts and the number of next tokens."""

    keys: Int[ndarray, " gram"]
    counts: Int[ndarray, " gram"]
    contexts: Int[ndarray, " context"]
    totals: Int[ndarray, " context"]
    types: Int[ndarray, " context"]
    discount: float


def ngram_losses(
    train: Int[ndarray, " token"], test: Int[ndarray, " tested"], vocab: int, order: int
) -> Float[ndarray, " target"]:
    """−log p in nats of every test token after the first ``order − 1``, given the ``order − 1`` tokens before it.

    Args:
        train: Token ids to estimate from.
        test: Token ids to predict.
        vocab: Number of types; each has a probability above 0.
        order: Order of the model, such as 1 for unigrams and 3 for trigrams.

    Raises:
        RaretokError: if the order is too high for 64-bit keys, or a text is shorter than the order.
    """
    if order < 1 or order * np.log2(max(vocab, 2)) > 62:
        raise RaretokError(f"n-grams of order {order} over {vocab} types cannot be counted: use an order from 1 to 3")
    if min(len(train), len(test)) < order:
        raise RaretokError(f"a text of {min(len(train), len(test))} tokens has no {order}-gram: use a longer one")
    keys, counts = np.unique(_grams(train, vocab, order), return_counts=True)
    levels = [_level(keys, counts, vocab)]
    for n in range(order - 1, 0, -1):
        # A lower order counts the different tokens that precede its n-grams.
        keys, counts = np.unique(keys % vocab**n, return_counts=True)
        levels.append(_level(keys, counts, vocab))
    p = np.full(len(test) - order + 1, 1 / vocab)
    grams = _grams(test, vocab, order)
    for n, level in enumerate(reversed(levels), start=1):
        p = _interpolated(level, grams % vocab**n, vocab, p)
    return -np.log(p)


def _grams(ids: Int[ndarray, " token"], vocab: int, order: int) -> Int[ndarray, " gram"]:
    """Each run of ``order`` tokens encoded as one integer in base ``vocab``, with the last token as its last digit."""
    key = np.zeros(len(ids) - order + 1, dtype=np.int64)
    for k in range(order):
        key = key * vocab + ids[k : len(ids) - order + 1 + k]
    return key


def _level(keys: Int[ndarray, " gram"], counts: Int[ndarray, " gram"], vocab: int) -> _Level:
    contexts, first = np.unique(keys // vocab, return_index=True)
    types = np.diff([*first, len(keys)])
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = max(once, 1) / (max(once, 1) + 2 * twice)  # it must be above 0 even if no n-gram occurs exactly once
    return _Level(keys, counts, contexts, np.add.reduceat(counts, first), types, discount)


def _interpolated(
    level: _Level, grams: Int[ndarray, " target"], vocab: int, lower: Float[ndarray, " target"]
) -> Float[ndarray, " target"]:
    """(max(c − D, 0) + D · types · lower) / total, or the lower order's probability where the context is unseen."""
    count = _look_up(level.keys, level.counts, grams)
    total = _look_up(level.contexts, level.totals, grams // vocab)
    types = _look_up(level.contexts, level.types, grams // vocab)
    seen = (np.maximum(count - level.discount, 0) + level.discount * types * lower) / np.maximum(total, 1)
    return np.where(total > 0, seen, lower)


def _look_up(
    keys: Int[ndarray, " key"], values: Int[ndarray, " key"], wanted: Int[ndarray, " w"]
) -> Int[ndarray, " w"]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)

"""The frequency of token types in general English, by a list of its words."""

import gzip
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import msgpack
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from raretok.data import packages
from raretok.errors import RaretokError

LEAST = 1e-7
"""Least frequency of a word that is used: what is rarer is known too badly to rank types by."""
_WORD = re.compile(r" ?[^\W\d_]+(?:['’][^\W\d_]+)*")


def word_order(
    documents: Sequence[str],
    encode: Callable[[list[str]], list[list[int]]],
    show: Callable[[ndarray], list[str]],
    vocab: int,
) -> Float[ndarray, " vocab"]:
    """Rank the types by how often they occur in English, by a list of the frequencies of its words.

    The list knows neither capitals nor what precedes a word: a word's frequency is shared among its forms as they are
    in the documents, and a word that they lack is lower-case after a space. Types that are not made of letters, and
    those that occur in no word of the list, are NaN.

    Args:
        documents: The text under study.
        encode: Turns a batch of texts into lists of token ids without special tokens.
        show: Turns token ids into texts, with a space shown as ␣.
        vocab: Number of token types.
    """
    listed = english_words()
    forms = Counter(form for document in documents for form in _WORD.findall(document))
    of_word: Counter[str] = Counter()
    for form, count in forms.items():
        of_word[_key(form)] += count
    shares = {form: listed[_key(form)] * n / of_word[_key(form)] for form, n in forms.items() if _key(form) in listed}
    shares |= {f" {word}": f for word, f in listed.items() if word not in of_word and _WORD.fullmatch(word)}
    order = np.zeros(vocab)
    texts, frequencies = list(shares), list(shares.values())
    for start in range(0, len(texts), 4096):
        part = slice(start, start + 4096)
        for ids, frequency in zip(encode(texts[part]), frequencies[part], strict=True):
            np.add.at(order, ids, frequency)
    made = np.flatnonzero(order)
    order[made] = [
        f if any(map(str.isalpha, text)) and all(c.isalpha() or c in "␣'’" for c in text) else 0
        for f, text in zip(order[made], show(made), strict=True)
    ]
    return np.where(order > 0, order, np.nan)


def _key(form: str) -> str:
    return form.strip().lower().replace("’", "'")


@cache
def english_words() -> dict[str, float]:
    """How frequent English words are, as shares of all words, by lower-case word, from the list of wordfreq.

    Raises:
        RaretokError: the package of the list is not installed, or its file is not the pinned one.
    """
    paths = packages.files(packages.WORDS, "wordfreq/data/large_en.msgpack.gz")
    packages.checked(paths, "dffae8066b78dce0a6667cf5f58e567054f902674667090a7ac8a8a44628b05c", "the list of words")
    with gzip.open(paths[0]) as file:
        header, *levels = msgpack.unpackb(file.read())
    if header != {"format": "cB", "version": 1}:
        raise RaretokError(f"the list of words is of format {header}: run `raretok fetch --embedded`")
    # Level k holds the words that make up 10^(−k/100) of a text.
    used = ((10 ** (-level / 100), words) for level, words in enumerate(levels))
    return {word: frequency for frequency, words in used if frequency >= LEAST for word in words}

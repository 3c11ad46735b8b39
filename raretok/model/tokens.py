"""Encoding of text, and display of token ids as readable text."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from raretok.errors import NotApplicable, RaretokError

_SPACE_MARKS = ("Ġ", "▁", " ")
_UNKNOWN = "\ufffd"
SAME_IDS = 0.95
"""Least share of documents given as token ids that the tokenizer gives back when their text is encoded."""


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, without special tokens; the name of a special token in a text is a text like any other."""
    done = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)
    return list(done["input_ids"])


def type_count(tokenizer: Any) -> int:
    """Number of token ids of a tokenizer, whose vocabulary may have gaps."""
    return max(len(tokenizer), max(tokenizer.get_vocab().values(), default=-1) + 1)


def decode_checked(tokenizer: Any, documents: list[list[int]]) -> list[str]:
    """Texts of documents that are given as token ids, without special tokens at their ends.

    Raises:
        RaretokError: if the tokenizer, given the texts, does not return the ids of nearly all documents: the ids are
            those of another tokenizer.
    """
    special, types = set(tokenizer.all_special_ids), type_count(tokenizer)
    inner = [_without(special, ids) for ids in documents]
    fitting = [ids if all(0 <= i < types for i in ids) else [] for ids in inner]
    texts = list(tokenizer.batch_decode(fitting, clean_up_tokenization_spaces=False))
    if marked := sum(not special.isdisjoint(ids) for ids in inner):
        raise RaretokError(
            f"{marked} documents of token ids hold special tokens inside: split them into documents there"
        )
    same = sum(a == b for a, b in zip(inner, encode(tokenizer, texts), strict=True))
    if same < SAME_IDS * len(documents):
        raise RaretokError(
            f"the token ids of {len(documents) - same} of {len(documents)} documents are not those that "
            "the tokenizer gives for their text: give the model that they were made for, or their text"
        )
    return texts


def _without(special: set[int], ids: list[int]) -> list[int]:
    """The ids between the special tokens at both ends."""
    inner = [k for k, i in enumerate(ids) if i not in special]
    return ids[inner[0] : inner[-1] + 1] if inner else []


def digest_tokenizer(tokenizer: Any) -> str:
    """SHA-256 that identifies a tokenizer; for one that is written in Python, of its class and vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        text = backend.to_str()
    else:
        text = type(tokenizer).__name__ + json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def learned_order(tokenizer: Any, vocab: int) -> Float[ndarray, " vocab"]:
    """Rank the types in the order in which the tokenizer learned them, which is that of their training text.

    For byte-pair encoding, it is the order of the merges; for a unigram tokenizer, that of its log probabilities.
    Larger values are more frequent. Types that were not learned – an alphabet, special tokens – are NaN.

    Raises:
        NotApplicable: the tokenizer is of another kind.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = json.loads(backend.to_str())["model"] if backend is not None else {}
    order = np.full(vocab, np.nan)
    if model.get("type") == "BPE":
        ids, prefix = model["vocab"], model.get("continuing_subword_prefix") or ""
        for rank, merge in enumerate(model["merges"], 1):
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            made = ids.get(left + right.removeprefix(prefix))
            if made is not None and made < vocab and np.isnan(order[made]):
                order[made] = -rank
    if model.get("type") == "Unigram":
        scores = np.array([score for _, score in model["vocab"]][:vocab])
        order[: len(scores)] = np.where(scores < 0, scores, np.nan)
    if np.isnan(order).all():
        raise NotApplicable("the tokenizer does not say in which order it learned its types")
    return order


def show_tokens(tokenizer: Any, ids: Sequence[int] | Int[ndarray, " token"]) -> list[str]:
    """The text of each token, with a space shown as ␣, a line break as ⏎, and an unprintable character as its code.

    A token that is a part of a character is shown as its bytes.
    """
    each = [int(i) for i in ids]
    texts = tokenizer.batch_decode([[i] for i in each], clean_up_tokenization_spaces=False)
    return [
        _bytes_of(tokenizer, i) if _UNKNOWN in text else "".join(map(_shown, text))
        for i, text in zip(each, texts, strict=True)
    ]


def _bytes_of(tokenizer: Any, token: int) -> str:
    """The bytes of a token that is no whole character: the name of the token where it is not of a byte-level one."""
    name = str(tokenizer.convert_ids_to_tokens(token))
    if not set(name) <= set(_BYTES):
        return name
    text = bytes(_BYTES[character] for character in name).decode("utf-8", errors="backslashreplace")
    return "".join(map(_shown, text))


def _byte_names() -> dict[str, int]:
    """The bytes by the characters that stand for them in byte-level tokenizers: printable ones stand for themselves."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + k): b for k, b in enumerate(rest)}


_BYTES = _byte_names()


def _shown(character: str) -> str:
    if symbol := {" ": "␣", "\n": "⏎"}.get(character):
        return symbol
    return character if character.isprintable() else f"\\x{ord(character):02x}"


def is_word_start(tokenizer: Any, vocab: int) -> Bool[ndarray, " vocab"]:
    """Which token types begin a word: those that begin with a space or, in WordPiece, do not continue a word.

    None does where a tokenizer marks neither.
    """
    names = [str(name) for name in tokenizer.convert_ids_to_tokens(list(range(min(vocab, len(tokenizer)))))]
    continues = _continuing(tokenizer)
    special = set(tokenizer.all_special_tokens)
    starts = np.zeros(vocab, dtype=bool)
    starts[: len(names)] = [
        not name.startswith(continues) and name not in special if continues else name.startswith(_SPACE_MARKS)
        for name in names
    ]
    return starts


def _continuing(tokenizer: Any) -> str | None:
    """The prefix of tokens that continue a word, for tokenizers that mark these (WordPiece)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or type(backend.model).__name__ != "WordPiece":
        return None
    return str(backend.model.continuing_subword_prefix)

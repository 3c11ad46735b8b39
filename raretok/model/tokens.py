"""Display of token ids as readable text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

_SPACE_MARKS = ("Ġ", "▁", " ")


def show_tokens(tokenizer: Any, ids: Sequence[int] | Int[ndarray, " token"]) -> list[str]:
    """The text of each token, with a space shown as ␣, a line break as ⏎, and an unprintable character as its code."""
    texts = tokenizer.batch_decode([[int(i)] for i in ids], clean_up_tokenization_spaces=False)
    return ["".join(map(_shown, text)) for text in texts]


def _shown(character: str) -> str:
    if symbol := {" ": "␣", "\n": "⏎"}.get(character):
        return symbol
    return character if character.isprintable() else f"\\x{ord(character):02x}"


def is_word_start(tokenizer: Any, vocab: int) -> Bool[ndarray, " vocab"]:
    """Which token types begin with a space."""
    names = tokenizer.convert_ids_to_tokens(list(range(min(vocab, len(tokenizer)))))
    starts = np.zeros(vocab, dtype=bool)
    starts[: len(names)] = [str(name).startswith(_SPACE_MARKS) for name in names]
    return starts

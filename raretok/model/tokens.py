"""Token ids as a reader sees them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

_SPACE_MARKS = ("Ġ", "▁", " ")


def show_tokens(tokenizer: Any, ids: Sequence[int] | Int[ndarray, " token"]) -> list[str]:
    """The text of each token, a leading space shown as ␣ and a line break as ⏎."""
    texts = tokenizer.batch_decode([[int(i)] for i in ids], clean_up_tokenization_spaces=False)
    return [t.replace(" ", "␣").replace("\n", "⏎") for t in texts]


def is_word_start(tokenizer: Any, vocab: int) -> Bool[ndarray, " vocab"]:
    """Which token types begin with a space."""
    names = tokenizer.convert_ids_to_tokens(list(range(min(vocab, len(tokenizer)))))
    starts = np.zeros(vocab, dtype=bool)
    starts[: len(names)] = [str(name).startswith(_SPACE_MARKS) for name in names]
    return starts

"""Token types ranked by a list of words: by hand with a small list, and the list itself."""

import numpy as np
import pytest

from raretok.data import words
from raretok.data.words import english_words, word_order

TYPES = [" the", "the", "The", " mea", "sure", " x", "9", ",", " measure", "'s"]


def encode(texts):
    """Longest match first."""
    done = []
    for text in texts:
        ids = []
        while text:
            longest = max((t for t in TYPES if text.startswith(t)), key=len)
            ids.append(TYPES.index(longest))
            text = text[len(longest) :]
        done.append(ids)
    return done


def show(ids):
    return [TYPES[i].replace(" ", "␣") for i in ids]


def test_a_words_frequency_is_shared_among_its_forms_in_the_text(monkeypatch):
    listed = {"the": 0.08, "measure": 0.01, "measures9": 0.5, "the's": 0.001, "x": 0.002}
    monkeypatch.setattr(words, "english_words", lambda: listed)
    # "the": four times, one each of "The" and "the" after nothing, two after a space; a word's piece gets its frequency
    order = word_order(["The the the, the's 9", "the"], encode, show, len(TYPES))
    expected = {" the": 0.04 + 0.001, "the": 0.02, "The": 0.02, " measure": 0.01, " x": 0.002, "'s": 0.001}
    for name, value in zip(TYPES, order, strict=True):
        assert np.isnan(value) if name not in expected else value == pytest.approx(expected[name]), name


def test_the_list_is_that_of_english():
    listed = english_words()
    assert 50_000 < len(listed) < 200_000  # the rarest are left out
    # wordfreq's own documentation gives these
    assert listed["the"] == pytest.approx(0.0537, abs=5e-4)
    assert listed["café"] == pytest.approx(5.75e-6, rel=0.3)
    assert sum(listed.values()) == pytest.approx(1, abs=0.1)

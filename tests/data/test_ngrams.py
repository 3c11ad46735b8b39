"""n-gram baselines: probabilities that sum to one, values by hand, and the right order on text with a known order."""

import numpy as np
import pytest

from raretok import RaretokError
from raretok.data.ngrams import ngram_losses


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_of_all_continuations_sum_to_one(order):
    rng = np.random.default_rng(order)
    vocab, train = 11, rng.integers(0, 9, 400)
    for context in ([0, 1], [8, 8], [10, 3], [3, 10], [10, 10]):
        tests = [np.array([*context, w])[3 - order :] for w in range(vocab)]
        total = sum(float(np.exp(-ngram_losses(train, t, vocab, order))[0]) for t in tests)
        assert total == pytest.approx(1, abs=1e-12)


def test_bigrams_by_hand():
    """0 1 0 1 0 2: bigrams 01 ×2, 10 ×2, 02 ×1; D₂ = 1/(1 + 2·2); continuations 1, 0, 2 once each: D₁ = 1."""
    train = np.array([0, 1, 0, 1, 0, 2])
    found = np.exp(-ngram_losses(train, np.array([0, 1, 2]), 4, 2))
    discount = 1 / 5
    # With D₁ = 1 nothing is left of the unigrams: the lower order is uniform, 1/4.
    assert found[0] == pytest.approx((2 - discount + discount * 2 / 4) / 3)
    assert found[1] == pytest.approx((0 + discount * 1 / 4) / 2)


def test_the_right_order_wins():
    """Text from a second-order Markov chain: trigrams predict it best, and no better than its entropy."""
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.full(6, 0.2), (6, 6))
    ids = [0, 1]
    for _ in range(30_000):
        ids.append(int(rng.choice(6, p=table[ids[-2], ids[-1]])))
    ids = np.array(ids)
    train, test = ids[:25_000], ids[25_000:]
    one, two, three = (ngram_losses(train, test, 6, k)[3 - k :].mean() for k in (1, 2, 3))
    entropy = -np.log(table[test[:-2], test[1:-1], test[2:]]).mean()
    assert entropy - 0.01 < three < two - 0.05 < one - 0.05
    assert three < entropy + 0.02


def test_what_cannot_be_counted_is_said():
    with pytest.raises(RaretokError, match="order 5 over 8192 types cannot be counted"):
        ngram_losses(np.arange(10), np.arange(10), 8192, 5)
    with pytest.raises(RaretokError, match="a text of 2 tokens has no 3-gram"):
        ngram_losses(np.arange(10), np.arange(2), 20, 3)


def test_text_in_which_nothing_occurs_once_leaves_something_for_what_was_not_seen():
    train = np.tile([0, 1, 2], 50)[:-1]
    total = sum(float(np.exp(-ngram_losses(train, np.array([1, w]), 5, 2))[0]) for w in range(5))
    assert np.isfinite(ngram_losses(train, np.array([0, 2, 4]), 5, 2)).all()
    assert total == pytest.approx(1, abs=1e-12)

"""Numbers of the chapter on robustness, against the learning curve and the verdict."""

import numpy as np
import pytest

from raretok.book.facts import robustness


def test_the_numbers_are_those_of_the_longest_lists(study):
    numbers = robustness.facts(study)
    assert all(type(text) is str for text in numbers.values())
    longest = [r for r in study.table("robustness.learning_curve").to_dict("records") if r["fraction"] == 1]
    jaccard = np.median([r["jaccard"] for r in longest])
    assert numbers["ranked_targets"] == f"{np.mean([r['targets'] for r in longest]):,.0f}"
    assert numbers["found_again"] == f"{2 * jaccard / (1 + jaccard):.0%}"
    assert numbers["C22_verdict"] == study.claims(("C22",))["verdict"].item()


def test_two_sets_that_share_half_of_their_members_have_a_jaccard_similarity_of_a_third():
    a, b = set(range(10)), set(range(5, 15))
    assert robustness.shared_members(len(a & b) / len(a | b)) == pytest.approx(0.5)

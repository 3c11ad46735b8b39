"""The rule about known kinds of neurons: a group of a kind is found, a random one is not."""

import pandas as pd
import pytest

from claims.trials import claims_of, finds_what_was_planted_and_little_else, verdicts_on_room
from raretok.claims import Verdict
from raretok.claims.neuron_types import known_types


def test_the_rule_finds_what_was_planted_and_little_else():
    [claim] = claims_of("neuron_types")
    assert finds_what_was_planted_and_little_else(claim, verdicts_on_room("neuron_types", None))


@pytest.mark.parametrize(
    ("of_kind", "high", "verdict"),
    [(0, 0.04, Verdict.INCONCLUSIVE), (12, 0.31, Verdict.NOT_SUPPORTED), (12, 0.6, Verdict.NULL)],
)
def test_a_criterion_that_no_neuron_meets_says_nothing_of_a_group(of_kind, high, verdict):
    row = {"group": "controlled", "kind": "either", "size": 95, "of_kind": of_kind, "both": 0}
    row |= {"share": 0.0, "low": 0.0, "high": high, "p": 1.0}
    assert known_types(pd.DataFrame([row])).verdict == verdict

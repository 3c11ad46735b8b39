"""Rules about weights: planted tails are found, and little else; heavier beside like controls alone, and grown from
a start without them.
"""

import numpy as np
import pandas as pd
import pytest

from claims.trials import (
    GROUP_NULLS,
    GROUP_PLANTS,
    claims_of,
    finds_what_was_planted_and_little_else,
    group_material,
    verdicts_on,
)
from raretok.claims import Verdict, weights
from raretok.claims.coactivation import UNLIKE


@pytest.fixture(scope="module")
def verdicts() -> pd.DataFrame:
    """The verdicts on every data set."""
    counts = {("weights", kind): GROUP_NULLS for kind in ("gaussian rows", "matched group")}
    return verdicts_on(counts | {("weights", "Pareto directions"): GROUP_PLANTS}, group_material())


@pytest.mark.parametrize("claim", claims_of("weights"), ids=lambda c: c.id)
def test_rules_about_weights_find_what_was_planted_and_little_else(verdicts, claim):
    assert finds_what_was_planted_and_little_else(claim, verdicts)


@pytest.mark.parametrize(
    ("places", "apart", "verdict"),
    [
        ((0.01, 0.02, 0.0), 0.1, Verdict.SUPPORTED),
        ((0.01, 0.02, 0.0), 0.3, Verdict.INCONCLUSIVE),
        ((0.99, 0.98, 0.0), 0.1, Verdict.NOT_SUPPORTED),
        ((0.99, 0.98, 0.0), 0.3, Verdict.INCONCLUSIVE),  # controls unlike the group say nothing either way
        ((0.01, 0.4, 0.0), 0.1, Verdict.NULL),
    ],
)
def test_tails_are_judged_only_beside_controls_that_are_like_the_group(places, apart, verdict):
    row = {"group": "controlled", "size": 50, "matrix": "W_out", "statistic": "hill", "estimate": 2.0}
    row |= dict(zip(weights.NULLS, places, strict=True)) | {"imbalance": apart}
    assert weights.heavier(pd.DataFrame([row])).verdict == verdict


@pytest.mark.parametrize(
    ("changes", "verdict", "says"),
    [
        ({}, Verdict.SUPPORTED, "from some step on"),
        ({"first_step": 4096.0}, Verdict.SUPPORTED, "at the last step alone"),
        ({"imbalance": 0.3}, Verdict.INCONCLUSIVE, UNLIKE),
        ({"outside_at_start": True}, Verdict.NOT_SUPPORTED, "before training already"),
        ({"outside_at_start": True, "imbalance_at_start": 0.3}, Verdict.INCONCLUSIVE, UNLIKE),
        ({"first_step": np.nan}, Verdict.NULL, "no heavier"),
    ],
)
def test_tails_that_grow_are_outside_at_the_end_and_not_at_the_start(changes, verdict, says):
    row = {"group": "controlled", "matrix": "W_out", "steps": 5, "start": 4.0, "end": 2.0, "null": 0.01}
    row |= {"imbalance": 0.1, "imbalance_at_start": 0.1, "outside_at_start": False}
    row |= {"first_step": 64.0, "last_step": 4096} | changes
    judged = weights.grows(pd.DataFrame([row]))
    assert judged.verdict == verdict
    assert says in judged.why

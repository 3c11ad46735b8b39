"""Rules about the activations of groups of neurons: what was planted is found, and little else."""

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
from raretok.claims import Verdict
from raretok.claims import coactivation as rules


@pytest.fixture(scope="module")
def verdicts() -> pd.DataFrame:
    """The verdicts on every data set."""
    counts = {("coactivation", kind): GROUP_NULLS for kind in ("independent", "matched group")}
    counts |= {("coactivation", kind): GROUP_PLANTS for kind in ("factors", "drive against the rest", "communities")}
    return verdicts_on(counts, group_material())


@pytest.mark.parametrize("claim", claims_of("coactivation"), ids=lambda c: c.id)
def test_rules_about_groups_find_what_was_planted_and_little_else(verdicts, claim):
    assert finds_what_was_planted_and_little_else(claim, verdicts)


@pytest.mark.parametrize(
    ("places", "apart", "verdict"),
    [
        ((0.99, 0.98, 0.97), 0.1, Verdict.NOT_SUPPORTED),
        ((0.99, 0.5, 0.5), 0.1, Verdict.SUPPORTED),
        ((0.99, 0.5, 0.5), 0.6, Verdict.INCONCLUSIVE),  # controls unlike the group say nothing either way
    ],
)
def test_clusters_are_judged_only_beside_controls_that_are_like_the_group(places, apart, verdict):
    row = {"group": "controlled", "size": 50, "resolution": 1.0, "q": 0.3, "matched_mean": 0.29, "imbalance": apart}
    row |= dict(zip(("shuffled", "random", "matched"), places, strict=True))
    assert rules.no_clusters(pd.DataFrame([row])).verdict == verdict


def test_a_sign_that_is_a_convention_is_told():
    row = {"group": "controlled", "size": 50, "statistic": "within_r", "context": "rare", "imbalance": 0.1}
    row |= {"estimate": 0.02, "low": 0.01, "high": 0.03, "random": 0.99, "matched": 0.99}
    plain, gated = (rules.within(pd.DataFrame([row]), g) for g in (False, True))
    assert plain.verdict == gated.verdict == Verdict.SUPPORTED
    assert "convention" not in plain.why
    assert gated.why.endswith("in a gated MLP the sign of a neuron is a convention")

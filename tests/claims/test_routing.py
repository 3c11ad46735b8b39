"""Rules about attention heads: what was planted is found, and noise between two rankings of heads is no routing."""

import numpy as np
import pandas as pd
import pytest

from claims.trials import claims_of, finds_what_was_planted_and_little_else, verdicts_on_room
from raretok.claims import Verdict
from raretok.claims.routing import NEURONS, no_routing
from raretok.findings.heads import Chosen, HeadEffects


@pytest.fixture(scope="module")
def verdicts() -> pd.DataFrame:
    """The verdicts on 5 layers of 6 heads of log-normal strength, in 40 windows."""
    rng = np.random.default_rng(0)
    weight = rng.integers(3, 9, (40, 2)).astype(float)
    strength = rng.lognormal(0, 1, (30, 1, 1, 1)) * rng.lognormal(0, 0.3, (30, 40, 2, NEURONS))
    heads = strength * weight[None, :, :, None]
    chosen = Chosen(np.arange(30), np.ones(30), np.arange(5), 6)
    real = HeadEffects(heads, heads.reshape(5, 6, 40, 2, NEURONS).sum(1), weight, chosen)
    return verdicts_on_room("routing", real)


@pytest.mark.parametrize("claim", claims_of("routing"), ids=lambda c: c.id)
def test_rules_find_what_was_planted_and_little_else(verdicts, claim):
    assert finds_what_was_planted_and_little_else(claim, verdicts)


@pytest.mark.parametrize(
    ("estimate", "low", "high", "ceiling", "verdict"),
    [
        (0.95, 0.9, 0.97, 0.96, Verdict.SUPPORTED),
        (0.41, 0.17, 0.61, 0.42, Verdict.INCONCLUSIVE),  # no lower than noise makes it
        (0.41, 0.17, 0.61, 0.95, Verdict.NOT_SUPPORTED),
        (0.41, 0.17, 0.61, np.nan, Verdict.INCONCLUSIVE),
    ],
)
def test_heads_that_differ_no_more_than_noise_makes_them_are_no_routing(estimate, low, high, ceiling, verdict):
    rho = {"estimate": estimate, "low": low, "high": high, "ceiling": ceiling, "statistic": "similarity"}
    gap = {"estimate": 0.0, "low": -0.01, "high": 0.01, "ceiling": np.nan, "statistic": "gini_difference"}
    table = pd.DataFrame([rho, gap]).assign(group="controlled", heads=30, matched=0.5)
    assert no_routing(table).verdict == verdict

"""The rule about emergence says *supported* where regimes emerge from a start without agreement, not where nothing
is.
"""

import pandas as pd
import pytest

from claims.trials import claims_of, curve_material, verdicts_on
from raretok.claims import Verdict, emergence
from raretok.claims.simulated_curves import simulated_statistics
from raretok.findings.emergence import departures

NULLS, PLANTS = 24, 10
"""Trajectories of each kind."""
[CLAIM] = claims_of("emergence")


@pytest.fixture(scope="module")
def verdicts() -> pd.DataFrame:
    """The verdicts on every trajectory."""
    counts = {("emergence", kind): NULLS for kind in ("noise", "half_normal", "exponential")}
    return verdicts_on(counts | {("emergence", CLAIM.plants[0].name): PLANTS}, curve_material())


def test_the_rule_finds_little_where_nothing_is(verdicts):
    for kind in {s.name for s in CLAIM.nulls} - {"lognormal"}:
        said = verdicts.loc[verdicts["data"] == kind, "verdict"]
        assert len(said) == NULLS
        assert (said == Verdict.SUPPORTED).sum() <= 6  # of 24 with a chance of 5 % each: 7 or more once in 7,900 times


def test_the_rule_finds_what_was_planted(verdicts):
    said = verdicts.loc[verdicts["data"] == CLAIM.plants[0].name, "verdict"]
    assert len(said) == PLANTS
    assert (said == Verdict.SUPPORTED).sum() >= 7


def test_emergence_needs_a_start_without_agreement():
    real = curve_material()
    late, start = (simulated_statistics(kind, real, 0) for kind in ("plateau and breaks", "noise"))

    def verdict(*tables):
        return emergence.emerges(departures(dict(enumerate(tables)))).verdict

    assert verdict(start, late, late) == Verdict.SUPPORTED
    assert verdict(late, late, late) == Verdict.NOT_SUPPORTED
    assert verdict(start, late, start) == Verdict.NULL

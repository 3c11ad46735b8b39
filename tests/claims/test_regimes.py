"""Rules about the rank curve say *supported* where the claim was planted, not where nothing was."""

import pandas as pd
import pytest

from claims.trials import claims_of, curve_material, verdicts_on
from raretok.claims import Verdict, rank_curve_claims
from raretok.claims import regimes as rules
from raretok.claims.calibration import judged_on
from raretok.claims.simulated_curves import simulated_sums, simulated_tables
from raretok.findings import regimes
from raretok.stats.sums import SplitHalfSums

NULLS, PLANTS = 24, 10
"""Data sets of each kind."""
CLAIMS = claims_of("regimes")


@pytest.fixture(scope="module")
def real() -> SplitHalfSums:
    """What data sets are made from."""
    return curve_material()


@pytest.fixture(scope="module")
def verdicts(real) -> pd.DataFrame:
    """The verdicts on every data set."""
    counts = {("regimes", kind): NULLS for kind in ("noise", "half_normal", "exponential", "labels exchanged")}
    counts |= {("regimes", kind): PLANTS for kind in ("plateau and breaks", "head excess", "power law")}
    return verdicts_on(counts, real)


def said_by(verdicts, claim, data):
    return verdicts.loc[(verdicts["id"] == claim) & (verdicts["data"] == data), "verdict"]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_no_rule_finds_much_where_nothing_is(verdicts, claim):
    for kind in {s.name for s in claim.nulls} - {"lognormal", "power law"}:
        said = said_by(verdicts, claim.id, kind)
        assert len(said) == NULLS
        # Of 24 with a chance of 5 % each: 7 or more once in 7,900 times, and there are 29 such tests with those of C7.
        assert (said == Verdict.SUPPORTED).sum() <= 6


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_rule_finds_what_was_planted_for_it(verdicts, claim):
    [plant] = claim.plants
    assert (said_by(verdicts, claim.id, plant.name) == Verdict.SUPPORTED).sum() >= 7


def test_a_rule_says_no_to_the_opposite(verdicts):
    lifted = said_by(verdicts, "C6a", "head excess")
    flat = said_by(verdicts, "C6b", "plateau and breaks")
    straight = said_by(verdicts, "C5", "plateau and breaks")
    assert (lifted == Verdict.NOT_SUPPORTED).sum() >= 7
    assert (flat == Verdict.NOT_SUPPORTED).sum() >= 7
    assert (straight == Verdict.SUPPORTED).sum() <= 2


def test_noise_is_called_noise_and_missing_bands_leave_a_question(real):
    noise = {c.id: v for c, v in judged_on(simulated_tables("noise", real, 1))}
    assert set(noise) == set(rank_curve_claims()) - {"C7"}
    assert set(noise.values()) == {Verdict.NULL}
    data = simulated_sums("plateau and breaks", real, 0)
    data.sums.weight[:, [1, 2]] = 0
    bare = {
        regimes.statistics: regimes.statistics(data, None, 0, 60, ("rare", "common")),
        regimes.contrasts: regimes.contrasts(data, 0, 60, ("matched",)),
        regimes.tails: regimes.tails(data, 0, 20),
        regimes.published: regimes.published(data),
    }
    said = {c.id: v for c, v in judged_on(bare)}
    assert said["C8"] == Verdict.INCONCLUSIVE
    assert said["C1"] == Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.010, 0.026, Verdict.SUPPORTED),
        (0.016, 0.035, Verdict.INCONCLUSIVE),  # more than twice the odds of 1.7 %
        (0.008, 0.018, Verdict.INCONCLUSIVE),  # less than half of them
        (0.018, 0.019, Verdict.NOT_SUPPORTED),
        (0.010, 1.0, Verdict.INCONCLUSIVE),
        (0.0, 0.018, Verdict.INCONCLUSIVE),
    ],
)
def test_a_share_is_that_of_the_paper_if_its_interval_holds_it_and_little_else(low, high, verdict):
    rows = [("agreement", 0.5, 0.4, 0.6), ("flattening", 1.0, 0.9, 1.1), ("plateau_share", 0.017, low, high)]
    table = pd.DataFrame(rows, columns=["statistic", "estimate", "low", "high"])
    table = table.assign(form="controlled", band="rare", measure="net", departs=1, null=0.99)
    published = pd.DataFrame({"positions": ["rare"], "neurons_in": ["all"], "head": [0.017]})
    assert rules.plateau_share(table, pd.DataFrame(), published).verdict == verdict

"""Rules say *supported* where the claim was planted, not where nothing was, and each verdict can be reached."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raretok import RaretokError
from raretok.ablation import DocumentSums
from raretok.claims import CLAIMS, Evidence, Verdict, calibration, judge
from raretok.findings import regimes
from raretok.findings.emergence import departures
from raretok.findings.identification import Halves

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import calibration as simulations

NEURONS = 600


@pytest.fixture(scope="module")
def real() -> Halves:
    """A stand-in for a study: heavy-tailed effects, errors that differ between neurons."""
    rng = np.random.default_rng(0)
    bands = simulations.BANDS
    weight = rng.integers(5, 20, (100, len(bands))).astype(float)
    effects = 0.02 * rng.standard_t(2, NEURONS)
    size = 0.02 * rng.lognormal(0, 0.5, NEURONS)
    net = weight[:, :, None] * (effects + size * rng.standard_t(5, (100, len(bands), NEURONS)))
    sums = DocumentSums(net, np.abs(net), net**2, weight, weight.astype(np.int64), 0.0, 0.0)
    return Halves(sums, np.arange(100) % 2, bands)


@pytest.fixture(scope="module")
def verdicts(real) -> pd.DataFrame:
    """A small version of ``make calibration``: the verdicts by data set."""
    simulations._start(real)
    kinds = {
        "noise": 24,
        "half_normal": 24,
        "exponential": 24,
        "labels exchanged": 24,
        "plateau and breaks": 10,
        "head excess": 10,
        "power law": 10,
    }
    found = {(k, s): simulations.examine((k, s))[2] for k, count in kinds.items() for s in range(count)}
    return simulations.verdicts(found)


@pytest.mark.parametrize("claim", [c.id for c in CLAIMS])
def test_no_rule_finds_much_where_nothing_is(verdicts, claim):
    kinds = ["noise", "half_normal", "exponential"] + (
        ["labels exchanged"] if claim in calibration.ABOUT_LABELS else []
    )
    for kind in kinds:
        part = verdicts[(verdicts["id"] == claim) & (verdicts["data"] == kind)]
        assert len(part) == 24
        assert (part["verdict"] == Verdict.SUPPORTED).sum() <= 4  # 5 % of 24, and three standard errors


@pytest.mark.parametrize("claim", [c.id for c in CLAIMS])
def test_every_rule_finds_what_was_planted_for_it(verdicts, claim):
    part = verdicts[(verdicts["id"] == claim) & (verdicts["data"] == calibration.PLANTED_FOR[claim])]
    assert (part["verdict"] == Verdict.SUPPORTED).sum() >= 7


def test_a_rule_says_no_to_the_opposite(verdicts):
    lifted = verdicts[(verdicts["data"] == "head excess") & (verdicts["id"] == "C6a")]["verdict"]
    flat = verdicts[(verdicts["data"] == "plateau and breaks") & (verdicts["id"] == "C6b")]["verdict"]
    straight = verdicts[(verdicts["data"] == "plateau and breaks") & (verdicts["id"] == "C5")]["verdict"]
    assert (lifted == Verdict.AGAINST).sum() >= 7
    assert (flat == Verdict.AGAINST).sum() >= 7
    assert (straight == Verdict.SUPPORTED).sum() <= 2


def test_noise_is_called_noise_and_missing_bands_leave_a_question(real):
    simulations._start(real)
    noise = judge(simulations.examine(("noise", 1))[2])
    assert (noise.set_index("id")["verdict"] == Verdict.NULL).all()
    assert set(noise["id"]) == {c.id for c in CLAIMS} - {"C7"}
    data = simulations.simulated("plateau and breaks", 0)
    data.sums.weight[:, [1, 2]] = 0
    bare = Evidence(
        regimes.regimes(data, 0, 60, ("rare", "common"), ("net",)),
        regimes.contrasts(data, 0, 60, ("matched",)),
        regimes.tails(data, 0, 20),
        regimes.published(data),
    )
    found = judge(bare).set_index("id")["verdict"]
    assert found["C8"] == Verdict.OPEN
    assert found["C1"] == Verdict.OPEN


def test_emergence_needs_a_start_without_agreement(real):
    simulations._start(real)
    late = simulations.examine(("plateau and breaks", 0))[2]
    start = simulations.examine(("noise", 0))[2]

    def verdict(tables):
        table = departures(pd.concat([t.regimes.assign(step=k) for k, t in enumerate(tables)]))
        whole = Evidence(late.regimes, late.contrasts, late.tails, late.published, table)
        return judge(whole, only=["C7"])["verdict"].iloc[0]

    assert verdict([start, late, late]) == Verdict.SUPPORTED
    assert verdict([late, late, late]) == Verdict.AGAINST
    assert verdict([start, late, start]) == Verdict.NULL


def test_the_committed_calibration_holds_every_rule_to_its_levels():
    table = calibration.calibration_table().set_index("rule")
    assert set(table.index) == {c.id for c in CLAIMS}
    light = table[["noise", "half-normal", "exponential", "labels exchanged"]]
    assert table["sets"].min() >= 500
    assert (light.max(axis=1) <= 0.07).all()  # 5 % and two standard errors of 500
    assert (table["planted"] >= 0.9).all()


def test_a_missing_calibration_says_how_to_make_it(monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "RESULTS", tmp_path / "calibration.csv")
    with pytest.raises(RaretokError, match="make calibration"):
        calibration.calibration_table()

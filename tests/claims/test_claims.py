"""Rules say *supported* where the claim was planted, not where nothing was, and each verdict can be reached."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raretok import RaretokError
from raretok.ablation import DocumentSums
from raretok.claims import CLAIMS, RANK_CURVE, Evidence, Verdict, calibration, judge, robustness
from raretok.claims import coactivation as group_rules
from raretok.claims import regimes as regime_rules
from raretok.claims import relatives as kin_rules
from raretok.claims import routing as rules
from raretok.claims import weights as weight_rules
from raretok.findings import layers, regimes, routing
from raretok.findings.emergence import departures
from raretok.findings.identification import Halves

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import calibration as simulations
import experiments as experiment_simulations
import groups as group_simulations

NEURONS = 600
EXPERIMENTS = [c.id for c in CLAIMS if c.needs in experiment_simulations.TABLES]


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


@pytest.mark.parametrize("claim", RANK_CURVE)
def test_no_rule_finds_much_where_nothing_is(verdicts, claim):
    for kind in set(calibration.RULES[claim][0]) - {"lognormal", "power law"}:
        part = verdicts[(verdicts["id"] == claim) & (verdicts["data"] == kind)]
        assert len(part) == 24
        # Of 24 with a chance of 5 % each: 7 once in 5,000 times, and there are 32 such tests.
        assert (part["verdict"] == Verdict.SUPPORTED).sum() <= 6


@pytest.mark.parametrize("claim", RANK_CURVE)
def test_every_rule_finds_what_was_planted_for_it(verdicts, claim):
    part = verdicts[(verdicts["id"] == claim) & (verdicts["data"] == calibration.RULES[claim][1])]
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
    assert set(noise["id"]) == set(RANK_CURVE) - {"C7"}
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


@pytest.fixture(scope="module")
def of_groups() -> pd.DataFrame:
    """A small version of ``make calibration`` for groups, on activations with realistic means and skew."""
    rng = np.random.default_rng(0)
    neurons = group_simulations.NEURONS
    real = group_simulations.Real(
        (rng.gamma(1.0, 1.0, (1200, neurons)) * rng.lognormal(0, 0.5, neurons) - 0.3).astype(np.float32),
        rng.integers(0, 100, 1200),
        rng.standard_normal((neurons, 200)).astype(np.float32),
    )
    kinds = dict.fromkeys(group_simulations.NULLS, 16) | dict.fromkeys(group_simulations.PLANTS, 8)
    found = {(k, s): group_simulations.evidence(k, s, real) for k, count in kinds.items() for s in range(count)}
    return simulations.verdicts_of_groups(found)


@pytest.mark.parametrize("claim", [c.id for c in CLAIMS if c.id not in (*RANK_CURVE, *EXPERIMENTS)])
def test_rules_about_groups_find_what_was_planted_and_little_else(of_groups, claim):
    nulls, plant = calibration.RULES[claim]
    said = of_groups[of_groups["id"] == claim].assign(yes=lambda t: t["verdict"] == Verdict.SUPPORTED)
    for kind in nulls:
        part = said[said["data"] == kind]
        assert part["yes"].sum() <= 0.05 * len(part) + 3 * np.sqrt(0.05 * 0.95 * len(part))
    assert said[said["data"] == plant]["yes"].mean() >= 0.75


@pytest.fixture(scope="module")
def of_experiments() -> pd.DataFrame:
    """A small version of ``make calibration`` for the other experiments, on made-up measurements."""
    rng = np.random.default_rng(0)
    many, weight = experiment_simulations.NEURONS, rng.integers(3, 9, (40, 2)).astype(float)
    heads = rng.lognormal(0, 1, (30, 1, 1, 1)) * rng.lognormal(0, 0.3, (30, 40, 2, many)) * weight[None, :, :, None]
    influences = routing.Influences(heads, heads.reshape(5, 6, 40, 2, many).sum(1), weight)
    single = rng.standard_normal((10, 40)).cumsum(0) + 5
    joint = {"greedy": np.arange(10), "single": np.arange(10), "weight": weight[:, 0], "single_joint": single}
    joint |= {"greedy_joint": single + rng.standard_normal((10, 40)), "greedy_sum": single}
    screened = layers.Attributions(rng.standard_normal((1, 40, 2, many)) * weight[None, :, :, None], weight)
    net = weight[:, :1] * (rng.standard_t(3, many) + 0.5 * rng.standard_normal((40, many)))
    real = experiment_simulations.Real(influences, joint, screened, net, weight[:, 0])
    nulls, plants = experiment_simulations.NULLS, experiment_simulations.PLANTS
    kinds = dict.fromkeys(nulls, 40) | dict.fromkeys(plants, 12)
    found = {(k, s): experiment_simulations.evidence(k, s, real) for k, count in kinds.items() for s in range(count)}
    return simulations.verdicts_of_experiments(found)


@pytest.mark.parametrize("claim", EXPERIMENTS)
def test_rules_about_experiments_find_what_was_planted_and_little_else(of_experiments, claim):
    nulls, plant = calibration.RULES[claim]
    said = of_experiments[of_experiments["id"] == claim].assign(yes=lambda t: t["verdict"] == Verdict.SUPPORTED)
    for kind in nulls:
        part = said[said["data"] == kind]
        assert part["yes"].sum() <= 0.05 * len(part) + 3 * np.sqrt(0.05 * 0.95 * len(part))
    assert said[said["data"] == plant]["yes"].mean() >= 0.75


def test_claims_without_their_table_are_left_out(real):
    simulations._start(real)
    evidence = simulations.examine(("noise", 0))[2]
    assert set(judge(evidence)["id"]) == set(RANK_CURVE) - {"C7"}
    empty = pd.DataFrame()
    needed = {c.needs for c in CLAIMS} - {"regimes", "departures"}
    without = replace(evidence, **dict.fromkeys(needed, empty))
    found = judge(without).set_index("id")
    assert "C16" not in found.index
    groups = found.loc[[c.id for c in CLAIMS if c.needs not in ("regimes", "departures") and c.id != "C16"]]
    assert (groups["verdict"] == Verdict.OPEN).all()
    assert "C16" in set(judge(replace(without, model="pythia-2.8b-deduped"))["id"])


def test_the_committed_calibration_holds_every_rule_to_its_levels():
    table = calibration.calibration_table([c.id for c in CLAIMS]).set_index("rule")
    nulls = table.drop(columns=["planted", "planted, denied", "sets"])
    assert table.loc[~table.index.isin(["C15", "C6b"]), "sets"].min() >= 500
    lax = nulls.pop("power law")
    assert (nulls.max(axis=1) <= 0.07).all()  # 5 % and two standard errors of 500
    # No null of H is a power law: said in *regimes* and on the front page.
    assert lax.dropna().to_dict() == {"C6b": pytest.approx(0.1, abs=0.1)}
    # C17: eight windows of text leave some cases open, see *routing*
    assert (table["planted"].drop("C17") >= calibration.FOUND).all()
    assert table.loc["C17", "planted"] > 0.5
    denied = table["planted, denied"]
    assert denied.notna().all()
    # Two tests of 5 % each stand in the way of C5, one and the nulls' edges in that of C7: said in *regimes*.
    assert denied.pop("C5") < 0.15
    assert denied.pop("C7") < 0.12
    assert (denied <= 0.05).all()


def test_a_missing_calibration_says_how_to_make_it(monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "RESULTS", tmp_path / "calibration.csv")
    with pytest.raises(RaretokError, match="make calibration"):
        calibration.calibration_table(RANK_CURVE)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.010, 0.026, Verdict.SUPPORTED),
        (0.016, 0.035, Verdict.OPEN),  # more than twice the odds of 1.7 %
        (0.008, 0.018, Verdict.OPEN),  # less than half of them
        (0.018, 0.019, Verdict.AGAINST),
        (0.010, 1.0, Verdict.OPEN),
        (0.0, 0.018, Verdict.OPEN),
    ],
)
def test_a_share_is_that_of_the_paper_if_its_interval_holds_it_and_little_else(low, high, verdict):
    rows = [("agreement", 0.5, 0.4, 0.6), ("flattening", 1.0, 0.9, 1.1), ("plateau_share", 0.017, low, high)]
    table = pd.DataFrame(rows, columns=["statistic", "estimate", "low", "high"])
    table = table.assign(form="controlled", band="rare", measure="net", departs=1, null=0.99)
    told = pd.DataFrame({"positions": ["rare"], "neurons_in": ["all"], "head": [0.017]})
    nothing = pd.DataFrame()
    assert regime_rules.plateau_share(Evidence(table, nothing, nothing, told)).verdict == verdict


@pytest.mark.parametrize(
    ("places", "apart", "verdict"),
    [
        ((0.01, 0.02, 0.0), 0.1, Verdict.SUPPORTED),
        ((0.01, 0.02, 0.0), 0.3, Verdict.OPEN),
        ((0.99, 0.98, 0.0), 0.1, Verdict.AGAINST),
        ((0.99, 0.98, 0.0), 0.3, Verdict.OPEN),  # controls unlike the group say nothing either way
        ((0.01, 0.4, 0.0), 0.1, Verdict.NULL),
    ],
)
def test_tails_are_judged_only_beside_controls_that_are_like_the_group(places, apart, verdict):
    row = {"group": "controlled", "size": 50, "matrix": "W_out", "statistic": "hill", "estimate": 2.0}
    row |= dict(zip(weight_rules.NULLS, places, strict=True)) | {"imbalance": apart}
    nothing = pd.DataFrame()
    evidence = Evidence(nothing, nothing, nothing, nothing, group_tails=pd.DataFrame([row]))
    assert weight_rules.heavier(evidence).verdict == verdict


@pytest.mark.parametrize(
    ("changes", "verdict", "says"),
    [
        ({}, Verdict.SUPPORTED, "from some step on"),
        ({"first_step": 4096.0}, Verdict.SUPPORTED, "at the last step alone"),
        ({"imbalance": 0.3}, Verdict.OPEN, group_rules.UNLIKE),
        ({"outside_at_start": True}, Verdict.AGAINST, "before training already"),
        ({"outside_at_start": True, "imbalance_at_start": 0.3}, Verdict.OPEN, group_rules.UNLIKE),
        ({"first_step": np.nan}, Verdict.NULL, "no heavier"),
    ],
)
def test_tails_that_grow_are_outside_at_the_end_and_not_at_the_start(changes, verdict, says):
    row = {"group": "controlled", "matrix": "W_out", "steps": 5, "start": 4.0, "end": 2.0, "null": 0.01}
    row |= {"imbalance": 0.1, "imbalance_at_start": 0.1, "outside_at_start": False}
    row |= {"first_step": 64.0, "last_step": 4096} | changes
    nothing = pd.DataFrame()
    found = weight_rules.grows(Evidence(nothing, nothing, nothing, nothing, growth=pd.DataFrame([row])))
    assert found.verdict == verdict
    assert says in found.why


@pytest.mark.parametrize(
    ("places", "apart", "verdict"),
    [
        ((0.99, 0.98, 0.97), 0.1, Verdict.AGAINST),
        ((0.99, 0.5, 0.5), 0.1, Verdict.SUPPORTED),
        ((0.99, 0.5, 0.5), 0.6, Verdict.OPEN),  # controls unlike the group say nothing either way
    ],
)
def test_clusters_are_judged_only_beside_controls_that_are_like_the_group(places, apart, verdict):
    row = {"group": "controlled", "size": 50, "resolution": 1.0, "q": 0.3, "matched_mean": 0.29, "imbalance": apart}
    row |= dict(zip(("shuffled", "random", "matched"), places, strict=True))
    nothing = pd.DataFrame()
    evidence = Evidence(nothing, nothing, nothing, nothing, clusters=pd.DataFrame([row]))
    assert group_rules.no_clusters(evidence).verdict == verdict


@pytest.mark.parametrize(
    ("of_kind", "high", "verdict"), [(0, 0.04, Verdict.OPEN), (12, 0.31, Verdict.AGAINST), (12, 0.6, Verdict.NULL)]
)
def test_a_criterion_that_no_neuron_meets_says_nothing_of_a_group(of_kind, high, verdict):
    row = {"group": "controlled", "kind": "either", "size": 95, "of_kind": of_kind, "both": 0}
    row |= {"share": 0.0, "low": 0.0, "high": high, "p": 1.0}
    nothing = pd.DataFrame()
    evidence = Evidence(nothing, nothing, nothing, nothing, kinship=pd.DataFrame([row]))
    assert kin_rules.relatives(evidence).verdict == verdict


def test_a_sign_that_is_a_convention_is_told():
    row = {"group": "controlled", "size": 50, "statistic": "within_r", "context": "rare", "imbalance": 0.1}
    row |= {"estimate": 0.02, "low": 0.01, "high": 0.03, "random": 0.99, "matched": 0.99}
    nothing, table = pd.DataFrame(), pd.DataFrame([row])
    plain, gated = (
        group_rules.within(Evidence(nothing, nothing, nothing, nothing, coactivation=table, gated=g))
        for g in (False, True)
    )
    assert plain.verdict == gated.verdict == Verdict.SUPPORTED
    assert "convention" not in plain.why
    assert gated.why.endswith("in a gated MLP the sign of a neuron is a convention")


def replaced(*rows):
    table = pd.DataFrame(rows, columns=["second", "corrected", "low", "high"]).assign(
        band="rare with controls", first="mean", neurons=100, spearman=0.5
    )
    nothing = pd.DataFrame()
    return Evidence(nothing, nothing, nothing, nothing, replacements=table)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([("zero", 0.95, 0.9, 1.0), ("resample", 0.9, 0.85, 1.0)], Verdict.SUPPORTED),
        ([("zero", 0.82, 0.81, 0.83), ("resample", 0.83, 0.70, 0.90)], Verdict.OPEN),
        ([("zero", 0.70, 0.50, 0.85), ("resample", 0.72, 0.70, 0.74)], Verdict.AGAINST),
        # Of two, the lowest is shown, and one that surely differs is enough.
        ([("zero", 0.70, 0.50, 0.95), ("resample", 0.75, 0.70, 0.79)], Verdict.AGAINST),
        ([("zero", np.nan, np.nan, np.nan), ("resample", 0.9, 0.85, 1.0)], Verdict.OPEN),
    ],
)
def test_every_kind_of_ablation_must_agree_and_one_that_does_not_is_enough(rows, verdict):
    found = robustness.any_ablation(replaced(*rows))
    assert found.verdict == verdict
    assert found.controlled == min(row[1] for row in rows if row[1] == row[1])


@pytest.mark.parametrize(
    ("estimate", "low", "high", "ceiling", "verdict"),
    [
        (0.95, 0.9, 0.97, 0.96, Verdict.SUPPORTED),
        (0.41, 0.17, 0.61, 0.42, Verdict.OPEN),  # no lower than noise makes it
        (0.41, 0.17, 0.61, 0.95, Verdict.AGAINST),
        (0.41, 0.17, 0.61, np.nan, Verdict.OPEN),
    ],
)
def test_heads_that_differ_no_more_than_noise_makes_them_are_no_routing(estimate, low, high, ceiling, verdict):
    rho = {"estimate": estimate, "low": low, "high": high, "ceiling": ceiling, "statistic": "similarity"}
    gap = {"estimate": 0.0, "low": -0.01, "high": 0.01, "ceiling": np.nan, "statistic": "gini_difference"}
    table = pd.DataFrame([rho, gap]).assign(group="controlled", heads=30, matched=0.5)
    nothing = pd.DataFrame()
    assert rules.no_routing(Evidence(nothing, nothing, nothing, nothing, routing=table)).verdict == verdict

"""Facts of the chapter on regimes against the tables that they come from."""

import numpy as np
import pytest

from raretok.book.facts import regimes
from raretok.charts import regimes as charts
from raretok.findings.simulated_rankings import POWER_LAW_EXPONENT, simulated_rankings
from raretok.stats.rankcurve import HEAD


@pytest.fixture(scope="module")
def numbers(study):
    return regimes.facts(study)


def test_every_fact_is_a_text(numbers):
    assert all(isinstance(value, str) for value in numbers.values())


def test_estimates_are_those_of_the_tables(study, numbers):
    net = study.get("effects.band_sums").of("rare")
    effects = -np.sort(-np.abs(net[0].sum(0) / net[1].sum()))
    ln_rank = np.log(np.arange(1, len(effects) + 1))
    middle = (ln_rank >= 3.5) & (ln_rank <= 5.5)
    slope, offset = np.polyfit(ln_rank[middle], np.log(effects[middle]), 1)
    rest = np.log(effects[middle]) - offset - slope * ln_rank[middle]
    r2 = 1 - rest.var() / np.log(effects[middle]).var()
    assert numbers["exponent"] == f"{-slope:.2f}"
    assert numbers["r2"] == f"{r2:.3f}"
    assert numbers["head_share"] == f"{HEAD / len(effects):.1%}"
    assert numbers["neurons"] == f"{len(effects):,}"


def test_departing_statistics_are_counted(study, numbers):
    table = study.table("regimes.statistics")
    part = table[(table["band"] == "rare") & (table["form"] == "controlled") & (table["departs"] != 0)]
    assert numbers["departing_statistics"] == str(len(part))
    assert numbers["judged_statistics"] == "6"


def test_verdicts_are_those_of_the_study(study, numbers):
    claims = study.claims(["C1", "C7"]).set_index("id")
    assert numbers["C1_verdict"] == claims.loc["C1", "verdict"]
    assert numbers["C7_verdict"] == "not applicable"
    assert numbers["C1_reported"] == "qualitative"


def test_charts_print_the_facts(study, numbers):
    title = charts.local_slopes(study.table("regimes.slopes"), numbers).to_dict()["title"]["text"]
    assert f"{numbers['head_slope']} in the head" in title
    title = charts.percentiles(study.table("regimes.statistics"), numbers).to_dict()["title"]["text"]
    assert title.startswith(f"{numbers['departing_statistics']} of 6 statistics")
    curves, statistics = simulated_rankings(int(numbers["neurons"]), study.settings.seed)
    title = charts.simulations(curves, numbers).to_dict()["title"]
    assert numbers["simulated_r2"] in title["text"]
    assert float(numbers["simulated_r2"]) <= statistics["middle_r2"].min() < float(numbers["simulated_r2"]) + 0.01
    assert title["subtitle"].startswith("96 draws")


def test_tables_of_the_chapter_show_every_row(study):
    published, contrasts = study.table("regimes.published"), study.table("regimes.contrasts")
    assert charts.published_table(published).to_html().count("<tr>") == 1 + len(published)
    shown = contrasts["statistic"].isin(charts.CONTRAST_NAMES)
    assert charts.contrast_table(contrasts).to_html().count("<tr>") == 1 + shown.sum()
    assert "truncated power law" in charts.rival_table(study.table("regimes.tails")).to_html()


def test_simulated_power_law_has_the_slope_of_its_exponent_and_is_the_steepest():
    drawn = [simulated_rankings(5_000, seed) for seed in range(20)]
    slopes = np.array([statistics["middle_slope"] for _, statistics in drawn])
    names = drawn[0][1]["distribution"].tolist()
    assert slopes.mean(0)[names.index("power law")] == pytest.approx(-1 / POWER_LAW_EXPONENT, abs=0.06)
    assert (slopes.argmin(1) == names.index("power law")).all()
    for _, part in drawn[0][0].groupby("distribution"):
        assert part["value"].is_monotonic_decreasing
        assert part["rank"].is_monotonic_increasing

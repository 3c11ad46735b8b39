"""The numbers of the chapter on the method, computed again from the audit and the benchmark."""

import pytest

from raretok.book.facts import method
from raretok.measure.checks import benchmark_records
from raretok.measure.precision import precision_table


def test_the_errors_are_those_of_the_audit(study):
    facts = method.facts(study)
    assert all(isinstance(text, str) for text in facts.values())
    audit = study.table("checks.certificate")
    errors = sorted(abs(e) for e, slow in zip(audit["error"], audit["used_fallback"], strict=True) if not slow)
    assert facts["pairs"] == f"{len(audit):,}"
    assert facts["second_order_pairs"] == f"{len(errors):,}"
    assert facts["fallback"] == f"{100 * (1 - len(errors) / len(audit)):.1f}%"
    assert facts["ordinary_worst"] == f"{errors[-1]:.0e}"
    assert float(facts["ordinary_median"]) == pytest.approx(errors[len(errors) // 2], rel=0.51)
    assert facts["beyond_bound"] == "0"


def test_the_ratios_are_those_of_the_times(study):
    facts = method.facts(study)
    time = {r["method"]: r["us_per_pair"] for r in benchmark_records() if r["name"] == method.BENCHMARK}
    assert float(facts["vs_loss"].replace(",", "")) == pytest.approx(time["published"] / time["certified"], rel=0.05)
    whole = sum(float(facts[f"{stage}_us"]) for stage in ("baseline", "brackets", "rest"))
    assert whole == pytest.approx(time["certified"], rel=0.05)


def test_verdicts_that_move_in_sixteen_bits_are_counted(study):
    table = precision_table()
    assert {"C1", "C17", "C23"} <= set(table["id"])
    facts = method.facts(study)
    pairs = zip(table["id"], table["verdict float32"], table["verdict bfloat16"], strict=True)
    moved = [claim for claim, a, b in pairs if a != b]
    assert int(facts["bf16_moved"]) == len(moved)
    assert all(claim in facts["bf16_which"] for claim in moved)
    assert float(facts["bf16_seconds"]) < float(facts["fp32_seconds"])

"""The committed benchmark: whole, consistent with itself, and an error that says what to do where it is missing."""

import pytest

from raretok import RaretokError
from raretok.measure.checks import benchmark_records, benchmark_table


def test_the_committed_benchmark_is_whole():
    records = benchmark_records()
    of = {(r["name"], r["method"]): r for r in records}
    assert {name for name, _ in of} == {"SmolLM2-135M", "Pythia-410M dimensions"}
    for (name, _), record in of.items():
        ratio = of[name, "published"]["us_per_pair"] / record["us_per_pair"]
        assert record["ratio_to_published"] == pytest.approx(ratio)
        assert record["peak_mib"] > 0
        assert record["machine"] == records[0]["machine"]
    certified = of["SmolLM2-135M", "certified"]
    assert certified["checked_pairs"] >= 1e6
    assert certified["beyond_bound"] == 0
    assert certified["max_error"] <= 1e-4
    for name in {name for name, _ in of}:
        assert set(benchmark_table(records, name)["way"]) == {method for n, method in of if n == name}


def test_a_missing_benchmark_says_how_to_make_it(tmp_path):
    with pytest.raises(RaretokError, match="run `make bench`"):
        benchmark_records(tmp_path / "results.json")
    (tmp_path / "results.json").write_text("[{")
    with pytest.raises(RaretokError, match="is not a readable list of results"):
        benchmark_records(tmp_path / "results.json")

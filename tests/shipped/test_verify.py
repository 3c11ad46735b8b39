"""What ships is what the shipped weights give, and a number that was changed is noticed; where numbers come from is
told.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from raretok.model.registry import MODELS
from raretok.repository import MODELS as SHIPPED
from raretok.shipped import provenance, verify
from raretok.store import Store


def test_tables_that_agree_differ_by_their_rounding_and_others_by_what_was_changed():
    again = pd.DataFrame({"name": ["a", "b", "c"], "x": [1.23456789, np.nan, 400.0]})
    kept = again.assign(x=[1.2346, np.nan, 400.01])
    assert verify.largest_difference(kept, again) == pytest.approx(2.6e-5, rel=0.05)
    assert verify.largest_difference(again.assign(x=[1.3, np.nan, 400.0]), again) > 0.05
    for wrong in (again.assign(x=[1.2346, 0.0, 400.0]), again.assign(name=["a", "b", "d"]), again[:2], again[[]]):
        assert verify.largest_difference(wrong, again) == float("inf")


def test_a_difference_that_is_no_number_is_no_agreement():
    assert not verify.Check("x", float("nan"), 1.0).agrees
    assert verify.Check("x", 0.5, 0.5).agrees


def test_a_shipped_loss_agrees_and_a_changed_one_does_not(tmp_path):
    entry = MODELS["reviews-gpt2"]
    assert verify._loss(entry, entry.steps[-1]).agrees
    shutil.copytree(entry.source, tmp_path / entry.name)
    path = tmp_path / entry.name / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({k: v + 0.01 * (k == "held_out") for k, v in x.items()}) + "\n" for x in lines))
    assert not verify._loss(replace(entry, source=str(tmp_path / entry.name)), entry.steps[-1]).agrees


def test_shipped_tables_agree_and_a_changed_one_does_not(tmp_path):
    kept = SHIPPED / "results" / "reviews-neox-seed1"
    checks = list(verify._results(kept))
    assert [check.what.partition(" ")[0] for check in checks] == ["reliability", "statistics", "nulls"]
    assert all(check.agrees for check in checks)
    shutil.copytree(kept, tmp_path / "changed")
    path = tmp_path / "changed" / "reliability.csv"
    pd.read_csv(path).assign(reliability=lambda t: t["reliability"] + 0.001).to_csv(path, index=False)
    path = tmp_path / "changed" / "statistics.csv"
    pd.read_csv(path).assign(noise=lambda t: 1 - t["noise"]).to_csv(path, index=False)
    found = list(verify._results(tmp_path / "changed"))
    assert [check.agrees for check in found] == [False, True, False]


def test_where_numbers_come_from_is_told_in_full(tmp_path):
    versions = provenance.versions().set_index("package")["version"]
    assert {"python", "torch", "transformers", "altair", "jupyter-book"} <= set(versions.index)
    assert "pytest" not in versions
    digests = provenance.digests()
    assert digests["what"].is_unique
    assert {"raretok", "smollm2-135m", "reviews-neox @ 0", "reviews-gpt2 @ 4096", "movie-reviews"} <= set(
        digests["what"]
    )
    assert digests["sha256"].str.fullmatch("[0-9a-f]{16}").all()
    store = Store(tmp_path)
    for n in range(3):
        store.table("kind", {"n": n}, lambda: pd.DataFrame({"x": [1]}))
    times = provenance.run_times(store).set_index("result")
    assert times.loc["kind", "entries"] == 3
    assert times.loc["kind", "peak_mib"] > 1
    assert provenance.run_times(Store(tmp_path / "none")).empty

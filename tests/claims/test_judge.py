"""The table of claims has a row for every claim, and one that does not apply says why."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from raretok import RaretokError
from raretok.claims import Verdict, all_claims, judge, questions, rank_curve_claims
from raretok.errors import NotApplicable
from raretok.findings import robustness
from raretok.graph import node_of
from raretok.measure.effects import gated

WHY = "there is nothing to measure"
MISSING = "regimes.statistics"


class StandIn:
    """A study of a model of some name whose tables are empty, and which some tables do not apply to."""

    def __init__(self, name: str, missing: tuple[str, ...] = (), tables: dict[str, pd.DataFrame] | None = None):
        self.inputs = SimpleNamespace(entry=SimpleNamespace(name=name))
        self.missing, self.tables = missing, tables or {}

    def get(self, node):
        if node.name in self.missing:
            raise NotApplicable(WHY)
        if node.judged_by:
            return node.compute(*map(self.get, node.needs))
        return False if node is node_of(gated) else self.tables.get(node.name, pd.DataFrame())


RANK_CURVE = tuple({need.name for c in all_claims() if c.id in rank_curve_claims() for need in c.reads})


def test_every_claim_has_a_row_and_one_that_does_not_apply_says_why():
    study = StandIn("smollm2-135m", missing=RANK_CURVE)
    table = judge(study)
    assert table["id"].tolist() == [c.id for c in all_claims()]
    rows = table.set_index("id")
    for claim in rank_curve_claims():
        assert rows.loc[claim, "verdict"] == Verdict.NOT_APPLICABLE
        assert rows.loc[claim, "why"] == WHY
        assert np.isnan(rows.loc[claim, "controlled"])
    assert rows.loc["C16", "verdict"] == Verdict.NOT_APPLICABLE
    assert rows.loc["C16", "why"] == "it is about pythia-2.8b alone"
    groups = rows.drop([*rank_curve_claims(), "C16"])
    assert (groups["verdict"] == Verdict.INCONCLUSIVE).all()  # of an empty table
    assert not groups["why"].eq("").any()


def test_a_claim_about_one_family_is_judged_for_its_models():
    study = StandIn("pythia-2.8b-deduped", missing=RANK_CURVE)
    assert judge(study, ["C16"])["verdict"].tolist() == [Verdict.INCONCLUSIVE]


def test_some_claims_are_judged_with_the_table_that_they_read():
    row = {"band": "rare with controls", "first": "mean", "second": "zero", "neurons": 100}
    row |= {"corrected": 0.95, "low": 0.9, "high": 1.0}
    study = StandIn("gpt2", tables={node_of(robustness.replacements).name: pd.DataFrame([row])})
    [judged] = judge(study, ["C22"]).to_dict("records")
    assert judged["verdict"] == Verdict.SUPPORTED
    assert (judged["controlled"], judged["low"], judged["high"], judged["n"]) == (0.95, 0.9, 1.0, 100)
    assert judged["claim"] == "the kind of ablation does not matter"


def test_an_unknown_claim_is_an_error_that_lists_the_known_ones():
    with pytest.raises(RaretokError, match=r"no claim C99: choose from C1, C2, .*C23"):
        judge(StandIn("gpt2"), ["C1", "C99"])


def test_claims_are_in_the_order_of_their_numbers_and_every_room_asks_something():
    ids = [c.id for c in all_claims()]
    assert ids.index("C6a") + 1 == ids.index("C6b") < ids.index("C10")
    assert set(questions()) == {c.room for c in all_claims()}
    assert all(question.endswith("?") for question in questions().values())

"""Over training: departures, onsets, stability and rank trajectories, by hand; and a trajectory without a start."""

import numpy as np
import pandas as pd
import pytest

from raretok.errors import NotApplicable
from raretok.findings import emergence
from raretok.findings.regimes import JUDGED_BY


def statistics(sides):
    """``regimes.statistics`` by step, in which every statistic departs as ``sides`` says."""
    tables = {}
    for step, side in sides.items():
        rows = []
        for name in JUDGED_BY:
            shared = {"band": "rare", "measure": "net", "statistic": name}
            rows.append(shared | {"form": "controlled", "estimate": 1.0, "departs": side, "null": 0.9})
            rows.append(shared | {"form": "published", "estimate": step - 5.0, "departs": 0, "null": np.nan})
        tables[step] = pd.DataFrame(rows)
    return tables


@pytest.mark.parametrize(
    ("sides", "first", "start"),
    [
        ({0: 0, 1: 0, 8: 1, 16: 1}, 8, False),
        ({0: 0, 1: 1, 8: 0, 16: 1}, 16, False),
        ({0: 1, 1: 1, 8: 1, 16: 1}, 0, True),
        ({0: 0, 1: 1, 8: 1, 16: 0}, np.nan, False),
        ({0: 0, 1: -1, 8: 1, 16: 1}, 8, False),
    ],
)
def test_a_statistic_has_emerged_when_it_stays_outside(sides, first, start):
    table = emergence.departures(statistics(sides)).set_index("statistic")
    assert set(table.index) == set(JUDGED_BY)
    row = table.loc["head_excess"]
    assert row["first_step"] == pytest.approx(first, nan_ok=True)
    assert row["outside_at_start"] == start
    assert row["steps"] == 4
    assert row["published_yes"]


def found(sides):
    """``identification.rare_token_neurons`` by step, of two neurons whose intervals lie where ``sides`` says."""
    tables = {}
    for step, pair in sides.items():
        rows = []
        for neuron, side in enumerate(pair):
            low, high = (0.1, 0.3) if side > 0 else (-0.3, -0.1) if side < 0 else (-0.1, 0.1)
            rows.append(
                {
                    "neuron": neuron,
                    "s": (low + high) / 2,
                    "low": low,
                    "high": high,
                    "controlled": side != 0,
                }
            )
        tables[step] = pd.DataFrame(rows)
    return tables


def test_onsets_are_the_steps_from_which_the_sign_stays():
    table = emergence.onsets(found({0: (1, 0), 4: (0, -1), 8: (1, 1), 16: (1, -1)})).set_index("neuron")
    assert table["since"].to_dict() == {0: 8, 1: 16}
    assert table["first"].to_dict() == {0: 0, 1: 4}
    assert emergence.onsets(found({0: (1, 1), 4: (0, 0)})).empty


def test_stability_and_rank_trajectories():
    rng = np.random.default_rng(0)
    last = rng.standard_normal(200)
    tables = {0: rng.standard_normal(200), 8: last + 0.01 * rng.standard_normal(200), 16: last}
    effects = {
        s: pd.DataFrame({"band": "rare", "neuron": np.arange(200), "net": x, "low": x, "high": x})
        for s, x in tables.items()
    }
    table = emergence.stability(effects).set_index("step")
    assert table.loc[8, "last"] > 0.99
    assert abs(table.loc[0, "last"]) < 0.25
    assert table["leaders"].iloc[-1] == 1
    assert np.isnan(table["next"].iloc[-1])
    path = emergence.rank_trajectories(effects, 5)
    assert set(path["neuron"]) == set(np.argsort(-np.abs(last))[:5])
    assert sorted(path[path["step"] == 16]["rank"]) == [1, 2, 3, 4, 5]


def test_without_a_checkpoint_before_training_nothing_can_have_emerged():
    with pytest.raises(NotApplicable, match="no checkpoint before training"):
        emergence.departures(statistics({1: 0, 8: 1}))

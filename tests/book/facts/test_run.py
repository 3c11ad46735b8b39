"""The numbers of the chapter on one's own model, from a cost model that is known and from the one that is fitted."""

import numpy as np
import pandas as pd
import pytest

from raretok.book.facts import run
from raretok.measure.cost import Model, fit, read_points
from raretok.model.architecture import tried


def test_the_cost_of_the_large_model_by_hand():
    error = pd.DataFrame({"relative": [0.1, -0.3, 0.2], "memory": [0.05, -0.02, 0.01]})
    model = Model(10.0, {"forward": np.inf, "ablation": 0.005}, (100.0, 4.0, 2.0), error)
    tried = pd.DataFrame(
        {"form": ["exact, soft cap", "exact, norm after the MLP", "refused"], "pairs": [900, 1200, np.nan]}
    )
    tried["outside"] = [0, 1, np.nan]
    facts = run.facts(pd.DataFrame({"gflops": [100.0, 300.0, 200.0]}), model, tried, 60.0, 154)
    assert [facts[n] for n in ("tried", "exact", "after", "capped", "pairs", "outside")] == [
        "3",
        "2",
        "1",
        "1",
        "2,100",
        "1",
    ]
    assert all(isinstance(text, str) for text in facts.values())
    assert (facts["error"], facts["worst"], facts["memory_error"]) == ("20%", "30%", "2%")
    assert (facts["share_forward"], facts["share_ablation"]) == ("no measurable time", "0%")
    seconds = 10 + 6500 * 50_432 * (6 * 4096 + 2 * 16_384) / (0.005 * 60e12)
    assert facts["one_minutes"] == f"{seconds / 60:.1f}"
    assert facts["many_hours"] == f"{154 * seconds / 3600:.1f}"
    assert facts["rate"] == "200"
    gib = (100 * 2**20 + 4 * 6.9e9 + 2 * 256 * 256 * (16_384 + 4096) + 6 * 50_432 * (16_384 + 4096)) / 2**30
    assert facts["gib"] == f"{gib:.0f}"


def test_the_errors_of_the_fitted_model():
    points = read_points()
    model = fit(points)
    facts = run.facts(points, model, tried(), 67.0, 154)
    errors = sorted(abs(p / s - 1) for p, s in zip(model.error["predicted"], model.error["seconds"], strict=True))
    assert facts["points"] == str(len(points)) == str(len(errors))
    assert float(facts["worst"].rstrip("%")) == pytest.approx(100 * errors[-1], abs=0.5)
    assert float(facts["error"].rstrip("%")) == pytest.approx(100 * np.median(errors), abs=0.5)

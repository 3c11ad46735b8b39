"""The rule about kinds of ablation: another ranking is told from noise, and one kind that differs is enough."""

import numpy as np
import pandas as pd
import pytest

from claims.trials import claims_of, finds_what_was_planted_and_little_else, verdicts_on_room
from raretok.claims import Verdict
from raretok.claims.robustness import NEURONS, Material, any_ablation


def test_the_rule_finds_what_was_planted_and_little_else():
    rng = np.random.default_rng(0)
    weight = rng.integers(3, 9, 40).astype(float)
    net = weight[:, None] * (rng.standard_t(3, NEURONS) + 0.5 * rng.standard_normal((40, NEURONS)))
    [claim] = claims_of("robustness")
    assert finds_what_was_planted_and_little_else(claim, verdicts_on_room("robustness", Material(net, weight)))


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([("zero", 0.95, 0.9, 1.0), ("resample", 0.9, 0.85, 1.0)], Verdict.SUPPORTED),
        ([("zero", 0.82, 0.81, 0.83), ("resample", 0.83, 0.70, 0.90)], Verdict.INCONCLUSIVE),
        ([("zero", 0.70, 0.50, 0.85), ("resample", 0.72, 0.70, 0.74)], Verdict.NOT_SUPPORTED),
        # Of two, the lowest is shown, and one that surely differs is enough.
        ([("zero", 0.70, 0.50, 0.95), ("resample", 0.75, 0.70, 0.79)], Verdict.NOT_SUPPORTED),
        ([("zero", np.nan, np.nan, np.nan), ("resample", 0.9, 0.85, 1.0)], Verdict.INCONCLUSIVE),
    ],
)
def test_every_kind_of_ablation_must_agree_and_one_that_does_not_is_enough(rows, verdict):
    table = pd.DataFrame(rows, columns=["second", "corrected", "low", "high"]).assign(
        band="rare with controls", first="mean", neurons=100, spearman=0.5
    )
    judged = any_ablation(table)
    assert judged.verdict == verdict
    assert judged.controlled.value == min(row[1] for row in rows if row[1] == row[1])

"""C13 and C14: the weights of the rare-token neurons."""

import pandas as pd

from raretok.claims.coactivation import CONTROLLED, NO_GROUP, UNLIKE
from raretok.claims.declaration import claim
from raretok.claims.simulated_groups import ROWS, WEIGHTS
from raretok.claims.verdicts import Estimate, Judgement, Verdict, decide, pick, published_estimate, yes_if
from raretok.findings import weights
from raretok.findings.groups import ALIKE
from raretok.stats.resampling import LEVEL

QUESTION = "Have they heavy-tailed weights?"
NULLS = ("random", "matched", "gaussian")


@claim(
    "C13",
    "their weights are heavier-tailed",
    source="E",
    reported="lower Hill exponent",
    quantity="Hill exponent of W_out, k = n/2",
    reads=(weights.group_tails,),
    about=CONTROLLED,
    nulls=ROWS,
    plants=[WEIGHTS["Pareto directions"]],
)
def heavier(tails: pd.DataFrame) -> Judgement:
    """C13: Hill's exponent of the group's output rows is smaller than that of its controls of the same shape.

    The controls are the output rows of random and matched groups, and Gaussian rows.
    """
    row = pick(tails, group="controlled", matrix="W_out", statistic="hill")
    published_row = pick(tails, group="published", matrix="W_out", statistic="hill")
    published = published_estimate(published_row, "estimate", lambda r: r["random"] < 0.5)
    if row is None:
        return Judgement(Verdict.INCONCLUSIVE, NO_GROUP, published)
    places = [row[kind] for kind in NULLS]
    below, above = max(places) <= LEVEL, min(places[:2]) >= 1 - LEVEL
    verdict, why = decide(
        ((below or above) and row["imbalance"] > ALIKE, Verdict.INCONCLUSIVE, UNLIKE),
        (below, Verdict.SUPPORTED, "heavier than random, matched and Gaussian rows of the same shape"),
        (above, Verdict.NOT_SUPPORTED, "lighter than the rows of random and of matched groups"),
        (True, Verdict.NULL, "random, matched or Gaussian rows of the same shape have such a tail"),
    )
    return Judgement(verdict, why, published, Estimate(row["estimate"]), int(row["size"]), max(places))


@claim(
    "C14",
    "heavy tails grow in training",
    source="E, D",
    reported="qualitative",
    quantity="first step at which their rows are heavier for good",
    reads=(weights.growth,),
    about=CONTROLLED,
    nulls=ROWS,
    plants=[WEIGHTS["Pareto directions"]],
)
def grows(growth: pd.DataFrame) -> Judgement:
    """C14: the final rare-token neurons' output rows become heavier-tailed than others' in training.

    They are not heavier at step 0, and they are heavier from some step on to the last.
    """
    row, published_row = (pick(growth, group=group, matrix="W_out") for group in ("controlled", "published"))
    change = None if published_row is None else published_row["end"] - published_row["start"]
    published = Estimate() if change is None else Estimate(change, says=yes_if(change < 0))
    if row is None:
        return Judgement(Verdict.INCONCLUSIVE, NO_GROUP, published)
    outside = row["first_step"] == row["first_step"]
    since = "at the last step alone" if row["first_step"] == row["last_step"] else "from some step on"
    verdict, why = decide(
        (row["outside_at_start"] and row["imbalance_at_start"] > ALIKE, Verdict.INCONCLUSIVE, UNLIKE),
        (row["outside_at_start"], Verdict.NOT_SUPPORTED, "heavier than others' before training already"),
        (outside and row["imbalance"] > ALIKE, Verdict.INCONCLUSIVE, UNLIKE),
        (
            outside,
            Verdict.SUPPORTED,
            f"heavier than random, matched and Gaussian rows {since}, and not at step 0",
        ),
        (True, Verdict.NULL, "at the last step no heavier than random, matched or Gaussian rows"),
    )
    return Judgement(verdict, why, published, Estimate(row["first_step"]), int(row["steps"]), row["null"])

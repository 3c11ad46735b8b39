"""Rules of C13 and C14: the weights of the rare-token neurons."""

from raretok.claims.coactivation import NAN, NO_GROUP, UNLIKE, pick
from raretok.claims.verdicts import Evidence, Judgement, Verdict
from raretok.findings.groups import ALIKE
from raretok.stats.resampling import LEVEL

NULLS = ("random", "matched", "gaussian")


def heavier(evidence: Evidence) -> Judgement:
    """C13: Hill's exponent of the group's output rows is smaller than that of random, matched and Gaussian ones of the same shape."""
    row = pick(evidence.group_tails, "controlled", matrix="W_out", statistic="hill")
    told = pick(evidence.group_tails, "published", matrix="W_out", statistic="hill")
    published, says = (NAN, "–") if told is None else (told["estimate"], "yes" if told["random"] < 0.5 else "no")
    if row is None:
        return Judgement(published, says, NAN, NAN, NAN, 0, NAN, Verdict.OPEN, NO_GROUP)
    places = [row[kind] for kind in NULLS]
    below, above = max(places) <= LEVEL, min(places[:2]) >= 1 - LEVEL
    if (below or above) and row["imbalance"] > ALIKE:
        verdict, why = Verdict.OPEN, UNLIKE
    elif below:
        verdict, why = Verdict.SUPPORTED, "heavier than random, matched and Gaussian rows of the same shape"
    elif above:
        verdict, why = Verdict.AGAINST, "lighter than the rows of random and of matched groups"
    else:
        verdict, why = Verdict.NULL, "random, matched or Gaussian rows of the same shape have such a tail"
    return Judgement(published, says, row["estimate"], NAN, NAN, int(row["size"]), max(places), verdict, why)


def grows(evidence: Evidence) -> Judgement:
    """C14: the output rows of the final rare-token neurons are not heavier than others' at step 0, and are from some step on to the last."""
    row, told = pick(evidence.growth, "controlled", matrix="W_out"), pick(evidence.growth, "published", matrix="W_out")
    published, says = (NAN, "–")
    if told is not None:
        published = told["end"] - told["start"]
        says = "yes" if published < 0 else "no"
    if row is None:
        return Judgement(published, says, NAN, NAN, NAN, 0, NAN, Verdict.OPEN, NO_GROUP)
    if row["outside_at_start"] and row["imbalance_at_start"] > ALIKE:
        verdict, why = Verdict.OPEN, UNLIKE
    elif row["outside_at_start"]:
        verdict, why = Verdict.AGAINST, "heavier than others' before training already"
    elif row["first_step"] == row["first_step"] and row["imbalance"] > ALIKE:
        verdict, why = Verdict.OPEN, UNLIKE
    elif row["first_step"] == row["first_step"]:
        since = "at the last step alone" if row["first_step"] == row["last_step"] else "from some step on"
        verdict, why = (
            Verdict.SUPPORTED,
            f"heavier than random, matched and Gaussian rows {since}, and not at step 0",
        )
    else:
        verdict, why = Verdict.NULL, "at the last step no heavier than random, matched or Gaussian rows"
    steps = int(row["steps"])
    return Judgement(published, says, row["first_step"], NAN, NAN, steps, row["null"], verdict, why)

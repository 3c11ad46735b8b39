"""Rule of C21: whether the rare-token neurons are entropy or token-frequency neurons."""

from raretok.claims.coactivation import NAN, pick
from raretok.claims.verdicts import Evidence, Judgement, Verdict
from raretok.stats.resampling import LEVEL

MOST = 0.5
"""Share of the rare-token neurons that must be of either kind."""


def relatives(evidence: Evidence) -> Judgement:
    """C21: more of the controlled rare-token neurons than chance would have it, and more than half of them, meet either criterion."""
    row = pick(evidence.kinship, "controlled", kind="either")
    told = pick(evidence.kinship, "published", kind="either")
    published = NAN if told is None else told["share"]
    says = "–" if told is None else "yes" if told["p"] <= LEVEL and told["share"] > MOST else "no"
    if row is None or not row["size"]:
        why = "no neuron is a rare-token neuron by the controlled definition"
        return Judgement(published, says, NAN, NAN, NAN, 0, NAN, Verdict.OPEN, why)
    more = row["p"] <= LEVEL
    if not row["of_kind"]:
        verdict = Verdict.OPEN
        why = "no neuron of the layer meets either criterion, so that none of them could"
    elif row["high"] < MOST:
        verdict = Verdict.AGAINST
        why = (
            "more of them than chance, but less than half"
            if more
            else "less than half of them, and no more than chance"
        )
    elif more and row["low"] > MOST:
        verdict, why = Verdict.SUPPORTED, "more than half of them, and more than chance"
    elif not more:
        verdict, why = Verdict.NULL, "no more of them than of as many neurons at random"
    else:
        verdict, why = Verdict.OPEN, "more of them than chance, but whether half of them the data cannot tell"
    return Judgement(published, says, row["share"], row["low"], row["high"], int(row["size"]), row["p"], verdict, why)

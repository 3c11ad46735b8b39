"""Rules of C17 and C18: what attention heads do to the rare-token neurons."""

import numpy as np

from raretok.claims.coactivation import NAN, NO_GROUP, pick
from raretok.claims.verdicts import Evidence, Judgement, Verdict

SIMILAR = 0.8
"""Rank correlation from which two rankings of the heads count as alike."""
WORTH = 0.05
"""Difference of two Gini coefficients that would matter."""
ALL = 2.0
"""What a whole layer must do, in times of one head."""


def no_routing(evidence: Evidence) -> Judgement:
    """C17: the same heads influence the group at rare and at common targets, and are no more concentrated at either."""
    rho = pick(evidence.routing, "controlled", statistic="similarity")
    gap = pick(evidence.routing, "controlled", statistic="gini_difference")
    told = pick(evidence.routing, "published", statistic="similarity")
    published = NAN if told is None else told["estimate"]
    says = "–" if told is None else "yes" if published >= SIMILAR else "no"
    if rho is None or gap is None:
        return Judgement(published, says, NAN, NAN, NAN, 0, NAN, Verdict.OPEN, NO_GROUP)
    # Noise makes any two rankings differ: no more than SIMILAR of what two halves of the documents agree in can be asked.
    if rho["high"] < np.minimum(SIMILAR, SIMILAR * rho["ceiling"]):
        verdict, why = Verdict.AGAINST, "other heads influence them at rare targets than at common ones"
    elif gap["low"] > WORTH or gap["high"] < -WORTH:
        verdict, why = Verdict.AGAINST, "the same heads, but their influence is otherwise concentrated at rare targets"
    elif rho["low"] >= SIMILAR and gap["low"] >= -WORTH and gap["high"] <= WORTH:
        verdict, why = Verdict.SUPPORTED, "the same heads, as concentrated, at rare and at common targets"
    else:
        verdict, why = Verdict.OPEN, "whether the heads are the same and as concentrated, the data cannot tell"
    return Judgement(
        published, says, rho["estimate"], rho["low"], rho["high"], int(rho["heads"]), gap["matched"], verdict, why
    )


def layer_against_head(evidence: Evidence) -> Judgement:
    """C18: a layer's heads together do at least twice what the strongest of them does; they must do twice what the average one does, not to contradict it."""
    row, told = (pick(evidence.routing, group, statistic="ratio") for group in ("controlled", "published"))
    average = pick(evidence.routing, "controlled", statistic="average_ratio")
    published = NAN if told is None else told["estimate"]
    says = "–" if told is None else "yes" if published >= ALL else "no"
    if row is None or average is None:
        return Judgement(published, says, NAN, NAN, NAN, 0, NAN, Verdict.OPEN, NO_GROUP)
    if row["low"] >= ALL:
        verdict, why = Verdict.SUPPORTED, "a whole layer does more than twice what its strongest head does"
    elif average["high"] < ALL:
        verdict, why = Verdict.AGAINST, "a whole layer does less than twice what its average head does"
    elif row["high"] < ALL and average["low"] >= ALL:
        verdict = Verdict.OPEN
        why = "a whole layer does more than twice what its average head does, but not twice what its strongest does"
    else:
        verdict, why = (
            Verdict.OPEN,
            "whether a whole layer does twice what its strongest head does, the data cannot tell",
        )
    return Judgement(
        published, says, row["estimate"], row["low"], row["high"], int(row["heads"]), row["matched"], verdict, why
    )

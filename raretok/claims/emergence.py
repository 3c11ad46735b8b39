"""Rule of C7: the regimes over training."""

import numpy as np

from raretok.claims.verdicts import NOT_REPEATED, Evidence, Judgement, Verdict


def emerges(evidence: Evidence) -> Judgement:
    """C7: head and fall outside their nulls at the last step and from some step on, agreement inside at step 0; see ``findings.emergence.departures``."""
    assert evidence.departures is not None
    table = {row["statistic"]: row for row in evidence.departures.to_dict("records")}
    row, agreement = table["head_excess"], table["agreement"]
    homogeneous = not bool(agreement["outside_at_start"])
    head, fall = np.isfinite(row["first_step"]), table["steepening"]["side"] == 1
    if not homogeneous:
        verdict, why = Verdict.AGAINST, "the neurons already differ reliably at step 0"
    elif not np.isfinite(agreement["first_step"]):
        verdict, why = Verdict.NULL, NOT_REPEATED
    elif head and fall:
        verdict, why = (
            Verdict.SUPPORTED,
            "from a start without structure, head and fall leave their nulls and stay outside",
        )
    elif head or fall:
        verdict, why = Verdict.OPEN, "effects emerge, but of head and fall only one leaves its nulls and stays outside"
    else:
        verdict, why = Verdict.NULL, "effects emerge, but neither head nor fall leaves its nulls and stays outside"
    step, n = row["first_step"], int(row["steps"])
    return Judgement(
        row["published"], "yes" if row["published_yes"] else "no", step, np.nan, np.nan, n, row["null"], verdict, why
    )

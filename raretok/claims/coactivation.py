"""Rules of C9 to C12, C15, C16 and C19: the co-activation of the rare-token neurons in rare-target contexts."""

from dataclasses import replace

import pandas as pd

from raretok.claims.verdicts import Evidence, Judgement, Row, Verdict
from raretok.findings.groups import ALIKE
from raretok.stats.resampling import LEVEL

NAN = float("nan")
NO_GROUP = "too few neurons are rare-token neurons by the controlled definition and have equals among the others"
UNLIKE = "beyond the control groups, but no groups of other neurons are enough like it to tell"
WORTH = 0.05
"""Modularity above that of matched groups that would matter: the least that is reported for them."""


def pick(table: pd.DataFrame | None, group: str, **where: str | float) -> Row | None:
    """The row of a group that ``where`` names, None if there is none."""
    assert table is not None, "judge leaves out claims whose table is missing"
    for column, value in ({"group": group} | where).items():
        table = table[table[column] == value] if len(table) else table
    return dict(table.iloc[0]) if len(table) else None


def _beyond(
    table: pd.DataFrame | None,
    statistic: str,
    side: int,
    signed: bool,
    as_published: str,
    says: str,
    gated: bool = False,
) -> Judgement:
    """Whether a statistic of the controlled group lies beyond random and matched groups on one side, and beyond 0 where that means something; ``gated``: the sign of a neuron means nothing."""
    row = pick(table, "controlled", statistic=statistic, context="rare")
    told = pick(table, "published", statistic=as_published, context="rare")
    published, yes = (NAN, "–") if told is None else (told["estimate"], "yes" if _told(told, side, says) else "no")
    if row is None:
        return Judgement(published, yes, NAN, NAN, NAN, 0, NAN, Verdict.OPEN, NO_GROUP)
    places = [row[kind] if side > 0 else 1 - row[kind] for kind in ("random", "matched")]
    clear, contrary = (
        (row["low"] * side > 0 and row["high"] * side > 0),
        (row["low"] * side < 0 and row["high"] * side < 0),
    )
    beyond, opposite = min(places) >= 1 - LEVEL, max(places) <= LEVEL
    if signed and contrary:
        verdict, why = Verdict.AGAINST, "its interval lies on the other side of zero"
    elif (beyond or opposite) and row["imbalance"] > ALIKE:
        verdict, why = Verdict.OPEN, UNLIKE
    elif beyond and (clear or not signed):
        verdict, why = (
            Verdict.SUPPORTED,
            "beyond random groups, and beyond groups matched in mean, variance, firing rate and norm",
        )
    elif beyond:
        verdict, why = Verdict.OPEN, "beyond the control groups, but its interval holds zero"
    elif opposite:
        verdict, why = Verdict.AGAINST, "on the other side of random and of matched groups"
    else:
        verdict, why = Verdict.NULL, "random or matched groups of neurons are like it"
    if signed and gated and verdict in (Verdict.SUPPORTED, Verdict.AGAINST):
        why += "; but in a gated MLP the sign of a neuron is a convention"
    null = min(places) if side > 0 else 1 - min(places)
    return Judgement(published, yes, row["estimate"], row["low"], row["high"], int(row["size"]), null, verdict, why)


def _told(row: Row, side: int, says: str) -> bool:
    """What the published test would say: the sign of the estimate, or the side of the random groups' middle."""
    return bool(row["estimate"] * side > 0) if says == "sign" else bool((row["random"] - 0.5) * side > 0)


def dimension(evidence: Evidence) -> Judgement:
    """C9: the participation ratio is smaller than that of control groups."""
    return _beyond(evidence.coactivation, "participation", -1, False, "components", "random")


def within(evidence: Evidence) -> Judgement:
    """C10: members correlate positively, and more than members of control groups."""
    return _beyond(evidence.coactivation, "within_r", 1, True, "within_cosine", "sign", evidence.gated)


def avoidance(evidence: Evidence) -> Judgement:
    """C11: members correlate negatively with all others, and more so than members of control groups."""
    return _beyond(evidence.coactivation, "rest_r", -1, True, "rest_cosine", "sign", evidence.gated)


def across(evidence: Evidence) -> Judgement:
    """C12: boost and suppress members correlate positively, and more than their matches."""
    return _beyond(evidence.across, "between_r", 1, True, "between_cosine", "sign", evidence.gated)


def information(evidence: Evidence) -> Judgement:
    """C19: members share more Gaussian information than members of control groups."""
    return _beyond(evidence.coactivation, "information", 1, False, "information", "random")


def clusters(evidence: Evidence) -> Judgement:
    """C16: the model is an exception to C15."""
    found = no_clusters(evidence)
    other = {"yes": "no", "no": "yes"}.get(found.published_says, found.published_says)
    verdict = {Verdict.AGAINST: Verdict.SUPPORTED, Verdict.SUPPORTED: Verdict.NULL}.get(found.verdict, found.verdict)
    return replace(found, published_says=other, verdict=verdict)


def no_clusters(evidence: Evidence) -> Judgement:
    """C15: the modularity of the group is that of random or matched groups, or of its own weights on other pairs."""
    row = pick(evidence.clusters, "controlled", resolution=1.0)
    told = pick(evidence.clusters, "published", resolution=1.0)
    published, yes = (NAN, "–") if told is None else (told["q"], "yes" if told["random"] < 1 - LEVEL else "no")
    if row is None:
        return Judgement(published, yes, NAN, NAN, NAN, 0, NAN, Verdict.OPEN, NO_GROUP)
    beyond = [row[kind] >= 1 - LEVEL for kind in ("shuffled", "random", "matched")]
    excess = row["q"] - row["matched_mean"]
    if row["imbalance"] > ALIKE:
        verdict, why = Verdict.OPEN, "no groups of other neurons are enough like it to tell"
    elif all(beyond):
        verdict, why = (
            Verdict.AGAINST,
            "more modular than random and matched groups and than its own correlations on other pairs",
        )
    elif excess < WORTH:
        verdict, why = (
            Verdict.SUPPORTED,
            "more modular than matched groups by less than would matter, and not beyond all of random groups, matched groups and its own correlations on other pairs",
        )
    else:
        verdict, why = Verdict.OPEN, "more modular than matched groups, but not by more than chance"
    return Judgement(published, yes, row["q"], NAN, NAN, int(row["size"]), row["matched"], verdict, why)

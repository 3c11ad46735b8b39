"""C9 to C12, C15, C16 and C19: the co-activation of the rare-token neurons in rare-target contexts."""

from dataclasses import replace

import pandas as pd

from raretok.claims.declaration import claim
from raretok.claims.simulated_groups import ACTIVATIONS, GROUPS
from raretok.claims.verdicts import Estimate, Judgement, Row, Verdict, decide, interval_of, pick, published_estimate
from raretok.findings import coactivation
from raretok.findings.groups import ALIKE
from raretok.measure.effects import gated
from raretok.stats.resampling import LEVEL

QUESTION = "Do these neurons act together, apart from the others?"
NO_GROUP = "too few neurons are rare-token neurons by the controlled definition and have equals among the others"
UNLIKE = "beyond the control groups, but no groups of other neurons are enough like it to tell"
CONVENTION = "; but in a gated MLP the sign of a neuron is a convention"
WORTH = 0.05
"""Excess modularity over matched groups that would matter: the least modularity reported for rare-token neurons."""
CONTROLLED = "the controlled group"


def _beyond(
    table: pd.DataFrame,
    statistic: str,
    side: int,
    signed: bool,
    as_published: str,
    says: str,
    gated: bool = False,
) -> Judgement:
    """Judge whether a statistic of the controlled group lies beyond random and matched groups on one side.

    If the sign of the statistic is meaningful (``signed``), it must also lie beyond 0 on that side. In a ``gated`` MLP
    the sign of a neuron has no meaning.
    """
    row = pick(table, group="controlled", statistic=statistic, context="rare")
    published_row = pick(table, group="published", statistic=as_published, context="rare")
    published = published_estimate(published_row, "estimate", lambda r: _told(r, side, says))
    if row is None:
        return Judgement(Verdict.INCONCLUSIVE, NO_GROUP, published)
    places = [row[kind] if side > 0 else 1 - row[kind] for kind in ("random", "matched")]
    clear, contrary = (
        (row["low"] * side > 0 and row["high"] * side > 0),
        (row["low"] * side < 0 and row["high"] * side < 0),
    )
    beyond, opposite = min(places) >= 1 - LEVEL, max(places) <= LEVEL
    verdict, why = decide(
        (signed and contrary, Verdict.NOT_SUPPORTED, "its interval lies on the other side of zero"),
        ((beyond or opposite) and row["imbalance"] > ALIKE, Verdict.INCONCLUSIVE, UNLIKE),
        (
            beyond and (clear or not signed),
            Verdict.SUPPORTED,
            "beyond random groups, and beyond groups matched in mean, variance, firing rate and norm",
        ),
        (beyond, Verdict.INCONCLUSIVE, "beyond the control groups, but its interval holds zero"),
        (opposite, Verdict.NOT_SUPPORTED, "on the other side of random and of matched groups"),
        (True, Verdict.NULL, "random or matched groups of neurons are like it"),
    )
    if signed and gated and verdict in (Verdict.SUPPORTED, Verdict.NOT_SUPPORTED):
        why += CONVENTION
    null = min(places) if side > 0 else 1 - min(places)
    return Judgement(verdict, why, published, interval_of(row), int(row["size"]), null)


def _told(row: Row, side: int, says: str) -> bool:
    """Whether the published test would say yes, by the estimate's sign or by its side of the random groups' median."""
    return bool(row["estimate"] * side > 0) if says == "sign" else bool((row["random"] - 0.5) * side > 0)


@claim(
    "C9",
    "they span fewer dimensions",
    source="E",
    reported="d95/n 0.49 against 0.56",
    quantity="participation ratio / n",
    reads=(coactivation.statistics,),
    about=CONTROLLED,
    nulls=GROUPS,
    plants=[ACTIVATIONS["factors"]],
)
def dimension(statistics: pd.DataFrame) -> Judgement:
    """C9: the participation ratio is smaller than that of control groups."""
    return _beyond(statistics, "participation", -1, False, "components", "random")


@claim(
    "C10",
    "they co-activate with each other",
    source="E",
    reported="cosine > 0",
    quantity="mean correlation within",
    reads=(coactivation.statistics, gated),
    about=CONTROLLED,
    nulls=GROUPS,
    plants=[ACTIVATIONS["factors"]],
)
def within(statistics: pd.DataFrame, gated: bool) -> Judgement:
    """C10: members correlate positively, and more than members of control groups."""
    return _beyond(statistics, "within_r", 1, True, "within_cosine", "sign", gated)


@claim(
    "C11",
    "they avoid the other neurons",
    source="E",
    reported="cosine < 0",
    quantity="mean correlation with the rest",
    reads=(coactivation.statistics, gated),
    about=CONTROLLED,
    nulls=GROUPS,
    plants=[ACTIVATIONS["drive against the rest"]],
)
def avoidance(statistics: pd.DataFrame, gated: bool) -> Judgement:
    """C11: members correlate negatively with all others, and more so than members of control groups."""
    return _beyond(statistics, "rest_r", -1, True, "rest_cosine", "sign", gated)


@claim(
    "C12",
    "boost and suppress neurons co-activate, too",
    source="E (draft)",
    reported="> 0",
    quantity="mean correlation of boost with suppress",
    reads=(coactivation.across, gated),
    about=CONTROLLED,
    nulls=GROUPS,
    plants=[ACTIVATIONS["factors"]],
)
def across(across: pd.DataFrame, gated: bool) -> Judgement:
    """C12: boost and suppress members correlate positively, and more than their matches."""
    return _beyond(across, "between_r", 1, True, "between_cosine", "sign", gated)


@claim(
    "C19",
    "they share mutual information",
    source="D",
    reported="not recovered",
    quantity="Gaussian multi-information (nats)",
    reads=(coactivation.statistics,),
    about=CONTROLLED,
    nulls=GROUPS,
    plants=[ACTIVATIONS["factors"]],
)
def information(statistics: pd.DataFrame) -> Judgement:
    """C19: members share more Gaussian information than members of control groups."""
    return _beyond(statistics, "information", 1, False, "information", "random")


@claim(
    "C15",
    "they do not form clusters",
    source="N",
    reported="Q .05–.11 against .04–.09",
    quantity="signed modularity Q",
    reads=(coactivation.clusters,),
    about=CONTROLLED,
    threshold=WORTH,
    nulls=[ACTIVATIONS["communities"]],
    plants=[ACTIVATIONS["independent"]],
)
def no_clusters(clusters: pd.DataFrame) -> Judgement:
    """C15: the modularity of the group is that of random or matched groups, or of its own weights on other pairs."""
    row = pick(clusters, group="controlled", resolution=1.0)
    published_row = pick(clusters, group="published", resolution=1.0)
    published = published_estimate(published_row, "q", lambda r: r["random"] < 1 - LEVEL)
    if row is None:
        return Judgement(Verdict.INCONCLUSIVE, NO_GROUP, published)
    verdict, why = decide(
        (
            row["imbalance"] > ALIKE,
            Verdict.INCONCLUSIVE,
            "no groups of other neurons are enough like it to tell",
        ),
        (
            all(row[kind] >= 1 - LEVEL for kind in ("shuffled", "random", "matched")),
            Verdict.NOT_SUPPORTED,
            "more modular than random and matched groups and than its own correlations on other pairs",
        ),
        (
            row["q"] - row["matched_mean"] < WORTH,
            Verdict.SUPPORTED,
            "more modular than matched groups by less than would matter, and not beyond all of random groups, "
            "matched groups and its own correlations on other pairs",
        ),
        (True, Verdict.INCONCLUSIVE, "more modular than matched groups, but not by more than chance"),
    )
    return Judgement(verdict, why, published, Estimate(row["q"]), int(row["size"]), row["matched"])


@claim(
    "C16",
    "2.8B is the exception: it has clusters",
    source="D",
    reported="significant",
    quantity="signed modularity Q",
    reads=(coactivation.clusters,),
    about=CONTROLLED,
    only="pythia-2.8b",
    threshold=WORTH,
    nulls=GROUPS,
    plants=[ACTIVATIONS["communities"]],
)
def clusters(clusters: pd.DataFrame) -> Judgement:
    """C16: the model is an exception to C15."""
    judgement = no_clusters(clusters)
    says = {"yes": "no", "no": "yes"}.get(judgement.published.says, judgement.published.says)
    opposite = {Verdict.NOT_SUPPORTED: Verdict.SUPPORTED, Verdict.SUPPORTED: Verdict.NULL}
    published = replace(judgement.published, says=says)
    return replace(judgement, published=published, verdict=opposite.get(judgement.verdict, judgement.verdict))

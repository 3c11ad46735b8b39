"""C1 to C6 and C8: the rank curve."""

import numpy as np
import pandas as pd

from raretok.claims.declaration import claim
from raretok.claims.simulated_curves import BREAKS, EXCESS, LABELS, POWER_LAW, RANK
from raretok.claims.verdicts import (
    Estimate,
    Judgement,
    Row,
    Verdict,
    decide,
    interval_of,
    pick_or_missing,
    yes_if,
)
from raretok.findings import regimes
from raretok.stats.rankcurve import HEAD, MIDDLE_END
from raretok.stats.resampling import LEVEL

QUESTION = "Do a few neurons matter for rare tokens, and do the neurons fall into three regimes?"
NOT_REPEATED = "the neurons' effects do not repeat in other documents"
WORTH = 0.5
"""Difference of two head excesses that would matter, in units of ln: a factor of 1.6 in the effects of the head."""
CLOSE = 2.0
"""Largest ratio of odds between either end of a share's interval and the reported share that the interval holds."""


def curve(statistics: pd.DataFrame, statistic: str, form: str = "controlled", band: str = "rare") -> Row:
    """Return one statistic of one rank curve of net effects; all values are missing if the model has no such curve."""
    return pick_or_missing(statistics, statistic=statistic, form=form, band=band, measure="net")


def repeats(statistics: pd.DataFrame) -> bool:
    """Whether the neurons' effects on rare targets agree between halves more than noise would."""
    return bool(curve(statistics, "agreement")["departs"] == 1)


def neurons_in(tails: pd.DataFrame) -> int:
    """Return the number of neurons of the layer."""
    return int(tails["neurons"].iloc[0]) if len(tails) else 0


@claim(
    "C1",
    "a few neurons have outsize influence on rare tokens",
    source="E",
    reported="qualitative",
    quantity=f"share of the first {HEAD} in Σ|effect|",
    reads=(regimes.statistics, regimes.contrasts, regimes.tails),
    nulls=LABELS,
    plants=BREAKS,
)
def influence(statistics: pd.DataFrame, contrasts: pd.DataFrame, tails: pd.DataFrame) -> Judgement:
    """C1: effects are concentrated beyond light tails, and the leaders matter more for rare targets.

    Common targets that are as hard as the rare ones are the comparison.
    """
    share, published_share = curve(statistics, "top_share"), curve(statistics, "top_share", "published")
    lead = pick_or_missing(contrasts, statistic="lead", other="matched")
    verdict, why = decide(
        (not repeats(statistics), Verdict.NULL, NOT_REPEATED),
        (
            share["departs"] != 1,
            Verdict.NULL,
            "effects that are no more concentrated than light-tailed ones would look the same",
        ),
        (
            lead["low"] > 0 and lead["p"] <= LEVEL,
            Verdict.SUPPORTED,
            "concentrated beyond light tails, and the leaders' effects, in the direction that they have on rare "
            "targets, are smaller on common ones as hard",
        ),
        (
            lead["high"] < 0,
            Verdict.NOT_SUPPORTED,
            "the leaders' effects, in the direction that they have on rare targets, are larger on common ones as hard",
        ),
        (
            True,
            Verdict.INCONCLUSIVE,
            "concentrated, but whether on rare targets rather than on hard ones cannot be told",
        ),
    )
    published = Estimate(published_share["estimate"], says="yes")
    return Judgement(verdict, why, published, interval_of(share), neurons_in(tails), share["null"])


def _share(
    statistics: pd.DataFrame,
    tails: pd.DataFrame,
    published: pd.DataFrame,
    name: str,
    bends: tuple[str, ...],
    reported: float,
    fixed: str,
) -> Judgement:
    """Judge a share of neurons between breaks, which exist if the curve bends more than under light-tailed effects."""
    share = curve(statistics, name)
    published_row = pick_or_missing(published, positions="rare", neurons_in="all")
    rows = [curve(statistics, b) for b in bends]
    there = "the break exists" if len(bends) == 1 else "the breaks exist"
    verdict, why = decide(
        (not repeats(statistics), Verdict.NULL, NOT_REPEATED),
        (
            not all(row["departs"] == 1 for row in rows),
            Verdict.NULL,
            "the curve bends there no more than that of independent effects of one kind",
        ),
        (
            not share["low"] <= reported <= share["high"],
            Verdict.NOT_SUPPORTED,
            f"{there}, but the interval of the share does not hold the reported one",
        ),
        (
            max(_odds_ratio(share["high"], reported), _odds_ratio(reported, share["low"])) > CLOSE,
            Verdict.INCONCLUSIVE,
            f"{there}, but the interval of the share also holds half or twice the odds",
        ),
        (True, Verdict.SUPPORTED, f"{there} and the interval of the share holds the reported one"),
    )
    null = min(row["null"] for row in rows)
    as_published = Estimate(float(published_row[fixed]), says="yes (fixed)")
    return Judgement(verdict, why, as_published, interval_of(share), neurons_in(tails), null)


def _odds_ratio(share: float, other: float) -> float:
    against = (1 - share) * other
    return share * (1 - other) / against if against else np.inf


SHARE_READS = (regimes.statistics, regimes.tails, regimes.published)


@claim(
    "C2",
    "a plateau holds this share of the neurons",
    source="E",
    reported="1.7 %",
    quantity="neurons before the first break",
    reads=SHARE_READS,
    threshold=CLOSE,
    nulls=RANK,
    plants=BREAKS,
)
def plateau_share(statistics: pd.DataFrame, tails: pd.DataFrame, published: pd.DataFrame) -> Judgement:
    """C2: the share of neurons before the first break, where the curve flattens towards the head, is as reported."""
    return _share(statistics, tails, published, "plateau_share", ("flattening",), 0.017, "head")


@claim(
    "C3",
    "a power law holds this share",
    source="E",
    reported="10.9 %",
    quantity="neurons between the breaks",
    reads=SHARE_READS,
    threshold=CLOSE,
    nulls=RANK,
    plants=BREAKS,
)
def middle_share(statistics: pd.DataFrame, tails: pd.DataFrame, published: pd.DataFrame) -> Judgement:
    """C3: the share of neurons between the breaks is as reported."""
    return _share(statistics, tails, published, "middle_share", ("flattening", "steepening"), 0.109, "middle")


@claim(
    "C4",
    "a rapid decay holds the rest",
    source="E",
    reported="87.4 %",
    quantity="neurons after the second break",
    reads=SHARE_READS,
    threshold=CLOSE,
    nulls=RANK,
    plants=BREAKS,
)
def decay_share(statistics: pd.DataFrame, tails: pd.DataFrame, published: pd.DataFrame) -> Judgement:
    """C4: the share of neurons after the second break, where the curve steepens, is as reported."""
    return _share(statistics, tails, published, "decay_share", ("steepening",), 0.874, "tail")


@claim(
    "C5",
    "the middle is a power law",
    source="E",
    reported="high R²",
    quantity="exponent α of the effects' distribution",
    reads=(regimes.statistics, regimes.tails),
    nulls=RANK,
    plants=POWER_LAW,
)
def power_law(statistics: pd.DataFrame, tails: pd.DataFrame) -> Judgement:
    """C5: the distribution of the effects is a power law over head and middle, and needs nothing more general there."""
    tail = pick_or_missing(tails, band="rare")
    r2 = curve(statistics, "middle_r2", "published")["estimate"]
    candidates = ("lognormal", "stretched exponential", "truncated power law")
    rivals = [rival for rival in candidates if tail[f"{rival} nested"] <= LEVEL]
    beats_exponential = tail["exponential ratio"] > 0 and tail["exponential p"] <= LEVEL
    verdict, why = decide(
        (not repeats(statistics), Verdict.NULL, NOT_REPEATED),
        (
            tail["p"] <= LEVEL,
            Verdict.NOT_SUPPORTED,
            "the distribution of the effects does not fit a power law",
        ),
        (
            rivals,
            Verdict.NOT_SUPPORTED,
            f"over head and middle it is too simple: {', '.join(rivals)} fit{'s' * (len(rivals) == 1)} better",
        ),
        (
            tail["tail"] >= np.exp(MIDDLE_END) and beats_exponential,
            Verdict.SUPPORTED,
            "a power law fits from the head through the middle, and no rival fits better",
        ),
        (
            True,
            Verdict.INCONCLUSIVE,
            "a power law fits, but only fewer neurons than head and middle, or no better than an exponential",
        ),
    )
    alpha, error = float(tail["alpha"]), float(tail["error"])
    controlled = Estimate(alpha, alpha - 1.96 * error, alpha + 1.96 * error)
    return Judgement(verdict, why, Estimate(r2, says=yes_if(r2 > 0.9)), controlled, int(tail["tail"]), tail["p"])


def departure(statistics: pd.DataFrame, tails: pd.DataFrame, above: bool) -> Judgement:
    """Judge whether the head lies above (or below) the middle's line by more than in any null."""
    excess, published_excess = (
        curve(statistics, "head_excess"),
        curve(statistics, "head_excess", "published")["estimate"],
    )
    side, other = ("above", "below") if above else ("below", "above")
    verdict, why = decide(
        (not repeats(statistics), Verdict.NULL, NOT_REPEATED),
        (
            not np.isfinite(excess["low"]),
            Verdict.INCONCLUSIVE,
            "too few ranks with a held-out effect of their own sign to fit the middle",
        ),
        (
            excess["high"] < 0 if above else excess["low"] > 0,
            Verdict.NOT_SUPPORTED,
            f"the head lies {other} the line instead",
        ),
        (
            excess["departs"] == (1 if above else -1),
            Verdict.SUPPORTED,
            f"the head lies {side} the line by more than in any null",
        ),
        (True, Verdict.NULL, "noise or independent effects of one kind give a head like this"),
    )
    published = Estimate(published_excess, says=yes_if((published_excess > 0) == above))
    return Judgement(verdict, why, published, interval_of(excess), neurons_in(tails), excess["null"])


@claim(
    "C6a",
    "the head departs from the power law: it is flat",
    source="E",
    reported="a plateau",
    quantity="head excess H < 0",
    reads=(regimes.statistics, regimes.tails),
    nulls=RANK,
    plants=BREAKS,
)
def flat_head(statistics: pd.DataFrame, tails: pd.DataFrame) -> Judgement:
    """C6, read as a literal plateau: the head is flatter than the middle's line."""
    return departure(statistics, tails, above=False)


@claim(
    "C6b",
    "the head departs from the power law: it lies above",
    source="E",
    reported="points above the line",
    quantity="head excess H > 0",
    reads=(regimes.statistics, regimes.tails),
    nulls=(*RANK, *POWER_LAW),
    plants=EXCESS,
)
def head_excess(statistics: pd.DataFrame, tails: pd.DataFrame) -> Judgement:
    """C6, as the published code looks for it: the head lies above the line."""
    return departure(statistics, tails, above=True)


@claim(
    "C8",
    "a plateau for rare tokens, none for common ones",
    source="N, D",
    reported="qualitative",
    quantity="H(rare) − H(matched common)",
    reads=(regimes.statistics, regimes.contrasts, regimes.tails),
    threshold=WORTH,
    nulls=LABELS,
    plants=BREAKS,
)
def rare_only(statistics: pd.DataFrame, contrasts: pd.DataFrame, tails: pd.DataFrame) -> Judgement:
    """C8: the head departs for rare targets, and more than for matched common ones."""
    contrast = pick_or_missing(contrasts, statistic="head_excess", other="matched")
    rare, common = (curve(statistics, "head_excess", "published", band)["estimate"] for band in ("rare", "common"))
    readings = [departure(statistics, tails, above).verdict == Verdict.SUPPORTED for above in (False, True)]
    wanted = -1 if readings[0] else 1
    difference, low, high = float(contrast["difference"]), float(contrast["low"]), float(contrast["high"])
    apart = contrast["p"] <= LEVEL and np.sign(difference) == wanted and low * high > 0
    verdict, why = decide(
        (not repeats(statistics), Verdict.NULL, NOT_REPEATED),
        (
            not np.isfinite(low),
            Verdict.INCONCLUSIVE,
            "the curve of matched common targets is not measured well enough",
        ),
        (
            any(readings) and apart,
            Verdict.SUPPORTED,
            "the head departs for rare targets, and more than for common targets as hard",
        ),
        (
            low > -WORTH and high < WORTH,
            Verdict.NULL,
            "the heads for rare and for common targets as hard are alike",
        ),
        (True, Verdict.INCONCLUSIVE, "the difference to common targets as hard is too uncertain to tell"),
    )
    published = Estimate(rare - common, says=yes_if(rare > 0 >= common))
    return Judgement(verdict, why, published, Estimate(difference, low, high), neurons_in(tails), contrast["p"])

"""Rules of C1 to C6 and C8: the rank curve."""

import numpy as np

from raretok.claims.verdicts import NOT_REPEATED, Evidence, Judgement, Verdict, neurons, repeats
from raretok.stats.rankcurve import MIDDLE_END
from raretok.stats.resampling import LEVEL

WORTH = 0.5
"""Difference of two head excesses that would matter, in units of ln: a factor of 1.6 in the effects of the head."""
CLOSE = 2
"""Ratio of odds up to which the interval of a share may reach from the reported share that it holds, on either side."""


def influence(evidence: Evidence) -> Judgement:
    """C1: concentrated beyond light tails, and the leaders matter more for rare targets than for common ones as hard."""
    share, lead, told = evidence.row("top_share"), evidence.contrast("lead"), evidence.row("top_share", "published")
    if not repeats(evidence):
        verdict, why = Verdict.NULL, NOT_REPEATED
    elif share["departs"] != 1:
        verdict, why = Verdict.NULL, "effects that are no more concentrated than light-tailed ones would look the same"
    elif lead["low"] > 0 and lead["p"] <= LEVEL:
        verdict, why = (
            Verdict.SUPPORTED,
            "concentrated beyond light tails, and the leaders' effects, in the direction that they have on rare targets, are smaller on common ones as hard",
        )
    elif lead["high"] < 0:
        verdict, why = (
            Verdict.AGAINST,
            "the leaders' effects, in the direction that they have on rare targets, are larger on common ones as hard",
        )
    else:
        verdict, why = Verdict.OPEN, "concentrated, but whether on rare targets rather than on hard ones cannot be told"
    n, null = neurons(evidence), share["null"]
    return Judgement(told["estimate"], "yes", share["estimate"], share["low"], share["high"], n, null, verdict, why)


def _share(evidence: Evidence, name: str, bends: tuple[str, ...], reported: float, fixed: str) -> Judgement:
    """Shares of neurons between breaks that exist: the curve bends there more than under light-tailed effects."""
    share = evidence.row(name)
    told = evidence.published[(evidence.published["positions"] == "rare") & (evidence.published["neurons_in"] == "all")]
    rows = [evidence.row(b) for b in bends]
    there = "the break exists" if len(bends) == 1 else "the breaks exist"
    if not repeats(evidence):
        verdict, why = Verdict.NULL, NOT_REPEATED
    elif not all(row["departs"] == 1 for row in rows):
        verdict, why = Verdict.NULL, "the curve bends there no more than that of independent effects of one kind"
    elif not share["low"] <= reported <= share["high"]:
        verdict, why = Verdict.AGAINST, f"{there}, but the interval of the share does not hold the reported one"
    elif max(_odds_ratio(share["high"], reported), _odds_ratio(reported, share["low"])) > CLOSE:
        verdict, why = Verdict.OPEN, f"{there}, but the interval of the share also holds half or twice the odds"
    else:
        verdict, why = Verdict.SUPPORTED, f"{there} and the interval of the share holds the reported one"
    null = min(row["null"] for row in rows)
    value = float(told[fixed].iloc[0])
    low, high = share["low"], share["high"]
    return Judgement(value, "yes (fixed)", share["estimate"], low, high, neurons(evidence), null, verdict, why)


def _odds_ratio(share: float, other: float) -> float:
    against = (1 - share) * other
    return share * (1 - other) / against if against else np.inf


def plateau_share(evidence: Evidence) -> Judgement:
    """C2: share before the first break, where the curve flattens towards the head."""
    return _share(evidence, "plateau_share", ("flattening",), 0.017, "head")


def middle_share(evidence: Evidence) -> Judgement:
    """C3: share between the breaks."""
    return _share(evidence, "middle_share", ("flattening", "steepening"), 0.109, "middle")


def decay_share(evidence: Evidence) -> Judgement:
    """C4: share after the second break, where the curve steepens."""
    return _share(evidence, "decay_share", ("steepening",), 0.874, "tail")


def power_law(evidence: Evidence) -> Judgement:
    """C5: the distribution of the effects is a power law over head and middle, and nothing more general is needed there."""
    tail = evidence.tails[evidence.tails["band"] == "rare"].iloc[0]
    r2 = evidence.row("middle_r2", "published")
    rivals = [
        rival
        for rival in ("lognormal", "stretched exponential", "truncated power law")
        if tail[f"{rival} nested"] <= LEVEL
    ]
    beats_exponential = tail["exponential ratio"] > 0 and tail["exponential p"] <= LEVEL
    wide = tail["tail"] >= np.exp(MIDDLE_END)
    if not repeats(evidence):
        verdict, why = Verdict.NULL, NOT_REPEATED
    elif tail["p"] <= LEVEL:
        verdict, why = Verdict.AGAINST, "the distribution of the effects does not fit a power law"
    elif rivals:
        verdict, why = (
            Verdict.AGAINST,
            f"over head and middle it is too simple: {', '.join(rivals)} fit{'s' * (len(rivals) == 1)} better",
        )
    elif wide and beats_exponential:
        verdict, why = Verdict.SUPPORTED, "a power law fits from the head through the middle, and no rival fits better"
    else:
        verdict, why = (
            Verdict.OPEN,
            "a power law fits, but only fewer neurons than head and middle, or no better than an exponential",
        )
    says = "yes" if r2["estimate"] > 0.9 else "no"
    alpha, error = float(tail["alpha"]), float(tail["error"])
    return Judgement(
        r2["estimate"],
        says,
        alpha,
        alpha - 1.96 * error,
        alpha + 1.96 * error,
        int(tail["tail"]),
        tail["p"],
        verdict,
        why,
    )


def departure(evidence: Evidence, above: bool) -> Judgement:
    """Whether the head lies above (or below) the middle's line, by more than in any null."""
    excess, told = evidence.row("head_excess"), evidence.row("head_excess", "published")
    side = 1 if above else -1
    other_way = excess["high"] < 0 if above else excess["low"] > 0
    if not repeats(evidence):
        verdict, why = Verdict.NULL, NOT_REPEATED
    elif not np.isfinite(excess["low"]):
        verdict, why = Verdict.OPEN, "too few ranks with a held-out effect of their own sign to fit the middle"
    elif other_way:
        verdict, why = Verdict.AGAINST, f"the head lies {'below' if above else 'above'} the line instead"
    elif excess["departs"] == side:
        verdict, why = (
            Verdict.SUPPORTED,
            f"the head lies {'above' if above else 'below'} the line by more than in any null",
        )
    else:
        verdict, why = Verdict.NULL, "noise or independent effects of one kind give a head like this"
    says = "yes" if (told["estimate"] > 0) == above else "no"
    low, high = excess["low"], excess["high"]
    return Judgement(
        told["estimate"], says, excess["estimate"], low, high, neurons(evidence), excess["null"], verdict, why
    )


def flat_head(evidence: Evidence) -> Judgement:
    """C6, literal plateau: the head is flatter than the middle's line."""
    return departure(evidence, above=False)


def head_excess(evidence: Evidence) -> Judgement:
    """C6, as the published code looks for it: the head lies above the line."""
    return departure(evidence, above=True)


def rare_only(evidence: Evidence) -> Judgement:
    """C8: the head departs for rare targets, and more than for matched common ones."""
    contrast = evidence.contrast("head_excess")
    told = (
        evidence.row("head_excess", "published")["estimate"],
        evidence.row("head_excess", "published", "common")["estimate"],
    )
    readings = [departure(evidence, above).verdict == Verdict.SUPPORTED for above in (False, True)]
    wanted = -1 if readings[0] else 1
    difference, low, high = float(contrast["difference"]), float(contrast["low"]), float(contrast["high"])
    if not repeats(evidence):
        verdict, why = Verdict.NULL, NOT_REPEATED
    elif not np.isfinite(low):
        verdict, why = Verdict.OPEN, "the curve of matched common targets is not measured well enough"
    elif any(readings) and contrast["p"] <= LEVEL and np.sign(difference) == wanted and low * high > 0:
        verdict, why = Verdict.SUPPORTED, "the head departs for rare targets, and more than for common targets as hard"
    elif low > -WORTH and high < WORTH:
        verdict, why = Verdict.NULL, "the heads for rare and for common targets as hard are alike"
    else:
        verdict, why = Verdict.OPEN, "the difference to common targets as hard is too uncertain to tell"
    n = neurons(evidence)
    says = "yes" if told[0] > 0 >= told[1] else "no"
    return Judgement(told[0] - told[1], says, difference, low, high, n, contrast["p"], verdict, why)

"""Rules of C20, C22 and C23: groups against single neurons, kinds of ablation, and layers."""

import numpy as np

from raretok.claims.coactivation import NAN
from raretok.claims.verdicts import Evidence, Judgement, Verdict
from raretok.stats.resampling import LEVEL

OVERLAP = 1 / 3
"""Jaccard similarity above which two groups are much the same: half the members of each are in the other."""
SIMILAR = 0.8
"""Rank correlation, freed of noise, from which two kinds of ablation say the same of the neurons."""


def best_group(evidence: Evidence) -> Judgement:
    """C20: a group chosen for its joint effect overlaps little with the best single neurons, and does more in other documents."""
    assert evidence.joint_groups is not None
    if not len(evidence.joint_groups):
        return Judgement(NAN, "–", NAN, NAN, NAN, 0, NAN, Verdict.OPEN, "no group could be built")
    row = dict(evidence.joint_groups.iloc[-1])
    if row["jaccard"] > OVERLAP:
        verdict, why = Verdict.AGAINST, "most of the group chosen together are the best single neurons"
    elif row["low"] > 0:
        verdict, why = Verdict.SUPPORTED, "little overlap, and the group chosen together does more in other documents"
    elif row["high"] < 0:
        verdict, why = Verdict.AGAINST, "little overlap, but the best single neurons do more in other documents"
    else:
        verdict, why = Verdict.NULL, "little overlap, but neither group does more in other documents"
    says = "yes" if row["jaccard"] <= OVERLAP else "no"
    return Judgement(
        row["jaccard"], says, row["gain"], row["low"], row["high"], int(row["documents"]), NAN, verdict, why
    )


def any_ablation(evidence: Evidence) -> Judgement:
    """C22: mean, zero and resample ablation rank the neurons alike at rare targets."""
    assert evidence.replacements is not None
    table = evidence.replacements
    part = table[(table["band"] == "rare with controls") & (table["first"] == "mean")] if len(table) else table
    if not len(part):
        return Judgement(NAN, "–", NAN, NAN, NAN, 0, NAN, Verdict.OPEN, "there are no rare targets with controls")
    row = dict(part.sort_values("corrected").iloc[0])
    apart = part.loc[part["high"] < SIMILAR, "second"]
    if (part["low"] >= SIMILAR).all():
        verdict, why = Verdict.SUPPORTED, "all kinds of ablation rank the neurons alike"
    elif len(apart):
        verdict, why = Verdict.AGAINST, f"mean and {' and '.join(apart)} ablation rank the neurons differently"
    else:
        verdict, why = Verdict.OPEN, "whether all kinds of ablation rank the neurons alike, the data cannot tell"
    return Judgement(NAN, "–", row["corrected"], row["low"], row["high"], int(row["neurons"]), NAN, verdict, why)


def last_layer(evidence: Evidence) -> Judgement:
    """C23: no other layer's neurons act as much on rare targets in particular."""
    assert evidence.layer_effects is not None
    table = evidence.layer_effects
    if len(table) < 2:
        return Judgement(NAN, "–", NAN, NAN, NAN, 0, NAN, Verdict.OPEN, "there is no other layer to compare with")
    if not np.isfinite(table["energy"]).all():
        return Judgement(
            NAN, "–", NAN, NAN, NAN, 0, NAN, Verdict.OPEN, "too few rare targets with controls in its windows"
        )
    row = dict(table.iloc[-1])
    first = int(table["energy"].argmax())
    if row["above"] >= 1 - LEVEL and row["low"] > 0:
        verdict, why = Verdict.SUPPORTED, f"no other layer has as much, in at least {1 - LEVEL:.0%} of the resamples"
    elif row["ahead"]:
        verdict, why = Verdict.AGAINST, f"another layer has more (most: layer {first} of 0 to {len(table) - 1})"
    else:
        verdict, why = (
            Verdict.OPEN,
            f"which layer has most the data cannot tell (it seems: layer {first} of 0 to {len(table) - 1})",
        )
    return Judgement(NAN, "–", row["share"], NAN, NAN, int(row["documents"]), NAN, verdict, why)

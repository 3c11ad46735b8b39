"""C20: groups against single neurons."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from raretok.claims.declaration import Simulation, claim
from raretok.claims.verdicts import Estimate, Judgement, Verdict, decide, interval_of, yes_if
from raretok.findings import intervention
from raretok.stats.streams import stream

QUESTION = "Do groups of neurons do more than their members?"
OVERLAP = 1 / 3
"""Jaccard similarity above which two groups are much the same: more than half the members of each are in the other."""


def material(study: Any) -> dict[str, ndarray]:
    """Return the joint effects of a study's groups."""
    joint_effects: dict[str, ndarray] = study.get(intervention.best_groups)
    return joint_effects


def simulated(kind: str, real: Mapping[str, ndarray], seed: int) -> dict[Any, pd.DataFrame]:
    """Simulate two groups without a common member whose joint effects differ by noise, or by a planted gain."""
    rng = stream(seed, "claims.intervention", kind)
    weight = real["weight"]
    gap = real["greedy_joint"] - real["single_joint"]
    gap = gap - np.outer(gap.sum(1) / weight.sum(), weight)
    flipped = gap * rng.choice([-1.0, 1.0], len(weight))
    if kind == "gain":
        flipped = flipped + 4.5 * np.sqrt((gap**2).sum(1))[:, None] * weight / weight.sum()
    apart = {"greedy": np.arange(len(gap)), "single": np.arange(len(gap)) + len(gap)}
    sets = {**real, **apart, "greedy_joint": real["single_joint"] + flipped}
    return {intervention.joint_groups: intervention.joint_groups(sets, seed)}


NOISE, GAIN = (Simulation(kind, material, partial(simulated, kind)) for kind in ("gain of noise", "gain"))


@claim(
    "C20",
    "the best single neurons are not the best group",
    source="E (draft)",
    reported="little overlap",
    quantity="gain of the group chosen together (nats)",
    reads=(intervention.joint_groups,),
    threshold=OVERLAP,
    nulls=[NOISE],
    plants=[GAIN],
)
def best_group(joint: pd.DataFrame) -> Judgement:
    """C20: a group chosen for its joint effect overlaps little with the best single neurons and has a larger effect.

    The effects are compared in other documents.
    """
    if not len(joint):
        return Judgement(Verdict.INCONCLUSIVE, "no group could be built")
    row = dict(joint.iloc[-1])
    verdict, why = decide(
        (
            row["jaccard"] > OVERLAP,
            Verdict.NOT_SUPPORTED,
            "most of the group chosen together are the best single neurons",
        ),
        (
            row["low"] > 0,
            Verdict.SUPPORTED,
            "little overlap, and the group chosen together does more in other documents",
        ),
        (
            row["high"] < 0,
            Verdict.NOT_SUPPORTED,
            "little overlap, but the best single neurons do more in other documents",
        ),
        (True, Verdict.NULL, "little overlap, but neither group does more in other documents"),
    )
    published = Estimate(row["jaccard"], says=yes_if(row["jaccard"] <= OVERLAP))
    return Judgement(verdict, why, published, interval_of(row, "gain"), int(row["documents"]))

"""C21: whether the rare-token neurons are entropy or token-frequency neurons."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from raretok.claims.coactivation import CONTROLLED
from raretok.claims.declaration import Simulation, claim
from raretok.claims.verdicts import Judgement, Verdict, decide, interval_of, pick, published_estimate
from raretok.findings import neuron_types
from raretok.stats.resampling import LEVEL
from raretok.stats.streams import stream

QUESTION = "Are they a kind of neuron that was known before?"
MOST = 0.5
"""The claim requires that more than this share of the rare-token neurons is of either kind."""
NEURONS, OF_KIND, SIZE, SHARED = 1500, 60, 30, 26
"""Numbers of neurons of a simulated layer, of a kind, of a group, and of a planted group's members of the kind."""


def simulated(kind: str, _: Any, seed: int) -> dict[Any, pd.DataFrame]:
    """Simulate a group that is drawn at random from a layer, or one that is mostly of one kind."""
    rng = stream(seed, "claims.neuron_types", kind)
    of_kind = np.arange(NEURONS) < OF_KIND
    members = rng.permutation(NEURONS)[:SIZE]
    if kind == "group of a kind":
        others = OF_KIND + rng.permutation(NEURONS - OF_KIND)[: SIZE - SHARED]
        members = np.concatenate([np.arange(SHARED), others])
    controlled = np.isin(np.arange(NEURONS), members)
    kinds = pd.DataFrame({"entropy_neuron": of_kind, "frequency_neuron": False, "either": of_kind})
    sets = pd.DataFrame({"controlled": controlled, "published": controlled})
    return {neuron_types.type_overlap: neuron_types.type_overlap(kinds, sets)}


def material(study: Any) -> None:
    """Return nothing, because the simulated layers use nothing of the study."""


RANDOM, OF_A_KIND = (
    Simulation(kind, material, partial(simulated, kind)) for kind in ("random group", "group of a kind")
)


@claim(
    "C21",
    "they are entropy or token-frequency neurons",
    source="reviewers of D",
    reported="–",
    quantity="share of them that are of either kind",
    reads=(neuron_types.type_overlap,),
    about=CONTROLLED,
    threshold=MOST,
    nulls=[RANDOM],
    plants=[OF_A_KIND],
)
def known_types(overlap: pd.DataFrame) -> Judgement:
    """C21: more controlled rare-token neurons than by chance, and more than half of them, meet either criterion."""
    row, published_row = (pick(overlap, group=group, kind="either") for group in ("controlled", "published"))
    published = published_estimate(published_row, "share", lambda r: r["p"] <= LEVEL and r["share"] > MOST)
    if row is None or not row["size"]:
        why = "no neuron is a rare-token neuron by the controlled definition"
        return Judgement(Verdict.INCONCLUSIVE, why, published)
    more = row["p"] <= LEVEL
    verdict, why = decide(
        (
            not row["of_kind"],
            Verdict.INCONCLUSIVE,
            "no neuron of the layer meets either criterion, so that none of them could",
        ),
        (
            row["high"] < MOST and more,
            Verdict.NOT_SUPPORTED,
            "more of them than chance, but less than half",
        ),
        (row["high"] < MOST, Verdict.NOT_SUPPORTED, "less than half of them, and no more than chance"),
        (more and row["low"] > MOST, Verdict.SUPPORTED, "more than half of them, and more than chance"),
        (not more, Verdict.NULL, "no more of them than of as many neurons at random"),
        (True, Verdict.INCONCLUSIVE, "more of them than chance, but whether half of them the data cannot tell"),
    )
    return Judgement(verdict, why, published, interval_of(row, "share"), int(row["size"]), row["p"])

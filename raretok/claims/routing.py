"""C17 and C18: what attention heads do to the rare-token neurons."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from raretok.claims.coactivation import CONTROLLED, NO_GROUP
from raretok.claims.declaration import Simulation, claim
from raretok.claims.verdicts import Judgement, Verdict, decide, interval_of, pick, published_estimate
from raretok.findings import routing
from raretok.findings.groups import Group
from raretok.findings.heads import HeadEffects
from raretok.stats.streams import stream

QUESTION = "Does attention send rare tokens to them?"
SIMILAR = 0.8
"""Rank correlation at and above which two rankings of the heads count as alike."""
WORTH = 0.05
"""Difference of two Gini coefficients that would matter."""
ALL = 2.0
"""Ratio of a whole layer's influence to that of one head at and above which the claim holds."""
NEURONS, SIZE = 150, 30
"""Numbers of neurons in a simulated data set and in the group within it."""


def material(study: Any, seed: int = 0) -> HeadEffects:
    """Return the effects of a study's heads on some of its neurons."""
    measured: HeadEffects = study.get(routing.head_effects)
    neurons = stream(seed, "claims.routing.neurons").permutation(measured.heads.shape[-1])[:NEURONS]
    return replace(measured, heads=measured.heads[..., neurons], layers=measured.layers[..., neurons])


def simulated(kind: str, real: HeadEffects, seed: int) -> dict[Any, pd.DataFrame]:
    """Simulate effects of heads that do not differ between the bands, and of layers.

    In the kind *heads exchanged*, half of the heads have the effects of other heads at rare targets. Layers do 3 times
    what their strongest head does in the kind *heads add up*, and 1.5 times in the others.
    """
    rng = stream(seed, "claims.routing", kind)
    windows = len(real.weight)
    drawn = rng.integers(0, windows, windows)
    heads, weight = real.heads[:, drawn].copy(), real.weight[drawn].copy()
    # The bands do not differ, because the values of the two are exchanged in random windows.
    with np.errstate(invalid="ignore", divide="ignore"):
        per = heads / weight[None, :, :, None]
    both = np.nanmean(per, axis=2, keepdims=True)
    per = np.where(np.isfinite(per), per, both)
    swap = rng.integers(0, 2, windows).astype(bool)
    per[:, swap] = per[:, swap][:, :, ::-1]
    heads = per * weight[None, :, :, None]
    if kind == "heads exchanged":
        some = rng.permutation(len(heads))[: len(heads) // 2]
        heads[some, :, 0] = heads[np.roll(some, 1), :, 0]
    layer_of, size = real.chosen.head // real.chosen.by_layer, heads.sum((1, 2, 3))
    strongest = [int(np.where(layer_of == layer, size, -1.0).argmax()) for layer in real.chosen.layer]
    times = 3.0 if kind == "heads add up" else 1.5
    whole = heads[strongest] * times * np.exp(0.2 * rng.standard_normal((len(strongest), windows, 1, 1)))
    group = rng.permutation(heads.shape[-1])[:SIZE]
    matching = pd.DataFrame(rng.standard_normal((heads.shape[-1], 2)), columns=["one", "two"])
    data = replace(real, heads=heads.astype(np.float32), layers=whole.astype(np.float32), weight=weight)
    sets = {"controlled": Group("B", group, group)}
    return {routing.statistics: routing.statistics(data, sets, matching, seed, draws=20)}


EXCHANGED, ALONE, BANDS, ADD_UP = (
    Simulation(kind, material, partial(simulated, kind))
    for kind in ("heads exchanged", "strongest head alone", "bands exchanged", "heads add up")
)


@claim(
    "C17",
    "attention does not route rare tokens to them",
    source="N, D",
    reported="similar head influence",
    quantity="Spearman's ρ of the heads' influences at rare and common targets",
    reads=(routing.statistics,),
    about=CONTROLLED,
    threshold=SIMILAR,
    nulls=[EXCHANGED],
    plants=[BANDS],
)
def no_routing(statistics: pd.DataFrame) -> Judgement:
    """C17: the same heads influence the group at rare and at common targets, and are no more concentrated at either."""
    rho = pick(statistics, group="controlled", statistic="similarity")
    gap = pick(statistics, group="controlled", statistic="gini_difference")
    published_row = pick(statistics, group="published", statistic="similarity")
    published = published_estimate(published_row, "estimate", lambda r: r["estimate"] >= SIMILAR)
    if rho is None or gap is None:
        return Judgement(Verdict.INCONCLUSIVE, NO_GROUP, published)
    verdict, why = decide(
        (
            # Noise makes any two rankings differ, so at most SIMILAR of the agreement of two halves can be demanded.
            rho["high"] < np.minimum(SIMILAR, SIMILAR * rho["ceiling"]),
            Verdict.NOT_SUPPORTED,
            "other heads influence them at rare targets than at common ones",
        ),
        (
            gap["low"] > WORTH or gap["high"] < -WORTH,
            Verdict.NOT_SUPPORTED,
            "their influence is more, or less, concentrated at rare targets than at common ones",
        ),
        (
            rho["low"] >= SIMILAR and gap["low"] >= -WORTH and gap["high"] <= WORTH,
            Verdict.SUPPORTED,
            "the same heads, as concentrated, at rare and at common targets",
        ),
        (True, Verdict.INCONCLUSIVE, "whether the heads are the same and as concentrated, the data cannot tell"),
    )
    return Judgement(verdict, why, published, interval_of(rho), int(rho["heads"]), gap["matched"])


@claim(
    "C18",
    "one head matters little, a whole layer a lot",
    source="D",
    reported="qualitative",
    quantity="a layer's influence over its strongest head's",
    reads=(routing.statistics,),
    about=CONTROLLED,
    threshold=ALL,
    nulls=[ALONE],
    plants=[ADD_UP],
)
def layer_against_head(statistics: pd.DataFrame) -> Judgement:
    """C18: a layer's heads together do at least twice what the strongest of them does.

    The claim is contradicted if they do less than twice what the average head of the model does.
    """
    row, published_row = (pick(statistics, group=group, statistic="ratio") for group in ("controlled", "published"))
    average = pick(statistics, group="controlled", statistic="average_ratio")
    published = published_estimate(published_row, "estimate", lambda r: r["estimate"] >= ALL)
    if row is None or average is None:
        return Judgement(Verdict.INCONCLUSIVE, NO_GROUP, published)
    verdict, why = decide(
        (row["low"] >= ALL, Verdict.SUPPORTED, "a whole layer does more than twice what its strongest head does"),
        (
            average["high"] < ALL,
            Verdict.NOT_SUPPORTED,
            "a whole layer does less than twice what the average head does",
        ),
        (
            row["high"] < ALL and average["low"] >= ALL,
            Verdict.INCONCLUSIVE,
            "a whole layer does more than twice what the average head does, but not twice what its strongest does",
        ),
        (
            True,
            Verdict.INCONCLUSIVE,
            "whether a whole layer does twice what its strongest head does, the data cannot tell",
        ),
    )
    return Judgement(verdict, why, published, interval_of(row), int(row["heads"]), row["matched"])

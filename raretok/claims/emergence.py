"""C7: the regimes over training."""

from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd

from raretok.claims.declaration import Simulation, claim
from raretok.claims.regimes import NOT_REPEATED
from raretok.claims.simulated_curves import NULLS, PLANTS, simulated_statistics, sums_of
from raretok.claims.verdicts import Estimate, Judgement, Verdict, decide, yes_if
from raretok.findings import emergence
from raretok.stats.sums import SplitHalfSums

QUESTION = "Do the regimes emerge in training?"


@lru_cache(maxsize=32)
def _statistics(kind: str, real: SplitHalfSums, seed: int) -> pd.DataFrame:
    return simulated_statistics(kind, real, seed)


def simulated_training(kind: str, real: SplitHalfSums, seed: int) -> dict[Any, pd.DataFrame]:
    """Simulate a trajectory of three checkpoints: the first is noise, and the others are data sets of the kind."""
    parts = [("noise", seed + 2), (kind, seed), (kind, seed + 1)]
    tables = {step: _statistics(name, real, s) for step, (name, s) in enumerate(parts)}
    return {emergence.departures: emergence.departures(tables)}


SIMULATIONS = {k: Simulation(k, sums_of, partial(simulated_training, k)) for k in (*NULLS, PLANTS[0])}


@claim(
    "C7",
    "the regimes emerge in training from a homogeneous start",
    source="E",
    reported="qualitative",
    quantity="first step at which H is outside its nulls for good",
    reads=(emergence.departures,),
    nulls=[SIMULATIONS[k] for k in NULLS],
    plants=[SIMULATIONS[PLANTS[0]]],
)
def emerges(departures: pd.DataFrame) -> Judgement:
    """C7: head and fall are outside their nulls from some step on to the last, and agreement is inside at step 0.

    See ``findings.emergence.departures``.
    """
    of = {row["statistic"]: row for row in departures.to_dict("records")}
    row, agreement = of["head_excess"], of["agreement"]
    head, fall = np.isfinite(row["first_step"]), of["steepening"]["side"] == 1
    verdict, why = decide(
        (agreement["outside_at_start"], Verdict.NOT_SUPPORTED, "the neurons already differ reliably at step 0"),
        (not np.isfinite(agreement["first_step"]), Verdict.NULL, NOT_REPEATED),
        (
            head and fall,
            Verdict.SUPPORTED,
            "from a start without structure, head and fall leave their nulls and stay outside",
        ),
        (
            head or fall,
            Verdict.INCONCLUSIVE,
            "effects emerge, but of head and fall only one leaves its nulls and stays outside",
        ),
        (True, Verdict.NULL, "effects emerge, but neither head nor fall leaves its nulls and stays outside"),
    )
    published = Estimate(row["published"], says=yes_if(row["published_yes"]))
    return Judgement(verdict, why, published, Estimate(row["first_step"]), int(row["steps"]), row["null"])

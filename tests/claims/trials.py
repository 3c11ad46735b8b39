"""Small versions of ``make calibration``: the rules' verdicts on simulated data that are made from made-up
measurements.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from raretok.ablation import DocumentSums
from raretok.claims import Claim, Verdict, all_claims
from raretok.claims.calibration import Key, try_rules
from raretok.claims.simulated_curves import BANDS
from raretok.claims.simulated_groups import NEURONS, Material
from raretok.stats.sums import SplitHalfSums

QUICK_NULLS, QUICK_PLANTS = 40, 12
"""Data sets of each kind for rules whose tables are quickly made."""
GROUP_NULLS, GROUP_PLANTS = 16, 8
"""The same for rules about groups of neurons."""


def claims_of(*rooms: str) -> list[Claim]:
    """The claims about some findings."""
    return [c for c in all_claims() if c.room in rooms]


def verdicts_on(counts: Mapping[Key, int], material: Any) -> pd.DataFrame:
    """The verdict of every rule on so many data sets of each simulation, all of one material; a row each: ``id``,
    ``data``, ``verdict``.
    """
    seeds = range(max(counts.values()))
    rows = [v for seed in seeds for key, n in counts.items() if seed < n for v in try_rules(key, seed, material)]
    return pd.DataFrame(rows)


def verdicts_on_room(room: str, material: Any) -> pd.DataFrame:
    """``verdicts_on`` the data sets of a room whose tables are quickly made."""
    counts = {(room, s.name): QUICK_NULLS for c in claims_of(room) for s in c.nulls}
    counts |= {(room, s.name): QUICK_PLANTS for c in claims_of(room) for s in c.plants}
    return verdicts_on(counts, material)


def curve_material(neurons: int = 600, documents: int = 100) -> SplitHalfSums:
    """Heavy-tailed effects, and errors that differ between neurons."""
    rng = np.random.default_rng(0)
    weight = rng.integers(5, 20, (documents, len(BANDS))).astype(float)
    effects = 0.02 * rng.standard_t(2, neurons)
    size = 0.02 * rng.lognormal(0, 0.5, neurons)
    net = weight[:, :, None] * (effects + size * rng.standard_t(5, (documents, len(BANDS), neurons)))
    sums = DocumentSums(net, np.abs(net), net**2, weight, weight.astype(np.int64), 0.0, 0.0)
    return SplitHalfSums(sums, np.arange(documents) % 2, BANDS)


def group_material() -> Material:
    """Activations with realistic means and skew, and normal rows."""
    rng = np.random.default_rng(0)
    activation = rng.gamma(1.0, 1.0, (1200, NEURONS)) * rng.lognormal(0, 0.5, NEURONS) - 0.3
    rows = rng.standard_normal((NEURONS, 200)).astype(np.float32)
    return Material(activation.astype(np.float32), rng.integers(0, 100, 1200), rows)


def finds_what_was_planted_and_little_else(claim: Claim, verdicts: pd.DataFrame) -> bool:
    """Whether a rule says *supported* on at most 5 % and three standard errors of each null, and on three in four
    data sets with a planted answer.
    """
    said = verdicts[verdicts["id"] == claim.id]
    supported = (said["verdict"] == Verdict.SUPPORTED).groupby(said["data"])
    few = [
        supported.sum()[null.name] <= 0.05 * n + 3 * np.sqrt(0.05 * 0.95 * n)
        for null in claim.nulls
        for n in [supported.size()[null.name]]
    ]
    return all(few) and all(supported.mean()[plant.name] >= 0.75 for plant in claim.plants)

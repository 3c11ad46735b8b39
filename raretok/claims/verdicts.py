"""What a rule reads and what it says."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

NOT_REPEATED = "the neurons' effects do not repeat in other documents"
Row = dict[str, Any]


class Verdict(StrEnum):
    """The four answers: for, against, as without anything to find, and that the data cannot tell."""

    SUPPORTED = "supported"
    AGAINST = "not supported"
    NULL = "indistinguishable from null"
    OPEN = "inconclusive"


@dataclass(frozen=True)
class Evidence:
    """The tables that rules read, by the names of ``Study``'s methods; None where a model has none, as those over training without checkpoints; ``gated``: whether its MLP is."""

    regimes: pd.DataFrame
    contrasts: pd.DataFrame
    tails: pd.DataFrame
    published: pd.DataFrame
    departures: pd.DataFrame | None = None
    coactivation: pd.DataFrame | None = None
    across: pd.DataFrame | None = None
    clusters: pd.DataFrame | None = None
    group_tails: pd.DataFrame | None = None
    growth: pd.DataFrame | None = None
    routing: pd.DataFrame | None = None
    joint_groups: pd.DataFrame | None = None
    kinship: pd.DataFrame | None = None
    replacements: pd.DataFrame | None = None
    layer_effects: pd.DataFrame | None = None
    model: str = ""
    gated: bool = False

    def row(self, statistic: str, form: str = "controlled", band: str = "rare") -> Row:
        """One statistic of one rank curve of net effects; NaN throughout if the model has no such curve."""
        t = self.regimes
        found = t[(t["statistic"] == statistic) & (t["form"] == form) & (t["band"] == band) & (t["measure"] == "net")]
        return _first(found)

    def contrast(self, statistic: str, other: str = "matched") -> Row:
        """One statistic of the rare curve less that of another band; NaN throughout if there is none."""
        found = self.contrasts[(self.contrasts["statistic"] == statistic) & (self.contrasts["other"] == other)]
        return _first(found)


def _first(found: pd.DataFrame) -> Row:
    return dict(found.iloc[0]) if len(found) else dict.fromkeys(map(str, found.columns), np.nan)


@dataclass(frozen=True)
class Judgement:
    """What a rule says: estimates as published and controlled, interval, n, the percentile in the null it is closest to, verdict and why."""

    published: float
    published_says: str
    controlled: float
    low: float
    high: float
    n: int
    null: float
    verdict: Verdict
    why: str


def repeats(evidence: Evidence) -> bool:
    """Whether the neurons' effects on rare targets agree between halves more than noise would."""
    return bool(evidence.row("agreement")["departs"] == 1)


def neurons(evidence: Evidence) -> int:
    """How many neurons the layer has."""
    return int(evidence.tails["neurons"].iloc[0]) if len(evidence.tails) else 0

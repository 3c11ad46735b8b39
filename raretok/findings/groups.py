"""The groups of neurons that findings compare with others, and the groups they are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from raretok.stats.groups import balance, matchable, matched_groups, random_groups
from raretok.stats.nulls import percentile
from raretok.stats.resampling import top

SIZES = (10, 33, 50, 100)
HEADLINE = ("published", "controlled")
"""The groups that claims are about."""
LEAST = 4
"""Members without which a group has no statistics."""
DRAWS = 1000
"""Control groups of each kind."""
ALIKE = 0.25
"""Controls are alike if their mean differs from the group's by at most so many standard deviations in every feature."""


@dataclass(frozen=True)
class Group:
    """Some neurons: the documents that their numbers come from (``all``, or half ``B``), their ids, and the ids that may not stand in for them."""

    part: str
    ids: Int[ndarray, " n"]
    kin: Int[ndarray, " kin"]


Groups = Mapping[str, Group]


@dataclass(frozen=True)
class Activity:
    """Activations at the ablated positions, with what a position counts for in each band, its document, and that document's half."""

    activation: Float[ndarray, "row neuron"]
    weight: Mapping[str, Float[ndarray, " row"]]
    document: Int[ndarray, " row"]
    half: Int[ndarray, " row"]

    def of(self, context: str, part: str) -> Float[ndarray, " row"]:
        """Weights of a context's positions, in all documents or in half B."""
        return self.weight[context] * (1.0 if part == "all" else self.half == 1)


def features(activity: Activity, norm: Float[ndarray, " neuron"]) -> pd.DataFrame:
    """What controls are matched in, a row a neuron, over all contexts: ``mean``, ``variance``, ``firing rate`` (share of positions above 0), ``norm`` of the output row.

    Variance and norm are logarithms, as they spread over orders of magnitude.
    """
    w = activity.weight["all"] / activity.weight["all"].sum()
    a = activity.activation
    mean = w @ a
    variance = np.maximum(w @ a**2 - mean**2, 1e-30)
    return pd.DataFrame(
        {"mean": mean, "log variance": np.log(variance), "firing rate": w @ (a > 0), "log norm": np.log(norm)}
    )


def choose(found: pd.DataFrame, net_a: Float[ndarray, " neuron"], matching: pd.DataFrame) -> Groups:
    """The groups by name; those chosen on A have their numbers from half B, the published ones from all documents.

    ``controlled`` holds the rare-token neurons that have equals among the others, so that the comparison is one of like with like; ``controlled, all`` every one.

    Args:
        found: ``identification.identify``.
        net_a: net effects on rare targets in half A, which the sizes are ranked by.
        matching: ``features``.
    """
    published = found["published"].to_numpy()
    helps = found["published_net"].to_numpy() > 0
    selected = np.flatnonzero(found["selected"].to_numpy())
    chosen = {
        "published boost": ("all", np.flatnonzero(published & helps)),
        "published suppress": ("all", np.flatnonzero(published & ~helps)),
        "published": ("all", np.flatnonzero(published)),
        "controlled": ("B", selected[matchable(matching.to_numpy(dtype=float), selected)]),
        "controlled, all": ("B", selected),
    }
    chosen |= {f"first {n}": ("B", np.flatnonzero(top(np.abs(net_a), n))) for n in SIZES if 2 * n < len(net_a)}
    kin = {name: selected if name == "controlled" else ids for name, (_, ids) in chosen.items()}
    return {
        name: Group(part, ids, kin[name])
        for name, (part, ids) in chosen.items()
        if len(ids) >= LEAST and len(kin[name]) < len(net_a) / 2
    }


def control_groups(
    matching: pd.DataFrame, group: Group, draws: int, rng: np.random.Generator
) -> dict[str, Int[ndarray, "draw n"]]:
    """Groups of the same size: random ones, and ones matched member by member."""
    values = matching.to_numpy(dtype=float)
    return {
        "random": random_groups(len(values), len(group.ids), draws, rng),
        "matched": matched_groups(values, group.ids, draws, rng, group.kin),
    }


def control_balance(matching: pd.DataFrame, group: Group, seed: int, draws: int = DRAWS) -> pd.DataFrame:
    """How like a group its controls are, see ``stats.groups.balance``."""
    return balance(
        matching, group.ids, control_groups(matching, group, draws, np.random.default_rng([seed, len(group.ids)]))
    )


def imbalance(matching: pd.DataFrame, group: Group, matched: Int[ndarray, "draw n"]) -> float:
    """Largest difference between the matched groups' mean and the group's in any feature, in standard deviations over all neurons."""
    return float(balance(matching, group.ids, {"matched": matched})["matched"].abs().max())


def placed(estimate: float, nulls: Mapping[str, Float[ndarray, " draw"]]) -> dict[str, float]:
    """Percentile of an estimate in each null, and the null's 95 % range."""
    record: dict[str, float] = {}
    for kind, values in nulls.items():
        low, high = np.nanpercentile(values, [2.5, 97.5])
        record |= {kind: percentile(estimate, values), f"{kind}_low": float(low), f"{kind}_high": float(high)}
    return record

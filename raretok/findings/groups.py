"""The groups of neurons that findings compare with others, and the control groups they are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from raretok.errors import NotApplicable
from raretok.findings.identification import rare_token_neurons
from raretok.graph import memory, table
from raretok.measure.effects import Measured, band_sums, band_weights, effects, mlp_weights
from raretok.stats.groups import balance, matchable, matched_groups, random_groups
from raretok.stats.nulls import percentile
from raretok.stats.resampling import ratio, top
from raretok.stats.streams import stream
from raretok.stats.sums import SplitHalfSums

SIZES = (10, 33, 50, 100)
HEADLINE = ("published", "controlled")
"""The claims are about these groups."""
LEAST = 4
"""Smallest number of members for which a group's statistics are computed."""
DRAWS = 1000
"""Number of control groups of each kind."""
NO_SETS = "the layer has too few neurons, or too few that are chosen, for a group that others can be compared with"
ALIKE = 0.25
"""Controls count as balanced if their mean differs from the group's by at most this many standard deviations in every
feature."""


@dataclass(frozen=True)
class Group:
    """A group of neurons.

    ``part``: the documents its numbers come from (``all``, or half ``B``); ``ids``: its members; ``kin``: the ids that
    may not serve as controls.
    """

    part: str
    ids: Int[ndarray, " n"]
    kin: Int[ndarray, " kin"]


Groups = Mapping[str, Group]


@dataclass(frozen=True)
class Activity:
    """Activations at the ablated positions, with each position's weight in every band, document and half."""

    activation: Float[ndarray, "row neuron"]
    weight: Mapping[str, Float[ndarray, " row"]]
    document: Int[ndarray, " row"]
    half: Int[ndarray, " row"]

    def of(self, context: str, part: str) -> Float[ndarray, " row"]:
        """Return the weights of a context's positions, in all documents or in half B."""
        return self.weight[context] * (1.0 if part == "all" else self.half == 1)


@memory(effects, band_weights)
def activity(measured: Measured, weight: Mapping[str, ndarray]) -> Activity:
    """Return the activations at the ablated positions."""
    rows = measured["rows"]
    _, document = np.unique(measured["document"][rows], return_inverse=True)
    return Activity(measured["activation"], weight, document, measured["half"][rows])


@memory(mlp_weights)
def output_norm(weights: Mapping[str, ndarray]) -> Float[ndarray, " neuron"]:
    """Compute the norm of every neuron's output row."""
    return np.linalg.norm(weights["W_out"], axis=1)


@table(activity, output_norm)
def features(activity: Activity, norm: Float[ndarray, " neuron"]) -> pd.DataFrame:
    """Compute the features that controls are matched on, over all contexts; one row per neuron.

    The features are the mean, the variance, the firing rate (share of positions with an activation above 0) and the
    norm of the output row. Columns: ``mean``, ``log variance``, ``firing rate``, ``log norm``; variance and norm are
    logarithms because they span orders of magnitude.
    """
    w = activity.weight["all"] / activity.weight["all"].sum()
    a = activity.activation
    mean = w @ a
    variance = np.maximum(w @ a**2 - mean**2, 1e-30)
    return pd.DataFrame(
        {"mean": mean, "log variance": np.log(variance), "firing rate": w @ (a > 0), "log norm": np.log(norm)}
    )


def choose(identified: pd.DataFrame, net_a: Float[ndarray, " neuron"], matching: pd.DataFrame) -> Groups:
    """Choose the groups, by name.

    Groups chosen on half A are measured on half B, the published ones on all documents. ``controlled`` holds the
    rare-token neurons that can be matched with other neurons, so that the comparison is balanced; ``controlled, all``
    holds every rare-token neuron.

    Args:
        identified: ``identification.rare_token_neurons``.
        net_a: net effects on rare targets in half A, by which the groups of fixed size are ranked.
        matching: ``features``.
    """
    published = identified["published"].to_numpy()
    helps = identified["published_net"].to_numpy() > 0
    selected = np.flatnonzero(identified["selected"].to_numpy())
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


@memory(rare_token_neurons, band_sums, features)
def neuron_sets(neurons: pd.DataFrame, sums: SplitHalfSums, matching: pd.DataFrame) -> Groups:
    """Choose the groups that claims are about and the first N neurons for each of ``SIZES``, see ``choose``."""
    return choose(neurons, ratio(*sums.of("rare", 0)), matching)


def headline(sets: Groups) -> str:
    """Return the name of the group that chapters show: the controlled one where it exists, else the published one.

    Raises:
        NotApplicable: there is no group.
    """
    for name in (*reversed(HEADLINE), *sets):
        if name in sets:
            return name
    raise NotApplicable(NO_SETS)


def member_set(sets: Groups, name: str | None) -> Group:
    """Return a group by its name; by default the headline.

    Raises:
        NotApplicable: there is no group of that name.
    """
    chosen = name or headline(sets)
    if chosen not in sets:
        raise NotApplicable(f"there is no group {chosen}, only {', '.join(sets)}" if sets else NO_SETS)
    return sets[chosen]


def of_claims(sets: Groups) -> Groups:
    """Return those of the groups that claims are about, in the order of ``HEADLINE``."""
    return {name: sets[name] for name in HEADLINE if name in sets}


def headline_sets(sets: Groups) -> Groups:
    """Return the groups that claims are about, which are followed over training.

    Raises:
        NotApplicable: there are none.
    """
    groups = of_claims(sets)
    if not groups:
        raise NotApplicable(NO_SETS)
    return groups


def control_groups(
    matching: pd.DataFrame, group: Group, draws: int, rng: np.random.Generator
) -> dict[str, Int[ndarray, "draw n"]]:
    """Draw groups of the same size: random ones, and ones matched member by member."""
    values = matching.to_numpy(dtype=float)
    return {
        "random": random_groups(len(values), len(group.ids), draws, rng),
        "matched": matched_groups(values, group.ids, draws, rng, group.kin),
    }


@table(features, neuron_sets)
def control_balance(
    matching: pd.DataFrame, sets: Groups, seed: int, group: str | None = None, draws: int = DRAWS
) -> pd.DataFrame:
    """Compare a group (by default the headline) with its controls by feature, see ``stats.groups.balance``."""
    members = member_set(sets, group)
    rng = stream(seed, "coactivation.controls", len(members.ids))
    return balance(matching, members.ids, control_groups(matching, members, draws, rng))


def imbalance(matching: pd.DataFrame, group: Group, matched: Int[ndarray, "draw n"]) -> float:
    """Compute the largest difference between the matched groups' mean and the group's mean in any feature.

    The unit is the standard deviation of the feature over all neurons.
    """
    return float(balance(matching, group.ids, {"matched": matched})["matched"].abs().max())


def null_percentiles(estimate: float, nulls: Mapping[str, Float[ndarray, " draw"]]) -> dict[str, float]:
    """Compute the percentile of an estimate in each null, and the 95% range of the null."""
    record: dict[str, float] = {}
    for kind, values in nulls.items():
        low, high = np.nanpercentile(values, [2.5, 97.5])
        record |= {kind: percentile(estimate, values), f"{kind}_low": float(low), f"{kind}_high": float(high)}
    return record

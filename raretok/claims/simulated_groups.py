"""Groups of neurons with a known answer: activations and weights without structure, and some with a planted structure.

Activations are those of several hundred neurons of a study at rare-target positions of half B. The kind *independent*
moves the values of every neuron to random positions, separately for each neuron. A planted structure also only moves a
neuron's values to other positions, so that every neuron keeps its mean, variance and firing rate.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from raretok.claims.declaration import Simulation
from raretok.findings import coactivation, groups, weights
from raretok.findings.groups import Activity, Group, Groups, control_groups, features
from raretok.measure import effects
from raretok.stats.groups import matchable
from raretok.stats.streams import stream

NEURONS, SIZE, DRAWS = 400, 33, 200
FACTORS = 10
"""Number of factors that the members of a planted group share; each member loads on three."""


@dataclass(frozen=True, eq=False)
class Material:
    """The material of data sets: activations [row, neuron], the documents of their positions, and the output rows."""

    activation: ndarray
    document: ndarray
    rows: ndarray


def material(study: Any, seed: int = 0) -> Material:
    """Return the material from some neurons of a study at its rare targets in half B."""
    activity: Activity = study.get(groups.activity)
    kept = (activity.weight["rare"] > 0) & (activity.half == 1)
    neurons = stream(seed, "claims.simulated_groups.neurons").permutation(activity.activation.shape[1])[:NEURONS]
    _, document = np.unique(activity.document[kept], return_inverse=True)
    rows = study.get(effects.mlp_weights)["W_out"][neurons]
    return Material(activity.activation[np.ix_(kept, neurons)], document, rows)


def simulated(kind: str, real: Material, seed: int) -> tuple[Activity, ndarray, pd.DataFrame, Groups]:
    """Simulate one data set: activations, output rows, features in which controls are matched, and the judged group."""
    rng = stream(seed, "claims.groups", kind)
    a, rows = real.activation.astype(np.float64), real.rows.astype(np.float64)
    group = rng.permutation(NEURONS)[:SIZE]
    if kind == "gaussian rows":
        rows = rng.standard_normal(rows.shape)
    if kind not in ("matched group", "gaussian rows", "Pareto directions"):
        a = rng.permuted(a, axis=0)
    if kind == "factors":
        loading = np.zeros((FACTORS, SIZE))
        for k in range(SIZE):
            loading[rng.choice(FACTORS, 3, replace=False), k] = rng.uniform(0.2, 0.6, 3)
        a[:, group] += rng.standard_normal((len(a), FACTORS)) @ loading * a[:, group].std(0)
    if kind == "drive against the rest":
        drive = rng.standard_normal((len(a), 1)) * a.std(0)
        a += drive * np.where(np.isin(np.arange(NEURONS), group), -0.3, 0.3)
    if kind == "communities":
        shared = rng.standard_normal((len(a), 3))[:, np.arange(SIZE) % 3]
        a[:, group] += 1.2 * shared * a[:, group].std(0)
    if kind == "Pareto directions":
        size = np.sqrt(rng.pareto(1.5, 8) + 1)[:, None]
        directions = size * rng.standard_normal((8, rows.shape[1])) * rows.std()
        norm = np.linalg.norm(rows[group], axis=1, keepdims=True)
        rows[group] += 0.35 * rng.standard_normal((SIZE, 8)) @ directions
        rows[group] *= norm / np.linalg.norm(rows[group], axis=1, keepdims=True)
    # A planted structure moves values but creates none.
    a = np.take_along_axis(np.sort(real.activation, axis=0), a.argsort(0).argsort(0), 0)
    one = np.ones(len(a))
    activity = Activity(a, {"rare": one, "all": one}, real.document, np.ones(len(a), dtype=int))
    matching = features(activity, np.linalg.norm(rows, axis=1))
    if kind == "matched group":
        group = control_groups(matching, Group("B", group, group), 1, rng)["matched"][0]
    equals = matchable(matching.to_numpy(dtype=float), group)
    return activity, rows, matching, {"controlled": Group("B", group[equals], group)}


def activation_tables(kind: str, real: Material, seed: int) -> dict[Any, Any]:
    """Return the tables about the activations of one data set."""
    activity, _, matching, sets = simulated(kind, real, seed)
    boost = stream(seed, "claims.groups.boost").permutation(NEURONS) % 2 == 0
    neuron_table = pd.DataFrame({"direction": np.where(boost, "boost", "suppress"), "published_net": 0.0})
    return {
        coactivation.statistics: coactivation.statistics(activity, sets, matching, seed, DRAWS, ("rare",)),
        coactivation.across: coactivation.across(activity, neuron_table, sets, matching, seed, DRAWS, ("rare",)),
        coactivation.clusters: coactivation.clusters(activity, sets, matching, seed, 60, (1.0,)),
        effects.gated: False,
    }


@lru_cache(maxsize=32)
def _tails(kind: str, real: Material, seed: int) -> pd.DataFrame:
    _, rows, matching, sets = simulated(kind, real, seed)
    return weights.group_tails({"W_out": rows}, sets, matching, seed, DRAWS)


def weight_tables(kind: str, real: Material, seed: int) -> dict[Any, pd.DataFrame]:
    """Return the tables about the weights of one data set, and of a trajectory of three checkpoints.

    The first checkpoint of the trajectory has normal rows, and the other two are data sets of the kind.
    """
    parts = [("gaussian rows", seed + 2), (kind, seed), (kind, seed + 1)]
    over_training = pd.concat([_tails(name, real, s).assign(step=step) for step, (name, s) in enumerate(parts)])
    return {weights.group_tails: _tails(kind, real, seed), weights.growth: weights.growth(over_training)}


ACTIVATIONS = {
    kind: Simulation(kind, material, partial(activation_tables, kind))
    for kind in ("independent", "matched group", "factors", "drive against the rest", "communities")
}
GROUPS = (ACTIVATIONS["independent"], ACTIVATIONS["matched group"])
WEIGHTS = {
    kind: Simulation(kind, material, partial(weight_tables, kind))
    for kind in ("gaussian rows", "matched group", "Pareto directions")
}
ROWS = (WEIGHTS["gaussian rows"], WEIGHTS["matched group"])

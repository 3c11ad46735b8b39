"""Data sets for the rules about groups of neurons: activations and weights that hold nothing, and some with a planted answer.

Activations are those of a real study at rare-target positions of half B, of some hundred neurons; *independent* moves every neuron to random positions on its own. Planted
structure only moves a neuron's values to other positions, too, so that every neuron keeps its mean, variance and firing rate.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from raretok import Study
from raretok.claims import Evidence
from raretok.findings import coactivation, weights
from raretok.findings.groups import Activity, Group, control_groups, features
from raretok.stats.groups import matchable

NULLS = ("independent", "matched group", "gaussian rows")
PLANTS = ("factors", "drive against the rest", "communities", "Pareto directions")
APART = 17
"""Keeps the draws of the data apart from those of the nulls that judge them, which start from the same seeds."""
NEURONS, SIZE, DRAWS = 400, 33, 200
FACTORS = 10
"""Shared by the members of a planted group, each loading on three."""


@dataclass(frozen=True)
class Real:
    """What data sets are made from: activations [row, neuron] and documents of their positions, and the output rows."""

    activation: np.ndarray
    document: np.ndarray
    rows: np.ndarray


def real(study: Study, seed: int = 0) -> Real:
    """Some neurons of a study at its rare targets in half B."""
    activity = study.activity
    kept = (activity.weight["rare"] > 0) & (activity.half == 1)
    neurons = np.random.default_rng(seed).permutation(activity.activation.shape[1])[:NEURONS]
    _, document = np.unique(activity.document[kept], return_inverse=True)
    return Real(activity.activation[np.ix_(kept, neurons)], document, study.matrices["W_out"][neurons])


def evidence(kind: str, seed: int, real: Real) -> Evidence:
    """The tables of one data set."""
    rng = np.random.default_rng([seed, (*NULLS, *PLANTS).index(kind), APART])
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
        sign = np.where(np.isin(np.arange(NEURONS), group), -0.3, 0.3)
        a += drive * sign
    if kind == "communities":
        shared = rng.standard_normal((len(a), 3))[:, np.arange(SIZE) % 3]
        a[:, group] += 1.2 * shared * a[:, group].std(0)
    if kind == "Pareto directions":
        size = np.sqrt(rng.pareto(1.5, 8) + 1)[:, None]
        directions = size * rng.standard_normal((8, rows.shape[1])) * rows.std()
        norm = np.linalg.norm(rows[group], axis=1, keepdims=True)
        rows[group] += 0.35 * rng.standard_normal((SIZE, 8)) @ directions
        rows[group] *= norm / np.linalg.norm(rows[group], axis=1, keepdims=True)
    a = np.take_along_axis(
        np.sort(real.activation, axis=0), a.argsort(0).argsort(0), 0
    )  # what is planted moves values, and makes none
    one = np.ones(len(a))
    activity = Activity(a, {"rare": one, "all": one}, real.document, np.ones(len(a), dtype=int))
    matching = features(activity, np.linalg.norm(rows, axis=1))
    if kind == "matched group":
        group = control_groups(matching, Group("B", group, group), 1, rng)["matched"][0]
    equals = matchable(matching.to_numpy(dtype=float), group)
    groups = {"controlled": Group("B", group[equals], group)}
    boost = rng.permutation(NEURONS) % 2 == 0
    found = pd.DataFrame({"direction": np.where(boost, "boost", "suppress"), "published_net": 0.0})
    nothing = pd.DataFrame()
    about = {
        "coactivation": coactivation.coactivation(activity, groups, matching, seed, DRAWS, ("rare",)),
        "across": coactivation.across(activity, found, groups, matching, seed, DRAWS, ("rare",)),
        "clusters": coactivation.clusters(activity, groups, matching, seed, 60, (1.0,)),
        "group_tails": weights.group_tails({"W_out": rows}, groups, matching, seed, DRAWS),
    }
    return Evidence(nothing, nothing, nothing, nothing, **about)

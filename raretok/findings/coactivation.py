"""Do the rare-token neurons act together, separately from the others, and in clusters? (claims C9–C12, C15, C19)

The published analysis takes the head of the rank curve, all documents and uncentred cosines, and compares with two
random groups. The controlled analysis chooses neurons on half A, uses their activations in half B and centred
correlations, and compares with a thousand random groups and a thousand groups matched in mean, variance, firing rate
and output norm (method §7).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from raretok.findings.groups import (
    DRAWS,
    HEADLINE,
    Activity,
    Group,
    Groups,
    activity,
    control_groups,
    features,
    headline_sets,
    imbalance,
    member_set,
    neuron_sets,
    null_percentiles,
    of_claims,
)
from raretok.findings.identification import rare_token_neurons
from raretok.findings.steps import by_step
from raretok.graph import at_every_step, memory, table
from raretok.stats.groups import STATISTICS, Moments, between, group_statistics, moments, resampled_statistics
from raretok.stats.modularity import partition, shuffled
from raretok.stats.nulls import percentile
from raretok.stats.resampling import bootstrap_counts, interval
from raretok.stats.streams import stream

CONTEXTS = ("rare", "matched", "common", "all")
"""The contexts are the positions of these bands."""
RESAMPLED = 200
CLUSTERED = 200
"""Number of groups of each kind that are partitioned into clusters."""
RESOLUTIONS = (0.5, 1.0, 1.5)


@table(activity, neuron_sets, features)
def statistics(
    activity: Activity,
    groups: Groups,
    matching: pd.DataFrame,
    seed: int,
    draws: int = DRAWS,
    contexts: Sequence[str] = CONTEXTS,
) -> pd.DataFrame:
    """Compute the statistics of every group in rare-target contexts, and of the ``HEADLINE`` groups in all contexts.

    The table has one row per group, context and statistic. Columns: ``group``, ``size``, ``context``, ``rows``
    (effective number), ``imbalance`` (of the matched groups, see ``groups.imbalance``), ``statistic``
    (``stats.groups.STATISTICS``), ``estimate``, ``low``, ``high`` (95% interval, documents resampled), ``random``,
    ``matched`` (percentile in ``draws`` control groups of each kind), ``random_low``, ``random_high``, ``matched_low``,
    ``matched_high`` (95% ranges of the controls).
    """
    counts = bootstrap_counts(int(activity.document.max()) + 1, RESAMPLED, seed)
    controls = {
        name: control_groups(matching, group, draws, stream(seed, "coactivation.controls", len(group.ids)))
        for name, group in groups.items()
    }
    records: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for part in dict.fromkeys(group.part for group in groups.values()):
        for context, weight, whole in _moments(activity, part, contexts):
            for name, group in groups.items():
                if group.part != part or (context != "rare" and name not in HEADLINE):
                    continue
                estimates = {k: float(v[0]) for k, v in group_statistics(whole, group.ids[None]).items()}
                nulls = {kind: group_statistics(whole, drawn) for kind, drawn in controls[name].items()}
                resampled = resampled_statistics(activity.activation, weight, activity.document, group.ids, counts)
                where = {"group": name, "size": len(group.ids), "context": context, "rows": whole.rows}
                where |= {"imbalance": imbalance(matching, group, controls[name]["matched"])}
                records[name, context] = [
                    where | _row(k, estimates[k], resampled[k], {n: x[k] for n, x in nulls.items()}) for k in STATISTICS
                ]
    order = [(name, context) for name in groups for context in contexts if (name, context) in records]
    return pd.DataFrame([row for place in order for row in records[place]])


def _moments(
    activity: Activity, part: str, contexts: Sequence[str]
) -> Iterator[tuple[str, Float[ndarray, " row"], Moments]]:
    """Yield each context that has positions, with its weights and moments."""
    for context in contexts:
        weight = activity.of(context, part)
        if weight.any():
            yield context, weight, moments(activity.activation, weight)


def _row(
    statistic: str, estimate: float, resampled: Float[ndarray, " x"], nulls: Mapping[str, Float[ndarray, " draw"]]
) -> dict[str, Any]:
    low, high = interval(estimate, resampled)
    return {"statistic": statistic, "estimate": estimate, "low": low, "high": high} | null_percentiles(estimate, nulls)


@table(activity, rare_token_neurons, neuron_sets, features)
def across(
    activity: Activity,
    neurons: pd.DataFrame,
    groups: Groups,
    matching: pd.DataFrame,
    seed: int,
    draws: int = DRAWS,
    contexts: Sequence[str] = CONTEXTS,
) -> pd.DataFrame:
    """Compare boost with suppress neurons of a group, over all pairs of one neuron of each class.

    The statistics are the mean Pearson r (``between_r``) and the mean uncentred cosine (``between_cosine``). The class
    of a neuron is the sign of its net effect in half A, or, for the published group, the sign of its published net
    effect. The columns are those of ``statistics``.
    """
    records = []
    counts = bootstrap_counts(int(activity.document.max()) + 1, RESAMPLED, seed)
    for name, whole_group in of_claims(groups).items():
        part, ids = whole_group.part, whole_group.ids
        helps = (neurons["published_net"] > 0 if name == "published" else neurons["direction"] == "boost").to_numpy()[
            ids
        ]
        boost, suppress = ids[helps], ids[~helps]
        if min(len(boost), len(suppress)) < 2:
            continue
        both = np.concatenate([boost, suppress])
        group = replace(whole_group, ids=both)
        controls = control_groups(matching, group, draws, stream(seed, "coactivation.across", len(ids)))
        apart = imbalance(matching, group, controls["matched"])
        for context, weight, whole in _moments(activity, part, contexts):
            parts = [
                resampled_statistics(activity.activation, weight, activity.document, g, counts)
                for g in (both, boost, suppress)
            ]
            where = {"group": name, "size": len(ids), "context": context, "rows": whole.rows}
            where |= {"imbalance": apart}
            for kind, matrix in (("r", whole.correlation), ("cosine", whole.cosine)):
                # The pairs of one neuron of each class are all pairs minus those within either class.
                sums = [
                    x[f"within_{kind}"] * len(g) * (len(g) - 1)
                    for x, g in zip(parts, (both, boost, suppress), strict=True)
                ]
                resampled = (sums[0] - sums[1] - sums[2]) / (2 * len(boost) * len(suppress))
                estimate = float(between(matrix, boost[None], suppress[None])[0])
                nulls = {k: between(matrix, g[:, : len(boost)], g[:, len(boost) :]) for k, g in controls.items()}
                records.append(where | _row(f"between_{kind}", estimate, resampled, nulls))
    return pd.DataFrame(records)


@table(activity, neuron_sets)
def by_context(activity: Activity, groups: Groups, seed: int, draws: int = DRAWS) -> pd.DataFrame:
    """Compare the statistics in rare-target contexts with those in matched common-target contexts.

    The table has one row per ``HEADLINE`` group and statistic. Columns: ``group``, ``statistic``, ``rare``,
    ``matched``, ``difference`` (rare − matched), ``low``, ``high`` (the same documents resampled for both contexts),
    ``p`` (two-sided, from exchanging the labels in random documents). Only rare targets that have controls are used.
    """
    documents = int(activity.document.max()) + 1
    rng = stream(seed, "coactivation.by_context")
    kept = rng.integers(0, 2, (draws, documents)).astype(float)
    drawn = bootstrap_counts(documents, RESAMPLED, seed)
    none, one = np.zeros((1, documents)), np.ones((1, documents))
    # Each document occurs twice, once with its rare and once with its matched positions.
    first = np.concatenate([np.hstack([one, none]), np.hstack([drawn, 0 * drawn]), np.hstack([kept, 1 - kept])])
    second = np.concatenate([np.hstack([none, one]), np.hstack([0 * drawn, drawn]), np.hstack([1 - kept, kept])])
    records = []
    for name in of_claims(groups):
        part, ids = groups[name].part, groups[name].ids
        weights = [activity.of(c, part) for c in ("rare with controls", "matched")]
        if not all(w.any() for w in weights):
            continue
        rows = [np.flatnonzero(w) for w in weights]
        a = activity.activation[np.concatenate(rows)]
        weight = np.concatenate([w[r] / w.sum() for w, r in zip(weights, rows, strict=True)])
        document = np.concatenate([activity.document[rows[0]], activity.document[rows[1]] + documents])
        rare, matched = (resampled_statistics(a, weight, document, ids, counts) for counts in (first, second))
        for statistic in STATISTICS:
            gap = rare[statistic] - matched[statistic]
            low, high = interval(float(gap[0]), gap[1 : 1 + RESAMPLED])
            place = percentile(float(gap[0]), gap[1 + RESAMPLED :])
            records.append(
                {"group": name, "statistic": statistic, "rare": rare[statistic][0], "matched": matched[statistic][0]}
                | {"difference": gap[0], "low": low, "high": high, "p": 2 * min(place, 1 - place)}
            )
    return pd.DataFrame(records)


@table(activity, neuron_sets, features)
def clusters(
    activity: Activity,
    groups: Groups,
    matching: pd.DataFrame,
    seed: int,
    draws: int = CLUSTERED,
    resolutions: Sequence[float] = RESOLUTIONS,
) -> pd.DataFrame:
    """Compute the signed modularity of the correlations within each group in rare-target contexts.

    The table has one row per group and resolution. Columns: ``group``, ``size``, ``resolution``, ``q`` (best of several
    seeds), ``communities``, ``imbalance`` (of the matched groups); for each null – ``shuffled`` (the same weights
    assigned to other pairs), ``random``, ``matched`` – its percentile, ``<null>_mean`` and ``<null>_z``.
    """
    records = []
    for name in of_claims(groups):
        part, ids = groups[name].part, groups[name].ids
        weight = activity.of("rare", part)
        r = moments(activity.activation, weight).correlation
        rng = stream(seed, "coactivation.clusters")
        controls = control_groups(matching, groups[name], draws, rng)
        own = r[np.ix_(ids, ids)]
        nulls = {"shuffled": [shuffled(own, rng) for _ in range(draws)]}
        nulls |= {kind: [r[np.ix_(g, g)] for g in drawn] for kind, drawn in controls.items()}
        apart = imbalance(matching, groups[name], controls["matched"])
        for resolution in resolutions:
            q, community = partition(own, rng, resolution)
            record: dict[str, Any] = {"group": name, "size": len(ids), "resolution": resolution, "q": q}
            record |= {"communities": int(community.max()) + 1}
            record |= {"imbalance": apart}
            for kind, matrices in nulls.items():
                values = np.array([partition(m, rng, resolution)[0] for m in matrices])
                record |= {kind: percentile(q, values), f"{kind}_mean": float(values.mean())}
                record |= {f"{kind}_z": float((q - values.mean()) / values.std(ddof=1))}
            records.append(record)
    return pd.DataFrame(records)


@table(activity, neuron_sets, features)
def histograms(
    activity: Activity,
    groups: Groups,
    matching: pd.DataFrame,
    seed: int,
    draws: int = DRAWS,
    bins: int = 40,
) -> pd.DataFrame:
    """Compute the distribution of each statistic over control groups in rare-target contexts, for charts.

    The table has one row per ``HEADLINE`` group, statistic, kind of control and bin. Columns: ``group``, ``statistic``,
    ``kind``, ``from``, ``to``, ``share``; ``observed`` (value of the group itself).
    """
    frames = []
    for name in of_claims(groups):
        part, ids = groups[name].part, groups[name].ids
        whole = moments(activity.activation, activity.of("rare", part))
        observed = group_statistics(whole, ids[None])
        controls = control_groups(matching, groups[name], draws, stream(seed, "coactivation.controls", len(ids)))
        control_statistics = {kind: group_statistics(whole, drawn) for kind, drawn in controls.items()}
        for statistic in STATISTICS:
            everything = np.concatenate([observed[statistic], *(x[statistic] for x in control_statistics.values())])
            edges = np.linspace(everything.min(), everything.max() + 1e-12, bins + 1)
            for kind, values in control_statistics.items():
                share = np.histogram(values[statistic], edges)[0] / draws
                frames.append(
                    pd.DataFrame(
                        {"group": name, "statistic": statistic, "kind": kind, "from": edges[:-1], "to": edges[1:]}
                        | {"share": share, "observed": float(observed[statistic][0])}
                    )
                )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


@memory(rare_token_neurons, neuron_sets)
def largest(neurons: pd.DataFrame, sets: Groups, group: str | None = None, most: int = 60) -> Int[ndarray, " n"]:
    """Return the members of a group (by default the headline) with the largest rare-specific effects in half A."""
    ids = member_set(sets, group).ids
    return np.asarray(ids[np.argsort(-neurons["s_a"].abs().to_numpy()[ids], kind="stable")][:most])


@table(activity, rare_token_neurons, neuron_sets)
def pairs(
    activity: Activity, neurons: pd.DataFrame, sets: Groups, seed: int, group: str | None = None, most: int = 60
) -> pd.DataFrame:
    """Compute the correlations between the ``largest`` neurons of a group, see ``correlations``."""
    return correlations(activity, member_set(sets, group).part, largest(neurons, sets, group, most), seed)


def correlations(activity: Activity, part: str, ids: Int[ndarray, " n"], seed: int) -> pd.DataFrame:
    """Compute the correlations between some neurons in rare-target contexts, sorted by community.

    The table has one row per ordered pair. Columns: ``a``, ``b`` (neuron ids), ``place_a``, ``place_b`` (their places
    in the sorted order), ``community`` (of a; communities are numbered by size), ``r``.
    """
    r = moments(activity.activation, activity.of("rare", part)).correlation[np.ix_(ids, ids)]
    _, community = partition(r, stream(seed, "coactivation.pairs"))
    order = np.lexsort((ids, community))
    a, b = np.meshgrid(order, order, indexing="ij")
    place = np.arange(len(ids))
    return pd.DataFrame(
        {
            "a": ids[a].ravel(),
            "b": ids[b].ravel(),
            "place_a": np.repeat(place, len(ids)),
            "place_b": np.tile(place, len(ids)),
        }
        | {"community": community[a].ravel(), "r": r[a, b].ravel()}
    )


@table(activity, neuron_sets)
def permuted_activations(activity: Activity, sets: Groups, seed: int, group: str = "published") -> pd.DataFrame:
    """Compare the cosine and correlation within a group with those after each neuron's activations are permuted.

    Each neuron's activations are moved to random positions, so that means and marginal distributions stay the same and
    all dependence between neurons is removed. Columns: ``statistic``, ``observed``, ``permuted`` (means over pairs).
    """
    values = _permuted(activity, member_set(sets, group), seed)
    return pd.DataFrame(
        [
            {"statistic": s} | {data: float(of[s].mean()) for data, of in values.items()}
            for s in ("cosine", "correlation")
        ]
    )


def _permuted(activity: Activity, group: Group, seed: int) -> dict[str, dict[str, Float[ndarray, " pair"]]]:
    """Compute the cosines and correlations of a group's pairs, observed and permuted."""
    weight = activity.of("rare", group.part)
    rows = np.flatnonzero(weight)
    own = activity.activation[np.ix_(rows, group.ids)]
    moved = stream(seed, "coactivation.permuted_activations").permuted(own, axis=0)
    upper = np.triu_indices(len(group.ids), 1)
    values = {}
    for data, a in (("observed", own), ("permuted", moved)):
        m = moments(a, weight[rows])
        values[data] = {"cosine": m.cosine[upper], "correlation": m.correlation[upper]}
    return values


@table(activity, neuron_sets)
def permuted_histograms(
    activity: Activity, sets: Groups, seed: int, group: str = "published", bins: int = 40
) -> pd.DataFrame:
    """Compute histograms over the pairs of ``permuted_activations``.

    Columns: ``statistic``, ``data`` (observed, permuted), ``value``, ``share``.
    """
    edges = np.linspace(-1, 1, bins + 1)
    frames = [
        pd.DataFrame(
            {"statistic": s, "data": data, "value": (edges[1:] + edges[:-1]) / 2}
            | {"share": np.histogram(values, edges)[0] / len(values)}
        )
        for data, statistics in _permuted(activity, member_set(sets, group), seed).items()
        for s, values in statistics.items()
    ]
    return pd.concat(frames, ignore_index=True)


@table(at_every_step(activity), neuron_sets, at_every_step(features))
def statistics_over_training(
    activities: Mapping[int, Activity], sets: Groups, matching: Mapping[int, pd.DataFrame], seed: int
) -> pd.DataFrame:
    """Compute ``statistics`` of this checkpoint's ``HEADLINE`` groups at every checkpoint, by step.

    Only rare-target contexts are used.
    """
    chosen = headline_sets(sets)
    return by_step(
        {step: statistics(a, chosen, matching[step], seed, contexts=("rare",)) for step, a in activities.items()}
    )

"""Do the rare-token neurons act together, apart from the others, and in clusters? (claims C9–C12, C15, C19)

Published: the head of the rank curve, all documents, uncentred cosines against two random groups. Controlled: neurons chosen on half A, activations of
half B, centred correlations, a thousand random groups and a thousand matched in mean, variance, firing rate and output norm (method §7).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from raretok.findings.groups import DRAWS, HEADLINE, Activity, Groups, control_groups, imbalance, placed
from raretok.stats.groups import STATISTICS, Moments, between, group_statistics, moments, resampled_statistics
from raretok.stats.modularity import partition, shuffled
from raretok.stats.nulls import percentile
from raretok.stats.resampling import bootstrap_counts, interval

CONTEXTS = ("rare", "matched", "common", "all")
"""Bands whose positions are the contexts."""
RESAMPLED = 200
CLUSTERED = 200
"""Groups of each kind that are divided into clusters."""
RESOLUTIONS = (0.5, 1.0, 1.5)


def coactivation(
    activity: Activity,
    groups: Groups,
    matching: pd.DataFrame,
    seed: int,
    draws: int = DRAWS,
    contexts: Sequence[str] = CONTEXTS,
) -> pd.DataFrame:
    """Statistics of every group in rare-target contexts, of the ``HEADLINE`` ones in all; a row a group, context and statistic.

    Columns: ``group``, ``size``, ``context``, ``rows`` (effective number), ``imbalance`` (of the matched groups, see ``groups.imbalance``), ``statistic`` (``groups.STATISTICS``), ``estimate``, ``low``, ``high`` (95 %, documents resampled),
    ``random``, ``matched`` (percentile in ``draws`` control groups of each kind), ``random_low``, ``random_high``, ``matched_low``, ``matched_high`` (their 95 % ranges).
    """
    records = []
    for name, group in groups.items():
        part, ids = group.part, group.ids
        controls = control_groups(matching, group, draws, np.random.default_rng([seed, len(ids)]))
        for context, weight, whole in _moments(activity, part, contexts if name in HEADLINE else ("rare",)):
            found = {k: float(v[0]) for k, v in group_statistics(whole, ids[None]).items()}
            nulls = {kind: group_statistics(whole, drawn) for kind, drawn in controls.items()}
            counts = bootstrap_counts(int(activity.document.max()) + 1, RESAMPLED, seed)
            resampled = resampled_statistics(activity.activation, weight, activity.document, ids, counts)
            where = {"group": name, "size": len(ids), "context": context, "rows": whole.rows}
            where |= {"imbalance": imbalance(matching, group, controls["matched"])}
            records += [
                where | _row(k, found[k], resampled[k], {n: x[k] for n, x in nulls.items()}) for k in STATISTICS
            ]
    return pd.DataFrame(records)


def _moments(
    activity: Activity, part: str, contexts: Sequence[str]
) -> Iterator[tuple[str, Float[ndarray, " row"], Moments]]:
    """The contexts that have positions, with weights and moments."""
    for context in contexts:
        weight = activity.of(context, part)
        if weight.any():
            yield context, weight, moments(activity.activation, weight)


def _row(
    statistic: str, estimate: float, resampled: Float[ndarray, " x"], nulls: Mapping[str, Float[ndarray, " draw"]]
) -> dict[str, Any]:
    low, high = interval(estimate, resampled)
    return {"statistic": statistic, "estimate": estimate, "low": low, "high": high} | placed(estimate, nulls)


def across(
    activity: Activity,
    found: pd.DataFrame,
    groups: Groups,
    matching: pd.DataFrame,
    seed: int,
    draws: int = DRAWS,
    contexts: Sequence[str] = CONTEXTS,
) -> pd.DataFrame:
    """Boost against suppress neurons of a group: mean Pearson r (``between_r``) and uncentred cosine (``between_cosine``) of pairs of one each.

    Boost and suppress are told by the net effect in half A, for the published group by the published one. Columns as ``coactivation``.
    """
    records = []
    for name in HEADLINE:
        if name not in groups:
            continue
        part, ids = groups[name].part, groups[name].ids
        helps = (found["published_net"] > 0 if name == "published" else found["direction"] == "boost").to_numpy()[ids]
        boost, suppress = ids[helps], ids[~helps]
        if min(len(boost), len(suppress)) < 2:
            continue
        both = np.concatenate([boost, suppress])
        group = replace(groups[name], ids=both)
        controls = control_groups(matching, group, draws, np.random.default_rng([seed, len(ids), 1]))
        for context, weight, whole in _moments(activity, part, contexts):
            counts = bootstrap_counts(int(activity.document.max()) + 1, RESAMPLED, seed)
            parts = [
                resampled_statistics(activity.activation, weight, activity.document, g, counts)
                for g in (both, boost, suppress)
            ]
            where = {"group": name, "size": len(ids), "context": context, "rows": whole.rows}
            where |= {"imbalance": imbalance(matching, group, controls["matched"])}
            for kind, matrix in (("r", whole.correlation), ("cosine", whole.cosine)):
                # the pairs of all members, less those within either class, are the pairs of one each
                sums = [
                    x[f"within_{kind}"] * len(g) * (len(g) - 1)
                    for x, g in zip(parts, (both, boost, suppress), strict=True)
                ]
                resampled = (sums[0] - sums[1] - sums[2]) / (2 * len(boost) * len(suppress))
                estimate = float(between(matrix, boost[None], suppress[None])[0])
                nulls = {k: between(matrix, g[:, : len(boost)], g[:, len(boost) :]) for k, g in controls.items()}
                records.append(where | _row(f"between_{kind}", estimate, resampled, nulls))
    return pd.DataFrame(records)


def by_context(activity: Activity, groups: Groups, seed: int, draws: int = DRAWS) -> pd.DataFrame:
    """Statistics in rare-target contexts less those in matched common-target contexts; a row a ``HEADLINE`` group and statistic.

    Columns: ``group``, ``statistic``, ``rare``, ``matched``, ``difference``, ``low``, ``high`` (documents resampled, the same for both), ``p`` (two-sided, labels
    exchanged in random documents). Only rare targets that have controls count.
    """
    documents = int(activity.document.max()) + 1
    rng = np.random.default_rng([seed, 2])
    kept = rng.integers(0, 2, (draws, documents)).astype(float)
    drawn = bootstrap_counts(documents, RESAMPLED, seed)
    none, one = np.zeros((1, documents)), np.ones((1, documents))
    # documents stand twice, with their rare and with their matched positions
    first = np.concatenate([np.hstack([one, none]), np.hstack([drawn, 0 * drawn]), np.hstack([kept, 1 - kept])])
    second = np.concatenate([np.hstack([none, one]), np.hstack([0 * drawn, drawn]), np.hstack([1 - kept, kept])])
    records = []
    for name in [g for g in HEADLINE if g in groups]:
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


def clusters(
    activity: Activity,
    groups: Groups,
    matching: pd.DataFrame,
    seed: int,
    draws: int = CLUSTERED,
    resolutions: Sequence[float] = RESOLUTIONS,
) -> pd.DataFrame:
    """Signed modularity of the correlations within a group in rare-target contexts; a row a group and resolution.

    Columns: ``group``, ``size``, ``resolution``, ``q`` (best of several seeds), ``communities``; for each null – ``shuffled`` (the same weights on other
    pairs), ``random``, ``matched`` – its percentile, ``<null>_mean`` and ``<null>_z``.
    """
    records = []
    for name in [g for g in HEADLINE if g in groups]:
        part, ids = groups[name].part, groups[name].ids
        weight = activity.of("rare", part)
        r = moments(activity.activation, weight).correlation
        rng = np.random.default_rng([seed, 3])
        controls = control_groups(matching, groups[name], draws, rng)
        own = r[np.ix_(ids, ids)]
        nulls = {"shuffled": [shuffled(own, rng) for _ in range(draws)]}
        nulls |= {kind: [r[np.ix_(g, g)] for g in drawn] for kind, drawn in controls.items()}
        for resolution in resolutions:
            q, community = partition(own, rng, resolution)
            record: dict[str, Any] = {"group": name, "size": len(ids), "resolution": resolution, "q": q}
            record |= {"communities": int(community.max()) + 1}
            record |= {"imbalance": imbalance(matching, groups[name], controls["matched"])}
            for kind, matrices in nulls.items():
                values = np.array([partition(m, rng, resolution)[0] for m in matrices])
                record |= {kind: percentile(q, values), f"{kind}_mean": float(values.mean())}
                record |= {f"{kind}_z": float((q - values.mean()) / values.std(ddof=1))}
            records.append(record)
    return pd.DataFrame(records)


def histograms(
    activity: Activity,
    groups: Groups,
    matching: pd.DataFrame,
    seed: int,
    draws: int = DRAWS,
    bins: int = 40,
) -> pd.DataFrame:
    """How each statistic is distributed over control groups in rare-target contexts, for charts; a row a ``HEADLINE`` group, statistic, kind of control and bin.

    Columns: ``group``, ``statistic``, ``kind``, ``from``, ``to``, ``share``; ``observed`` (of the group itself).
    """
    frames = []
    for name in [g for g in HEADLINE if g in groups]:
        part, ids = groups[name].part, groups[name].ids
        whole = moments(activity.activation, activity.of("rare", part))
        observed = group_statistics(whole, ids[None])
        controls = control_groups(matching, groups[name], draws, np.random.default_rng([seed, len(ids)]))
        found = {kind: group_statistics(whole, drawn) for kind, drawn in controls.items()}
        for statistic in STATISTICS:
            everything = np.concatenate([observed[statistic], *(x[statistic] for x in found.values())])
            edges = np.linspace(everything.min(), everything.max() + 1e-12, bins + 1)
            for kind, values in found.items():
                share = np.histogram(values[statistic], edges)[0] / draws
                frames.append(
                    pd.DataFrame(
                        {"group": name, "statistic": statistic, "kind": kind, "from": edges[:-1], "to": edges[1:]}
                        | {"share": share, "observed": float(observed[statistic][0])}
                    )
                )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def pairs(activity: Activity, part: str, ids: Int[ndarray, " n"], seed: int) -> pd.DataFrame:
    """Correlations between some neurons in rare-target contexts, in the order of their communities; a row an ordered pair.

    Columns: ``a``, ``b`` (neuron ids), ``place_a``, ``place_b`` (in that order), ``community`` (of a, by size), ``r``.
    """
    r = moments(activity.activation, activity.of("rare", part)).correlation[np.ix_(ids, ids)]
    _, community = partition(r, np.random.default_rng([seed, 4]))
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


def unlinked(
    activity: Activity, part: str, ids: Int[ndarray, " n"], seed: int, bins: int = 40
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What remains of cosine and correlation when every neuron's activations are moved to random positions: their means and shapes, but nothing in common.

    Returns:
        A row a statistic with ``observed`` and ``unlinked`` (means over pairs), and histograms over the pairs: ``statistic``, ``data``, ``value``, ``share``.
    """
    weight = activity.of("rare", part)
    rows = np.flatnonzero(weight)
    own = activity.activation[np.ix_(rows, ids)]
    moved = np.random.default_rng([seed, 7]).permuted(own, axis=0)
    upper = np.triu_indices(len(ids), 1)
    found = {}
    for data, a in (("observed", own), ("unlinked", moved)):
        m = moments(a, weight[rows])
        found[data] = {"cosine": m.cosine[upper], "correlation": m.correlation[upper]}
    means = pd.DataFrame(
        [
            {
                "statistic": s,
                "observed": float(found["observed"][s].mean()),
                "unlinked": float(found["unlinked"][s].mean()),
            }
            for s in ("cosine", "correlation")
        ]
    )
    edges = np.linspace(-1, 1, bins + 1)
    frames = [
        pd.DataFrame(
            {"statistic": s, "data": data, "value": (edges[1:] + edges[:-1]) / 2}
            | {"share": np.histogram(values, edges)[0] / len(values)}
        )
        for data, statistics in found.items()
        for s, values in statistics.items()
    ]
    return means, pd.concat(frames, ignore_index=True)

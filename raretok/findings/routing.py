"""Does attention route rare tokens to the rare-token neurons? (claims C17, C18)

The published analysis ablates heads and compares their influence on the group's activations at rare and at common
targets by eye. The controlled analysis takes only heads that can reach the neurons, measures influence in standard
deviations of each neuron's activation, computes intervals by resampling documents, repeats this for random and matched
groups, and estimates noise from halves of the documents (method §10).

An ablation takes a forward pass a head, so in models of many heads only some are ablated: those that a gradient calls
the strongest or the most specific to rare targets, and a random sample, whose members stand for all others. The
gradient is taken on half A of the documents, the ablations on half B, so that what was chosen for its size is not
measured on the text it was chosen on.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from raretok.data.frequency import UnigramCounts
from raretok.data.text import Windows
from raretok.findings.groups import (
    DRAWS,
    Groups,
    control_groups,
    features,
    member_set,
    neuron_sets,
    null_percentiles,
    of_claims,
)
from raretok.findings.heads import BANDS, Chosen, HeadEffects, choose
from raretok.graph import arrays, memory, table
from raretok.measure import inputs
from raretok.measure.effects import layer_means
from raretok.model import upstream
from raretok.model.loaded import LoadedModel
from raretok.model.trace import SKIP
from raretok.stats.resampling import bootstrap_counts, by_document, interval, split_halves
from raretok.stats.sampled import gini, median, resampled_weights, spearman
from raretok.stats.streams import stream

WINDOWS, LENGTH, SMALL_LENGTH = 64, 48, 128
"""Number of windows in which heads are ablated, and number of first tokens in each; more for the small models that are
trained here."""
EVERY = 48
"""Largest number of heads of which all are ablated, unless a study asks for every head."""
RESAMPLED = 400
STATISTICS = ("similarity", "gini_rare", "gini_common", "gini_difference", "median_head", "ratio", "average_ratio")
"""Spearman's ρ of the heads' influences at rare and at common targets; Gini coefficients of either over heads, and
their difference; the median head's influence (mean of both bands); and the median over layers of the influence of a
whole layer relative to that of its strongest head, and to that of the average head of the model."""


def _part(windows: Windows, local_run: bool, half: int) -> Windows:
    """Return the first tokens of some windows of a half, of as many documents as possible."""
    length = SMALL_LENGTH if local_run else LENGTH
    inside = np.flatnonzero(windows.half == half)
    again = pd.Series(windows.document[inside]).duplicated().to_numpy()
    rows = np.sort(inside[np.argsort(again, kind="stable")][:WINDOWS])
    return Windows(windows.tokens[rows, :length], windows.document[rows], windows.half[rows])


@memory(inputs.windows, inputs.local_run)
def head_windows(windows: Windows, local_run: bool) -> Windows:
    """Select the windows on which heads are ablated, and their first tokens.

    They are of half B, because groups and heads are chosen on half A.
    """
    return _part(windows, local_run, 1)


@memory(inputs.windows, inputs.local_run)
def screen_windows(windows: Windows, local_run: bool) -> Windows:
    """Select the windows of half A on which heads are screened, and their first tokens."""
    return _part(windows, local_run, 0)


@memory(features)
def spread(matching: pd.DataFrame) -> Float[ndarray, " neuron"]:
    """Return the standard deviation of every neuron's activation."""
    return np.exp(matching["log variance"].to_numpy() / 2)


def _weights(windows: Windows, frequency: UnigramCounts) -> Float[ndarray, "band window used"]:
    """Return the weight of every used position in each band."""
    return np.stack([frequency.bands[band][windows.tokens[:, SKIP + 1 :]] for band in BANDS]).astype(float)


@table(inputs.model, screen_windows, inputs.frequency, spread, layer_means, neuron_sets)
def screened_heads(
    model: LoadedModel,
    windows: Windows,
    frequency: UnigramCounts,
    spread: Float[ndarray, " neuron"],
    means: Mapping[str, ndarray],
    sets: Groups,
    seed: int,
    group: str | None = None,
) -> pd.DataFrame:
    """Estimate every head's influence on a group (by default the headline) to first order, on half A.

    Columns: ``layer``, ``head``, and for each band the root mean square of the change of the group's activations in
    their standard deviations; see ``model.upstream.screen_heads``.
    """
    weights, ids = _weights(windows, frequency), member_set(sets, group).ids
    squares = upstream.screen_heads(model, windows.tokens, weights, spread, means["heads"], ids, seed).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt(squares / (weights.sum((1, 2)) * len(ids)))
    layer, head = np.divmod(np.arange(len(size)), model.heads)
    return pd.DataFrame({"layer": layer, "head": head} | {band: size[:, b] for b, band in enumerate(BANDS)})


@memory(screened_heads, inputs.every_head)
def chosen_heads(screened: pd.DataFrame, every_head: bool, seed: int) -> Chosen:
    """Choose the heads and layers to ablate, see ``choose``."""
    return choose(screened, every_head or len(screened) <= EVERY, stream(seed, "routing.chosen_heads"))


@arrays(inputs.model, head_windows, inputs.frequency, spread, layer_means, chosen_heads)
def head_influences(
    model: LoadedModel,
    windows: Windows,
    frequency: UnigramCounts,
    spread: Float[ndarray, " neuron"],
    means: Mapping[str, ndarray],
    chosen: Chosen,
) -> dict[str, ndarray]:
    """Compute the influence of heads and whole layers on every neuron of the last layer, by window.

    The arrays are ``influences`` [set, window, band, neuron] of ``model.upstream.head_influences``, first of the heads
    and then of the layers, and the ``weight`` [window, band].
    """
    weights = _weights(windows, frequency)
    sets = [(h // model.heads, [h % model.heads]) for h in chosen.head.tolist()]
    sets += [(layer, list(range(model.heads))) for layer in chosen.layer.tolist()]
    influences = upstream.head_influences(model, windows.tokens, weights, spread, means["heads"], sets)
    return {"influences": influences, "weight": weights.sum(2).T}


@memory(head_influences, head_windows, chosen_heads)
def head_effects(kept: Mapping[str, ndarray], windows: Windows, chosen: Chosen) -> HeadEffects:
    """Return ``head_influences`` by document."""
    heads, whole = np.split(by_document(kept["influences"], windows.document, 1), [len(chosen.head)])
    return HeadEffects(heads, whole, by_document(kept["weight"], windows.document, 0), chosen)


def _means(
    sums: Float[ndarray, "x document band"],
    weight: Float[ndarray, "document band"],
    counts: Float[ndarray, "draw document"],
) -> Float[ndarray, "draw x band"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("dw,xwb->dxb", counts, sums) / (counts @ weight)[:, None]


def _statistics(
    data: HeadEffects,
    heads: Float[ndarray, "draw head band"],
    layers: Float[ndarray, "draw layer band"],
    represents: Float[ndarray, "draw head"] | None = None,
    kept: Int[ndarray, "draw layer"] | None = None,
) -> dict[str, Float[ndarray, " draw"]]:
    """Compute ``STATISTICS`` of each draw; NaN where a band has no positions.

    ``represents`` and ``kept`` are the weights of the heads and the indices of the layers in each draw.
    """
    v = np.broadcast_to(data.chosen.represents if represents is None else represents, heads.shape[:2])
    rare, common = heads[..., 0], heads[..., 1]
    missing = ~np.isfinite(heads).all((1, 2))
    average = (v[..., None] * heads).sum(1, keepdims=True) / v.sum(1)[:, None, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        over = {"ratio": layers / data.strongest(heads), "average_ratio": layers / average}
    g = {"rare": gini(rare, v, data.chosen.drawn), "common": gini(common, v, data.chosen.drawn)}
    values = {
        "similarity": spearman(rare, common, v),
        "gini_rare": g["rare"],
        "gini_common": g["common"],
        "gini_difference": g["rare"] - g["common"],
        "median_head": median(heads.mean(2), v),
    }
    for name, x in over.items():
        by_layer = x.mean(2) if kept is None else np.take_along_axis(x.mean(2), kept, 1)
        values[name] = np.median(by_layer, axis=1)
    return {name: np.where(missing, np.nan, x) for name, x in values.items()}


@table(head_effects, neuron_sets, features)
def statistics(
    data: HeadEffects, groups: Groups, matching: pd.DataFrame, seed: int, draws: int = DRAWS
) -> pd.DataFrame:
    """Measure how attention heads influence each headline group (or, where there is none, the first group).

    The table has one row per group and statistic. Columns: ``group``, ``size``, ``heads`` (that can reach the neurons),
    ``ablated`` (number of them), ``documents``, ``statistic`` (``STATISTICS``), ``estimate``, ``low``, ``high`` (95%
    interval, documents resampled, and random heads and layers, too, where not all are ablated), ``ceiling`` (of the
    similarity: agreement between two halves of the documents, Spearman–Brown corrected), ``random``, ``matched``
    (percentile in control groups), and the 95% ranges of the controls. Where only some heads are ablated, the strongest
    head of a layer is the strongest of those that were screened as such for the headline group. It is no maximum for
    another group, so ``ratio`` has no percentiles there.
    """
    records = []
    documents = len(data.weight)
    counts, one = bootstrap_counts(documents, RESAMPLED, seed), np.ones((1, documents))
    represents = resampled_weights(data.chosen.represents, RESAMPLED, stream(seed, "routing.heads drawn"))
    kept, count = None, len(data.chosen.layer)
    if data.chosen.drawn.any():
        kept = stream(seed, "routing.layers drawn").integers(0, count, (RESAMPLED, count))
    for name in of_claims(groups) or list(groups)[:1]:
        group = groups[name]
        sums = data.of(group.ids)
        whole, drawn_sums = ([_means(x, data.weight, c) for x in sums] for c in (one, counts))
        estimates = {k: float(v[0]) for k, v in _statistics(data, *whole).items()}
        resampled = _statistics(data, drawn_sums[0], drawn_sums[1], represents, kept)
        controls = control_groups(matching, group, draws, stream(seed, "routing.controls", len(group.ids)))
        nulls = {kind: _of_groups(data, drawn) for kind, drawn in controls.items()}
        ceiling = _ceiling(data, sums[0], seed)
        where: dict[str, Any] = {"group": name, "size": len(group.ids), "heads": round(data.chosen.represents.sum())}
        where |= {"ablated": len(data.heads), "documents": documents}
        for statistic in STATISTICS:
            low, high = interval(
                estimates[statistic],
                resampled[statistic],
                most=1.0 if statistic == "similarity" else np.inf,
                units=documents,
            )
            record = where | {"statistic": statistic, "estimate": estimates[statistic], "low": low, "high": high}
            record |= {"ceiling": ceiling if statistic == "similarity" else np.nan}
            percentiles = null_percentiles(estimates[statistic], {k: n[statistic] for k, n in nulls.items()})
            if statistic == "ratio" and data.chosen.drawn.any():
                percentiles = dict.fromkeys(percentiles, np.nan)
            records.append(record | percentiles)
    return pd.DataFrame(records)


def _of_groups(data: HeadEffects, drawn: Int[ndarray, "draw n"]) -> dict[str, Float[ndarray, " draw"]]:
    """Compute the statistics of many groups over all documents."""
    weight = data.weight.sum(0)
    heads, layers = ((x.sum(1, dtype=np.float64) / weight[:, None]) for x in (data.heads, data.layers))
    parts = [drawn[k : k + 100] for k in range(0, len(drawn), 100)]
    by_part = [_statistics(data, *(np.moveaxis(x[..., p].mean(-1), 2, 0) for x in (heads, layers))) for p in parts]
    return {name: np.concatenate([f[name] for f in by_part]) for name in STATISTICS}


def _ceiling(data: HeadEffects, heads: Float[ndarray, "head document band"], seed: int) -> float:
    """Compute the geometric mean over the bands of the reliability of the heads' order."""
    halves = split_halves(len(data.weight), 100, seed)
    first, second = (_means(heads, data.weight, h) for h in (halves, 1 - halves))
    reliabilities = []
    for b in range(2):
        there = np.isfinite(first[..., b]).all(1) & np.isfinite(second[..., b]).all(1)
        v = np.broadcast_to(data.chosen.represents, first.shape[:2])[there]
        r = spearman(first[there, :, b], second[there, :, b], v)
        with np.errstate(divide="ignore"):
            reliabilities.append(np.median(2 * r / (1 + r)) if len(r) else np.nan)
    return float(np.sqrt(max(reliabilities[0], 0) * max(reliabilities[1], 0)))


@table(head_effects, neuron_sets)
def heads(data: HeadEffects, sets: Groups, seed: int, group: str | None = None) -> pd.DataFrame:
    """Compute the influence of the ablated heads on a group (by default the headline), in standard deviations.

    The table has one row per head. Columns: ``layer``, ``head``, ``represents`` (number of heads that it stands for),
    ``rare``, ``common``, ``difference`` (rare − common) with ``low`` and ``high`` (95% interval, documents resampled).
    """
    sums, _ = data.of(member_set(sets, group).ids)
    documents = len(data.weight)
    whole = _means(sums, data.weight, np.ones((1, documents)))[0]
    drawn = _means(sums, data.weight, bootstrap_counts(documents, RESAMPLED, seed))
    gap, gaps = whole[:, 0] - whole[:, 1], drawn[..., 0] - drawn[..., 1]
    ends = [interval(float(g), gaps[:, k], units=documents) for k, g in enumerate(gap)]
    layer, head = np.divmod(data.chosen.head, data.chosen.by_layer)
    return pd.DataFrame(
        {"layer": layer, "head": head, "represents": data.chosen.represents}
        | {"rare": whole[:, 0], "common": whole[:, 1], "difference": gap}
        | {"low": [e[0] for e in ends], "high": [e[1] for e in ends]}
    )


@table(head_effects, neuron_sets)
def whole_layers(data: HeadEffects, sets: Groups, group: str | None = None) -> pd.DataFrame:
    """Compare the joint influence of a layer's heads with that of single heads, in standard deviations.

    Columns: ``layer``, ``band``, ``whole``, ``strongest`` (of the layer's heads), ``average`` (head of the model).
    """
    weight = np.ones((1, len(data.weight)))
    single, whole = (_means(x, data.weight, weight) for x in data.of(member_set(sets, group).ids))
    strongest, average = data.strongest(single)[0], np.average(single[0], axis=0, weights=data.chosen.represents)
    frames = [
        pd.DataFrame(
            {"layer": data.chosen.layer, "band": band, "whole": whole[0, :, b]}
            | {"strongest": strongest[:, b], "average": average[b]}
        )
        for b, band in enumerate(BANDS)
    ]
    return pd.concat(frames, ignore_index=True)


@memory(screened_heads, heads)
def screen(screened: pd.DataFrame, ablated: pd.DataFrame) -> pd.DataFrame:
    """Return the gradient's estimate (half A) beside the ablation (half B), for the ablated heads.

    Columns: ``layer``, ``head``, ``represents``, ``band``, ``screened`` (root mean square, first order), ``ablated``
    (mean |Δz|).
    """
    both = ablated.merge(screened, on=["layer", "head"], suffixes=("", " screened"), validate="one_to_one")
    kept = both[["layer", "head", "represents"]]
    frames = [kept.assign(band=b, screened=both[f"{b} screened"], ablated=both[b]) for b in BANDS]
    return pd.concat(frames, ignore_index=True)


@memory(screen)
def screen_error(table: pd.DataFrame) -> pd.DataFrame:
    """Measure how well the screen orders and sizes the heads, each ablated head counted as the heads it represents.

    Columns: ``band``, ``spearman``, ``factor`` (geometric standard deviation of ablated over screened: 1.5 means that
    two thirds of the heads are within a factor 1.5 of what the screen says, once both have the same mean).
    """
    rows = []
    for band, part in table.groupby("band", sort=False):
        v, a, s = (part[c].to_numpy()[None] for c in ("represents", "ablated", "screened"))
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = np.log(a[0] / s[0])
        spread = np.sqrt(np.average((apart - np.average(apart, weights=v[0])) ** 2, weights=v[0]))
        rows.append({"band": band, "spearman": float(spearman(a, s, v)[0]), "factor": float(np.exp(spread))})
    return pd.DataFrame(rows)

"""Does attention route rare tokens to the rare-token neurons? (claims C17, C18)

The published analysis ablates heads and compares their influence on the group's activations at rare and at common
targets by eye. The controlled analysis takes only heads that can reach the neurons, measures influence in standard
deviations of each neuron's activation, computes intervals by resampling documents, repeats this for random and matched
groups, and estimates noise from halves of the documents (method §10).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import stats

from raretok.data.frequency import UnigramCounts, type_bands
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
from raretok.graph import arrays, memory, table
from raretok.measure import inputs
from raretok.model import upstream
from raretok.model.load import LoadedModel
from raretok.model.trace import SKIP
from raretok.stats.rankcurve import gini
from raretok.stats.resampling import bootstrap_counts, by_document, interval, row_correlation, split_halves
from raretok.stats.streams import stream

BANDS = ("rare", "common")
WINDOWS, LENGTH = 8, 64
"""By default, heads are ablated on this number of windows and of first tokens in each: 270 passes for SmolLM2, which
take two minutes on two cores."""
SMALL_WINDOWS, SMALL_LENGTH = 64, 128
"""The same for the small models that are trained here."""
RESAMPLED = 400
STATISTICS = ("similarity", "gini_rare", "gini_common", "gini_difference", "median_head", "ratio", "average_ratio")
"""Spearman's ρ of the heads' influences at rare and at common targets; Gini coefficients of either over heads, and
their difference; the median head's influence (mean of both bands); and the median over layers of the influence of a
whole layer relative to that of its strongest head, and to that of its average head."""


@dataclass(frozen=True)
class HeadEffects:
    """Σ |Δz| of every neuron by head and by whole layer, summed over the positions of each document.

    z is the activation in units of its standard deviation; ``weight`` holds the number of positions.
    """

    heads: Float[ndarray, "head document band neuron"]
    layers: Float[ndarray, "layer document band neuron"]
    weight: Float[ndarray, "document band"]

    @property
    def by_layer(self) -> int:
        """Number of heads in a layer."""
        return len(self.heads) // len(self.layers)

    def of(
        self, members: Int[ndarray, " n"]
    ) -> tuple[Float[ndarray, "head document band"], Float[ndarray, "layer document band"]]:
        """Return the sums of the mean over some neurons."""
        return self.heads[..., members].mean(-1, dtype=np.float64), self.layers[..., members].mean(-1, dtype=np.float64)


@memory(inputs.windows, inputs.local_run)
def head_windows(windows: Windows, local_run: bool) -> Windows:
    """Select the windows on which heads are ablated, and their first tokens.

    They are of half B, because groups are chosen on half A.
    """
    count, length = (SMALL_WINDOWS, SMALL_LENGTH) if local_run else (WINDOWS, LENGTH)
    chosen = np.flatnonzero(windows.half == 1)[:count]
    return Windows(windows.tokens[chosen, :length], windows.document[chosen], windows.half[chosen])


@memory(head_windows, inputs.frequency, features)
def head_text(
    windows: Windows, frequency: UnigramCounts, matching: pd.DataFrame
) -> tuple[Int[ndarray, "window position"], Float[ndarray, "band window used"], Float[ndarray, " neuron"]]:
    """Return the tokens on which heads are ablated, their weights in each band, and each neuron's spread."""
    bands = type_bands(frequency.counts)
    target = windows.tokens[:, SKIP + 1 :]
    weights = np.stack([bands[band][target] for band in BANDS]).astype(float)
    return windows.tokens, weights, np.exp(matching["log variance"].to_numpy() / 2)


@arrays(inputs.model, head_text)
def head_influences(model: LoadedModel, text: tuple[ndarray, ndarray, ndarray]) -> dict[str, ndarray]:
    """Compute every head's influence on every neuron of the last layer, see ``model.upstream.head_influences``."""
    return upstream.head_influences(model, *text)


@memory(head_influences, head_windows)
def head_effects(kept: Mapping[str, ndarray], windows: Windows) -> HeadEffects:
    """Return ``head_influences`` by document."""
    heads, whole = (by_document(kept[name], windows.document, 1) for name in ("heads", "layers"))
    return HeadEffects(heads, whole, by_document(kept["weight"], windows.document, 0))


def _means(
    sums: Float[ndarray, "x document band"],
    weight: Float[ndarray, "document band"],
    counts: Float[ndarray, "draw document"],
) -> Float[ndarray, "draw x band"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("dw,xwb->dxb", counts, sums) / (counts @ weight)[:, None]


def _statistics(
    heads: Float[ndarray, "draw head band"], layers: Float[ndarray, "draw layer band"]
) -> dict[str, Float[ndarray, " draw"]]:
    """Compute ``STATISTICS`` of each draw; NaN where a band has no positions."""
    rare, common = heads[..., 0], heads[..., 1]
    rho = row_correlation(stats.rankdata(rare, axis=1), stats.rankdata(common, axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        by_layer = heads.reshape(len(heads), layers.shape[1], -1, 2)
        over = {"ratio": layers / by_layer.max(2), "average_ratio": layers / by_layer.mean(2)}
    missing = ~np.isfinite(heads).all((1, 2))
    g = {"rare": gini(rare), "common": gini(common)}
    values = {
        "similarity": rho,
        "gini_rare": g["rare"],
        "gini_common": g["common"],
        "gini_difference": g["rare"] - g["common"],
        "median_head": np.median(heads.mean(2), axis=1),
    } | {name: np.median(x.mean(2), axis=1) for name, x in over.items()}
    return {name: np.where(missing, np.nan, x) for name, x in values.items()}


@table(head_effects, neuron_sets, features)
def statistics(
    data: HeadEffects, groups: Groups, matching: pd.DataFrame, seed: int, draws: int = DRAWS
) -> pd.DataFrame:
    """Measure how attention heads influence each headline group (or, where there is none, the first group).

    The table has one row per group and statistic. Columns: ``group``, ``size``, ``heads``, ``documents``, ``statistic``
    (``STATISTICS``), ``estimate``, ``low``, ``high`` (95% interval, documents resampled), ``ceiling`` (of the
    similarity: agreement between two halves of the documents, Spearman–Brown corrected), ``random``, ``matched``
    (percentile in control groups), and the 95% ranges of the controls.
    """
    records = []
    documents = len(data.weight)
    counts = bootstrap_counts(documents, RESAMPLED, seed)
    one = np.ones((1, documents))
    for name in of_claims(groups) or list(groups)[:1]:
        group = groups[name]
        heads, layers = data.of(group.ids)
        estimates = {
            k: float(v[0]) for k, v in _statistics(*(_means(x, data.weight, one) for x in (heads, layers))).items()
        }
        resampled = _statistics(*(_means(x, data.weight, counts) for x in (heads, layers)))
        controls = control_groups(matching, group, draws, stream(seed, "routing.controls", len(group.ids)))
        nulls = {kind: _of_groups(data, drawn) for kind, drawn in controls.items()}
        ceiling = _ceiling(heads, data.weight, seed)
        for statistic in STATISTICS:
            low, high = interval(
                estimates[statistic],
                resampled[statistic],
                most=1.0 if statistic == "similarity" else np.inf,
                units=documents,
            )
            record: dict[str, Any] = {
                "group": name,
                "size": len(group.ids),
                "heads": len(heads),
                "documents": documents,
            }
            record |= {"statistic": statistic, "estimate": estimates[statistic], "low": low, "high": high}
            record |= {"ceiling": ceiling if statistic == "similarity" else np.nan}
            records.append(record | null_percentiles(estimates[statistic], {k: n[statistic] for k, n in nulls.items()}))
    return pd.DataFrame(records)


def _of_groups(data: HeadEffects, drawn: Int[ndarray, "draw n"]) -> dict[str, Float[ndarray, " draw"]]:
    """Compute the statistics of many groups over all documents."""
    weight = data.weight.sum(0)
    heads, layers = ((x.sum(1, dtype=np.float64) / weight[:, None]) for x in (data.heads, data.layers))
    parts = [drawn[k : k + 100] for k in range(0, len(drawn), 100)]
    by_part = [_statistics(*(np.moveaxis(x[..., p].mean(-1), 2, 0) for x in (heads, layers))) for p in parts]
    return {name: np.concatenate([f[name] for f in by_part]) for name in STATISTICS}


def _ceiling(heads: Float[ndarray, "head document band"], weight: Float[ndarray, "document band"], seed: int) -> float:
    """Compute the geometric mean over the bands of the reliability of the heads' order."""
    halves = split_halves(len(weight), 100, seed)
    first, second = (_means(heads, weight, h) for h in (halves, 1 - halves))
    reliabilities = []
    for b in range(2):
        there = np.isfinite(first[..., b]).all(1) & np.isfinite(second[..., b]).all(1)
        r = [stats.spearmanr(x, y).statistic for x, y in zip(first[there, :, b], second[there, :, b], strict=True)]
        reliabilities.append(np.median([2 * x / (1 + x) for x in r]) if r else np.nan)
    return float(np.sqrt(max(reliabilities[0], 0) * max(reliabilities[1], 0)))


@table(head_effects, neuron_sets)
def heads(data: HeadEffects, sets: Groups, seed: int, group: str | None = None) -> pd.DataFrame:
    """Compute the influence of every head on a group (by default the headline), in standard deviations.

    The table has one row per head. Columns: ``layer``, ``head``, ``rare``, ``common``, ``difference`` (rare − common)
    with ``low`` and ``high`` (95% interval, documents resampled).
    """
    sums, _ = data.of(member_set(sets, group).ids)
    documents = len(data.weight)
    whole = _means(sums, data.weight, np.ones((1, documents)))[0]
    drawn = _means(sums, data.weight, bootstrap_counts(documents, RESAMPLED, seed))
    gap, gaps = whole[:, 0] - whole[:, 1], drawn[..., 0] - drawn[..., 1]
    ends = [interval(float(g), gaps[:, k], units=documents) for k, g in enumerate(gap)]
    index = np.arange(len(sums))
    return pd.DataFrame(
        {"layer": index // data.by_layer, "head": index % data.by_layer, "rare": whole[:, 0], "common": whole[:, 1]}
        | {"difference": gap, "low": [e[0] for e in ends], "high": [e[1] for e in ends]}
    )


@table(head_effects, neuron_sets)
def whole_layers(data: HeadEffects, sets: Groups, group: str | None = None) -> pd.DataFrame:
    """Compare the joint influence of every layer's heads with that of single heads, in standard deviations.

    Columns: ``layer``, ``band``, ``whole``, ``strongest``, ``mean`` (over its heads).
    """
    weight = np.ones((1, len(data.weight)))
    single, whole = (_means(x, data.weight, weight)[0] for x in data.of(member_set(sets, group).ids))
    by_layer = single.reshape(len(whole), -1, 2)
    frames = [
        pd.DataFrame(
            {"layer": np.arange(len(whole)), "band": band, "whole": whole[:, b]}
            | {"strongest": by_layer[..., b].max(1), "mean": by_layer[..., b].mean(1)}
        )
        for b, band in enumerate(BANDS)
    ]
    return pd.concat(frames, ignore_index=True)


@table(inputs.model, head_text, head_effects, neuron_sets)
def screened_heads(
    model: LoadedModel,
    text: tuple[ndarray, ndarray, ndarray],
    data: HeadEffects,
    sets: Groups,
    seed: int,
    group: str | None = None,
) -> pd.DataFrame:
    """Compare the gradient's estimate of each head's influence on a group with the ablation, see ``screened``.

    The group is by default the headline.
    """
    ids = member_set(sets, group).ids
    return screened(data, ids, upstream.screen_heads(model, *text, ids, seed))


def screened(
    data: HeadEffects, members: Int[ndarray, " n"], screen: Float[ndarray, "head document band"]
) -> pd.DataFrame:
    """Compare the gradient's estimate with the ablation.

    Columns: ``layer``, ``head``, ``band``, ``ablated`` (mean |Δz|) and ``screened`` (root mean square, first order).
    """
    ablated = _means(data.of(members)[0], data.weight, np.ones((1, len(data.weight))))[0]
    estimate = np.sqrt(screen.sum(1) / (data.weight.sum(0) * len(members)))
    index = np.arange(len(screen))
    where: Mapping[str, Any] = {"layer": index // data.by_layer, "head": index % data.by_layer}
    return pd.concat(
        [
            pd.DataFrame({**where, "band": band, "ablated": ablated[:, b], "screened": estimate[:, b]})
            for b, band in enumerate(BANDS)
        ],
        ignore_index=True,
    )

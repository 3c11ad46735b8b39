"""Does attention route rare tokens to the rare-token neurons? (claims C17, C18)

Published: heads ablated, their influence on the group's activations at rare and at common targets compared by eye. Controlled: only heads that can reach the neurons, influence in
standard deviations of each neuron, intervals by resampling documents, the same for random and matched groups, and the noise between halves of the documents (method §10).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import stats

from raretok.findings.groups import DRAWS, HEADLINE, Groups, control_groups, placed
from raretok.stats.rankcurve import gini
from raretok.stats.resampling import bootstrap_counts, interval, row_correlation, split_halves

BANDS = ("rare", "common")
WINDOWS, LENGTH = 8, 64
"""Text that heads are ablated on, by default: so many windows' first tokens. Of SmolLM2 that is 270 passes, two minutes on two cores."""
RESAMPLED = 400
STATISTICS = ("similarity", "gini_rare", "gini_common", "gini_difference", "median_head", "ratio", "average_ratio")
"""Spearman's ρ of the heads' influences at rare and at common targets; Gini coefficients of either over heads, and their difference; the middle
head's influence (mean of both bands); and what the middle layer does as a whole over what its strongest, and what its average head does."""


@dataclass(frozen=True)
class Influences:
    """Σ |Δz| of every neuron, z the activation in its standard deviations, by head and by whole layer, summed over the positions of each document; ``weight``: positions."""

    heads: Float[ndarray, "head document band neuron"]
    layers: Float[ndarray, "layer document band neuron"]
    weight: Float[ndarray, "document band"]

    @property
    def by_layer(self) -> int:
        """Heads in a layer."""
        return len(self.heads) // len(self.layers)

    def of(
        self, members: Int[ndarray, " n"]
    ) -> tuple[Float[ndarray, "head document band"], Float[ndarray, "layer document band"]]:
        """Sums of the mean over some neurons."""
        return self.heads[..., members].mean(-1, dtype=np.float64), self.layers[..., members].mean(-1, dtype=np.float64)


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
    """``STATISTICS`` of each draw; NaN where a band has no positions."""
    rare, common = heads[..., 0], heads[..., 1]
    rho = row_correlation(stats.rankdata(rare, axis=1), stats.rankdata(common, axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        by_layer = heads.reshape(len(heads), layers.shape[1], -1, 2)
        over = {"ratio": layers / by_layer.max(2), "average_ratio": layers / by_layer.mean(2)}
    missing = ~np.isfinite(heads).all((1, 2))
    g = {"rare": gini(rare), "common": gini(common)}
    found = {
        "similarity": rho,
        "gini_rare": g["rare"],
        "gini_common": g["common"],
        "gini_difference": g["rare"] - g["common"],
        "median_head": np.median(heads.mean(2), axis=1),
    } | {name: np.median(x.mean(2), axis=1) for name, x in over.items()}
    return {name: np.where(missing, np.nan, x) for name, x in found.items()}


def routing(data: Influences, groups: Groups, matching: pd.DataFrame, seed: int, draws: int = DRAWS) -> pd.DataFrame:
    """How attention heads influence each headline group (or, where there is none, the first of all); a row a group and statistic.

    Columns: ``group``, ``size``, ``heads``, ``documents``, ``statistic`` (``STATISTICS``), ``estimate``, ``low``, ``high`` (95 %, documents resampled), ``ceiling`` (of the
    similarity: what two halves of the documents agree in, Spearman–Brown corrected), ``random``, ``matched`` (percentile in control groups), and the controls' 95 % ranges.
    """
    records = []
    documents = len(data.weight)
    counts = bootstrap_counts(documents, RESAMPLED, seed)
    one = np.ones((1, documents))
    for name in [g for g in HEADLINE if g in groups] or list(groups)[:1]:
        group = groups[name]
        heads, layers = data.of(group.ids)
        found = {
            k: float(v[0]) for k, v in _statistics(*(_means(x, data.weight, one) for x in (heads, layers))).items()
        }
        resampled = _statistics(*(_means(x, data.weight, counts) for x in (heads, layers)))
        controls = control_groups(matching, group, draws, np.random.default_rng([seed, len(group.ids), 8]))
        nulls = {kind: _of_groups(data, drawn) for kind, drawn in controls.items()}
        ceiling = _ceiling(heads, data.weight, seed)
        for statistic in STATISTICS:
            low, high = interval(
                found[statistic],
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
            record |= {"statistic": statistic, "estimate": found[statistic], "low": low, "high": high}
            record |= {"ceiling": ceiling if statistic == "similarity" else np.nan}
            records.append(record | placed(found[statistic], {k: n[statistic] for k, n in nulls.items()}))
    return pd.DataFrame(records)


def _of_groups(data: Influences, drawn: Int[ndarray, "draw n"]) -> dict[str, Float[ndarray, " draw"]]:
    """Statistics of many groups over all documents."""
    weight = data.weight.sum(0)
    heads, layers = ((x.sum(1, dtype=np.float64) / weight[:, None]) for x in (data.heads, data.layers))
    parts = [drawn[k : k + 100] for k in range(0, len(drawn), 100)]
    found = [_statistics(*(np.moveaxis(x[..., p].mean(-1), 2, 0) for x in (heads, layers))) for p in parts]
    return {name: np.concatenate([f[name] for f in found]) for name in STATISTICS}


def _ceiling(heads: Float[ndarray, "head document band"], weight: Float[ndarray, "document band"], seed: int) -> float:
    """Geometric mean over the bands of the reliability of the heads' order."""
    halves = split_halves(len(weight), 100, seed)
    first, second = (_means(heads, weight, h) for h in (halves, 1 - halves))
    found = []
    for b in range(2):
        there = np.isfinite(first[..., b]).all(1) & np.isfinite(second[..., b]).all(1)
        r = [stats.spearmanr(x, y).statistic for x, y in zip(first[there, :, b], second[there, :, b], strict=True)]
        found.append(np.median([2 * x / (1 + x) for x in r]) if r else np.nan)
    return float(np.sqrt(max(found[0], 0) * max(found[1], 0)))


def heads(data: Influences, members: Int[ndarray, " n"], seed: int) -> pd.DataFrame:
    """Influence of every head on some neurons, in standard deviations; a row a head.

    Columns: ``layer``, ``head``, ``rare``, ``common``, ``difference`` (rare − common) with ``low`` and ``high`` (95 %, documents resampled).
    """
    sums, _ = data.of(members)
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


def layers(data: Influences, members: Int[ndarray, " n"]) -> pd.DataFrame:
    """Every layer's heads together, and one by one: ``layer``, ``band``, ``whole``, ``strongest``, ``mean`` (of its heads), in standard deviations."""
    weight = np.ones((1, len(data.weight)))
    single, whole = (_means(x, data.weight, weight)[0] for x in data.of(members))
    by_layer = single.reshape(len(whole), -1, 2)
    frames = [
        pd.DataFrame(
            {"layer": np.arange(len(whole)), "band": band, "whole": whole[:, b]}
            | {"strongest": by_layer[..., b].max(1), "mean": by_layer[..., b].mean(1)}
        )
        for b, band in enumerate(BANDS)
    ]
    return pd.concat(frames, ignore_index=True)


def screened(
    data: Influences, members: Int[ndarray, " n"], screen: Float[ndarray, "head document band"]
) -> pd.DataFrame:
    """The gradient's estimate beside the ablation: ``layer``, ``head``, ``band``, ``ablated`` (mean |Δz|) and ``screened`` (root mean square, first order)."""
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

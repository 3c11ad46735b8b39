"""Charts of routing: the influence of heads and whole layers on the rare-token neurons, at rare and common targets."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from raretok.charts.theme import BAND_COLOURS, BLUE, GREY, ORANGE, finish, show_table
from raretok.claims.wording import with_interval

STATISTIC_NAMES = {
    "similarity": "rank correlation of the heads, rare with common",
    "gini_rare": "Gini at rare targets",
    "gini_common": "Gini at common targets",
    "gini_difference": "Gini, rare less common",
    "median_head": "middle head (SD)",
    "ratio": "layer over its strongest head",
    "average_ratio": "layer over the average head",
}
"""The name that a table gives to each of ``findings.routing.STATISTICS``."""


def heads_map(heads: pd.DataFrame, facts: Mapping[str, str]) -> alt.Chart:
    """Plot every head's screened influence at rare or common targets, or the difference (``routing.screened_heads``).

    The reader chooses among the three.
    """
    names = {"rare": "at rare targets", "common": "at common targets", "difference": "rare less common"}
    shown = heads.assign(difference=heads["rare"] - heads["common"]).rename(columns=names)
    long = shown.round(4).melt(["layer", "head"], list(names.values()), "what", "influence")
    picked = alt.param(
        name="heads_what",
        value=names["rare"],
        bind=alt.binding_select(options=list(names.values()), name="influence "),
    )
    chart = (
        alt.Chart(long)
        .transform_filter("datum.what == heads_what")
        .mark_rect()
        .encode(
            alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, labelOverlap="greedy")),
            alt.Y("head:O", title="head"),
            alt.Color("influence:Q", scale=alt.Scale(scheme="blueorange", domainMid=0), title="influence (SD)"),
            tooltip=["layer", "head", "influence"],
        )
    )
    return finish(
        chart.add_params(picked).properties(width="container", height=24 * heads["head"].nunique() + 20),
        f"The influence of the {facts['heads']} heads that can reach the neurons, to first order",
        f"root mean square of the change of the neurons' activations, in their standard deviations, half A "
        f"({facts['screen_documents']} documents); choose below",
        "Heat map of each attention head's influence on the rare-token neurons by layer and head.",
    )


def rare_against_common(heads: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot influence at rare against influence at common targets, with a point for each ablated head
    (``routing.heads``).
    """
    ends = float(heads[["rare", "common"]].max().max())
    line = alt.Chart(pd.DataFrame({"v": [0, ends]})).mark_line(strokeDash=[4, 4], color=GREY).encode(x="v:Q", y="v:Q")
    shown = heads.assign(
        apart=((heads["low"] > 0) | (heads["high"] < 0)).map(
            {True: "interval of the difference excludes 0", False: "holds 0"}
        )
    )
    domain = ["interval of the difference excludes 0", "holds 0"]
    points = (
        alt.Chart(shown[["layer", "head", "rare", "common", "low", "high", "apart"]].round(4))
        .mark_point(opacity=0.75)
        .encode(
            alt.X("common:Q", title="influence at common targets (SD)"),
            alt.Y("rare:Q", title="influence at rare targets (SD)"),
            alt.Color(
                "apart:N",
                scale=alt.Scale(domain=domain, range=[ORANGE, BLUE]),
                title=None,
                legend=alt.Legend(labelLimit=260),
            ),
            alt.Shape("apart:N", scale=alt.Scale(domain=domain, range=["diamond", "circle"])),
            tooltip=["layer", "head", "rare", "common", "low", "high"],
        )
    )
    return finish(
        alt.layer(line, points).properties(width="container", height=320),
        f"The heads' order at rare and at common targets: rank correlation {facts['same_order']}",
        f"{len(heads):,} ablated heads of {facts['heads']} that can reach the neurons; interval of rare − common: 95%, "
        "documents resampled, not corrected for their number",
        "Scatter of each head's influence at rare targets against its influence at common targets.",
    )


def whole_layers(layers: pd.DataFrame, facts: Mapping[str, str]) -> alt.Chart:
    """Plot the influence of a layer's heads together, of its strongest head, and of the average head of the model.

    The reader chooses the targets. ``layers`` is ``routing.whole_layers``.
    """
    names = {"whole": "all heads together", "strongest": "strongest head", "average": "average head of the model"}
    long = layers.rename(columns=names).melt(["layer", "band"], list(names.values()), "what", "influence").round(4)
    picked = alt.param(
        name="layers_band", value="rare", bind=alt.binding_select(options=["rare", "common"], name="targets ")
    )
    chart = (
        alt.Chart(long)
        .transform_filter("datum.band == layers_band")
        .mark_line(point=True)
        .encode(
            alt.X("layer:Q", axis=alt.Axis(tickMinStep=1), title="layer"),
            alt.Y("influence:Q", title="influence (SD)"),
            alt.Color("what:N", scale=alt.Scale(domain=list(names.values()), range=[ORANGE, BLUE, GREY]), title=None),
            alt.StrokeDash(
                "what:N", scale=alt.Scale(domain=list(names.values()), range=[[1, 0], [5, 3], [2, 2]]), title=None
            ),
            tooltip=["layer", "what", "influence"],
        )
    )
    return finish(
        chart.add_params(picked).properties(width="container", height=260),
        f"All heads of a layer together do {facts['layer_ratio']} times what its strongest does (rare targets, "
        "middle layer)",
        "mean |change| of the rare-token neurons' activations in standard deviations; choose below",
        "Influence of whole layers of attention heads, of their strongest heads, and of the average head of the model.",
    )


def screen(table: pd.DataFrame, facts: Mapping[str, str]) -> alt.Chart:
    """Plot the gradient's estimates of the heads' influence against those by ablation (``routing.screen``)."""
    domain = ["rare", "common"]
    chart = (
        alt.Chart(table[["layer", "head", "band", "ablated", "screened"]].round(5))
        .mark_point(opacity=0.7)
        .encode(
            alt.X("ablated:Q", scale=alt.Scale(type="log", nice=False, padding=8), title="ablated: mean |change| (SD)"),
            alt.Y(
                "screened:Q",
                scale=alt.Scale(type="log", nice=False, padding=8),
                title="screened: root mean square (SD)",
            ),
            alt.Color(
                "band:N", scale=alt.Scale(domain=domain, range=[BAND_COLOURS[b] for b in domain]), title="targets"
            ),
            alt.Shape("band:N", scale=alt.Scale(domain=domain, range=["triangle-up", "circle"])),
            tooltip=["layer", "head", "band", "ablated", "screened"],
        )
    )
    return finish(
        chart.properties(width="container", height=280),
        f"The heads by gradient and by ablation: rank correlation {facts['screened_rare']} at rare targets, "
        f"{facts['screened_common']} at common targets",
        "one backward pass for all heads (half A) against one forward pass a head (half B)",
        "Scatter of the gradient-screened influence of each head against its influence by ablation.",
    )


def statistics_table(table: pd.DataFrame) -> Any:
    """Show statistics of the heads' influence on each group, and percentiles in control groups
    (``routing.statistics``)."""
    shown = table.assign(statistic=table["statistic"].map(STATISTIC_NAMES))
    shown["estimate [95%]"] = [with_interval(r["estimate"], r["low"], r["high"]) for r in table.to_dict("records")]
    return show_table(
        shown[["group", "size", "statistic", "estimate [95%]", "random", "matched"]],
        {"random": "{:.3f}", "matched": "{:.3f}"},
        "Influence of the heads on the groups, and percentile of each statistic in control groups of other neurons",
        wrap=True,
    )

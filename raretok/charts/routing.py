"""Charts of the routing: influence of every head on the rare-token neurons, at rare and at common targets, and of whole layers."""

import altair as alt
import pandas as pd
from scipy import stats

from raretok.charts.theme import BAND_COLOURS, BLUE, GREY, ORANGE, finish


def heads_map(heads: pd.DataFrame) -> alt.Chart:
    """Influence of every head at rare targets, or how much larger it is there than at common ones; the reader chooses (``findings.routing.heads``)."""
    names = {"rare": "at rare targets", "common": "at common targets", "difference": "rare less common"}
    shown = heads.rename(columns=names)[["layer", "head", *names.values()]].round(4)
    long = shown.melt(["layer", "head"], var_name="what", value_name="influence")
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
    strongest = heads.iloc[int(heads["rare"].to_numpy().argmax())]
    return finish(
        chart.add_params(picked).properties(width="container", height=24 * heads["head"].nunique() + 20),
        f"At rare targets head {strongest['head']:.0f} of layer {strongest['layer']:.0f} has most influence: {strongest['rare']:.2f} SD",
        "mean |change| of the rare-token neurons' activations, in their standard deviations, when the head is mean-ablated; choose below",
        "Heat map of each attention head's influence on the rare-token neurons by layer and head.",
    )


def rare_against_common(heads: pd.DataFrame) -> alt.LayerChart:
    """Influence at rare against influence at common targets, a point a head."""
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
    rho = float(stats.spearmanr(heads["rare"], heads["common"]).statistic)
    return finish(
        alt.layer(line, points).properties(width="container", height=320),
        f"The heads' order at rare and at common targets: rank correlation {rho:.2f}",
        f"{len(heads):,} heads that can reach the neurons; interval of rare − common: 95 %, documents resampled, not corrected for their number",
        "Scatter of each head's influence at rare targets against its influence at common targets.",
    )


def whole_layers(layers: pd.DataFrame) -> alt.Chart:
    """What all heads of a layer do together, and what its strongest and its average head do; the reader chooses the targets (``findings.routing.layers``)."""
    names = {"whole": "all heads together", "strongest": "strongest head", "mean": "average head"}
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
    rare = layers[layers["band"] == "rare"]
    ratio = float((rare["whole"] / rare["strongest"]).median())
    return finish(
        chart.add_params(picked).properties(width="container", height=260),
        f"All heads of a layer together do {ratio:.1f} times what its strongest does (rare targets, middle layer)",
        "mean |change| of the rare-token neurons' activations in standard deviations; choose below",
        "Influence of whole layers of attention heads, of their strongest and of their average head.",
    )


def screen(table: pd.DataFrame) -> alt.Chart:
    """The gradient's estimate against the ablation (``Study.screened_heads``)."""
    rho = {b: float(stats.spearmanr(p["ablated"], p["screened"]).statistic) for b, p in table.groupby("band")}
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
    told = ", ".join(f"{rho[b]:.2f} at {b} targets" for b in domain)
    return finish(
        chart.properties(width="container", height=280),
        f"The heads by gradient and by ablation: rank correlation {told}",
        "one backward pass a probe for all heads, against one forward pass a head",
        "Scatter of the gradient-screened influence of each head against its influence by ablation.",
    )

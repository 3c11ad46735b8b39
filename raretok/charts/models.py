"""Charts of many studies: overlaid rank curves, each claim's statistic by size and family, and the cost of studies."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from raretok.charts.theme import GREY, finish, rounded, show_table
from raretok.claims import all_claims
from raretok.claims.wording import with_interval
from raretok.measure.cost import Model

LEGEND = 8
"""If there are more studies than this, only the tooltips distinguish them."""
_FAMILY = alt.Color("architecture:N", title="family")
_SIZE = alt.X("parameters:Q", scale=alt.Scale(type="log", nice=True), axis=alt.Axis(format="~s"), title="parameters")


def rank_curves(curves: pd.DataFrame, studies: pd.DataFrame) -> alt.LayerChart:
    """Plot the rank curves of the net effects on rare targets, one over the other.

    ``curves`` and ``studies`` are those of ``Summaries``.
    """
    part = curves[curves["form"] == "published"].merge(studies[["study", "architecture"]], on="study")
    part = part[["study", "architecture", "rank", "value"]].copy()
    part = rounded(part, ["rank", "value"])
    log = alt.Scale(type="log", nice=False)
    names = alt.Legend(columns=1, orient="bottom", labelLimit=260, symbolStrokeColor=GREY, symbolSize=400)
    base = alt.Chart(part).encode(
        alt.X("rank:Q", scale=log, title="rank of the neuron by |net effect|"),
        alt.Y("value:Q", scale=log, title="|net effect| on rare targets (nats)"),
        _FAMILY,
        detail="study:N",
        tooltip=["study", alt.Tooltip("rank", format=".0f"), alt.Tooltip("value", format=".2e")],
    )
    dash = alt.StrokeDash("study:N", title="study", legend=names if len(studies) <= LEGEND else None)
    chart = alt.layer(base.mark_line().encode(dash), base.mark_point(size=14))
    return finish(
        chart.properties(width="container", height=320),
        "The rank curve of every model",
        f"{len(studies)} studies; all neurons of the last MLP layer, binned by rank",
        "Rank curves of the absolute net effect on rare targets, a line for each study.",
    )


def statistics(claims: pd.DataFrame, studies: pd.DataFrame) -> alt.LayerChart:
    """Plot the controlled statistic of a claim by the model's size and family, with 95% intervals.

    The reader chooses the claim from a list.
    """
    part = claims.merge(studies[["study", "parameters", "architecture"]], on="study")
    part = part[
        ["study", "id", "claim", "quantity", "controlled", "low", "high", "verdict", "parameters", "architecture"]
    ]
    part = part.dropna(subset=["controlled"])
    part = rounded(part, ["controlled", "low", "high"], 4)
    ids = [c.id for c in all_claims() if (part["id"] == c.id).any()]
    chosen = alt.param(
        name="claim_shown", value=ids[0] if ids else "", bind=alt.binding_select(options=ids, name="claim ")
    )
    base = alt.Chart(part).transform_filter("datum.id == claim_shown")
    y = alt.Y("controlled:Q", scale=alt.Scale(zero=False), title="controlled statistic, 95% interval")
    # The legend is at the bottom because the text of the claim is above the chart.
    family = alt.Color("architecture:N", title="family", legend=alt.Legend(orient="bottom"))
    points = base.mark_point(size=70).encode(
        _SIZE, y, family, tooltip=["study", "claim", "quantity", "controlled", "low", "high", "verdict"]
    )
    bars = base.mark_rule().encode(_SIZE, alt.Y("low:Q", title=""), alt.Y2("high:Q"), family)
    quantity = base.transform_aggregate(text="min(claim)", unit="min(quantity)").transform_calculate(
        shown="datum.text + ': ' + datum.unit"
    )
    label = quantity.mark_text(align="left", baseline="bottom", fontSize=12, lineBreak=": ").encode(
        x=alt.value(0), y=alt.value(-20), text="shown:N"
    )
    return finish(
        alt.layer(bars, points, label).add_params(chosen).properties(width="container", height=260),
        "Each claim’s statistic by size and family",
        "choose a claim below; all are in the table",
        "Controlled statistic of a chosen claim with its interval, by number of parameters and family.",
    )


def statistic_table(claims: pd.DataFrame) -> Any:
    """Show every claim's controlled statistic with its interval, a row for each claim and a column for each study."""
    texts = [with_interval(r["controlled"], r["low"], r["high"]) for r in claims.to_dict("records")]
    wide = claims.assign(text=texts).pivot(index="id", columns="study", values="text")
    wide = wide.reindex([c.id for c in all_claims() if c.id in wide.index])[list(claims["study"].unique())]
    names = {c.id: f"{c.id} {c.quantity}" for c in all_claims()}
    table = wide.rename(index=names).fillna("–").reset_index(names="claim and statistic").rename_axis(columns=None)
    return show_table(
        table, caption="controlled estimate [95% interval]; –: the claim does not apply or was not judged"
    )


def study_table(studies: pd.DataFrame) -> Any:
    """Show what was studied: the model, step, corpus and sizes of each study."""
    names = {"study": "study", "architecture": "family", "parameters": "parameters", "layers": "layers"}
    names |= {"neurons": "neurons", "corpus": "corpus", "rare_targets": "rare targets", "reliability": "reliability"}
    caption = "reliability: split-half, of the effects on rare targets"
    return _table(studies, names, ("neurons", "rare targets"), {"reliability": "{:.2f}"}, caption)


def cost_table(studies: pd.DataFrame) -> Any:
    """Show the cost of each study in time and memory, and the device."""
    names = {"study": "study", "parameters": "parameters", "tokens": "tokens read", "positions": "positions"}
    names |= {"device": "device", "minutes": "minutes", "peak_mib": "peak MiB"}
    caption = "minutes: of all computing that the study’s tables came from; peak MiB: of the process"
    timed = studies.assign(minutes=studies["seconds"] / 60)
    return _table(timed, names, ("tokens read", "positions", "peak MiB"), {"minutes": "{:.1f}"}, caption)


def _table(
    studies: pd.DataFrame, names: dict[str, str], counts: tuple[str, ...], formats: dict[str, Any], caption: str
) -> Any:
    """Show some columns of the studies under their headings; ``counts`` are the headings of whole numbers."""
    shown = studies[list(names)].rename(columns=names)
    return show_table(shown, {"parameters": si} | dict.fromkeys(counts, "{:,.0f}") | formats, caption)


def architecture_table(tried: pd.DataFrame) -> Any:
    """Show every architecture that was tried (``architecture.tried``)."""
    columns = {"error": "float64 (nats)", "plain": "float32 (nats)"}
    shown = tried[["family", "variant", "form", *columns, "why"]].rename(columns=columns)
    return show_table(
        shown,
        dict.fromkeys(columns.values(), "{:.0e}"),
        "Architectures that were tried, by their name in transformers",
        wrap=True,
    )


def cost_fit(points: pd.DataFrame, model: Model, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot measured seconds against seconds that are predicted from other models (``cost.fit``).

    Of ``facts``, ``error`` is used, the median relative error.
    """
    shown = model.error
    ends = [float(shown[["seconds", "predicted"]].min().min()), float(shown[["seconds", "predicted"]].max().max())]
    scale = alt.Scale(type="log", domain=[ends[0] * 0.8, ends[1] * 1.25], nice=False)
    line = alt.Chart(pd.DataFrame({"x": ends})).mark_line(color=GREY, strokeDash=[4, 3])
    diagonal = line.encode(alt.X("x:Q", scale=scale), alt.Y("x:Q", scale=scale))
    dots = (
        alt.Chart(shown)
        .mark_point(size=60)
        .encode(
            alt.X("predicted:Q", scale=scale, title="predicted from the other models (s)"),
            alt.Y("seconds:Q", scale=scale, title="measured (s)"),
            alt.Color("model:N", title=None),
            alt.Shape("model:N", title=None),
            tooltip=["model", "windows", alt.Tooltip("seconds", format=".1f"), alt.Tooltip("predicted", format=".1f")],
        )
    )
    return finish(
        alt.layer(diagonal, dots).properties(width="container", height=300),
        f"The sizes of a study predict what it costs to within {facts['error']} in the median",
        f"{len(points)} studies; dashed: prediction and measurement agree",
        "Measured against predicted seconds of studies of several models, on logarithmic axes.",
    )


def si(value: Any) -> str:
    """Format a large number with three digits and a unit, such as 135M."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"

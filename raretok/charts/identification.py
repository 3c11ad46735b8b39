"""Charts of the identification: reliability, rank table, contrast, dose–response and the two definitions."""

import altair as alt
import numpy as np
import pandas as pd

from raretok.charts.theme import BAND_COLOURS, BLUE, GREEN, GREY, ORANGE, finish, log_ranks
from raretok.data.frequency import DECILES
from raretok.stats.rankcurve import HEAD

_KINDS = ["boost", "suppress", "other"]
_KIND_COLOUR = alt.Color(
    "kind:N", scale=alt.Scale(domain=_KINDS, range=[ORANGE, BLUE, GREY]), title="rare-token neurons"
)
_KIND_SHAPE = alt.Shape("kind:N", scale=alt.Scale(domain=_KINDS, range=["triangle-up", "triangle-down", "circle"]))


def _kinds(found: pd.DataFrame) -> np.ndarray:
    return np.where(found["controlled"], found["direction"], "other")


def halves(effects: pd.DataFrame, found: pd.DataFrame, reliability: float, order: float) -> alt.LayerChart:
    """Net effect on rare targets in half A against half B, a point a neuron."""
    rare = effects[effects["band"] == "rare"].merge(found[["neuron", "controlled", "direction"]], on="neuron")
    rare = rare.assign(kind=_kinds(rare))
    ends = float(rare[["net_a", "net_b"]].abs().max().max())
    line = alt.Chart(pd.DataFrame({"net_a": [-ends, ends], "net_b": [-ends, ends]})).mark_line(
        strokeDash=[4, 4], color=GREY
    )
    points = (
        alt.Chart(rare[["neuron", "net_a", "net_b", "kind"]])
        .mark_point(opacity=0.75)
        .encode(
            alt.X("net_a:Q", title="net effect in half A (nats)"),
            alt.Y("net_b:Q", title="net effect in half B (nats)"),
            _KIND_COLOUR,
            _KIND_SHAPE,
            tooltip=["neuron", "kind", alt.Tooltip("net_a", format=".4f"), alt.Tooltip("net_b", format=".4f")],
        )
    )
    return finish(
        alt.layer(line.encode(x="net_a:Q", y="net_b:Q"), points).properties(width="container", height=360),
        f"Measured on two halves of the documents, the effects have a reliability of {reliability:.2f}",
        f"{len(rare):,} neurons, net effects on rare targets; rank correlation of their absolute values {order:.2f}",
        "Scatter of each neuron's net effect on rare targets in one half of the documents against the other half.",
    )


def rank_curve(effects: pd.DataFrame) -> alt.Chart:
    """|net| by rank for rare, matched and common targets: ordered by half A, value from half B; log–log."""
    curves = []
    for band in ("rare", "matched", "common"):
        part = effects[effects["band"] == band].sort_values("net_a", key=abs, ascending=False).reset_index(drop=True)
        sign = np.sign(part["net_a"])
        part = part.assign(rank=part.index + 1, size=part["net_b"] * sign)
        smooth = part["size"].rolling(9, center=True, min_periods=1).mean()
        curves.append(part.assign(size=smooth)[part["rank"].isin(log_ranks(len(part), 150))])
    shown = pd.concat(curves)[["band", "neuron", "rank", "size"]]
    shown = shown[shown["size"] > 0]
    domain = ["rare", "matched", "common"]
    chart = (
        alt.Chart(shown)
        .mark_line(point=alt.OverlayMarkDef(size=18, filled=True), strokeWidth=1.5)
        .encode(
            alt.X("rank:Q", scale=alt.Scale(type="log"), title="rank of the neuron by |net effect| in half A"),
            alt.Y("size:Q", scale=alt.Scale(type="log"), title="effect in half B, sign of half A (nats)"),
            alt.Color(
                "band:N", scale=alt.Scale(domain=domain, range=[BAND_COLOURS[b] for b in domain]), title="targets"
            ),
            tooltip=["band", "neuron", "rank", alt.Tooltip("size", format=".2e")],
        )
    )
    rare = effects[effects["band"] == "rare"]
    head = rare.loc[rare["net_a"].abs().nlargest(HEAD).index]
    share = head["net_b"].abs().sum() / rare["net_b"].abs().sum()
    return finish(
        chart.properties(width="container"),
        f"{HEAD} of {len(rare):,} neurons, chosen on half A, carry {share:.0%} of the summed |effect| on rare targets of half B",
        "ranked on half A, measured on half B, running mean of nine ranks; where that is not positive there is no point",
        "Held-out effect against rank of the neurons, log–log, for rare, matched and common targets.",
    )


def contrast(effects: pd.DataFrame, found: pd.DataFrame) -> alt.LayerChart:
    """Net effect on rare targets against matched common targets of half B with 95 % intervals; S is the way to the diagonal."""
    names = {"rare with controls": "rare", "matched": "matched"}
    part = effects[effects["band"].isin(names)].assign(band=lambda x: x["band"].map(names))
    wide = part.pivot(index="neuron", columns="band", values=["net_b", "low_b", "high_b"])
    wide.columns = pd.Index([f"{column[1]}_{column[0].removesuffix('_b')}" for column in wide.columns.to_list()])
    table = wide.reset_index().merge(found[["neuron", "controlled", "direction", "s_b", "q"]], on="neuron")
    table = table.assign(kind=_kinds(table))
    ends = float(table[["rare_net", "matched_net"]].abs().max().max())
    line = (
        alt.Chart(pd.DataFrame({"v": [-ends, ends]})).mark_line(strokeDash=[4, 4], color=GREY).encode(x="v:Q", y="v:Q")
    )
    base = alt.Chart(table)
    bars = base.transform_filter(alt.datum.controlled)
    across_title, along_title = "net effect on matched common targets (nats)", "net effect on rare targets (nats)"
    x, y = alt.X("matched_net:Q", title=across_title), alt.Y("rare_net:Q", title=along_title)
    points = base.mark_point(opacity=0.8).encode(
        x,
        y,
        _KIND_COLOUR,
        _KIND_SHAPE,
        tooltip=["neuron", "kind", *(alt.Tooltip(c, format=".4f") for c in ("rare_net", "matched_net", "s_b", "q"))],
    )
    across = bars.mark_rule(opacity=0.5).encode(
        alt.X("matched_low:Q", title=across_title), alt.X2("matched_high:Q"), y, _KIND_COLOUR
    )
    along = bars.mark_rule(opacity=0.5).encode(
        x, alt.Y("rare_low:Q", title=along_title), alt.Y2("rare_high:Q"), _KIND_COLOUR
    )
    count = int(found["controlled"].sum())
    return finish(
        alt.layer(line, across, along, points).properties(width="container", height=360),
        f"{count} of {len(found):,} neurons act on rare targets otherwise than on common targets as hard",
        "chosen on half A (FDR 5 %) with the same sign on half B, shown on half B; bars: 95 % intervals by document bootstrap",
        "Scatter of every neuron's net effect on rare targets against its net effect on matched common targets.",
    )


def dose_response(effects: pd.DataFrame, neurons: list[int]) -> alt.LayerChart:
    """Net effect by frequency tenth for some neurons with 95 % intervals; a click on the legend picks one out."""
    names = {name: k + 1 for k, name in enumerate(DECILES)}
    part = effects[effects["band"].isin(names) & effects["neuron"].isin(neurons)]
    part = part.assign(decile=part["band"].map(names), neuron=part["neuron"].astype(str))
    picked = alt.selection_point(fields=["neuron"], bind="legend")
    x = alt.X(
        "decile:Q", title="tenth of the token mass by frequency of the target (1: rarest)", axis=alt.Axis(tickMinStep=1)
    )
    colour = alt.Color(
        "neuron:N", scale=alt.Scale(domain=[str(n) for n in neurons], scheme="tableau10"), title="neuron (click)"
    )
    base = alt.Chart(part[["neuron", "decile", "net", "low", "high"]])
    fade = alt.condition(picked, alt.value(1), alt.value(0.08))
    band = base.mark_area(opacity=0.15).encode(
        x,
        alt.Y("low:Q", title="net effect (nats)"),
        alt.Y2("high:Q"),
        colour,
        opacity=alt.condition(picked, alt.value(0.18), alt.value(0.02)),
    )
    line = base.mark_line(point=True).encode(
        x, alt.Y("net:Q"), colour, opacity=fade, tooltip=["neuron", "decile", alt.Tooltip("net", format=".4f")]
    )
    # On the layers together: a legend shared by layers of which one has no selection does not answer to clicks.
    return finish(
        alt.layer(band, line).add_params(picked).properties(width="container"),
        "How the effect depends on the frequency of the target",
        "mean loss change when the neuron is ablated, by tenth of the token mass, all documents; neurons chosen on half A; ribbons: 95 % intervals",
        "Net effect of the leading rare-token neurons by frequency tenth of the target, with confidence ribbons.",
    )


def definitions(found: pd.DataFrame) -> alt.Chart:
    """Rank by the published definition against the rare-specific effect; the two sets marked."""
    kinds = ["both", "controlled only", "published only", "neither"]
    kind = np.select(
        [found["controlled"] & found["published"], found["controlled"], found["published"]], kinds[:3], default=kinds[3]
    )
    table = found.assign(kind=kind)[["neuron", "kind", "s", "published_rank", "published_net"]]
    colour = alt.Scale(domain=kinds, range=[ORANGE, GREEN, BLUE, GREY])
    chart = (
        alt.Chart(table)
        .mark_point(opacity=0.8)
        .encode(
            alt.X(
                "published_rank:Q",
                scale=alt.Scale(type="log"),
                title="published rank: |net| over rare inputs, within sign class",
            ),
            alt.Y("s:Q", title="rare-specific effect S (nats)"),
            alt.Color("kind:N", scale=colour, title="rare-token neuron by"),
            alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=["diamond", "triangle-up", "square", "circle"])),
            tooltip=[
                "neuron",
                "kind",
                "published_rank",
                alt.Tooltip("s", format=".4f"),
                alt.Tooltip("published_net", format=".4f"),
            ],
        )
    )
    both, either = int((kind == "both").sum()), int((kind != "neither").sum())
    return finish(
        chart.properties(width="container"),
        "The published and the controlled definition pick different neurons"
        if 2 * both < either
        else "The two definitions share at least half of their neurons",
        f"{both} neurons are in both sets, {either} in either",
        "Scatter of rare-specific effect against published rank, coloured by which definition a neuron meets.",
    )

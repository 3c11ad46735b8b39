"""Charts of the identification: reliability, rank table, contrast, dose–response and the two definitions."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from raretok.charts.neuron_cards import link
from raretok.charts.theme import BAND_COLOURS, BLUE, GREEN, GREY, ORANGE, finish, log_ranks, show_table
from raretok.data.frequency import DECILES

_KINDS = ["boost", "suppress", "other"]
_KIND_COLOUR = alt.Color(
    "kind:N", scale=alt.Scale(domain=_KINDS, range=[ORANGE, BLUE, GREY]), title="rare-token neurons"
)
_KIND_SHAPE = alt.Shape("kind:N", scale=alt.Scale(domain=_KINDS, range=["triangle-up", "triangle-down", "circle"]))


def _kinds(neurons: pd.DataFrame) -> np.ndarray:
    return np.where(neurons["controlled"], neurons["direction"], "other")


def hook_table(hooked: pd.DataFrame, largest: int = 3) -> Any:
    """Show the largest effects of each neuron, by hooked forward passes and by the engine (``checks.hooked``)."""
    order = hooked["hooked"].abs().sort_values(ascending=False, kind="stable").index
    shown = hooked.loc[order].groupby("neuron").head(largest).sort_values("neuron", kind="stable")
    names = {"hooked": "Δ, hooks (nats)", "lens": "Δ, transformer-lens (nats)", "engine": "Δ, engine (nats)"}
    shown = shown.dropna(axis="columns", how="all").rename(columns={**names, "difference": "engine − hooks (nats)"})
    formats = {name: "{:+.6f}" for name in names.values() if name in shown} | {"engine − hooks (nats)": "{:+.1e}"}
    return show_table(
        shown,
        formats,
        f"The {largest} largest effects of some neurons in one window, by hooked forward passes and by the engine",
    )


def halves(effects: pd.DataFrame, identified: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the net effect on rare targets in half A against that in half B, with a point for each neuron."""
    rare = effects[effects["band"] == "rare"].merge(identified[["neuron", "controlled", "direction"]], on="neuron")
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
        f"Measured on two halves of the documents, the effects have a reliability of {facts['split_half']}",
        f"{facts['neurons']} neurons, net effects on rare targets; rank correlation of their absolute values "
        f"{facts['order_rare']}",
        "Scatter of each neuron's net effect on rare targets in one half of the documents against the other half.",
    )


def rank_curve(curves: pd.DataFrame, facts: Mapping[str, str]) -> alt.Chart:
    """Plot the held-out effects by rank for rare, matched and common targets on log–log axes.

    ``curves`` is ``identification.rank_curves``.
    """
    domain = list(dict.fromkeys(curves["band"]))
    shown = curves[curves["rank"].isin(log_ranks(curves["rank"].max(), 150)) & (curves["size"] > 0)]
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
    return finish(
        chart.properties(width="container"),
        f"{facts['head']} of {facts['neurons']} neurons, chosen on half A, carry {facts['head_share']} of the summed "
        "|effect| on rare targets of half B",
        f"ranked on half A, measured on half B, running mean of {facts['smoothed']} ranks; where that is not "
        "positive there is no point",
        "Held-out effect against rank of the neurons, log–log, for rare, matched and common targets.",
    )


def contrast(effects: pd.DataFrame, identified: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the net effect on rare targets against that on matched common targets of half B, with 95% intervals.

    S is the vertical distance to the diagonal.
    """
    names = {"rare with controls": "rare", "matched": "matched"}
    part = effects[effects["band"].isin(names)].assign(band=lambda x: x["band"].map(names))
    wide = part.pivot(index="neuron", columns="band", values=["net_b", "low_b", "high_b"])
    wide.columns = pd.Index([f"{column[1]}_{column[0].removesuffix('_b')}" for column in wide.columns.to_list()])
    table = wide.reset_index().merge(identified[["neuron", "controlled", "direction", "s_b", "q"]], on="neuron")
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
    return finish(
        alt.layer(line, across, along, points).properties(width="container", height=360),
        f"{facts['controlled']} of {facts['neurons']} neurons act on rare targets otherwise than on common targets "
        "as hard",
        f"chosen on half A (FDR {facts['q_level']}) with the same sign on half B, shown on half B; bars: 95% "
        "intervals by document bootstrap",
        "Scatter of every neuron's net effect on rare targets against its net effect on matched common targets.",
    )


def neuron_table(effects: pd.DataFrame, identified: pd.DataFrame, facts: Mapping[str, str], most: int = 20) -> Any:
    """Show the first controlled neurons by |S| in half A, with effects on half B, 95% intervals, and links to cards."""
    first = identified[identified["controlled"]].sort_values("s_a", key=abs, ascending=False).head(most)
    text = [f"{r.net_b:+.3f} [{r.low_b:+.3f}, {r.high_b:+.3f}]" for r in effects.itertuples()]
    cells = effects.assign(text=text).pivot(index="neuron", columns="band", values="text")[["rare", "matched"]]
    table = first.merge(cells.reset_index(), on="neuron")
    table["S"] = [f"{s:+.3f} ± {1.96 * e:.3f}" for s, e in zip(table["s_b"], table["se_b"], strict=True)]
    table = table[["neuron", "direction", "q", "rare", "matched", "S", "published_rank"]]
    return show_table(
        table.rename(columns={"q": "q (A)", "published_rank": "published rank"}),
        {"q (A)": "{:.1e}", "neuron": link},
        f"{len(table)} of {facts['controlled']} rare-token neurons: net effects on half B in nats with 95% intervals",
    )


def token_table(tokens: pd.DataFrame, neurons: Sequence[int]) -> Any:
    """Show the tokens that each neuron's output row raises and lowers most (``neuron_cards.top_tokens``)."""
    joined = tokens.groupby("neuron")[["promotes", "suppresses"]].agg("  ".join).loc[list(neurons)].reset_index()
    return show_table(joined, caption="Tokens that a positive activation promotes and suppresses most", wrap=True)


def context_table(contexts: pd.DataFrame, most: int = 3) -> Any:
    """Show at most ``most`` of the strongest contexts of each neuron (``neuron_cards.max_activating_contexts``)."""
    shown = contexts.loc[contexts["rank"] <= most, ["neuron", "activation", "before", "target", "loss"]]
    names = {"before": "… text read", "target": "next token", "loss": "loss (nats)"}
    formats = {"activation": "{:.1f}", "loss (nats)": "{:.2f}"}
    return show_table(shown.rename(columns=names), formats, "Strongest activations", wrap=True)


def dose_response(effects: pd.DataFrame, neurons: Sequence[int]) -> alt.LayerChart:
    """Plot the net effect by frequency tenth for some neurons with 95% intervals; a click on the legend selects one."""
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
    # The selection is added to both layers: a legend that they share ignores clicks if one layer has no selection.
    return finish(
        alt.layer(band, line).add_params(picked).properties(width="container"),
        "How the effect depends on the frequency of the target",
        "mean loss change when the neuron is ablated, by tenth of the token mass, all documents; neurons chosen on "
        "half A; ribbons: 95% intervals",
        "Net effect of the leading rare-token neurons by frequency tenth of the target, with confidence ribbons.",
    )


def definitions(identified: pd.DataFrame, facts: Mapping[str, str]) -> alt.Chart:
    """Plot the rank by the published definition against the rare-specific effect, with the two sets marked."""
    kinds = ["both", "controlled only", "published only", "neither"]
    kind = np.select(
        [identified["controlled"] & identified["published"], identified["controlled"], identified["published"]],
        kinds[:3],
        default=kinds[3],
    )
    table = identified.assign(kind=kind)[["neuron", "kind", "s", "published_rank", "published_net"]]
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
    return finish(
        chart.properties(width="container"),
        facts["agreement"],
        f"{facts['both']} neurons are in both sets, {facts['either']} in either",
        "Scatter of rare-specific effect against published rank, coloured by which definition a neuron meets.",
    )

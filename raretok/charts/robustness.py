"""Charts of the robustness: kinds of ablation, definitions, amount of text, layers, and groups against single neurons."""

from typing import Any

import altair as alt
import pandas as pd

from raretok.charts.claims import with_interval
from raretok.charts.theme import BLUE, GREY, ORANGE, finish, show_table
from raretok.stats.rankcurve import HEAD


def agreement_table(table: pd.DataFrame, names: dict[str, str], caption: str) -> Any:
    """Rank correlation with interval – where there is one that is freed of noise, of that –, correlation, and overlap of the first neurons, for any comparison of ``findings.robustness``.

    ``names``: the columns that say what is compared, and their headings.
    """
    shown = table[list(names)].rename(columns=names)
    judged = "corrected" if "corrected" in table else "spearman"
    if judged == "corrected":
        shown["rank correlation"] = table["spearman"].map("{:.2f}".format)
    heading = "freed of noise [95 %]" if judged == "corrected" else "rank correlation [95 %]"
    shown[heading] = [
        with_interval(r, low, high) for r, low, high in zip(table[judged], table["low"], table["high"], strict=True)
    ]
    shown["correlation"], shown[f"Jaccard of the first {HEAD}"] = table["pearson"], table["jaccard"]
    return show_table(shown, {"correlation": "{:.2f}", f"Jaccard of the first {HEAD}": "{:.2f}"}, caption)


def learning_curve(curve: pd.DataFrame) -> alt.LayerChart:
    """How well a list from so many targets repeats in other documents (``findings.robustness.learning_curve``)."""
    names = {
        "pearson": "correlation of the effects",
        "spearman": "rank correlation",
        "jaccard": f"Jaccard of the first {HEAD}",
    }
    groups = curve.groupby("fraction")
    frames = [
        pd.DataFrame(
            {"targets": groups["targets"].mean(), "what": label, "value": groups[column].median()}
            | {"low": groups[column].quantile(0.1), "high": groups[column].quantile(0.9)}
        )
        for column, label in names.items()
    ]
    shown = pd.concat(frames).reset_index(drop=True).round(4)
    scale = alt.Scale(domain=list(names.values()), range=[ORANGE, BLUE, GREY])
    base = alt.Chart(shown)
    x = alt.X(
        "targets:Q",
        scale=alt.Scale(type="log", nice=False, padding=10),
        title="rare targets that the list is made from",
    )
    colour = alt.Color("what:N", scale=scale, title=None)
    ribbon = base.mark_area(opacity=0.15).encode(
        x, alt.Y("low:Q", title="agreement with other documents"), alt.Y2("high:Q"), colour
    )
    line = base.mark_line(point=True).encode(
        x,
        alt.Y("value:Q"),
        colour,
        alt.StrokeDash(
            "what:N", scale=alt.Scale(domain=list(names.values()), range=[[1, 0], [5, 3], [2, 2]]), title=None
        ),
        tooltip=["targets", "what", "value", "low", "high"],
    )
    last = shown[shown["what"] == names["jaccard"]].sort_values("targets").iloc[-1]
    return finish(
        alt.layer(ribbon, line).properties(width="container", height=280),
        f"From {last['targets']:,.0f} rare targets, {2 * last['value'] / (1 + last['value']):.0%} of the first {HEAD} neurons are found again in other documents",
        "net effects on rare targets, ranked on some documents, against the other half of the documents; ribbons: middle 80 % of random choices",
        "Agreement of the neurons' effects and lists between documents by the number of rare targets used.",
    )


def layers(table: pd.DataFrame) -> alt.LayerChart:
    """Rare-specific effects by layer, first order (``findings.layers.layer_effects``)."""
    shown = table.copy()
    base = alt.Chart(shown[["layer", "energy", "low", "high", "share", "neurons", "reliability"]])
    x = alt.X("layer:O", axis=alt.Axis(labelAngle=0, labelOverlap="greedy"), title="layer")
    bars = base.mark_bar(color=BLUE, opacity=0.75).encode(
        x,
        alt.Y("energy:Q", title="Σ S² without noise (nats²)"),
        color=alt.condition(f"datum.layer == {len(table) - 1}", alt.value(ORANGE), alt.value(BLUE)),
        tooltip=[
            "layer",
            alt.Tooltip("energy", format=".2e"),
            alt.Tooltip("share", format=".1%"),
            "neurons",
            alt.Tooltip("reliability", format=".2f"),
        ],
    )
    rules = base.mark_rule(color=GREY, strokeWidth=1.5).encode(x, alt.Y("low:Q"), alt.Y2("high:Q"))
    last, most = table.iloc[-1], table.iloc[int(table["energy"].to_numpy().argmax())]
    other = (
        "more than any other"
        if most["layer"] == last["layer"]
        else f"layer {most['layer']:.0f} more: {most['share']:.0%}"
    )
    return finish(
        alt.layer(bars, rules).properties(width="container", height=280),
        f"The last layer holds {last['share']:.0%} of the summed squared rare-specific effects, {other}",
        f"first order, {last['documents']:.0f} documents; product of two halves of the documents, so that noise adds nothing; bars: 95 %",
        "Rare-specific effects summed over the neurons of each layer, with intervals.",
    )


def groups(table: pd.DataFrame) -> alt.LayerChart:
    """A group chosen together against the best single neurons, by size (``findings.intervention.joint_groups``)."""
    names = {"greedy": "chosen together", "single": "best single neurons"}
    long = table.melt(["k", "jaccard"], list(names), "group", "net").assign(group=lambda t: t["group"].map(names))
    domain = list(names.values())
    base = alt.Chart(long)
    line = base.mark_line(point=True).encode(
        alt.X("k:Q", axis=alt.Axis(tickMinStep=1), title="neurons ablated together"),
        alt.Y("net:Q", title="rise of the loss on rare targets, half B (nats)"),
        alt.Color("group:N", scale=alt.Scale(domain=domain, range=[ORANGE, BLUE]), title=None),
        alt.StrokeDash("group:N", scale=alt.Scale(domain=domain, range=[[1, 0], [5, 3]]), title=None),
        tooltip=["k", "group", alt.Tooltip("net", format=".4f"), alt.Tooltip("jaccard", format=".2f")],
    )
    last = table.iloc[-1]
    return finish(
        alt.layer(line).properties(width="container", height=260),
        f"Of {last['k']:.0f} neurons chosen together, {2 * last['jaccard'] / (1 + last['jaccard']):.0%} are among the {last['k']:.0f} best single ones",
        "both chosen on half A; exact joint ablation on half B",
        "Rise of the loss on rare targets by size of two groups of neurons ablated together.",
    )

"""Charts of the interventions: groups ablated together, and activations scaled."""

import altair as alt
import pandas as pd

from raretok.charts.theme import BAND_COLOURS, BLUE, GREY, ORANGE, finish


def pruning(table: pd.DataFrame) -> alt.LayerChart:
    """Rise of the loss when the first k rare-token neurons are ablated, against as many others; the reader chooses the targets."""
    names = {"first": "rare-token neurons first", "matched": "matched neurons", "random": "random neurons"}
    whole = table["k"].max()
    shown = table[table["k"] < whole].assign(kind=lambda t: t["kind"].map(names)).round(6)
    bands = list(dict.fromkeys(shown["band"]))
    picked = alt.param(name="pruned_band", value=bands[0], bind=alt.binding_select(options=bands, name="targets "))
    domain = list(names.values())
    x = alt.X("k:Q", scale=alt.Scale(type="log", nice=False, padding=8), title="neurons ablated together")
    colour = alt.Color("kind:N", scale=alt.Scale(domain=domain, range=[ORANGE, BLUE, GREY]), title=None)
    base = alt.Chart(shown).transform_filter("datum.band == pruned_band")
    first = base.transform_filter(f"datum.kind == '{names['first']}'")
    ribbon = first.mark_area(opacity=0.2).encode(
        x, alt.Y("low:Q", title="rise of the loss, half B (nats)"), alt.Y2("high:Q"), colour
    )
    line = base.mark_line(point=True).encode(
        x,
        alt.Y("mean(net):Q"),
        colour,
        alt.StrokeDash("kind:N", scale=alt.Scale(domain=domain, range=[[1, 0], [5, 3], [2, 2]]), title=None),
        tooltip=["k", "kind", alt.Tooltip("mean(net)", format=".4f")],
    )
    last = table[(table["k"] == whole) & (table["kind"] == "first")].set_index("band")["net"]
    return finish(
        alt.layer(ribbon, line).add_params(picked).properties(width="container", height=300),
        f"Ablated together, all {whole:,}: {last['rare']:+.2f} nats on rare, {last['common']:+.2f} on common targets",
        "in the order of |S| in half A; exact joint ablation on half B; ribbon: 95 %; other lines: mean of several groups; choose the targets below",
        "Rise of the loss by number of neurons ablated together, for rare-token, matched and random neurons.",
    )


def scaling(table: pd.DataFrame) -> alt.LayerChart:
    """Change of the loss when the activations of a group are multiplied; the reader chooses the group (``Study.scaling``)."""
    part = table[table["half"] == "B"]
    here = [
        {"group": group, "factor": 1.0, "band": band, "net": 0.0, "low": 0.0, "high": 0.0}
        for group in dict.fromkeys(part["group"])
        for band in dict.fromkeys(part["band"])
    ]
    shown = pd.concat([part[list(here[0])], pd.DataFrame(here)]).sort_values("factor").round(6)
    groups = list(dict.fromkeys(part["group"]))
    picked = alt.param(name="scaled_group", value=groups[0], bind=alt.binding_select(options=groups, name="neurons "))
    domain = ["rare", "matched", "common"]
    base = alt.Chart(shown).transform_filter("datum.group == scaled_group")
    x = alt.X("factor:Q", title="activations multiplied by")
    colour = alt.Color(
        "band:N", scale=alt.Scale(domain=domain, range=[BAND_COLOURS[b] for b in domain]), title="targets"
    )
    ribbon = base.mark_area(opacity=0.15).encode(
        x, alt.Y("low:Q", title="change of the loss, half B (nats)"), alt.Y2("high:Q"), colour
    )
    line = base.mark_line(point=True).encode(
        x,
        alt.Y("net:Q"),
        colour,
        alt.StrokeDash("band:N", scale=alt.Scale(domain=domain, range=[[1, 0], [5, 3], [2, 2]]), title="targets"),
        tooltip=["factor", "band", alt.Tooltip("net", format=".5f")],
    )
    rare = part[(part["group"] == groups[0]) & (part["band"] == "rare")]
    chosen = table[(table["group"] == groups[0]) & (table["band"] == "rare") & (table["half"] == "A")]
    factor = float(chosen.loc[chosen["net"].idxmin(), "factor"])
    least = rare[rare["factor"] == factor].iloc[0]
    best = (
        f"{least['net']:+.4f} nats at the factor that is lowest on rare targets of half A, {factor:g}"
        if factor != 1
        else "no factor lowers it"
    )
    return finish(
        alt.layer(ribbon, line).add_params(picked).properties(width="container", height=280),
        f"Loss on rare targets when the {rare['size'].iloc[0]} neurons are scaled: {best}",
        "below 0 the loss is lower; exact; ribbons: 95 % by resampling documents; choose the neurons below",
        "Change of the loss on rare, matched and common targets when the neurons' activations are multiplied by a factor.",
    )

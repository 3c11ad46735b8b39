"""Charts of the interventions: groups that are ablated together, and activations that are scaled."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from raretok.charts.theme import BAND_COLOURS, BLUE, GREY, ORANGE, finish, show_table
from raretok.claims.wording import with_interval


def groups(table: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Compare a group chosen together with the best single neurons, by size (``intervention.joint_groups``)."""
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
    return finish(
        alt.layer(line).properties(width="container", height=260),
        f"Of {facts['group_size']} neurons chosen together, {facts['shared']} are among the {facts['group_size']} "
        "best single ones",
        "both chosen on half A; exact joint ablation on half B",
        "Rise of the loss on rare targets by size of two groups of neurons ablated together.",
    )


def pruning(table: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the rise of the loss when the first k neurons are ablated, and when as many others are.

    The reader chooses the targets. ``table`` is ``intervention.pruning_curves``.
    """
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
        alt.Y("net:Q"),
        colour,
        alt.StrokeDash("kind:N", scale=alt.Scale(domain=domain, range=[[1, 0], [5, 3], [2, 2]]), title=None),
        tooltip=["k", "kind", alt.Tooltip("net", format=".4f")],
    )
    return finish(
        alt.layer(ribbon, line).add_params(picked).properties(width="container", height=300),
        f"Ablated together, all {whole:,}: {facts['all_rare']} nats on rare, {facts['all_common']} on common targets",
        "in the order of |S| in half A; exact joint ablation on half B; ribbon: 95%; other lines: mean of several "
        "groups; choose the targets below",
        "Rise of the loss by number of neurons ablated together, for rare-token, matched and random neurons.",
    )


def scaling(table: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the change of the loss when a group's activations are multiplied; the reader chooses the group.

    ``table`` is ``intervention.scaling``.
    """
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
    return finish(
        alt.layer(ribbon, line).add_params(picked).properties(width="container", height=280),
        f"Loss on rare targets when the {facts['scaled_size']} neurons are scaled: {facts['scaled_best']}",
        "below 0 the loss is lower; exact; ribbons: 95% by resampling documents; choose the neurons below",
        "Change of the loss on rare, matched and common targets when the neurons' activations are multiplied by a "
        "factor.",
    )


def best_settings(best: pd.DataFrame) -> Any:
    """Show the effect on half B of the factor that was chosen on half A.

    ``best`` is ``intervention.best_setting`` with the column ``corpus`` and a row for each corpus and group.
    """
    names = {"rare": "rare targets (nats)", "common": "common targets (nats)", "holds": "better on rare, common kept"}
    shown = best.assign(holds=best["holds"].map({True: "yes", False: "no"}))
    for band in ("rare", "common"):
        ends = zip(best[band], best[f"{band}_low"], best[f"{band}_high"], best["factor"], strict=True)
        shown[band] = [with_interval(net, low, high) if factor != 1 else "–" for net, low, high, factor in ends]
    return show_table(
        shown[["corpus", "group", "size", "factor", *names]].rename(columns=names),
        {"factor": "{:g}"},
        "Change of the loss with the factor chosen on half A (1: none lowers it without raising the loss on common "
        "targets), on half B; "
        "95% intervals by resampling documents",
    )

"""Charts of the layers: the size of the rare-specific effects of each layer's neurons."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from raretok.charts.theme import BLUE, GREY, ORANGE, finish, show_table
from raretok.findings.layers import CHECKED_WINDOWS


def layers(table: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the first-order rare-specific effects by layer (``layers.layer_effects``)."""
    base = alt.Chart(table[["layer", "energy", "low", "high", "share", "neurons", "reliability"]])
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
    return finish(
        alt.layer(bars, rules).properties(width="container", height=280),
        f"The last layer holds {facts['last_share']} of the summed squared rare-specific effects, {facts['last_rank']}",
        f"first order, {facts['layer_documents']} documents; product of two halves of the documents, so that noise "
        "adds nothing; bars: 95%",
        "Rare-specific effects summed over the neurons of each layer, with intervals.",
    )


def checks_table(checks: pd.DataFrame) -> Any:
    """Compare first-order and full effects of some neurons of several layers (``layers.layer_checks``)."""
    names = {"screened": "first order (nats)", "ablated": "ablated (nats)"}
    return show_table(
        checks.rename(columns=names),
        dict.fromkeys(names.values(), "{:+.5f}"),
        f"Mean effect on rare targets of the first {CHECKED_WINDOWS} windows: the strongest neurons of some layers, "
        "and some at random",
    )

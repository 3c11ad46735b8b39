"""Charts of entropy and token-frequency neurons, and of the part of an effect that remains with a path held."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from raretok.charts.theme import BLUE, GREEN, GREY, ORANGE, finish, rounded, show_table
from raretok.claims.wording import with_interval

KINDS = ["entropy", "token frequency", "neither"]


def kinds(types: pd.DataFrame, neurons: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot norm against LogitVar of every neuron; the colour is its kind, and a ring marks a rare-token neuron.

    ``types`` is ``neuron_types.neuron_types``; ``neurons`` is ``identification.rare_token_neurons``.
    """
    kind = np.select([types["entropy_neuron"], types["frequency_neuron"]], KINDS[:2], default=KINDS[2])
    table = types.assign(kind=kind, rare=neurons["controlled"].to_numpy())
    shown = table[["neuron", "norm", "logit_variance", "scale_share", "frequency_share", "kind", "rare"]].copy()
    shown = rounded(shown, ["norm", "logit_variance", "scale_share", "frequency_share"])
    base = alt.Chart(shown)
    x = alt.X("norm:Q", scale=alt.Scale(type="log", nice=False, padding=8), title="norm of the output row, ‖w‖")
    y = alt.Y("logit_variance:Q", scale=alt.Scale(type="log", nice=False, padding=8), title="LogitVar")
    points = base.mark_point(opacity=0.7).encode(
        x,
        y,
        alt.Color("kind:N", scale=alt.Scale(domain=KINDS, range=[BLUE, GREEN, GREY]), title="kind"),
        alt.Shape("kind:N", scale=alt.Scale(domain=KINDS, range=["square", "triangle-up", "circle"])),
        tooltip=["neuron", "kind", "norm", "logit_variance", "scale_share", "frequency_share"],
    )
    rings = (
        base.transform_filter(alt.datum.rare)
        .mark_point(size=120, filled=False, color=ORANGE, strokeWidth=1.5)
        .encode(x, y, tooltip=["neuron", "kind"])
    )
    return finish(
        alt.layer(points, rings).properties(width="container", height=340),
        f"{facts['entropy_neurons']} entropy and {facts['frequency_neurons']} token-frequency neurons; "
        f"{facts['both']} of the rare-token neurons are among them",
        f"{len(shown):,} neurons; orange rings: rare-token neurons (controlled definition)",
        "Scatter of norm against logit variance of all neurons, coloured by kind, with rare-token neurons ringed.",
    )


def mediated(types: pd.DataFrame, neurons: pd.DataFrame, facts: Mapping[str, str]) -> alt.Chart:
    """Plot the share of each neuron's effect through the norm's scale against that through the log-unigram direction.

    ``types`` is ``neuron_types.neuron_types``; ``neurons`` is ``identification.rare_token_neurons``.
    """
    shown = types.assign(
        kind=np.where(neurons["controlled"], "rare-token neuron", "other"),
        scale=types["scale_share"].clip(-1, 1).round(3),
        frequency=types["frequency_share"].clip(-1, 1).round(3),
    )
    domain = ["rare-token neuron", "other"]
    chart = (
        alt.Chart(shown[["neuron", "kind", "scale", "frequency"]])
        .mark_point(opacity=0.7)
        .encode(
            alt.X("scale:Q", title="share through the final norm's scale"),
            alt.Y("frequency:Q", title="share through the log-unigram direction"),
            alt.Color("kind:N", scale=alt.Scale(domain=domain, range=[ORANGE, GREY]), title=None),
            alt.Shape("kind:N", scale=alt.Scale(domain=domain, range=["diamond", "circle"])),
            tooltip=["neuron", "kind", "scale", "frequency"],
        )
    )
    return finish(
        chart.properties(width="container", height=300),
        f"Median shares of all neurons: {facts['middle_scale']} through the norm's scale, "
        f"{facts['middle_frequency']} through the log-unigram direction",
        "1 − mean |direct effect| / mean |total effect|; below 0 the path works against the rest; cut at ±1",
        "Scatter of the two mediated shares of every neuron.",
    )


def direct_effect_share(table: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the share of the rare-specific effect that remains with each path held.

    ``table`` is ``neuron_types.direct_effect_share``.
    """
    shown = table.assign(label=table["group"] + ", " + table["size"].astype(str) + " neurons")
    base = alt.Chart(shown[["label", "path", "share", "low", "high", "total", "direct"]])
    y = alt.Y("path:N", title="held as it was", axis=alt.Axis(labelLimit=200))
    colour = alt.Color("label:N", scale=alt.Scale(range=[ORANGE, BLUE]), title="group")
    offset = alt.YOffset("label:N")
    bars = base.mark_rule(strokeWidth=2, clip=True).encode(
        alt.X("low:Q", title="share of the rare-specific effect that remains", scale=alt.Scale(domain=[-0.5, 2])),
        alt.X2("high:Q"),
        y,
        offset,
        colour,
    )
    points = base.mark_point(size=70).encode(
        alt.X("share:Q"),
        y,
        offset,
        colour,
        tooltip=["label", "path", *(alt.Tooltip(c, format=".3g") for c in ("share", "low", "high", "total", "direct"))],
    )
    one = alt.Chart(pd.DataFrame({"x": [1.0]})).mark_rule(strokeDash=[4, 4], color=GREY).encode(x="x:Q")
    return finish(
        alt.layer(one, bars, points).properties(width="container", height=150),
        f"Of the rare-specific effect there remain {facts['remains']}",
        "measured on half B; controlled: chosen and oriented on half A, published: chosen on all documents; bars: "
        "95% by resampling documents",
        "Share of the rare-specific effect that remains when the norm's scale or the log-unigram direction is frozen.",
    )


def overlap_table(overlap: pd.DataFrame) -> Any:
    """Compare the numbers of rare-token neurons of each kind with those expected by chance.

    ``overlap`` is ``neuron_types.type_overlap``.
    """
    shares = [with_interval(r["share"], r["low"], r["high"]) for r in overlap.to_dict("records")]
    shown = overlap.assign(share=shares)[["group", "kind", "size", "of_kind", "both", "expected", "share", "p"]]
    names = {"group": "rare-token neurons", "of_kind": "of this kind", "share": "share [95%]"}
    return show_table(
        shown.rename(columns=names),
        {"expected": "{:.1f}", "p": "{:.3f}"},
        "Rare-token neurons of each kind, how many as many neurons at random would have (hypergeometric p), and the "
        "share with its "
        "Clopper–Pearson interval",
    )


def directions_table(sensitivity: pd.DataFrame) -> Any:
    """Show the share of the output rows in the bottom singular directions of the unembedding.

    ``sensitivity`` is ``neuron_types.sensitivity``.
    """
    name = "bottom singular directions, of d_model"
    neurons = dict.fromkeys(("entropy neurons", "token-frequency neurons", "all neurons"), "{:.3f}")
    return show_table(
        sensitivity.rename(columns={"directions": name}),
        {name: "{:.1%}"} | neurons,
        "Mean share of ‖w‖² in the bottom singular directions of the unembedding, for several choices of how many "
        "these are",
    )


def thresholds_table(thresholds: pd.DataFrame) -> Any:
    """Show the numbers of neurons of each kind by the mediated share that is required (``neuron_types.thresholds``)."""
    return show_table(
        thresholds,
        {"mediated share": "{:.1%}", "expected": "{:.1f}", "p": "{:.3f}"},
        "Neurons of each kind by the mediated share that is asked for, how many rare-token neurons are among them, "
        "and as many neurons "
        "at random would be (hypergeometric p); at the lowest share a neuron acts mostly by other paths, so that the "
        "name hardly fits",
    )

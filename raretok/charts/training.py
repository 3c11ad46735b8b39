"""Charts of the models that ship with the book: their losses and the reliability of their effects over training."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from raretok.charts.theme import BLUE, GREEN, GREY, ORANGE, finish


def reliability_curve(table: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the reliability of effects on rare targets by step, with 95% ranges (``trajectory.reliability_table``)."""
    shown = table.assign(place=table["step"] + 1)
    steps = sorted(shown["place"].unique())
    x = alt.X("place:Q", scale=alt.Scale(type="log", domain=[1, steps[-1]], nice=False), title="training step + 1")
    y = alt.Y(
        "reliability:Q",
        scale=alt.Scale(domain=[min(0.0, float(table["low"].min())), 1]),
        title="split-half reliability",
    )
    colour = alt.Color("model:N", scale=alt.Scale(range=[ORANGE, BLUE, GREEN]), title=None)
    base = alt.Chart(shown)
    tip = [
        "model",
        "step",
        alt.Tooltip("reliability", format=".3f"),
        alt.Tooltip("rank", format=".3f", title="of the order by size"),
        "targets",
    ]
    return finish(
        alt.layer(
            base.mark_rule(opacity=0.5).encode(x, alt.Y("low:Q", title=None), alt.Y2("high:Q"), colour),
            base.mark_line(point=alt.OverlayMarkDef(filled=True, size=30)).encode(
                x, y, colour, alt.Shape("model:N", legend=None), tooltip=tip
            ),
        ).properties(width="container"),
        f"From step {facts['settled']} on every run's effects on rare targets have a reliability above "
        f"{facts['reliable']}; "
        f"before training {facts['untrained_reliability']} at most",
        f"{facts['least_targets']} or more held-out rare targets a checkpoint; bars: 95% of random splits of the "
        "documents",
        "Split-half reliability of the neurons’ net effects on rare targets at every checkpoint of each seed.",
    )


def loss_curve(log: pd.DataFrame, baselines: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the loss by tokens read, with the losses of the n-gram models as levels.

    ``log`` is ``trajectory.loss_table``; ``baselines`` is ``trajectory.baseline_table``.
    """
    read = log[log["tokens"] > 0]
    reach = [float(read["tokens"].min()), float(read["tokens"].max())]
    scale = alt.Scale(type="log", domain=reach, nice=False)
    x = alt.X("tokens:Q", scale=scale, axis=alt.Axis(format="~s", labelOverlap="greedy"), title="training tokens read")
    y = alt.Y("loss:Q", scale=alt.Scale(zero=False), title="loss (nats per token)")
    domain = ["training", "held out"]
    colour = alt.Color("text:N", scale=alt.Scale(domain=domain, range=[GREY, ORANGE]), title=None)
    base = alt.Chart(read)
    batches = (
        base.transform_filter("datum.text == 'training'").mark_line(strokeWidth=1, opacity=0.7).encode(x, y, colour)
    )
    points = (
        base.transform_filter("datum.text == 'held out'")
        .mark_line(point=True)
        .encode(x, y, colour, tooltip=["step", alt.Tooltip("loss", format=".3f")])
    )
    levels = alt.Chart(baselines).mark_rule(strokeDash=[5, 4], color=BLUE).encode(y)
    names = (
        alt.Chart(baselines)
        .mark_text(align="right", dy=-6, color=BLUE, fontSize=11)
        .encode(alt.XDatum(reach[1], type="quantitative"), y, text="model")
    )
    return finish(
        alt.layer(levels, names, batches, points).properties(width="container"),
        f"The model ends {facts['margin']} nats per token below the best n-gram model",
        "held-out loss at every checkpoint, training loss of single batches; dashed: n-gram models on the same "
        "held-out tokens",
        "Training and held-out loss against training tokens on a log axis, with unigram, bigram and trigram losses "
        "as levels.",
    )

"""Charts of the models that ship with the book: what they know when."""

import altair as alt
import pandas as pd

from raretok.charts.theme import BLUE, GREY, ORANGE, finish


def loss_curve(log: pd.DataFrame, baselines: pd.DataFrame) -> alt.LayerChart:
    """Loss by tokens read (``trajectory.loss_table``), with the n-gram models' (``trajectory.baseline_table``) as levels."""
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
    best, trigram = log.loc[log["text"] == "held out", "loss"].min(), baselines["loss"].min()
    return finish(
        alt.layer(levels, names, batches, points).properties(width="container"),
        f"The model ends {trigram - best:.2f} nats per token below the best n-gram model",
        "held-out loss at every checkpoint, training loss of single batches; dashed: n-gram models on the same held-out tokens",
        "Training and held-out loss against training tokens on a log axis, with unigram, bigram and trigram losses as levels.",
    )

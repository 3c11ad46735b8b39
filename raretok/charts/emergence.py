"""Charts of training: the rank curve by checkpoint, every statistic over steps, and the ranks of the later leaders."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from raretok.charts.regimes import STATISTIC_NAMES
from raretok.charts.theme import BAND_COLOURS, BLUE, GREEN, GREY, ORANGE, finish, rounded, show_table
from raretok.stats.rankcurve import HEAD

_STEP = alt.Scale(type="symlog", constant=8)
_STEP_AXIS = alt.Axis(values=[0, 16, 64, 256, 1024, 4096, 16384, 65536], format="d", labelOverlap="greedy")
_LOG = alt.Scale(type="log", nice=False)


def training_step() -> alt.X:
    """Return the horizontal axis of training steps, which includes step 0."""
    return alt.X("step:Q", scale=_STEP, axis=_STEP_AXIS, title="training step")


def rank_curves(curves: pd.DataFrame) -> alt.LayerChart:
    """Plot the rank curve of each checkpoint with a slider; the last one is always shown as a grey line.

    ``curves`` is ``regimes.curves`` by step; its nulls are not needed.
    """
    part = curves[(curves["form"] == "published") & (curves["measure"] == "net") & (curves["band"] != "matched")]
    part = part[["step", "band", "rank", "value"]].copy()
    steps = sorted(part["step"].unique())
    part["checkpoint"] = part["step"].map({s: k + 1 for k, s in enumerate(steps)})
    part = rounded(part, ["rank", "value"])
    slider = alt.param(
        name="checkpoint_shown",
        value=len(steps),
        bind=alt.binding_range(min=1, max=len(steps), step=1, name="checkpoint "),
    )
    domain = ["rare", "common"]
    x = alt.X("rank:Q", scale=_LOG, title="rank of the neuron by |net effect|")
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(type="log", domain=[float(part["value"].min()), float(part["value"].max())], clamp=True),
        title="|net effect| (nats)",
    )
    colour = alt.Color(
        "band:N", scale=alt.Scale(domain=domain, range=[BAND_COLOURS[b] for b in domain]), title="targets"
    )
    base = alt.Chart(part)
    now = base.transform_filter("datum.checkpoint == checkpoint_shown")
    line = now.mark_line(point=alt.OverlayMarkDef(size=16, filled=True)).encode(
        x, y, colour, tooltip=["step", "band", alt.Tooltip("rank", format=".0f"), alt.Tooltip("value", format=".2e")]
    )
    last = (
        base.transform_filter(f"datum.checkpoint == {len(steps)}")
        .mark_line(strokeDash=[3, 3], color=GREY)
        .encode(x, y, detail="band:N")
    )
    label = (
        now.transform_aggregate(shown="max(step)")
        .transform_calculate(text="'step ' + format(datum.shown, ',d')")
        .mark_text(align="right", baseline="top", fontSize=15)
        .encode(x=alt.value("width"), y=alt.value(4), text="text:N")
    )
    return finish(
        alt.layer(last, line, label).add_params(slider).properties(width="container", height=320),
        "The rank curve at each checkpoint",
        "absolute net effects on rare and common targets; choose a checkpoint below; dashed: the last one",
        "Rank curves of the absolute net effect for rare and common targets at a chosen training checkpoint.",
    )


def statistic(table: pd.DataFrame, name: str, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot one statistic over training: the estimate with its 95% interval and nulls' range, with a line for each seed.

    ``table`` is ``regimes.statistics`` by step with a column ``seed``; ``facts`` are the chapter's numbers.
    """
    here = table[(table["band"] == "rare") & (table["measure"] == "net") & (table["form"] == "controlled")]
    here = here[here["statistic"] == name].dropna(subset=["estimate"]).assign(seed=lambda x: x["seed"].astype(str))
    ends = [float(here["estimate"].quantile(0.05)), float(here["estimate"].quantile(0.95)), 0.0]
    room = max(ends) - min(ends) or 1.0
    scale = alt.Scale(domain=[min(ends) - 0.4 * room, max(ends) + 0.4 * room], clamp=True, nice=False)
    base = alt.Chart(here[["step", "seed", "estimate", "low", "high", "null_low", "null_high"]])
    seeds = sorted(here["seed"].unique())
    colour = alt.Color(
        "seed:N", scale=alt.Scale(domain=seeds, range=[ORANGE, BLUE, GREEN][: len(seeds)]), title="seed of the training"
    )
    title = STATISTIC_NAMES[name]
    null = base.mark_area(opacity=0.25, color=GREY).encode(
        training_step(), alt.Y("null_low:Q", scale=scale, title=title), alt.Y2("null_high:Q")
    )
    ribbon = base.mark_area(opacity=0.25).encode(training_step(), alt.Y("low:Q", scale=scale), alt.Y2("high:Q"), colour)
    line = base.mark_line(point=True).encode(
        training_step(),
        alt.Y("estimate:Q", scale=scale, title=title),
        colour,
        tooltip=["step", "seed", *(alt.Tooltip(c, format=".3f") for c in ("estimate", "low", "high"))],
    )
    departure = facts.get(f"{name}_departure", "")
    return finish(
        alt.layer(null, ribbon, line).properties(width="container", height=130),
        f"{title[0].upper()}{title[1:]}" + (f": {departure}" if departure else ""),
        "ribbon: 95% interval; grey: 95% of the nulls",
        f"{title} of the rare curve over training steps with its interval and the range of its nulls.",
    )


def stability(table: pd.DataFrame, facts: Mapping[str, str]) -> alt.Chart:
    """Plot how far the order of the neurons at each checkpoint agrees with the last order (``emergence.stability``)."""
    names = {
        "next": "rank correlation with the next checkpoint",
        "last": "with the last",
        "leaders": f"of the last {HEAD} leaders, there",
    }
    long = table.melt("step", list(names), "what", "value").dropna()
    long["what"] = long["what"].map(names)
    chart = (
        alt.Chart(long)
        .mark_line(point=True)
        .encode(
            training_step(),
            alt.Y("value:Q", title="correlation, or share"),
            alt.Color(
                "what:N",
                scale=alt.Scale(domain=list(names.values()), range=[GREY, BLUE, ORANGE]),
                legend=alt.Legend(labelLimit=300, columns=1),
                title=None,
            ),
            tooltip=["step", "what", alt.Tooltip("value", format=".2f")],
        )
    )
    return finish(
        chart.properties(width="container", height=220),
        f"Half of the neurons that lead at the end are among the leaders at step {facts['settled']}",
        "net effects on rare targets, all documents",
        "Rank correlation between checkpoints and share of the final leading neurons over training steps.",
    )


def bump(table: pd.DataFrame) -> alt.LayerChart:
    """Plot the ranks of the last checkpoint's leaders over training (``emergence.rank_trajectories``)."""
    table = table.assign(neuron=table["neuron"].astype(str))
    names = list(table[table["step"] == table["step"].max()].sort_values("rank")["neuron"])
    picked = alt.selection_point(fields=["neuron"], bind="legend")
    base = alt.Chart(table).encode(
        training_step(),
        alt.Y("rank:Q", scale=alt.Scale(type="log", reverse=True), title="rank by |net effect|"),
        alt.Color("neuron:N", scale=alt.Scale(domain=names, scheme="tableau20"), title="neuron (click)"),
        opacity=alt.condition(picked, alt.value(1), alt.value(0.08)),
        tooltip=["neuron", "step", "rank", alt.Tooltip("net", format=".4f")],
    )
    return finish(
        alt.layer(base.mark_line(interpolate="monotone"), base.mark_point(size=45))
        .add_params(picked)
        .properties(width="container", height=320),
        f"How the {len(names)} neurons that lead at the end came to lead",
        "rank of each at every checkpoint, rare targets, all documents",
        "Bump chart of the ranks over training of the neurons that lead at the last checkpoint.",
    )


def onsets(table: pd.DataFrame, steps: list[int], facts: Mapping[str, str]) -> alt.Chart:
    """Plot since which steps the last checkpoint's rare-token neurons have been rare-specific
    (``emergence.onsets``)."""
    order = [f"{step:,}" for step in steps]
    shown = pd.DataFrame({"step": [f"{step:,.0f}" for step in table["since"].dropna()]})
    chart = (
        alt.Chart(shown)
        .mark_bar(color=ORANGE)
        .encode(
            alt.X(
                "step:N",
                scale=alt.Scale(domain=order),
                title="step since which the effect has been rare-specific",
                axis=alt.Axis(labelAngle=0),
            ),
            alt.Y("count():Q", title="neurons", axis=alt.Axis(tickMinStep=1)),
            tooltip=["step:N", alt.Tooltip("count():Q", title="neurons")],
        )
    )
    middle = facts["since"]
    title = f"Half of the final rare-token neurons have kept the sign of S since step {middle}"
    if middle == "none":
        title = "Half of the final rare-token neurons have no step since which S has kept its sign"
    if facts["final"] == "0":
        title = "The last checkpoint has no rare-token neurons"
    return finish(
        chart.properties(width="container", height=180),
        title,
        f"{facts['final']} rare-token neurons of the last checkpoint: from this step on the 95% interval of S keeps "
        "their sign"
        + ("" if facts["never"] == "0" else f"; {facts['never']}, where it holds 0 at the end, are left out"),
        "Histogram of the training step since which each final rare-token neuron has been rare-specific.",
    )


def among_matched(table: pd.DataFrame, name: str, above: str) -> alt.LayerChart:
    """Plot a statistic of the final rare-token neurons at every checkpoint among those of matched groups.

    The columns of ``table`` are ``step``, ``estimate``, ``matched`` (percentile), ``matched_low`` and ``matched_high``.
    ``name`` is the name of the statistic; ``above`` is its percentile among matched groups at the last step, as text.
    """
    base = alt.Chart(table[["step", "estimate", "matched", "matched_low", "matched_high"]])
    scale = alt.Scale(zero=False)
    ribbon = base.mark_area(opacity=0.3, color=BLUE).encode(
        training_step(), alt.Y("matched_low:Q", scale=scale, title=name), alt.Y2("matched_high:Q")
    )
    line = base.mark_line(point=alt.OverlayMarkDef(color=ORANGE), color=ORANGE).encode(
        training_step(),
        alt.Y("estimate:Q", scale=scale),
        tooltip=["step", alt.Tooltip("estimate", format=".3g"), alt.Tooltip("matched", format=".3f")],
    )
    return finish(
        alt.layer(ribbon, line).properties(width="container", height=170),
        f"{name[0].upper()}{name[1:]}: at the last step above {above} of matched groups",
        "orange: the neurons that are rare-token neurons at the end; ribbon: the middle 95% of matched groups",
        f"{name} of the final rare-token neurons over training, with the range of matched groups.",
    )


def departure_table(departures: pd.DataFrame) -> Any:
    """Show when each statistic of the rare curve leaves its nulls (``emergence.departures``)."""
    columns = {
        "statistic": "statistic",
        "outside_at_start": "outside at step 0",
        "first_step": "outside for good from step",
        "null": "percentile at the end",
    }
    names, first = departures["statistic"].map(STATISTIC_NAMES), departures["first_step"].map(_step_or_none)
    shown = departures.assign(statistic=names, first_step=first)[list(columns)]
    return show_table(
        shown.rename(columns=columns),
        {"percentile at the end": "{:.3f}"},
        "When each statistic of the rare curve leaves its nulls; the percentile is that in the null it is closest to",
    )


def _step_or_none(step: float) -> str:
    return f"{step:,.0f}" if np.isfinite(step) else "none"


def published_answers(verdicts: pd.DataFrame) -> Any:
    """Show by step whether the published estimator of each claim alone says yes.

    ``verdicts`` are tables of ``Study.claims`` with a column ``step``.
    """
    answers = verdicts.pivot(index="id", columns="step", values="published_says").replace("yes (fixed)", "yes")
    answers = answers.reindex(list(dict.fromkeys(verdicts["id"]))).fillna("–")
    shown = answers.rename(columns=lambda step: f"{step:,}").rename_axis(columns=None).reset_index(names="claim")
    caption = (
        "By training step: whether the published estimator alone says yes "
        "(for C2 to C4 it always does, its boundaries are fixed)"
    )
    return show_table(shown, caption=caption)

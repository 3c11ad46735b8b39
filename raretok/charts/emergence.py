"""Charts of training: the rank curve by checkpoint, every statistic over steps, and the neurons on their way to the top."""

import altair as alt
import pandas as pd

from raretok.charts.regimes import STATISTIC_NAMES
from raretok.charts.theme import BAND_COLOURS, BLUE, GREEN, GREY, ORANGE, finish, rounded
from raretok.stats.rankcurve import HEAD

_STEP = alt.Scale(type="symlog", constant=8)
_STEP_AXIS = alt.Axis(values=[0, 16, 64, 256, 1024, 4096, 16384, 65536], format="d", labelOverlap="greedy")
_LOG = alt.Scale(type="log", nice=False)


def training_step() -> alt.X:
    """The horizontal axis of training steps, 0 included."""
    return alt.X("step:Q", scale=_STEP, axis=_STEP_AXIS, title="training step")


def rank_curves(curves: pd.DataFrame) -> alt.LayerChart:
    """The rank curve of each checkpoint, with a slider; the last stays as a grey line.

    ``curves``: tables of ``Study.curves(nulls=False)`` by step.
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


def statistic(table: pd.DataFrame, since: pd.DataFrame, name: str) -> alt.LayerChart:
    """One statistic over training: estimate with 95 % interval, range of the nulls, a line for each seed.

    ``table``: ``Study.regimes`` by step with a column ``seed``; ``since``: ``emergence.departures``.
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
    starts = since.set_index("statistic")["first_step"].to_dict()
    start = starts.get(name, float("nan"))
    told = f"outside its nulls from step {start:,.0f} on" if start == start else "inside its nulls at the last step"
    return finish(
        alt.layer(null, ribbon, line).properties(width="container", height=130),
        f"{title[0].upper()}{title[1:]}" + (f": {told}" if name in starts else ""),
        "ribbon: 95 % interval; grey: 95 % of the nulls",
        f"{title} of the rare curve over training steps with its interval and the range of its nulls.",
    )


def stability(table: pd.DataFrame) -> alt.Chart:
    """How much of the last checkpoint's order is there already (``emergence.stability``)."""
    names = {
        "next": "rank correlation with the next checkpoint",
        "last": "with the last",
        "leaders": f"of the last {HEAD} leaders, there",
    }
    long = table.melt("step", list(names), "what", "value").dropna()
    long["what"] = long["what"].map(names)
    settled = table[table["leaders"] >= 0.5]["step"].min()
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
        f"Half of the neurons that lead at the end are among the leaders at step {settled:,}",
        "net effects on rare targets, all documents",
        "Rank correlation between checkpoints and share of the final leading neurons over training steps.",
    )


def bump(table: pd.DataFrame) -> alt.LayerChart:
    """Rank of the last checkpoint's leaders over training (``emergence.followed``)."""
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


def onsets(table: pd.DataFrame, steps: list[int]) -> alt.Chart:
    """Since which step the last checkpoint's rare-token neurons have been so (``emergence.onsets``)."""
    counts = table["since"].value_counts()
    shown = pd.DataFrame({"step": [f"{s:,}" for s in steps], "neurons": [int(counts.get(float(s), 0)) for s in steps]})
    chart = (
        alt.Chart(shown)
        .mark_bar(color=ORANGE)
        .encode(
            alt.X(
                "step:N",
                sort=None,
                title="step since which the effect has been rare-specific",
                axis=alt.Axis(labelAngle=0),
            ),
            alt.Y("neurons:Q", title="neurons", axis=alt.Axis(tickMinStep=1)),
            tooltip=["step", "neurons"],
        )
    )
    middle = table["since"].quantile(0.5, interpolation="higher")
    return finish(
        chart.properties(width="container", height=180),
        f"Half of the final rare-token neurons have kept the sign of S since step {middle:,.0f}"
        if middle == middle
        else "The last checkpoint has no rare-token neurons",
        f"{len(table)} rare-token neurons of the last checkpoint: from this step on the 95 % interval of S keeps their sign",
        "Histogram of the training step since which each final rare-token neuron has been rare-specific.",
    )


def among_matched(table: pd.DataFrame, name: str) -> alt.LayerChart:
    """A statistic of the final rare-token neurons at every checkpoint, among matched groups.

    ``table``: ``step``, ``estimate``, ``matched`` (percentile), ``matched_low``, ``matched_high``; ``name``: of the statistic.
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
    last = table.sort_values("step").iloc[-1]
    return finish(
        alt.layer(ribbon, line).properties(width="container", height=170),
        f"{name[0].upper()}{name[1:]}: at the last step above {last['matched']:.0%} of matched groups",
        "orange: the neurons that are rare-token neurons at the end; ribbon: the middle 95 % of matched groups",
        f"{name} of the final rare-token neurons over training, with the range of matched groups.",
    )

"""Charts of the relatives: entropy and token-frequency neurons among all, and what remains of an effect with a path held."""

import altair as alt
import numpy as np
import pandas as pd

from raretok.charts.theme import BLUE, GREEN, GREY, ORANGE, finish, rounded

KINDS = ["entropy", "token frequency", "neither"]


def kinds(relatives: pd.DataFrame, found: pd.DataFrame) -> alt.LayerChart:
    """Norm against LogitVar of every neuron; colour: its kind; ring: a rare-token neuron (``Study.relatives``, ``Study.identification``)."""
    kind = np.select([relatives["entropy_neuron"], relatives["frequency_neuron"]], KINDS[:2], default=KINDS[2])
    table = relatives.assign(kind=kind, rare=found["controlled"].to_numpy())
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
    counts = {k: int((kind == k).sum()) for k in KINDS[:2]}
    both = int((found["controlled"].to_numpy() & (kind != KINDS[2])).sum())
    return finish(
        alt.layer(points, rings).properties(width="container", height=340),
        f"{counts['entropy']} entropy and {counts['token frequency']} token-frequency neurons; {both} of the rare-token neurons are among them",
        f"{len(shown):,} neurons; orange rings: rare-token neurons (controlled definition)",
        "Scatter of norm against logit variance of all neurons, coloured by kind, with rare-token neurons ringed.",
    )


def mediated(relatives: pd.DataFrame, found: pd.DataFrame) -> alt.Chart:
    """Share of each neuron's effect that goes through the norm's scale against that through the log-unigram direction."""
    shown = relatives.assign(
        kind=np.where(found["controlled"], "rare-token neuron", "other"),
        scale=relatives["scale_share"].clip(-1, 1).round(3),
        frequency=relatives["frequency_share"].clip(-1, 1).round(3),
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
    middle = relatives["scale_share"].median(), relatives["frequency_share"].median()
    return finish(
        chart.properties(width="container", height=300),
        f"Median shares of all neurons: {middle[0]:.1%} through the norm's scale, {middle[1]:.1%} through the log-unigram direction",
        "1 − mean |direct effect| / mean |total effect|; below 0 the path works against the rest; cut at ±1",
        "Scatter of the two mediated shares of every neuron.",
    )


def remaining(table: pd.DataFrame) -> alt.LayerChart:
    """What remains of the rare-specific effect with each path held (``Study.remaining``)."""
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
    told = table[(table["group"] == "controlled")].set_index("path")["share"]
    title = (
        ", ".join(f"{share:.0%} with {path} held" for path, share in told.items())
        or "nothing to say: there are no controlled rare-token neurons"
    )
    return finish(
        alt.layer(one, bars, points).properties(width="container", height=150),
        f"Of the rare-specific effect there remain {title}",
        "measured on half B; controlled: chosen and oriented on half A, published: chosen on all documents; bars: 95 % by resampling documents",
        "Share of the rare-specific effect that remains when the norm's scale or the log-unigram direction is frozen.",
    )

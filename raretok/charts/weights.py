"""Charts of the weights: spectra among what independence would give, tails over k and over training, and rows against effects."""

import altair as alt
import pandas as pd
from scipy import stats

from raretok.charts.emergence import training_step
from raretok.charts.theme import BLUE, GREY, ORANGE, PURPLE, finish, rounded

STATISTIC_NAMES = {
    "hill": "Hill exponent",
    "stable_rank": "stable rank",
    "entropy": "spectral entropy",
    "mp_distance": "distance to Marchenko–Pastur",
}
ROW_NAMES = {"norm": "norm", "kurtosis": "excess kurtosis", "participation": "inverse participation ratio"}


def spectrum(densities: pd.DataFrame, layers: pd.DataFrame) -> alt.LayerChart:
    """Eigenvalues of whole matrices with the bulk that fits; the reader chooses the matrix (``weights.densities``)."""
    shown = densities[(densities["share"] > 0) | (densities["bulk"] > 1e-6)].copy()
    shown = rounded(shown, ["eigenvalue", "share", "bulk"], 4)
    names = list(dict.fromkeys(shown["matrix"]))
    picked = alt.param(name="spectrum_matrix", value=names[0], bind=alt.binding_select(options=names, name="matrix "))
    base = alt.Chart(shown).transform_filter("datum.matrix == spectrum_matrix")
    x = alt.X(
        "eigenvalue:Q", scale=alt.Scale(type="log", nice=False), title="eigenvalue (over the variance of the bulk)"
    )
    points = base.mark_point(color=ORANGE, size=40).encode(
        x, alt.Y("share:Q", title="share of eigenvalues"), tooltip=["eigenvalue", "share"]
    )
    bulk = base.mark_line(color=BLUE, strokeWidth=2).encode(x, alt.Y("bulk:Q"))
    first = layers.iloc[0]
    return finish(
        alt.layer(bulk, points).add_params(picked).properties(width="container", height=280),
        f"{first['spikes']:.0f} of {min(first['rows'], first['columns']):.0f} eigenvalues of {first['matrix']} lie beyond the bulk",
        "points: the layer; line: Marchenko–Pastur law with the true aspect ratio and the variance that fits; choose below",
        "Distribution of the eigenvalues of a weight matrix on a log axis with the Marchenko–Pastur law.",
    )


def tail_sweep(sweep: pd.DataFrame) -> alt.LayerChart:
    """Hill's exponent of a group over k among control groups; the reader chooses the matrix (``weights.sweep``)."""
    long = pd.concat(
        [
            sweep[["matrix", "k", f"{kind}_low", f"{kind}_high"]]
            .set_axis(["matrix", "k", "low", "high"], axis=1)
            .assign(kind=kind)
            for kind in ("random", "matched")
        ]
    )
    names = list(dict.fromkeys(sweep["matrix"]))
    picked = alt.param(name="sweep_matrix", value=names[0], bind=alt.binding_select(options=names, name="matrix "))
    here = "datum.matrix == sweep_matrix"
    x = alt.X("k:Q", scale=alt.Scale(type="log", nice=False), title="largest eigenvalues used, k")
    y = alt.Scale(type="log", nice=False)
    ribbon = (
        alt.Chart(long)
        .transform_filter(here)
        .mark_area(opacity=0.3)
        .encode(
            x,
            alt.Y("low:Q", scale=y, title="Hill exponent"),
            alt.Y2("high:Q"),
            alt.Color(
                "kind:N", scale=alt.Scale(domain=["random", "matched"], range=[GREY, BLUE]), title="control groups"
            ),
        )
    )
    line = (
        alt.Chart(sweep)
        .transform_filter(here)
        .mark_line(point=alt.OverlayMarkDef(color=ORANGE), color=ORANGE)
        .encode(x, alt.Y("estimate:Q", scale=y), tooltip=["k", alt.Tooltip("estimate", format=".2f")])
    )
    return finish(
        alt.layer(ribbon, line).add_params(picked).properties(width="container", height=260),
        "Hill's exponent depends on how many eigenvalues it is read from",
        "orange: the rare-token neurons (smaller is heavier); ribbons: 95 % of control groups; choose below",
        "Hill exponent of the rare-token group over k with the ranges of random and matched groups.",
    )


def layer_tails(table: pd.DataFrame) -> alt.LayerChart:
    """Power-law exponent of whole matrices at each checkpoint (``weights.layers`` by step)."""
    shown = table.assign(low=table["alpha"] - 1.96 * table["error"], high=table["alpha"] + 1.96 * table["error"])
    names = list(dict.fromkeys(shown["matrix"]))
    base = alt.Chart(shown[["step", "matrix", "alpha", "low", "high", "spikes"]])
    x = training_step()
    scale = alt.Scale(type="log", nice=False)
    colour = alt.Color("matrix:N", scale=alt.Scale(domain=names, range=[ORANGE, BLUE, PURPLE]), title="matrix")
    ribbon = base.mark_area(opacity=0.2).encode(
        x, alt.Y("low:Q", scale=scale, title="exponent α of the tail"), alt.Y2("high:Q"), colour
    )
    line = base.mark_line(point=True).encode(
        x, alt.Y("alpha:Q", scale=scale), colour, tooltip=["step", "matrix", "alpha", "spikes"]
    )
    ends = shown[shown["matrix"] == names[0]].sort_values("step")["alpha"]
    return finish(
        alt.layer(ribbon, line).properties(width="container", height=220),
        f"The tail of the whole layer ({names[0]}): α = {ends.iloc[0]:.1f} at the first checkpoint, {ends.iloc[-1]:.1f} at the end",
        "Clauset–Shalizi–Newman fit of the largest eigenvalues; ribbon: ± 1.96 standard errors",
        "Exponent of the power-law tail of the whole weight matrices over training.",
    )


def rows_against_effect(rows: pd.DataFrame, specific: pd.Series) -> alt.Chart:
    """Norm, kurtosis or participation of every neuron's rows against its rare-specific effect; the reader chooses (``weights.rows_of``).

    ``specific``: |S| of each neuron in nats, indexed by neuron.
    """
    table = rows.assign(s=rows["neuron"].map(specific.abs()))
    rho = {
        (m, k): float(stats.spearmanr(part[k], part["s"]).statistic)
        for m, part in table.groupby("matrix")
        for k in ROW_NAMES
    }
    long = table.melt(["matrix", "neuron", "s"], list(ROW_NAMES), "what", "value")
    long = long[long["s"] > 0]
    long = rounded(long, ["s", "value"])
    long["what"] = long["what"].map(ROW_NAMES)
    names = list(dict.fromkeys(long["matrix"]))
    long = long[long["matrix"] == names[0]]
    picked = alt.param(
        name="rows_what",
        value=ROW_NAMES["norm"],
        bind=alt.binding_select(options=list(ROW_NAMES.values()), name="of the row "),
    )
    chart = (
        alt.Chart(long[["neuron", "s", "what", "value"]])
        .transform_filter("datum.what == rows_what")
        .mark_point(size=18, opacity=0.45, color=ORANGE)
        .encode(
            alt.X("s:Q", scale=alt.Scale(type="log", nice=False), title="|rare-specific effect S| (nats)"),
            alt.Y("value:Q", scale=alt.Scale(zero=False), title="of the neuron's row"),
            tooltip=["neuron", "s", "value"],
        )
    )
    told = ", ".join(f"{ROW_NAMES[k]} {rho[names[0], k]:+.2f}" for k in ROW_NAMES)
    return finish(
        chart.add_params(picked).properties(width="container", height=260),
        f"Rank correlation of |S| with a row's {told}",
        f"rows of {names[0]}, a point a neuron; choose below",
        "Scatter plot of a statistic of each neuron's weight row against its rare-specific effect.",
    )

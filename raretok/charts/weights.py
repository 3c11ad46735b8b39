"""Charts of the weights: spectra with their random-matrix law, tails over k and training, and rows against effects."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from raretok.charts.emergence import among_matched, training_step
from raretok.charts.theme import BLUE, GREY, ORANGE, PURPLE, finish, rounded, show_table

STATISTIC_NAMES = {
    "hill": "Hill exponent",
    "stable_rank": "stable rank",
    "entropy": "spectral entropy",
    "mp_distance": "distance to Marchenko–Pastur",
}
ROW_NAMES = {"norm": "norm", "kurtosis": "excess kurtosis", "participation": "inverse participation ratio"}


def spectrum(densities: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the eigenvalues of a whole matrix, which the reader chooses, with the fitted bulk
    (``weights.densities``)."""
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
    return finish(
        alt.layer(bulk, points).add_params(picked).properties(width="container", height=280),
        f"{facts['layer_spikes']} of {facts['layer_eigenvalues']} eigenvalues of {facts['layer_matrix']} lie beyond "
        "the bulk",
        "points: the layer; line: Marchenko–Pastur law with the true aspect ratio and the variance that fits; choose "
        "below",
        "Distribution of the eigenvalues of a weight matrix on a log axis with the Marchenko–Pastur law.",
    )


def hill_plot(table: pd.DataFrame) -> alt.LayerChart:
    """Plot Hill's exponent of a group over k among control groups (``weights.hill_plot``).

    The reader chooses the matrix.
    """
    long = pd.concat(
        [
            table[["matrix", "k", f"{kind}_low", f"{kind}_high"]]
            .set_axis(["matrix", "k", "low", "high"], axis=1)
            .assign(kind=kind)
            for kind in ("random", "matched")
        ]
    )
    names = list(dict.fromkeys(table["matrix"]))
    picked = alt.param(name="hill_matrix", value=names[0], bind=alt.binding_select(options=names, name="matrix "))
    here = "datum.matrix == hill_matrix"
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
        alt.Chart(table)
        .transform_filter(here)
        .mark_line(point=alt.OverlayMarkDef(color=ORANGE), color=ORANGE)
        .encode(x, alt.Y("estimate:Q", scale=y), tooltip=["k", alt.Tooltip("estimate", format=".2f")])
    )
    return finish(
        alt.layer(ribbon, line).add_params(picked).properties(width="container", height=260),
        "Hill's exponent depends on how many eigenvalues it is read from",
        "orange: the rare-token neurons (smaller is heavier); ribbons: 95% of control groups; choose below",
        "Hill exponent of the rare-token group over k with the ranges of random and matched groups.",
    )


def layer_tails(table: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the power-law exponent of whole matrices at each checkpoint (``weights.layer_spectra`` by step)."""
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
    return finish(
        alt.layer(ribbon, line).properties(width="container", height=220),
        f"The tail of the whole layer ({names[0]}): α = {facts['layer_alpha_start']} at the first checkpoint, "
        f"{facts['layer_alpha_end']} at the end",
        "Clauset–Shalizi–Newman fit of the largest eigenvalues; ribbon: ± 1.96 standard errors",
        "Exponent of the power-law tail of the whole weight matrices over training.",
    )


def rows_against_effect(rows: pd.DataFrame, neurons: pd.DataFrame, facts: Mapping[str, str]) -> alt.Chart:
    """Plot norm, kurtosis or participation of every neuron's row against its rare-specific effect; the reader chooses.

    ``rows`` is ``weights.rows_of``; ``neurons`` is ``identification.rare_token_neurons``; ``facts`` are the chapter's
    numbers.
    """
    table = rows.assign(s=rows["neuron"].map(neurons.set_index("neuron")["s"].abs()))
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
    return finish(
        chart.add_params(picked).properties(width="container", height=260),
        f"Rank correlation of |S| with a row's {facts['row_correlations']}",
        f"rows of {names[0]}, a point a neuron; choose below",
        "Scatter plot of a statistic of each neuron's weight row against its rare-specific effect.",
    )


def over_training(table: pd.DataFrame, matrix: str, statistic: str, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot a statistic of the controlled group's rows at every checkpoint among those of matched groups.

    ``table`` is ``weights.tails_over_training`` or ``weights.rows_over_training``; ``facts`` are the chapter's numbers.
    """
    rows = table[(table["group"] == "controlled") & (table["matrix"] == matrix) & (table["statistic"] == statistic)]
    name = f"{(STATISTIC_NAMES | ROW_NAMES)[statistic]} of {matrix}"
    return among_matched(rows, name, facts[f"{matrix}_{statistic}_at_end"])


def published_table(tails: pd.DataFrame) -> Any:
    """Show Hill's exponent of the published groups and the range of random groups (``weights.group_tails``)."""
    columns = {
        "estimate": "Hill exponent",
        "random_low": "random groups, 2.5%",
        "random_high": "97.5%",
    }
    shown = tails[tails["group"].str.startswith("published") & (tails["statistic"] == "hill")]
    return show_table(
        shown[["group", "size", "matrix", *columns]].rename(columns=columns),
        dict.fromkeys(columns.values(), "{:.2f}"),
        "The published groups, and the range of random groups of the same size",
    )


def layer_table(layers: pd.DataFrame) -> Any:
    """Show the spectrum of each whole matrix (``weights.layer_spectra``)."""
    columns = {"alpha": "α", "error": "SE", "tail": "in the tail", "largest": "largest / edge"}
    return show_table(
        layers.rename(columns=columns),
        {"α": "{:.2f}", "SE": "{:.2f}", "edge": "{:.4f}", "largest / edge": "{:.1f}"},
        "Power-law tail of the eigenvalues (exponent of their density), edge of the bulk, and eigenvalues beyond it",
    )


def null_table(tails: pd.DataFrame, group: str) -> Any:
    """Show every statistic of a group's rows and its percentile in each null (``weights.group_tails``)."""
    shown = tails[tails["group"] == group].assign(statistic=lambda t: t["statistic"].map(STATISTIC_NAMES))
    numbers = ["estimate", "random", "matched", "gaussian"]
    return show_table(
        shown[["matrix", "statistic", *numbers]],
        dict.fromkeys(numbers, "{:.3f}"),
        "The rows of the rare-token neurons: estimate, and percentile in each null",
    )

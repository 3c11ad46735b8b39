"""Charts of co-activation: correlations by community, strongest links, control groups, and the effect of centring."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from raretok.charts.emergence import among_matched
from raretok.charts.theme import BLUE, GREEN, GREY, ORANGE, PURPLE, finish, rounded, show_table
from raretok.claims.wording import place, with_interval

STATISTIC_NAMES = {
    "within_r": "correlation within",
    "rest_r": "correlation with the rest",
    "within_cosine": "uncentred cosine within",
    "rest_cosine": "uncentred cosine with the rest",
    "participation": "participation ratio / n",
    "components": "components for 95% / n",
    "information": "multi-information (nats)",
    "between_r": "correlation of boost with suppress",
    "between_cosine": "uncentred cosine of boost with suppress",
}
COMMUNITY_COLOURS = [ORANGE, BLUE, GREEN, PURPLE, GREY]
LINKS = 150
"""Number of correlations that the network shows."""
FOLLOWED = ("within_r", "participation", "information")
"""Statistics that are followed over training."""
PUBLISHED = ("within_cosine", "rest_cosine", "components")
"""Statistics that were published."""


def heat_map(pairs: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the correlations within a group, ordered by community (``coactivation.pairs``)."""
    shown = pairs.assign(r=pairs["r"].round(3))[["a", "b", "place_a", "place_b", "community", "r"]]
    cells = (
        alt.Chart(shown)
        .mark_rect()
        .encode(
            alt.X("place_b:O", axis=None),
            alt.Y("place_a:O", axis=None),
            color=alt.Color(
                "r:Q", scale=alt.Scale(scheme="purpleorange", domain=[-1, 1], domainMid=0), title="correlation"
            ),
            tooltip=[alt.Tooltip("a", title="neuron"), alt.Tooltip("b", title="with"), "r"],
        )
    )
    ends = shown.groupby("community")["place_a"].agg(["min", "max"]).reset_index()
    edges = ends.assign(x=ends["min"], x2=ends["max"])
    frames = (
        alt.Chart(edges)
        .mark_rect(fill=None, stroke=GREY, strokeWidth=1.5)
        .encode(x=alt.X("x:O", axis=None), x2="x2:O", y=alt.Y("x:O", axis=None), y2="x2:O")
    )
    return finish(
        alt.layer(cells, frames).properties(width="container", height=420),
        f"Correlations of {facts['shown']} rare-token neurons: mean {facts['pairs_r']}, "
        f"in {facts['pairs_communities']} communities",
        "rare-target contexts of half B, ordered by community (framed)",
        "Heat map of the correlations between rare-token neurons ordered by community.",
    )


def strongest_links(pairs: pd.DataFrame, most: int = LINKS) -> pd.DataFrame:
    """Return the pairs of ``coactivation.pairs`` with the largest absolute correlations, each pair once."""
    upper = pairs[pairs["place_a"] < pairs["place_b"]]
    return upper.reindex(upper["r"].abs().sort_values(ascending=False).index).head(most)


def network(pairs: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the strongest correlations within a group, with its members on a circle in the order of their communities.

    ``pairs`` is ``coactivation.pairs``; ``facts`` are the chapter's numbers.
    """
    strongest = strongest_links(pairs)
    count = int(pairs["place_a"].max()) + 1

    def place(k: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        angle = 2 * np.pi * k.to_numpy() / count
        return np.round(np.cos(angle), 3), np.round(np.sin(angle), 3)

    x, y = place(strongest["place_a"])
    x2, y2 = place(strongest["place_b"])
    links = pd.DataFrame(
        {"x": x, "y": y, "x2": x2, "y2": y2, "a": strongest["a"].to_numpy(), "b": strongest["b"].to_numpy()}
        | {"r": strongest["r"].round(3).to_numpy(), "sign": np.where(strongest["r"] > 0, "positive", "negative")}
    )
    nodes = pairs.drop_duplicates("a")[["a", "place_a", "community"]].rename(columns={"a": "neuron"})
    nodes["x"], nodes["y"] = place(nodes["place_a"])
    nodes["community"] = (nodes["community"] + 1).clip(upper=len(COMMUNITY_COLOURS)).astype(str)
    scale = alt.Scale(domain=[-1.1, 1.1])
    lines = (
        alt.Chart(links)
        .mark_rule()
        .encode(
            alt.X("x:Q", scale=scale, axis=None),
            alt.Y("y:Q", scale=scale, axis=None),
            x2="x2:Q",
            y2="y2:Q",
            color=alt.Color(
                "sign:N", scale=alt.Scale(domain=["positive", "negative"], range=[ORANGE, PURPLE]), title="r"
            ),
            strokeDash=alt.StrokeDash(
                "sign:N", scale=alt.Scale(domain=["positive", "negative"], range=[[1, 0], [4, 3]])
            ),
            opacity=alt.Opacity("abs:Q", scale=alt.Scale(range=[0.15, 0.9]), legend=None),
            tooltip=["a", "b", "r"],
        )
        .transform_calculate(abs="abs(datum.r)")
    )
    points = (
        alt.Chart(nodes)
        .mark_point(size=70, filled=True, opacity=1)
        .encode(
            alt.X("x:Q", scale=scale, axis=None),
            alt.Y("y:Q", scale=scale, axis=None),
            shape=alt.Shape("community:N", title="community"),
            tooltip=["neuron", "community"],
        )
    )
    return finish(
        alt.layer(lines, points).properties(width="container", height=420),
        f"{facts['links_positive']} of the {facts['links']} strongest links are positive",
        f"|r| ≥ {facts['links_weakest']}; neurons on a circle in the order of their communities",
        "Network of the strongest correlations between rare-token neurons.",
    )


def controls(histograms: pd.DataFrame, group: str) -> alt.LayerChart:
    """Plot a statistic's distribution over control groups, with the group's own value marked.

    The reader chooses the statistic. ``histograms`` is ``coactivation.histograms``.
    """
    shown = histograms[histograms["group"] == group].assign(statistic=lambda t: t["statistic"].map(STATISTIC_NAMES))
    shown = rounded(shown, ["from", "to", "observed"], 4)
    names = list(dict.fromkeys(shown["statistic"]))
    picked = alt.param(
        name="controls_statistic", value=names[0], bind=alt.binding_select(options=names, name="statistic ")
    )
    base = alt.Chart(shown[shown["share"] > 0][["statistic", "kind", "from", "to", "share"]]).transform_filter(
        "datum.statistic == controls_statistic"
    )
    colour = alt.Color(
        "kind:N", scale=alt.Scale(domain=["random", "matched"], range=[GREY, BLUE]), title="control groups"
    )
    x = alt.X("from:Q", scale=alt.Scale(zero=False), title="value")
    bars = base.mark_rect(opacity=0.5).encode(
        x, alt.X2("to:Q"), alt.Y("share:Q", title="share of groups"), colour, y2=alt.datum(0), tooltip=["kind", "share"]
    )
    own = shown.drop_duplicates("statistic")[["statistic", "observed"]]
    mark = (
        alt.Chart(own)
        .transform_filter("datum.statistic == controls_statistic")
        .mark_rule(color=ORANGE, strokeWidth=3)
        .encode(x="observed:Q", tooltip=["observed"])
    )
    return finish(
        alt.layer(bars, mark).add_params(picked).properties(width="container", height=260),
        f"The {group} group in rare-target contexts, among groups of the same size",
        "orange: the group itself; grey: random groups, blue: matched in mean, variance, firing rate and norm; "
        "choose below",
        "Histogram of a statistic over random and matched groups with the rare-token group's value marked.",
    )


def centring(histograms: pd.DataFrame) -> alt.Chart:
    """Plot the distribution of cosine or correlation over pairs of neurons, as observed and with permuted activations.

    The cosine is uncentred. The reader chooses the model and the statistic. ``histograms`` are tables of
    ``coactivation.permuted_histograms`` with a column ``model``.
    """
    shown = histograms[histograms["share"] > 0]
    chosen = [
        alt.param(name=f"centring_{name}", value=options[0], bind=alt.binding_select(options=options, name=f"{name} "))
        for name, options in (
            ("statistic", ["cosine", "correlation"]),
            ("model", list(dict.fromkeys(shown["model"]))),
        )
    ]
    kinds = ["observed", "permuted"]
    chart = (
        alt.Chart(shown)
        .transform_filter("datum.statistic == centring_statistic && datum.model == centring_model")
        .mark_line(interpolate="step", strokeWidth=2)
        .encode(
            alt.X("value:Q", scale=alt.Scale(domain=[-1, 1]), title="of a pair of neurons"),
            alt.Y("share:Q", title="share of pairs"),
            alt.Color("data:N", scale=alt.Scale(domain=kinds, range=[ORANGE, BLUE]), title=None),
            alt.StrokeDash("data:N", scale=alt.Scale(domain=kinds, range=[[1, 0], [5, 3]]), title=None),
            tooltip=["data", "value", alt.Tooltip("share", format=".1%")],
        )
    )
    return finish(
        chart.add_params(*chosen).properties(width="container", height=240),
        "Pairs of neurons, as observed and with nothing in common",
        "permuted: each neuron's activations moved to random positions; choose below",
        "Distribution over pairs of neurons of uncentred cosine or correlation, observed and with activations moved "
        "to random positions.",
    )


def over_training(table: pd.DataFrame, statistic: str, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot a statistic of one group at every checkpoint among those of matched groups.

    ``table`` is ``coactivation.statistics_over_training``.
    """
    rows = table[table["statistic"] == statistic]
    return among_matched(rows, STATISTIC_NAMES[statistic], facts[f"{statistic}_at_end"])


def published_table(statistics: pd.DataFrame) -> Any:
    """Show the published statistics of the published groups in rare-target contexts (``coactivation.statistics``)."""
    shown = statistics[(statistics["context"] == "rare") & statistics["group"].str.startswith("published")]
    shown = shown[shown["statistic"].isin(PUBLISHED)]
    shown = shown.assign(statistic=shown["statistic"].map(STATISTIC_NAMES))[
        ["group", "size", "statistic", "estimate", "random"]
    ]
    return show_table(
        shown.rename(columns={"random": "percentile in random groups"}),
        {"estimate": "{:.3f}", "percentile in random groups": "{:.3f}"},
        "The published groups in rare-target contexts, as published",
    )


def context_table(by_context: pd.DataFrame, group: str) -> Any:
    """Compare statistics of a group in rare-target contexts with those in matched ones
    (``coactivation.by_context``)."""
    rows = by_context[by_context["group"] == group].to_dict("records")
    shown = [
        {"statistic": STATISTIC_NAMES[r["statistic"]], "rare": r["rare"], "matched": r["matched"]}
        | {"difference [95%]": with_interval(r["difference"], r["low"], r["high"]), "p": r["p"]}
        for r in rows
    ]
    caption = (
        "Rare-target contexts against contexts of common targets that are as hard; "
        "p by exchanging the labels in random documents"
    )
    return show_table(pd.DataFrame(shown), {"rare": "{:.3f}", "matched": "{:.3f}", "p": "{:.3f}"}, caption)


def cluster_table(clusters: pd.DataFrame) -> Any:
    """Show the modularity of every group at every resolution among its nulls (``coactivation.clusters``)."""
    nulls = {f"{kind}_z": f"{kind}: z" for kind in ("random", "matched", "shuffled")}
    shown = clusters[["group", "size", "resolution", "q", "communities", *nulls]]
    return show_table(
        shown.rename(columns={"q": "Q"} | nulls),
        {"resolution": "{:.1f}", "Q": "{:.3f}"} | dict.fromkeys(nulls.values(), "{:+.1f}"),
        "Signed modularity of the groups, and how many standard deviations it lies above each null",
    )


def complete_table(coactivation: pd.DataFrame, across: pd.DataFrame) -> Any:
    """Show every statistic of every group in every context with its interval and its percentile in control groups."""
    rows = [
        {"group": r["group"], "n": r["size"], "context": r["context"], "statistic": STATISTIC_NAMES[r["statistic"]]}
        | {"estimate [95%]": with_interval(r["estimate"], r["low"], r["high"])}
        | {"random": place(r["random"]), "matched": place(r["matched"])}
        for r in (*coactivation.to_dict("records"), *across.to_dict("records"))
    ]
    caption = (
        "Published groups on all documents, the others on half B; "
        "percentile of each statistic in control groups of the same size"
    )
    return show_table(pd.DataFrame(rows), caption=caption)

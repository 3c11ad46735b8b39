"""Charts of robustness to the kind of ablation, the definitions, the corpus, and the amount of text."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from raretok.charts.theme import BLUE, GREY, ORANGE, finish, show_table
from raretok.claims.wording import with_interval
from raretok.stats.rankcurve import HEAD


def agreement_table(table: pd.DataFrame, names: dict[str, str], caption: str) -> Any:
    """Show rank correlation, correlation and overlap of the first neurons for a comparison of ``findings.robustness``.

    The interval is that of the rank correlation corrected for noise where there is one, and else that of the rank
    correlation. ``names`` maps the columns that say what is compared to their headings.
    """
    shown = table[list(names)].rename(columns=names)
    judged = "corrected" if "corrected" in table else "spearman"
    if judged == "corrected":
        shown["rank correlation"] = table["spearman"].map("{:.2f}".format)
    heading = "freed of noise [95%]" if judged == "corrected" else "rank correlation [95%]"
    shown[heading] = [
        with_interval(r, low, high) for r, low, high in zip(table[judged], table["low"], table["high"], strict=True)
    ]
    shown["correlation"], shown[f"Jaccard of the first {HEAD}"] = table["pearson"], table["jaccard"]
    return show_table(shown, {"correlation": "{:.2f}", f"Jaccard of the first {HEAD}": "{:.2f}"}, caption)


def across_corpora(table: pd.DataFrame, corpus: str, other_corpus: str) -> Any:
    """Show the agreement of the neurons' net effects on two corpora (``robustness.across_corpora``)."""
    return agreement_table(
        table.assign(within=table["within"].map("{:.2f}".format)),
        {"band": "targets", "within": f"rank correlation within {corpus}"},
        f"Agreement of the neurons' net effects on {corpus} and {other_corpus}, and between two halves of the former",
    )


def learning_curve(curve: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot how well a list of neurons repeats in other documents by the number of targets that it is made from.

    ``curve`` is ``robustness.learning_curve_summary``.
    """
    names = {
        "pearson": "correlation of the effects",
        "spearman": "rank correlation",
        "jaccard": f"Jaccard of the first {HEAD}",
    }
    shown = curve.assign(what=curve["measure"].map(names)).drop(columns="measure").round(4)
    scale = alt.Scale(domain=list(names.values()), range=[ORANGE, BLUE, GREY])
    base = alt.Chart(shown)
    x = alt.X(
        "targets:Q",
        scale=alt.Scale(type="log", nice=False, padding=10),
        title="rare targets that the list is made from",
    )
    colour = alt.Color("what:N", scale=scale, title=None)
    ribbon = base.mark_area(opacity=0.15).encode(
        x, alt.Y("low:Q", title="agreement with other documents"), alt.Y2("high:Q"), colour
    )
    line = base.mark_line(point=True).encode(
        x,
        alt.Y("value:Q"),
        colour,
        alt.StrokeDash(
            "what:N", scale=alt.Scale(domain=list(names.values()), range=[[1, 0], [5, 3], [2, 2]]), title=None
        ),
        tooltip=["targets", "what", "value", "low", "high"],
    )
    return finish(
        alt.layer(ribbon, line).properties(width="container", height=280),
        f"From {facts['ranked_targets']} rare targets, {facts['found_again']} of the first {HEAD} neurons are found "
        "again in other documents",
        "net effects on rare targets, ranked on some documents, against the other half of the documents; ribbons: "
        "middle 80% of random choices",
        "Agreement of the neurons' effects and lists between documents by the number of rare targets used.",
    )

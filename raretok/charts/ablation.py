"""Charts and tables of the method: the certificate's bounds against the true errors, and the speed of the method."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from raretok.charts.theme import BLUE, GREY, ORANGE, finish, show_table
from raretok.claims.wording import with_interval

FLOOR = 1e-9
"""Smaller values, in nats, are drawn at this value."""


def bounds(audit: pd.DataFrame, tolerance: float, facts: Mapping[str, str], shown: int = 2500) -> alt.LayerChart:
    """Plot bound and true error against the size of the effect, for a sample of the pairs of ``checks.certificate``."""
    drawn = audit.sample(min(shown, len(audit)), random_state=0)
    way = np.where(drawn["used_fallback"], "exponentials", "second order")
    table = drawn.assign(
        effect=drawn["effect"].abs().clip(FLOOR),
        error=drawn["error"].abs().clip(FLOOR),
        bound=drawn["bound"].clip(FLOOR),
        way=way,
    )[["effect", "error", "bound", "way"]]
    log = alt.Scale(type="log")
    domain = ["second order", "exponentials"]
    colour = alt.Color("way:N", scale=alt.Scale(domain=domain, range=[BLUE, ORANGE]), title="true error")
    x = alt.X("effect:Q", scale=log, title="|effect| in float64 (nats)")
    title = "error, and its bound (nats)"
    base = alt.Chart(table)
    allowed = base.mark_circle(size=8, color=GREY, opacity=0.35).encode(x, alt.Y("bound:Q", scale=log, title=title))
    errors = base.mark_circle(size=12, opacity=0.6).encode(x, alt.Y("error:Q", scale=log, title=title), colour)
    line = (
        alt.Chart(pd.DataFrame({"bound": [tolerance]}))
        .mark_rule(strokeDash=[4, 4])
        .encode(alt.Y("bound:Q", title=title))
    )
    return finish(
        alt.layer(line, allowed, errors).properties(width="container", height=340),
        f"{facts['beyond_bound']} of {facts['pairs']} pairs are further from the truth than their bound",
        f"grey: bound of each pair; dashed: tolerance; {len(table):,} pairs drawn",
        "Scatter of true error and of its bound against the size of the effect, all axes logarithmic.",
    )


def errors(audit: pd.DataFrame, facts: Mapping[str, str]) -> alt.Chart:
    """Plot the distribution of the true error of second-order pairs on a log axis."""
    size = np.log10(audit.loc[~audit["used_fallback"], "error"].abs().clip(FLOOR))
    counts, edges = np.histogram(size, bins=np.arange(-9, max(-3, size.max()) + 0.25, 0.25))
    table = pd.DataFrame({"low": 10 ** edges[:-1], "high": 10 ** edges[1:], "share": counts / max(len(size), 1)})
    chart: Any = (
        alt.Chart(table)
        .mark_rect(color=BLUE, opacity=0.8)
        .encode(
            alt.X("low:Q", scale=alt.Scale(type="log"), title="|second order − float64| (nats)"),
            alt.X2("high:Q"),
            alt.Y("share:Q", axis=alt.Axis(format="%"), title="share of second-order pairs"),
            alt.Y2(datum=0),
            tooltip=[
                alt.Tooltip("low", format=".1e"),
                alt.Tooltip("high", format=".1e"),
                alt.Tooltip("share", format=".2%"),
            ],
        )
    )
    return finish(
        chart.properties(width="container", height=220),
        f"Half of the second-order pairs are within {facts['ordinary_median']} nats of the truth",
        f"{facts['second_order_pairs']} pairs",
        "Histogram of the absolute error of the second-order effects on a logarithmic axis.",
    )


def speed(benchmarks: pd.DataFrame, caption: str) -> Any:
    """Show the time, error and memory of every method that computes the effects (``checks.benchmark_table``)."""
    formats = {"µs per pair": "{:,.2f}", "× published": "{:,.1f}", "limit (µs)": "{:,.2f}"}
    return show_table(benchmarks, {**formats, "error": "{:.0e}", "peak (MiB)": "{:,.0f}"}, caption)


def precision(table: pd.DataFrame) -> Any:
    """Show every headline with the forward pass in float32 and in bfloat16 (``measure.precision.precision_table``)."""
    shown = pd.DataFrame({"claim": table["id"]})
    for dtype in ("float32", "bfloat16"):
        rows = table[[f"controlled {dtype}", f"low {dtype}", f"high {dtype}"]].itertuples(index=False)
        shown[f"{dtype} [95%]"] = [with_interval(*row) for row in rows]
        shown[f"verdict, {dtype}"] = table[f"verdict {dtype}"]
    caption = "Every headline of SmolLM2-135M with the forward pass in float32 and in bfloat16"
    return show_table(shown, None, caption, wrap=True)

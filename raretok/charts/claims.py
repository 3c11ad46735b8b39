"""Verdicts for a page: the numbers of each claim as text, the table of claims, and the calibration of their rules."""

from typing import Any

import pandas as pd

from raretok.charts.theme import show_table


def verdict_texts(claims: pd.DataFrame) -> dict[str, str]:
    """What a chapter glues of ``Study.claims``: ``C1_verdict``, ``C1_why``, ``C1_published``, ``C1_says``, ``C1_controlled`` (with interval) and ``C1_null``."""
    found: dict[str, str] = {}
    for row in claims.to_dict("records"):
        name = row["id"]
        found |= {
            f"{name}_verdict": str(row["verdict"]),
            f"{name}_why": row["why"],
            f"{name}_published": number(row["published"]),
            f"{name}_says": row["published_says"],
            f"{name}_controlled": with_interval(row["controlled"], row["low"], row["high"]),
            f"{name}_null": place(row["null"]),
        }
    return found


def claim_table(claims: pd.DataFrame) -> Any:
    """The table of claims: reported, as published, controlled, percentile and verdict."""
    records = claims.to_dict("records")
    table = pd.DataFrame(
        {
            "claim": [f"{r['id']} {r['claim']}" for r in records],
            "quantity": [r["quantity"] for r in records],
            "reported": [r["reported"] for r in records],
            "as published": [f"{number(r['published'])}: {r['published_says']}" for r in records],
            "controlled [95 %]": [with_interval(r["controlled"], r["low"], r["high"]) for r in records],
            "n": [f"{r['n']:,}" for r in records],
            "null": [place(r["null"]) for r in records],
            "verdict": [str(r["verdict"]) for r in records],
        }
    )
    caption = "“as published”: the published estimator, and whether by it alone one would say yes; null: percentile in the null it is closest to (C5, C8: p)"
    return show_table(table, caption=caption, wrap=True)


def calibration(table: pd.DataFrame) -> Any:
    """The table of ``claims.calibration``: shares of data sets in which a rule says *supported*."""
    shares = {str(c): "{:.1%}" for c in table if c not in ("rule", "sets")}
    caption = (
        f"share of data sets on which a rule says “supported”; {table['sets'].min():,} without an answer of each kind"
    )
    return show_table(table.drop(columns="sets"), shares, caption)


def number(value: float) -> str:
    """Three significant digits, a dash for what is missing."""
    return "–" if value != value else f"{value:.3g}"


def with_interval(value: float, low: float, high: float) -> str:
    """An estimate with its interval where it has one."""
    return number(value) if low != low else f"{number(value)} [{number(low)}, {number(high)}]"


def place(percentile: float) -> str:
    """A percentile or p."""
    return "–" if percentile != percentile else f"{percentile:.3f}"

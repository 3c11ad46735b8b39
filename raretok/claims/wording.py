"""Verdicts and estimates as text, as shared by the command line, charts and pages."""

import pandas as pd

from raretok.claims import all_claims
from raretok.claims.verdicts import Verdict

SIGNS = {
    Verdict.SUPPORTED: "+",
    Verdict.NOT_SUPPORTED: "−",
    Verdict.NULL: "0",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NOT_APPLICABLE: "·",
}
"""The sign that stands for each verdict where there is little room."""


def number(value: float) -> str:
    """Format a number with three significant digits, thousands in full, a true minus, and a dash if it is missing."""
    if value != value:
        return "–"
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")


def with_interval(value: float, low: float, high: float) -> str:
    """Format an estimate with its interval, if it has one."""
    return number(value) if low != low else f"{number(value)} [{number(low)}, {number(high)}]"


def place(percentile: float) -> str:
    """Format a percentile or p with three decimals, and with a dash if it is missing."""
    return "–" if percentile != percentile else f"{percentile:.3f}"


def verdict_texts(claims: pd.DataFrame) -> dict[str, str]:
    """Return the texts that a chapter prints about each claim.

    For claim C1 these are ``C1_verdict``, ``C1_why``, ``C1_published``, ``C1_says``, ``C1_controlled`` (with its
    interval), ``C1_null`` and ``C1_reported``.
    """
    texts: dict[str, str] = {}
    for row in claims.to_dict("records"):
        name = row["id"]
        texts |= {
            f"{name}_verdict": str(row["verdict"]),
            f"{name}_why": row["why"],
            f"{name}_published": number(row["published"]),
            f"{name}_says": row["published_says"],
            f"{name}_controlled": with_interval(row["controlled"], row["low"], row["high"]),
            f"{name}_null": place(row["null"]),
            f"{name}_reported": row["reported"],
        }
    return texts


def sign_table(claims: pd.DataFrame) -> pd.DataFrame:
    """Return the signs of the verdicts, a row for each study and a column for each claim.

    ``claims`` is a table as in ``summary.Summaries``.
    """
    wide = claims.assign(sign=[SIGNS[Verdict(v)] for v in claims["verdict"]])
    wide = wide.pivot(index="study", columns="id", values="sign").reindex(claims["study"].unique())
    order = [c.id for c in all_claims() if c.id in wide]
    return wide[order].fillna("").reset_index().rename_axis(columns=None)


def verdicts_in_markdown(claims: pd.DataFrame) -> str:
    """Return every claim and its verdict on each study as a table in Markdown.

    ``claims`` is a table as in ``summary.Summaries``. A claim that applies to no study is left out.
    """
    studies = list(dict.fromkeys(claims["study"]))
    of = {(r["study"], r["id"]): Verdict(r["verdict"]) for r in claims.to_dict("records")}
    lines = [["claim", *studies], ["---"] * (1 + len(studies))]
    for claim in all_claims():
        verdicts = [of.get((study, claim.id), Verdict.NOT_APPLICABLE) for study in studies]
        if any(v != Verdict.NOT_APPLICABLE for v in verdicts):
            lines.append([f"{claim.id} {claim.text}", *(f"{SIGNS[v]} {v}" for v in verdicts)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

"""Verdicts for a page: the numbers of each claim as text, the table of claims, and the calibration of their rules."""

import html
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from raretok.charts.theme import BLUE, GREEN, GREY, ORANGE, PALE, finish, show_table
from raretok.claims import all_claims, questions
from raretok.claims.verdicts import Verdict
from raretok.claims.wording import SIGNS, number, place, with_interval

COLOURS = {
    Verdict.SUPPORTED: GREEN,
    Verdict.NOT_SUPPORTED: ORANGE,
    Verdict.NULL: GREY,
    Verdict.INCONCLUSIVE: BLUE,
    Verdict.NOT_APPLICABLE: PALE,
}
COLUMNS = (
    "“as published”: the published estimator, and whether by it alone one would say yes; “controlled”: of the "
    "quantity named, which for some claims is another one; n: neurons – or "
    "checkpoints (C7, C14), heads (C17, C18), documents (C20, C23); null: percentile in the null it is closest to "
    "(C2–C4: of the bend; C17: of the Gini difference; C5, C8, C21: p)"
)
"""A description of the columns of a table of claims."""
LONG_NAME = 8
"""Longer names under a matrix are slanted."""


def claim_table(claims: pd.DataFrame) -> Any:
    """Show each claim and the quantity measured for it: reported, as published, controlled, percentile and verdict."""
    records = claims.to_dict("records")
    names = [f"{r['id']} {r['claim']} – {r['quantity']}" for r in records]
    verdicts = [_verdict(r, _missing(r)) for r in records]
    return show_table(_estimates(claims, names, verdicts), caption=COLUMNS, wrap=True, saved=claims)


def scorecard(claims: pd.DataFrame, title: str) -> Any:
    """Show every claim on one model: the reported value, both estimates, the verdict and its reason.

    Each claim links to its chapter. ``claims`` is ``study.claims()``, or the part of ``summary.Summaries.claims`` about
    one study; ``title`` is the name of the study.
    """
    room = {c.id: c.room for c in all_claims()}
    records = claims.to_dict("records")
    names = [(room[r["id"]], f"{r['id']} {r['claim']}", r["quantity"]) for r in records]
    verdicts = [_verdict(r, True) for r in records]
    link = {"claim": lambda x: f'<a href="{x[0]}.html">{html.escape(x[1])}</a> – {html.escape(x[2])}'}
    return show_table(_estimates(claims, names, verdicts), link, f"{title}. {COLUMNS}", wrap=True, saved=claims)


def _verdict(row: dict[Any, Any], reason: bool) -> str:
    """Return the sign, the verdict and, where it is wanted, the reason."""
    verdict = Verdict(row["verdict"])
    return f"{SIGNS[verdict]} {verdict}" + (f": {row['why']}" if reason else "")


def _estimates(claims: pd.DataFrame, names: Sequence[Any], verdicts: Sequence[str]) -> pd.DataFrame:
    records = claims.to_dict("records")
    return pd.DataFrame(
        {
            "claim": names,
            "reported": [r["reported"] for r in records],
            "as published": [
                "–" if _missing(r) else f"{number(r['published'])}: {r['published_says']}" for r in records
            ],
            "controlled [95%]": [with_interval(r["controlled"], r["low"], r["high"]) for r in records],
            "n; null": ["–" if _missing(r) else f"{r['n']:,}; {place(r['null'])}" for r in records],
            "verdict": verdicts,
        }
    )


def _missing(row: dict[Any, Any]) -> bool:
    """Whether a claim does not apply, so that it has no estimates."""
    return bool(row["verdict"] == Verdict.NOT_APPLICABLE)


def at_a_glance(claims: pd.DataFrame) -> Any:
    """Show every claim under the question that it answers, with its verdict on each study and a link to its chapter.

    ``claims`` is a table as in ``summary.Summaries``.
    """
    studies = list(dict.fromkeys(claims["study"]))
    of = {(r["study"], r["id"]): r for r in claims.to_dict("records")}
    rows: list[dict[str, Any]] = []
    for room, question in questions().items():
        asked = [c for c in all_claims() if c.room == room and any((s, c.id) in of for s in studies)]
        for claim in asked:
            heading = question if claim is asked[0] else ""
            rows.append(
                {"claim": (heading, room, f"{claim.id} {claim.text}")} | {s: of.get((s, claim.id)) for s in studies}
            )
    shown: dict[str, Any] = dict.fromkeys(studies, _chip)
    table = pd.DataFrame(rows, columns=["claim", *studies]).astype(object)
    caption = "Verdicts: " + ", ".join(f"{SIGNS[v]} {v}" for v in Verdict)
    return show_table(table, {"claim": _asked} | shown, caption, wrap=True, saved=claims)


def _asked(cell: tuple[str, str, str]) -> str:
    question, room, claim = cell
    heading = f'<b class="raretok-question">{html.escape(question)}</b>' if question else ""
    return f'{heading}<a href="{room}.html">{html.escape(claim)}</a>'


def _chip(row: dict[str, Any] | None) -> str:
    if not isinstance(row, dict):
        return "–"
    verdict = Verdict(row["verdict"])
    reason = f'title="{html.escape(row["why"], quote=True)}"'
    name = verdict.name.lower()
    return f'<span class="raretok-chip raretok-{name}" {reason}>{SIGNS[verdict]}<span> {verdict}</span></span>'


def verdict_matrix(claims: pd.DataFrame, column: str, title: str) -> alt.LayerChart:
    """Plot the verdicts as a matrix, with a sign and a colour in the cell of each claim and each value of a column.

    ``claims`` are concatenated tables of ``study.claims()`` with the column; ``title`` states the finding.
    """
    shown = claims[["id", column, "claim", "verdict", "why", "published_says", "null"]].copy()
    shown["sign"] = shown["verdict"].map(SIGNS)
    order = [f"{x:,}" if isinstance(x, int) else str(x) for x in dict.fromkeys(claims[column].tolist())]
    shown[column] = [f"{x:,}" if isinstance(x, int) else str(x) for x in shown[column].tolist()]
    long = max(map(len, order), default=0) > LONG_NAME
    axis = alt.Axis(labelAngle=-40 if long else 0, labelOverlap=not long and "greedy", labelLimit=220)
    base = alt.Chart(shown).encode(
        alt.X(f"{column}:N", sort=order, axis=axis, title=column),
        alt.Y("id:N", sort=[c.id for c in all_claims()], title=None),
        tooltip=[
            column,
            "claim",
            "verdict",
            "why",
            alt.Tooltip("published_says", title="the published estimator alone"),
        ],
    )
    scale = alt.Scale(domain=[str(v) for v in COLOURS], range=list(COLOURS.values()))
    cells = base.mark_rect(stroke="white", strokeWidth=0.5).encode(
        alt.Color("verdict:N", scale=scale, title=None, legend=alt.Legend(columns=2, labelLimit=240))
    )
    return finish(
        alt.layer(
            cells, base.mark_text(fontSize=13, fontWeight="bold", color="#101010").encode(text="sign:N")
        ).properties(width="container", height=24 * shown["id"].nunique()),
        title,
        ", ".join(f"{sign} {verdict}" for verdict, sign in SIGNS.items()),
        f"Matrix of the verdict on each claim by {column}.",
    )


def calibration(table: pd.DataFrame) -> Any:
    """Show the table of ``claims.calibration``: the shares of data sets on which a rule says *supported*."""
    shares = {str(c): "{:.1%}" for c in table if c not in ("rule", "sets")}
    caption = (
        "Share of data sets on which a rule says “supported”; "
        f"at least {table['sets'].min():,} sets of each kind in which the claim is untrue; "
        "“planted, denied”: “not supported” where it was planted"
    )
    return show_table(table.drop(columns="sets"), shares, caption)

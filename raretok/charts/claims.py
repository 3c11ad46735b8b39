"""Verdicts for a page: the numbers of each claim as text, the table of claims, and the calibration of their rules."""

import html
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from raretok.charts.theme import BLUE, GREEN, GREY, ORANGE, finish, show_table
from raretok.claims import CLAIMS, QUESTIONS, Verdict

MARKS = {
    Verdict.SUPPORTED: ("+", GREEN),
    Verdict.AGAINST: ("−", ORANGE),
    Verdict.NULL: ("0", GREY),
    Verdict.OPEN: ("?", BLUE),
}
"""Sign and colour of each verdict."""
COLUMNS = (
    "“as published”: the published estimator, and whether by it alone one would say yes; “controlled”: of the quantity named, which for some claims is another one; n: neurons – or "
    "checkpoints (C7, C14), heads (C17, C18), documents (C20, C23); null: percentile in the null it is closest to (C2–C4: of the bend; C17: of the Gini difference; C5, C8, C21: p)"
)
"""What the columns of a table of claims hold."""
LONG_NAME = 8
"""Longer names under a matrix stand slanted."""


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
    """The table of claims and of what is measured for each: reported, as published, controlled, percentile and verdict."""
    records = claims.to_dict("records")
    told = [f"{r['id']} {r['claim']} – {r['quantity']}" for r in records]
    verdicts = [f"{MARKS[Verdict(r['verdict'])][0]} {r['verdict']}" for r in records]
    return show_table(_estimates(claims, told, verdicts), caption=COLUMNS, wrap=True, saved=claims)


def scorecard(claims: pd.DataFrame, title: str) -> Any:
    """Every claim on one model: what was reported, both estimates, the verdict and why; each claim leads to its chapter.

    ``claims``: ``Study.claims``, or the part of ``summary.Summaries.claims`` about one study; ``title``: its name.
    """
    room = {c.id: c.room for c in CLAIMS}
    records = claims.to_dict("records")
    told = [(room[r["id"]], f"{r['id']} {r['claim']}", r["quantity"]) for r in records]
    verdicts = [f"{MARKS[Verdict(r['verdict'])][0]} {r['verdict']}: {r['why']}" for r in records]
    link = {"claim": lambda x: f'<a href="{x[0]}.html">{html.escape(x[1])}</a> – {html.escape(x[2])}'}
    return show_table(_estimates(claims, told, verdicts), link, f"{title}. {COLUMNS}", wrap=True, saved=claims)


def _estimates(claims: pd.DataFrame, told: Sequence[Any], verdicts: Sequence[str]) -> pd.DataFrame:
    records = claims.to_dict("records")
    return pd.DataFrame(
        {
            "claim": told,
            "reported": [r["reported"] for r in records],
            "as published": [f"{number(r['published'])}: {r['published_says']}" for r in records],
            "controlled [95 %]": [with_interval(r["controlled"], r["low"], r["high"]) for r in records],
            "n; null": [f"{r['n']:,}; {place(r['null'])}" for r in records],
            "verdict": verdicts,
        }
    )


def at_a_glance(claims: pd.DataFrame) -> Any:
    """Every claim under the question that it answers, with its verdict on each study; each leads to its chapter.

    ``claims``: as in ``summary.Summaries``.
    """
    studies = list(dict.fromkeys(claims["study"]))
    of = {(r["study"], r["id"]): r for r in claims.to_dict("records")}
    rows: list[dict[str, Any]] = []
    for room, question in QUESTIONS.items():
        asked = [c for c in CLAIMS if c.room == room and any((s, c.id) in of for s in studies)]
        for claim in asked:
            heading = question if claim is asked[0] else ""
            rows.append(
                {"claim": (heading, room, f"{claim.id} {claim.text}")} | {s: of.get((s, claim.id)) for s in studies}
            )
    shown: dict[str, Any] = dict.fromkeys(studies, _chip)
    table = pd.DataFrame(rows, columns=["claim", *studies]).astype(object)
    caption = "Verdicts: " + ", ".join(f"{MARKS[v][0]} {v}" for v in Verdict)
    return show_table(table, {"claim": _asked} | shown, caption, wrap=True, saved=claims)


def _asked(cell: tuple[str, str, str]) -> str:
    question, room, claim = cell
    heading = f'<b class="raretok-question">{html.escape(question)}</b>' if question else ""
    return f'{heading}<a href="{room}.html">{html.escape(claim)}</a>'


def _chip(row: dict[str, Any] | None) -> str:
    if not isinstance(row, dict):
        return "–"
    verdict = Verdict(row["verdict"])
    told = f'title="{html.escape(row["why"], quote=True)}"'
    return f'<span class="raretok-chip raretok-{verdict.name.lower()}" {told}>{MARKS[verdict][0]}<span> {verdict}</span></span>'


def sign_table(claims: pd.DataFrame) -> pd.DataFrame:
    """The verdicts' signs, a row a study and a column a claim; ``claims`` as in ``summary.Summaries``."""
    wide = claims.assign(sign=[MARKS[Verdict(v)][0] for v in claims["verdict"]])
    wide = wide.pivot(index="study", columns="id", values="sign").reindex(claims["study"].unique())
    order = [c.id for c in CLAIMS if c.id in wide]
    return wide[order].fillna("").reset_index().rename_axis(columns=None)


def verdicts_in_markdown(claims: pd.DataFrame) -> str:
    """Every claim and its verdict on each study, as a table in Markdown; ``claims`` as in ``summary.Summaries``."""
    studies = list(dict.fromkeys(claims["study"]))
    of = {(r["study"], r["id"]): Verdict(r["verdict"]) for r in claims.to_dict("records")}
    lines = [["claim", *studies], ["---"] * (1 + len(studies))]
    for claim in CLAIMS:
        if any((study, claim.id) in of for study in studies):
            found = (of.get((study, claim.id)) for study in studies)
            lines.append([f"{claim.id} {claim.text}", *("–" if v is None else f"{MARKS[v][0]} {v}" for v in found)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def verdict_matrix(claims: pd.DataFrame, column: str, title: str) -> alt.LayerChart:
    """Every verdict on every claim: a cell for each claim and each value of a column, with a sign and a colour.

    ``claims``: tables of ``Study.claims`` with the column, one below the other; ``title``: the finding.
    """
    shown = claims[["id", column, "claim", "verdict", "why", "published_says", "null"]].copy()
    shown["sign"] = shown["verdict"].map({v: sign for v, (sign, _) in MARKS.items()})
    order = [f"{x:,}" if isinstance(x, int) else str(x) for x in dict.fromkeys(claims[column].tolist())]
    shown[column] = [f"{x:,}" if isinstance(x, int) else str(x) for x in shown[column].tolist()]
    long = max(map(len, order), default=0) > LONG_NAME
    axis = alt.Axis(labelAngle=-40 if long else 0, labelOverlap=not long and "greedy", labelLimit=220)
    base = alt.Chart(shown).encode(
        alt.X(f"{column}:N", sort=order, axis=axis, title=column),
        alt.Y("id:N", sort=[c.id for c in CLAIMS], title=None),
        tooltip=[
            column,
            "claim",
            "verdict",
            "why",
            alt.Tooltip("published_says", title="the published estimator alone"),
        ],
    )
    scale = alt.Scale(domain=[str(v) for v in MARKS], range=[colour for _, colour in MARKS.values()])
    cells = base.mark_rect(stroke="white", strokeWidth=0.5).encode(
        alt.Color("verdict:N", scale=scale, title=None, legend=alt.Legend(columns=2, labelLimit=240))
    )
    return finish(
        alt.layer(
            cells, base.mark_text(fontSize=13, fontWeight="bold", color="#101010").encode(text="sign:N")
        ).properties(width="container", height=24 * shown["id"].nunique()),
        title,
        "+ supported, − not supported, 0 indistinguishable from null, ? inconclusive",
        f"Matrix of the verdict on each claim by {column}.",
    )


def calibration(table: pd.DataFrame) -> Any:
    """The table of ``claims.calibration``: shares of data sets in which a rule says *supported*."""
    shares = {str(c): "{:.1%}" for c in table if c not in ("rule", "sets")}
    caption = f"Share of data sets on which a rule says “supported”; at least {table['sets'].min():,} sets of each kind in which the claim is untrue; “planted, denied”: “not supported” where it was planted"
    return show_table(table.drop(columns="sets"), shares, caption)


def number(value: float) -> str:
    """Three significant digits, thousands in full, a dash for what is missing."""
    if value != value:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def with_interval(value: float, low: float, high: float) -> str:
    """An estimate with its interval where it has one."""
    return number(value) if low != low else f"{number(value)} [{number(low)}, {number(high)}]"


def place(percentile: float) -> str:
    """A percentile or p."""
    return "–" if percentile != percentile else f"{percentile:.3f}"

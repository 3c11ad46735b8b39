"""Numbers of the scorecard: the counts of verdicts of each kind."""

import pandas as pd

from raretok.claims import Verdict
from raretok.sweep.summary import Summaries

JUDGED = tuple(verdict for verdict in Verdict if verdict != Verdict.NOT_APPLICABLE)
"""The verdicts of claims that apply."""


def facts(summaries: Summaries) -> dict[str, str]:
    """Count the studies, the verdicts on claims that apply, and the verdicts of each kind."""
    return {"studies": str(len(summaries.studies))} | verdict_counts(summaries.claims)


def verdict_counts(claims: pd.DataFrame) -> dict[str, str]:
    """Count the verdicts on claims that apply, and the verdicts of each kind."""
    return {
        "judged": count(claims, *JUDGED),
        "supported": count(claims, Verdict.SUPPORTED),
        "not_supported": count(claims, Verdict.NOT_SUPPORTED),
        "null": count(claims, Verdict.NULL),
        "inconclusive": count(claims, Verdict.INCONCLUSIVE),
        "not_applicable": count(claims, Verdict.NOT_APPLICABLE),
    }


def count(claims: pd.DataFrame, *verdicts: Verdict) -> str:
    """Count the rows of a table of claims that have one of some verdicts."""
    return f"{int(claims['verdict'].isin([str(verdict) for verdict in verdicts]).sum()):,}"

"""Facts of the scorecard on verdicts that are made up."""

import pandas as pd
import pytest

from raretok.book.facts import scorecard
from raretok.charts import claims as say
from raretok.claims import Verdict, all_claims
from raretok.sweep.summary import Summaries


@pytest.fixture
def summaries():
    verdicts = [
        *[Verdict.SUPPORTED] * 3,
        *[Verdict.NOT_SUPPORTED] * 2,
        Verdict.NULL,
        *[Verdict.INCONCLUSIVE] * 4,
        *[Verdict.NOT_APPLICABLE] * 5,
    ]
    nan = float("nan")
    claims = pd.DataFrame(
        {
            "study": "a",
            "id": [c.id for c in all_claims()][: len(verdicts)],
            "claim": [c.text for c in all_claims()][: len(verdicts)],
            "reported": "qualitative",
            "quantity": "a quantity",
            "published": nan,
            "published_says": "–",
            "controlled": nan,
            "low": nan,
            "high": nan,
            "n": 0,
            "null": nan,
            "verdict": [str(v) for v in verdicts],
            "why": [f"reason {k}" for k in range(len(verdicts))],
        }
    )
    return Summaries(pd.DataFrame({"study": ["a", "b"]}), claims, pd.DataFrame())


def test_claims_that_do_not_apply_are_told_and_not_counted(summaries):
    assert scorecard.facts(summaries) == {
        "studies": "2",
        "judged": "10",
        "supported": "3",
        "not_supported": "2",
        "null": "1",
        "inconclusive": "4",
        "not_applicable": "5",
    }


def test_without_verdicts_every_count_is_zero(summaries):
    none = Summaries(summaries.studies.iloc[:0], summaries.claims.iloc[:0], pd.DataFrame())
    assert set(scorecard.facts(none).values()) == {"0"}


def test_tables_give_the_reason_of_what_does_not_apply_and_no_estimates(summaries):
    claims = summaries.claims
    page = say.claim_table(claims).to_html()
    assert page.count("· not applicable: reason ") == 5
    assert "+ supported: " not in page
    assert page.count("0; –") == 10
    assert say.at_a_glance(claims).to_html().count("raretok-not_applicable") == 5
    assert say.scorecard(claims, "a").to_html().count("· not applicable: reason ") == 5

"""Facts of the chapter on all models: how many there are."""

import pandas as pd
import pytest

from raretok.book.facts import models
from raretok.charts.models import cost_fit
from raretok.measure.cost import fit, read_points
from raretok.sweep.summary import Summaries


def test_models_families_and_corpora_are_counted_once():
    studies = pd.DataFrame(
        [("a", "llama", "news"), ("a", "llama", "reviews"), ("b", "llama", "news"), ("c", "gpt2", "news")],
        columns=["model", "architecture", "corpus"],
    )
    facts = models.facts(Summaries(studies, pd.DataFrame(), pd.DataFrame()))
    assert facts == {"studies": "4", "models": "3", "families": "2", "corpora": "2"}


def test_an_empty_folder_has_none():
    studies = pd.DataFrame(columns=["model", "architecture", "corpus"])
    assert set(models.facts(Summaries(studies, pd.DataFrame(), pd.DataFrame())).values()) == {"0"}


@pytest.mark.parametrize("error", ["7%", "12%"])
def test_the_title_of_the_cost_chart_prints_the_error_that_it_is_given(error):
    points = read_points()
    spec = cost_fit(points, fit(points), {"error": error}).to_dict()
    assert error in spec["title"]["text"]

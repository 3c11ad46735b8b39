"""The named and formatted numbers that a chapter's prose and the titles of its charts print.

There is a module for each chapter, with a function ``facts``. A chapter glues its numbers with one line,
``glue_all(regimes.facts(study))``. No statistic is computed in a chapter or in a chart.
"""

from collections.abc import Mapping


def glue_all(facts: Mapping[str, str]) -> None:
    """Make facts available to the text of a chapter under their names."""
    from myst_nb import glue

    for name, text in facts.items():
        glue(name, text, display=False)

"""Numbers of the chapter that compares all studies side by side."""

from raretok.sweep.summary import Summaries


def facts(summaries: Summaries) -> dict[str, str]:
    """Count the studies in a results folder, and their models, families and corpora."""
    studies = summaries.studies
    return {
        "studies": f"{len(studies):,}",
        "models": f"{studies['model'].nunique():,}",
        "families": f"{studies['architecture'].nunique():,}",
        "corpora": f"{studies['corpus'].nunique():,}",
    }

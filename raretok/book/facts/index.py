"""Numbers of the front page: the verdicts on one model, its rare-token neurons, and how reliable they are."""

import pandas as pd

from raretok.book.facts.scorecard import verdict_counts
from raretok.claims.calibration import FOUND, calibration_results
from raretok.claims.verdicts import pick_or_missing
from raretok.findings.identification import Q
from raretok.stats.resampling import LEVEL
from raretok.study import Study


def facts(study: Study) -> dict[str, str]:
    """Say what was studied, and count the neurons that two definitions pick and the verdicts of each kind.

    The standards that the rules must meet are included.

    Raises:
        NotApplicable: too few rare targets have controls.
    """
    return {
        "model": study.settings.model,
        "corpus": study.settings.corpus,
        **_measured(study.table("effects.bands"), study.table("identification.reliability")),
        **_neurons(study.table("identification.rare_token_neurons"), study.table("identification.overlap")),
        **verdict_counts(study.claims()),
        "lax": f"{calibration_results()['supported']['C6b', 'power law']:.1%}",
        "level": f"{LEVEL:.0%}",
        "must_find": f"{FOUND:.0%}",
    }


def _measured(bands: pd.DataFrame, reliability: pd.DataFrame) -> dict[str, str]:
    rare, whole = pick_or_missing(bands, band="rare"), pick_or_missing(bands, band="all")
    return {
        "rare_targets": f"{rare['ablated']:,.0f}",
        "documents": f"{whole['documents']:,.0f}",
        "reliability": f"{pick_or_missing(reliability, band='rare')['reliability']:.2f}",
    }


def _neurons(neurons: pd.DataFrame, overlap: pd.DataFrame) -> dict[str, str]:
    controlled = neurons[neurons["controlled"]]
    shared = pick_or_missing(overlap, direction="both")
    return {
        "neurons": f"{len(neurons):,}",
        "controlled": f"{len(controlled):,}",
        "boost": f"{int((controlled['direction'] == 'boost').sum()):,}",
        "suppress": f"{int((controlled['direction'] == 'suppress').sum()):,}",
        "q_level": f"{Q:.0%}",
        "published": f"{shared['published']:,.0f}",
        "both": f"{shared['in both']:,.0f}",
    }

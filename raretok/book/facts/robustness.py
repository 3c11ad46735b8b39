"""Numbers of the chapter on robustness to the kind of ablation, the definition of rarity, the corpus and its size."""

import pandas as pd

from raretok.claims import robustness as rules
from raretok.claims.wording import verdict_texts
from raretok.study import Study

ABOUT = ("C22",)
"""Claims of the chapter."""
MEASURES = ("pearson", "spearman", "jaccard")


def facts(study: Study) -> dict[str, str]:
    """Say what depends on the kind of ablation, and how well the list from most targets repeats in other documents."""
    curve = learning_curve(study)
    longest = curve[curve["measure"] == "jaccard"].sort_values("targets").iloc[-1]
    return verdict_texts(study.claims(ABOUT)) | {
        "similar": f"{rules.SIMILAR:g}",
        "ranked_targets": f"{longest['targets']:,.0f}",
        "found_again": f"{shared_members(longest['value']):.0%}",
    }


def learning_curve(study: Study) -> pd.DataFrame:
    """Summarise ``robustness.learning_curve`` over random choices of documents, a row for each fraction and measure.

    The columns are ``targets`` (mean), ``measure``, ``value`` (median), ``low`` and ``high`` (10th and 90th
    percentile).
    """
    by_fraction = study.table("robustness.learning_curve").groupby("fraction")
    frames = [
        pd.DataFrame(
            {"targets": by_fraction["targets"].mean(), "measure": measure, "value": by_fraction[measure].median()}
            | {"low": by_fraction[measure].quantile(0.1), "high": by_fraction[measure].quantile(0.9)}
        )
        for measure in MEASURES
    ]
    return pd.concat(frames, ignore_index=True)


def shared_members(jaccard: float) -> float:
    """Return the share 2 J / (1 + J) of members that two sets of one size with Jaccard similarity J have in common."""
    return 2 * jaccard / (1 + jaccard)

"""Numbers of the chapter on robustness to the kind of ablation, the definition of rarity, the corpus and its size."""

from raretok.claims import robustness as rules
from raretok.claims.wording import verdict_texts
from raretok.study import Study

ABOUT = ("C22",)
"""Claims of the chapter."""


def facts(study: Study) -> dict[str, str]:
    """Say what depends on the kind of ablation, and how well the list from most targets repeats in other documents."""
    curve = study.table("robustness.learning_curve_summary")
    longest = curve[curve["measure"] == "jaccard"].sort_values("targets").iloc[-1]
    return verdict_texts(study.claims(ABOUT)) | {
        "similar": f"{rules.SIMILAR:g}",
        "ranked_targets": f"{longest['targets']:,.0f}",
        "found_again": f"{shared_members(longest['value']):.0%}",
    }


def shared_members(jaccard: float) -> float:
    """Return the share 2 J / (1 + J) of members that two sets of one size with Jaccard similarity J have in common."""
    return 2 * jaccard / (1 + jaccard)

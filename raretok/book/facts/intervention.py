"""Numbers of the chapter on groups of neurons that are chosen together, ablated together, and scaled."""

import pandas as pd

from raretok.book.facts.robustness import shared_members
from raretok.claims import intervention as rules
from raretok.claims.wording import number, verdict_texts, with_interval
from raretok.findings import intervention
from raretok.study import Study

ABOUT = ("C20",)
"""Claims of the chapter."""
BANDS = ("rare", "common")


def facts(study: Study, best: pd.DataFrame) -> dict[str, str]:
    """Return the numbers of what groups of neurons do together.

    Args:
        study: the study whose groups are ablated and scaled.
        best: ``intervention.best_setting`` on each corpus, with the column ``corpus``; the study's corpus comes first.
    """
    return (
        verdict_texts(study.claims(ABOUT))
        | group_facts(study)
        | _pruning_facts(study)
        | _scaling_facts(study)
        | _best_setting_facts(best)
        | {
            "overlap": f"{rules.OVERLAP:.2f}",
            "per_band": str(intervention.PER_BAND),
            "matched_groups": str(intervention.CONTROLS),
            "settings": str(len(intervention.SETTINGS)),
            "least": f"{min(intervention.SETTINGS):g}",
            "largest": f"{max(intervention.SETTINGS):g}",
        }
    )


def group_facts(study: Study) -> dict[str, str]:
    """Compare the largest group that was chosen together with the best single neurons."""
    last = study.table("intervention.joint_groups").iloc[-1]
    return {
        "group_size": f"{last['k']:.0f}",
        "jaccard": f"{last['jaccard']:.2f}",
        "shared": f"{shared_members(last['jaccard']):.0%}",
        "greedy": f"{last['greedy']:+.4f}",
        "single": f"{last['single']:+.4f}",
        "synergy": with_interval(*last[["synergy", "synergy_low", "synergy_high"]]),
    }


def _pruning_facts(study: Study) -> dict[str, str]:
    """Return the losses from ablating as many neurons as are chosen on half A, as many matched ones, and all."""
    curves = study.table("intervention.pruning_curves").set_index(["k", "band"])
    first = curves[curves["kind"] == "first"]
    sizes = first.index.get_level_values("k")
    group = study.get("intervention.scaled_groups").get("all", [0])
    k = min(sizes, key=lambda size: abs(size - len(group)))
    matched = curves.loc[curves["kind"] == "matched", "net"]
    numbers = {"k": str(k)}
    for band in BANDS:
        numbers |= {
            f"lost_{band}": with_interval(*first.loc[(k, band), ["net", "low", "high"]]),
            f"matched_{band}": number(matched.get((k, band), float("nan"))),
            f"all_{band}": f"{first.loc[(sizes.max(), band), 'net']:+.2f}",
        }
    return numbers


def _scaling_facts(study: Study) -> dict[str, str]:
    """Return the factor with the lowest loss on rare targets of half A, and its effect on half B.

    The numbers are those of the first scaled group.
    """
    scaled = study.table("intervention.scaling")
    if not len(scaled):
        return {"scaled_size": "0", "scaled_best": "there are none"}
    rare = scaled[(scaled["group"] == scaled["group"].iloc[0]) & (scaled["band"] == "rare")]
    a, b = (rare[rare["half"] == half].set_index("factor")["net"] for half in ("A", "B"))
    factor = float(a.idxmin())
    best = f"{b[factor]:+.4f} nats at the factor that is lowest on rare targets of half A, {factor:g}"
    return {
        "scaled_size": str(rare["size"].iloc[0]),
        "scaled_best": best if a[factor] < 0 else "no factor lowers it on half A",
    }


def _best_setting_facts(best: pd.DataFrame) -> dict[str, str]:
    """Count groups with a factor that helps rare targets of half A alone, and tests of such factors that hold up."""
    here = best[best["corpus"] == best["corpus"].iloc[0]] if len(best) else best
    tests, holding = int((best["factor"] != 1).sum()), int(best["holds"].sum())
    outcome = (
        f"Of {tests} tests of such factors on documents that they were not chosen on, {holding} hold up: "
        "rare targets gain, interval included, "
        f"and common ones lose, interval included, at most {intervention.WORSE:.0%} of that."
    )
    return {
        "groups": str(len(here)),
        "tried": str(int((here["factor"] != 1).sum())),
        "outcome": outcome if tests else "So there was nothing to test on other documents.",
    }

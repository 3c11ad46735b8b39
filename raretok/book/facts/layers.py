"""Numbers of the chapter on the last layer and the others."""

import numpy as np

from raretok.claims.wording import verdict_texts
from raretok.stats.resampling import LEVEL
from raretok.study import Study

ABOUT = ("C23",)
"""Claims of the chapter."""


def facts(study: Study) -> dict[str, str]:
    """Say what share of the effects the last layer holds, and how well first-order effects agree with ablations."""
    exact = study.table("layers.layer_agreement").set_index("band").loc["rare with controls"]
    checks = study.table("layers.layer_checks")
    return (
        verdict_texts(study.claims(ABOUT))
        | layer_facts(study)
        | {
            "layer_pearson": f"{exact['pearson']:.3f}",
            "layer_slope": f"{exact['slope']:.2f}",
            "checked": str(len(checks)),
            "checks_r": f"{checks['screened'].corr(checks['ablated']):.3f}",
            "level": f"{LEVEL:.0%}",
        }
    )


def layer_facts(study: Study) -> dict[str, str]:
    """Say what share of all layers' rare-specific effects the last layer holds, and which layer holds most."""
    layers = study.table("layers.layer_effects")
    last = layers.iloc[-1]
    most = layers.iloc[int(layers["energy"].to_numpy().argmax())]
    others_hold_less = most["layer"] == last["layer"]
    return {
        "layers": str(len(layers)),
        "layer_documents": f"{last['documents']:.0f}",
        "last_share": "none" if np.isnan(last["share"]) else f"{last['share']:.0%}",
        "last_above": f"{last['above']:.0%}",
        "last_rank": "more than any other"
        if others_hold_less
        else f"layer {most['layer']:.0f} more: {most['share']:.0%}",
    }

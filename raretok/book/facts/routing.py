"""Numbers of the chapter on attention heads."""

from typing import Any

import numpy as np

from raretok.claims import routing as rules
from raretok.claims.wording import verdict_texts, with_interval
from raretok.findings import heads as head_choice
from raretok.findings.groups import headline
from raretok.study import Study

ABOUT = ("C17", "C18")
"""Claims of the chapter."""


def facts(study: Study) -> dict[str, str]:
    """Return the numbers of how attention heads influence the headline group of a study."""
    sets, effects = study.get("groups.neuron_sets"), study.get("routing.head_effects")
    group, statistics = headline(sets), study.table("routing.statistics")
    of_group = statistics[statistics["group"] == group].set_index("statistic")
    rows: dict[Any, Any] = of_group.to_dict("index")
    intervals = {name: with_interval(r["estimate"], r["low"], r["high"]) for name, r in rows.items()}
    rare, common = effects.weight.sum(0)
    return (
        verdict_texts(study.claims(ABOUT))
        | head_facts(study)
        | {
            "size": str(len(sets[group].ids)),
            "documents": str(len(effects.weight)),
            "screen_documents": str(len(np.unique(study.get("routing.screen_windows").document))),
            "tokens": str(study.get("routing.head_windows").tokens.shape[1]),
            "rare": f"{rare:.0f}",
            "common": f"{common:.0f}",
            "ceiling": f"{rows['similarity']['ceiling']:.2f}",
            "same_order": f"{rows['similarity']['estimate']:.2f}",
            "gap": intervals["gini_difference"],
            "gap_place": f"{rows['gini_difference']['matched']:.1%}",
            "average": intervals["average_ratio"],
            "middle": intervals["median_head"],
            "random_heads": str(head_choice.SAMPLED),
            "similar": f"{rules.SIMILAR:g}",
            "worth": f"{rules.WORTH:g}",
            "all": f"{rules.ALL:g}",
        }
    )


def head_facts(study: Study) -> dict[str, str]:
    """Return the strongest head, the ratios of layers to their strongest heads, and the errors of the gradients."""
    heads, layers = study.table("routing.heads"), study.table("routing.whole_layers")
    strongest = heads.iloc[int(heads["rare"].to_numpy().argmax())]
    at_rare = layers[layers["band"] == "rare"]
    error = study.get("routing.screen_error").set_index("band")
    return {
        "heads": f"{heads['represents'].sum():.0f}",
        "ablated": str(len(heads)),
        "layers": str(len(at_rare)),
        "strongest_head": f"head {strongest['head']:.0f} of layer {strongest['layer']:.0f}",
        "strongest_influence": f"{strongest['rare']:.2f}",
        "layer_ratio": f"{(at_rare['whole'] / at_rare['strongest']).median():.1f}",
        "screened_rare": f"{error.loc['rare', 'spearman']:.2f}",
        "screened_common": f"{error.loc['common', 'spearman']:.2f}",
        "screen_factor": f"{error['factor'].max():.2f}",
    }

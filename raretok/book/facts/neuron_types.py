"""Numbers of the chapter on entropy and token-frequency neurons."""

from raretok.claims import neuron_types as rules
from raretok.claims.wording import verdict_texts, with_interval
from raretok.findings import neuron_types
from raretok.stats.resampling import LEVEL
from raretok.study import Study

ABOUT = ("C21",)
"""Claims of the chapter."""


def facts(study: Study) -> dict[str, str]:
    """Count neurons of each kind and rare-token neurons among them, and say what remains of effects with a path
    held."""
    types, overlap = study.table("neuron_types.neuron_types"), study.table("neuron_types.type_overlap")
    row = overlap[(overlap["group"] == "controlled") & (overlap["kind"] == "either")].iloc[0]
    return (
        verdict_texts(study.claims(ABOUT))
        | _remaining(study)
        | {
            "model": study.settings.model,
            "entropy_neurons": str(int(types["entropy_neuron"].sum())),
            "frequency_neurons": str(int(types["frequency_neuron"].sum())),
            "middle_scale": f"{types['scale_share'].median():.1%}",
            "middle_frequency": f"{types['frequency_share'].median():.1%}",
            "size": f"{row['size']:.0f}",
            "both": f"{row['both']:.0f}",
            "expected": f"{row['expected']:.1f}",
            "extreme": f"{neuron_types.EXTREME:.0%}",
            "mediated": f"{neuron_types.MEDIATED:.0%}",
            "positions": str(neuron_types.PER_BAND),
            "most": f"{rules.MOST:.0%}",
            "level": f"{LEVEL:.0%}",
        }
    )


def _remaining(study: Study) -> dict[str, str]:
    """Say what remains of the rare-specific effect of the controlled neurons with either path held."""
    shares = study.table("neuron_types.direct_effect_share")
    held = shares[shares["group"] == "controlled"].set_index("path")
    texts = {
        f"{name}_remains": with_interval(*held.loc[path, ["share", "low", "high"]]) if path in held.index else "–"
        for name, path in neuron_types.PATHS.items()
    }
    each = ", ".join(f"{share:.0%} with {path} held" for path, share in held["share"].items())
    return texts | {"remains": each or "nothing to say: there are no controlled rare-token neurons"}

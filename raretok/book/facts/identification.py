"""Facts of the chapter on identification: how accurate the effects are, and which neurons the definitions pick."""

from typing import Any

from raretok.findings.identification import SMOOTHED, Q, excludes_zero, leading
from raretok.stats.rankcurve import HEAD, HEAD_END
from raretok.study import Study

BANDS = ("rare", "matched", "common", "half of types input")
"""Bands whose reliability the chapter prints."""


def facts(study: Study) -> dict[str, str]:
    """Return the numbers that the chapter on identification prints."""
    return _definitions(study) | _precision(study) | _reliability(study) | _selection(study)


def _definitions(study: Study) -> dict[str, str]:
    """Return the sizes of what is counted, and the constants of the two definitions."""
    bands = study.table("effects.bands").set_index("band")["ablated"]
    neurons = len(study.table("identification.rare_token_neurons"))
    agreement: Any = study.table("identification.overlap").set_index("direction").loc["both"]
    both = int(agreement["in both"])
    either = int(agreement["published"]) + int(agreement["controlled"]) - both
    return {
        "neurons": f"{neurons:,}",
        "pairs": f"{len(study.get('effects.selection').rows) * neurons / 1e6:.1f}",
        "with_controls": f"{bands['rare with controls'] / bands['rare']:.0%}",
        "q_level": f"{Q:.0%}",
        "smoothed": str(SMOOTHED),
        "head": str(HEAD),
        "head_end": f"{HEAD_END:g}",
        "published": str(int(agreement["published"])),
        "both": str(both),
        "either": str(either),
        "jaccard": f"{agreement['jaccard']:.2f}",
        "agreement": "The published and the controlled definition pick different neurons"
        if 3 * both < either  # Sets of one size with a Jaccard similarity below 1/3 share less than half.
        else "The two definitions share at least half of their neurons",
    }


def _precision(study: Study) -> dict[str, str]:
    """Return the errors of the effects."""
    checks = study.table("effects.checks").set_index("check")["value"]
    neurons = leading(study.table("identification.rare_token_neurons"))[:3]
    hooked = study.table("checks.hooked", neurons=tuple(neurons))
    return {
        "readout_error": f"{checks['readout']:.0e}",
        "hook_error": f"{checks['hooks']:.0e}",
        "fallback": f"{checks['fallback']:.1%}",
        "bound": f"{checks['bound']:.0e}",
        "tolerance": f"{study.settings.tolerance:.0e}",
        "hooked_pairs": f"{len(hooked):,}",
        "hooked_worst": f"{hooked['difference'].abs().max():.0e}",
    }


def _reliability(study: Study) -> dict[str, str]:
    """Say how well the effects repeat in other documents, and how concentrated they are there."""
    reliability: Any = study.table("identification.reliability").set_index("band")
    texts = {"split_half": f"{reliability.loc['rare', 'reliability']:.2f}"}
    for band in BANDS:
        row, name = reliability.loc[band], band.replace(" ", "_")
        texts[f"order_{name}"] = f"{row['rank_a_b']:.2f}"
        texts[f"reliability_{name}"] = f"{row['reliability']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    effects = study.table("identification.effects")
    rare = effects[effects["band"] == "rare"]
    head = rare.loc[rare["net_a"].abs().nlargest(HEAD).index]
    return texts | {"head_share": f"{head['net_b'].abs().sum() / rare['net_b'].abs().sum():.0%}"}


def _selection(study: Study) -> dict[str, str]:
    """Count the neurons that are chosen on half A, and those of them that half B confirms."""
    neurons = study.table("identification.rare_token_neurons")
    chosen, controlled = int(neurons["selected"].sum()), neurons[neurons["controlled"]]
    return {
        "selected": str(chosen),
        "controlled": str(len(controlled)),
        "excludes": str(excludes_zero(controlled).sum()),
        "kept": f"{len(controlled) / max(chosen, 1):.0%}",
    }

"""Numbers of the chapter on weights."""

from typing import Any

import pandas as pd

from raretok.charts.weights import ROW_NAMES
from raretok.claims.verdicts import Verdict
from raretok.claims.wording import verdict_texts
from raretok.findings.groups import DRAWS, headline
from raretok.graph import if_applicable
from raretok.stats.resampling import LEVEL
from raretok.study import Study

CLAIMS = ("C13", "C14")
"""Claims that the chapter judges."""


def facts(study: Study, over: Study | None = None) -> dict[str, str]:
    """Return every number of the chapter.

    Args:
        study: the study of the model.
        over: the study of the model that is followed over training, on which C14 is judged where the model has no
            checkpoints.
    """
    sets = study.get("groups.neuron_sets")
    group = headline(sets)
    size = len(sets[group].ids)
    about = {
        "trained": over.settings.model if over else "–",
        "group": group,
        "size": str(size),
        "k": str(size // 2),
        "draws": f"{DRAWS:,}",
        "level": f"{LEVEL:.0%}",
    }
    return _verdicts(study, over) | about | _inputs(study, group) | _layer(study) | _rows(study) | _training(over)


def _verdicts(study: Study, over: Study | None) -> dict[str, str]:
    """Return the verdicts on the model; that on growth in training is on the other model if it has no checkpoints."""
    claims = study.claims(CLAIMS)
    if over and claims.set_index("id").loc["C14", "verdict"] == Verdict.NOT_APPLICABLE:
        claims = pd.concat([claims[claims["id"] != "C14"], over.claims(("C14",))])
    return verdict_texts(claims)


def _inputs(study: Study, group: str) -> dict[str, str]:
    """Say where the exponents of the input rows lie among control groups."""
    tails = study.table("weights.group_tails")
    rows = tails[(tails["group"] == group) & (tails["statistic"] == "hill") & (tails["matrix"] != "W_out")]
    texts = [
        f"{r['random']:.1%} of random and {r['matched']:.1%} of matched groups ({r['matrix']})"
        for r in rows.to_dict("records")
    ]
    return {"input_places": ", ".join(texts)}


def _layer(study: Study) -> dict[str, str]:
    """Describe the spectrum of the first matrix as a whole."""
    first = study.table("weights.layer_spectra").iloc[0]
    return {
        "d_model": f"{first['columns']:,}",
        "layer_matrix": str(first["matrix"]),
        "layer_spikes": f"{first['spikes']:,}",
        "layer_eigenvalues": f"{min(first['rows'], first['columns']):,}",
    }


def _rows(study: Study) -> dict[str, str]:
    """Return rank correlations of the rare-specific effect's size with statistics of the rows of the first matrix."""
    rows = study.table("weights.rows_of")
    first = rows[rows["matrix"] == rows["matrix"].iloc[0]].set_index("neuron")
    size = study.table("identification.rare_token_neurons").set_index("neuron")["s"].abs()
    texts = [f"{text} {first[name].corr(size, method='spearman'):+.2f}" for name, text in ROW_NAMES.items()]
    return {"row_correlations": ", ".join(texts)}


def _training(over: Study | None) -> dict[str, str]:
    """Return exponents at the first and the last checkpoint, and the group's place among matched ones at the last."""
    missing = dict.fromkeys(("W_out_start", "W_out_end", "W_in_start", "W_in_end"), "–")
    missing |= {"layer_alpha_start": "–", "layer_alpha_end": "–"}
    if over is None:
        return missing
    layers = over.over_training("weights.layer_spectra").sort_values("step", kind="stable")
    alpha = layers.loc[layers["matrix"] == layers["matrix"].iloc[0], "alpha"]
    texts = {"layer_alpha_start": f"{alpha.iloc[0]:.1f}", "layer_alpha_end": f"{alpha.iloc[-1]:.1f}"}
    growth: Any = over.get(if_applicable("weights.growth"))
    for row in growth.to_dict("records") if growth is not None else ():
        if row["group"] == "controlled":
            texts |= {f"{row['matrix']}_start": f"{row['start']:.2f}", f"{row['matrix']}_end": f"{row['end']:.2f}"}
    return missing | texts | _at_end(over)


def _at_end(over: Study) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name in ("weights.tails_over_training", "weights.rows_over_training"):
        table = over.table(name)
        last = table[(table["step"] == table["step"].max()) & (table["group"] == "controlled")]
        texts |= {f"{r['matrix']}_{r['statistic']}_at_end": f"{r['matched']:.0%}" for r in last.to_dict("records")}
    return texts

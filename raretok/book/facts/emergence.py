"""Numbers of the chapter on emergence in training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from raretok.claims import rank_curve_claims
from raretok.claims.verdicts import Verdict
from raretok.claims.wording import verdict_texts
from raretok.findings.identification import excludes_zero
from raretok.graph import if_applicable
from raretok.shipped.trajectory import reliability_table, seed_table
from raretok.stats.rankcurve import HEAD
from raretok.stats.resampling import LEVEL
from raretok.study import Study

FROM = {
    "agreement_from": "agreement",
    "share_from": "top_share",
    "excess_from": "head_excess",
    "fall_from": "steepening",
}
"""The names of the facts that give a statistic's first step outside its nulls, each with its statistic."""
INSIDE = "inside its nulls at the last step"


def facts(study: Study) -> dict[str, str]:
    """Return every number of the chapter; ``study`` is of a model that has checkpoints."""
    steps = study.inputs.steps
    claims = study.at(steps[-1]).claims(rank_curve_claims())
    applicable = claims[claims["verdict"] != Verdict.NOT_APPLICABLE]
    about = {
        "model": study.settings.model,
        "corpus": study.settings.corpus,
        "checkpoints": str(len(steps)),
        "seeds": str(1 + len(_other_seeds(study.settings.model))),
        "head": str(HEAD),
        "level": f"{LEVEL:.0%}",
        "judged": str(len(applicable)),
        "supported": str(int((applicable["verdict"] == Verdict.SUPPORTED).sum())),
    }
    return verdict_texts(claims) | about | _departures(study) | _reliability(study) | _order(study) | _neurons(study)


def verdicts(study: Study) -> pd.DataFrame:
    """Return the verdicts on the claims about the rank curve by step; that on training is judged at the last alone."""
    tables = [study.at(step).claims(rank_curve_claims()).assign(step=step) for step in study.inputs.steps]
    return pd.concat(tables, ignore_index=True)


def _other_seeds(model: str) -> list[int]:
    results = seed_table(model, "statistics")
    return sorted(results["seed"].unique().tolist()) if len(results) else []


def _departures(study: Study) -> dict[str, str]:
    """Say from which step on each statistic is outside its nulls, for the text and for the charts' titles."""
    departures = study.get(if_applicable("emergence.departures"))
    if departures is None:
        return dict.fromkeys(FROM, "unknown without a checkpoint before training")
    texts = {}
    for row in departures.to_dict("records"):
        outside = f"from step {row['first_step']:,.0f} on" if np.isfinite(row["first_step"]) else ""
        texts[f"{row['statistic']}_departure"] = f"outside its nulls {outside}" if outside else INSIDE
        texts |= {name: outside or "not at the last step" for name, of in FROM.items() if of == row["statistic"]}
    return texts


def _reliability(study: Study) -> dict[str, str]:
    """Return the reliability at the first and last checkpoint, and at the first on a larger text if it was measured."""
    table = study.over_training("identification.reliability")
    rare = table[table["band"] == "rare"].sort_values("step")
    rows = {"start": rare.iloc[0], "end": rare.iloc[-1]}
    texts = {name: f"{r['reliability']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for name, r in rows.items()}
    larger = reliability_table()
    larger = larger[(larger["model"] == study.inputs.entry.name) & (larger["step"] == 0)]
    return texts | {"larger": _larger(larger.iloc[0].to_dict()) if len(larger) else ""}


def _larger(row: Mapping[Any, Any]) -> str:
    return (
        f"On a larger text ({row['targets']:,} rare targets of {row['documents']:,} documents) a part of the effects "
        "of "
        f"this model repeats at step 0 already: a reliability of {row['reliability']:.2f} [{row['low']:.2f}, "
        f"{row['high']:.2f}]. The text of this page is too little to see it; judged on the larger one, the start would "
        "not count as homogeneous."
    )


def _order(study: Study) -> dict[str, str]:
    """Return the first step at which half of the last checkpoint's leaders are among the leaders."""
    table = study.table("emergence.stability")
    return {"settled": f"{table.loc[table['leaders'] >= 0.5, 'step'].min():,}"}


def _neurons(study: Study) -> dict[str, str]:
    """Count the last checkpoint's rare-token neurons; say since when they qualify, and which checkpoints are
    skipped."""
    neurons = study.over_training("identification.rare_token_neurons")
    latest = neurons[(neurons["step"] == neurons["step"].max()) & neurons["controlled"]]
    # The value inf stands for a neuron that does not qualify even at the last checkpoint.
    since = study.table("emergence.onsets")["since"].astype(float).fillna(np.inf)
    middle = since.quantile(0.5, interpolation="higher") if len(since) else np.inf
    return {
        "final": str(len(latest)),
        "clear": str(int(excludes_zero(latest).sum())),
        "never": str(int(np.isinf(since).sum())),
        "since": f"{middle:,.0f}" if np.isfinite(middle) else "none",
        "kept_sign": f"Half of them have kept the sign of the rare-specific effect since step {middle:,.0f}"
        if np.isfinite(middle)
        else "There is no step since which half of them have kept the sign of the rare-specific effect",
        "without": _skipped(neurons.attrs["skipped"]),
    }


def _skipped(reasons: Mapping[int, str]) -> str:
    """List the checkpoints that are left out, with the reason for each."""
    return "; ".join(f"step {step:,} ({reason})" for step, reason in sorted(reasons.items())) or "none"

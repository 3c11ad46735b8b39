"""Facts of the chapter on the method: the error of the certified pass on this model, and its speed."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from raretok.ablation.identity import HEAD_SHARE
from raretok.ablation.rounding import MARGIN
from raretok.measure.checks import benchmark_records
from raretok.measure.precision import precision_table
from raretok.study import Study

BENCHMARK = "SmolLM2-135M"
"""The model with whose dimensions the speed was measured that the chapter discusses."""


def facts(study: Study) -> dict[str, str]:
    """Return the numbers that the chapter on the method prints."""
    return _errors(study) | _speed(benchmark_records()) | _precision(precision_table())


def _errors(study: Study) -> dict[str, str]:
    """Return the true errors of the certified pass in nats, and compare them with its bounds."""
    audit = study.table("checks.certificate")
    error, ordinary = audit["error"].abs(), ~audit["used_fallback"]
    return {
        "pairs": f"{len(audit):,}",
        "second_order_pairs": f"{ordinary.sum():,}",
        "beyond_bound": str((error > audit["bound"]).sum()),
        "fallback": f"{audit['used_fallback'].mean():.1%}",
        "head_share": f"1/{HEAD_SHARE}",
        "margin": f"{MARGIN:.0f}",
        "worst": f"{error.max():.0e}",
        "closest": f"{(error / audit['bound']).max():.0%}",
        "ordinary_worst": f"{error[ordinary].max():.0e}",
        "ordinary_median": f"{error[ordinary].median():.0e}",
    }


def _speed(records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return what ``make bench`` measured: the times by method, and the rates of the machine."""
    machine = records[0]["machine"]
    by_method = {r["method"]: r for r in records if r["name"] == BENCHMARK}
    certified, layer = by_method["certified"], by_method["layer"]
    law = [f"{r['us_per_pair'] / r['limit_us']:.1f}" for r in records if r["method"] == "certified"]
    entropy = by_method["published+entropy"]["us_per_pair"] / certified["us_per_pair"]
    return {
        "processor": f"{machine['processor']}, {machine['threads']} threads",
        "torch": machine["torch"],
        "fp32": f"{machine['matmul_float32_gflops']:,}",
        "bf16": f"{machine['matmul_bfloat16_gflops']:,}",
        "exp": f"{machine['exp_per_ns']:.2g}",
        "vs_loss": f"{certified['ratio_to_published']:,.0f}",
        "vs_entropy": f"{entropy:,.0f}",
        "exact_ratio": f"{by_method['exact']['ratio_to_published']:,.0f}",
        "of_limit": f"{certified['us_per_pair'] / certified['limit_us']:.1f}",
        "law": f"{', '.join(law[:-1])} and {law[-1]}",
        "checked": f"{certified['checked_pairs']:,}",
        "beyond": f"{certified['beyond_bound']:,}",
        "layer_s": f"{layer['seconds']:.0f}",
        "layer_positions": f"{layer['positions']:,}",
        **{f"{stage}_us": f"{certified['stages_us'][stage]:.2f}" for stage in ("baseline", "brackets", "rest")},
    }


def _precision(table: pd.DataFrame) -> dict[str, str]:
    """Return what a forward pass in bfloat16 does to the verdicts, and what it saves."""
    moved = table.loc[table["verdict float32"] != table["verdict bfloat16"], "id"].tolist()
    return {
        "bf16_claims": str(len(table)),
        "bf16_moved": str(len(moved)),
        "bf16_which": ", ".join(moved) or "none",
        "bf16_seconds": f"{table['seconds bfloat16'].iloc[0]:.0f}",
        "fp32_seconds": f"{table['seconds float32'].iloc[0]:.0f}",
    }

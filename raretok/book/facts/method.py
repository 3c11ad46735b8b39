"""Facts of the chapter on the method: the error of the certified pass on this model, and its speed."""

from collections.abc import Sequence
from typing import Any

from raretok.ablation.identity import HEAD_SHARE
from raretok.ablation.rounding import MARGIN
from raretok.measure.checks import benchmark_records
from raretok.study import Study

BENCHMARK = "SmolLM2-135M"
"""The model with whose dimensions the speed was measured that the chapter discusses."""


def facts(study: Study) -> dict[str, str]:
    """Return the numbers that the chapter on the method prints."""
    return _errors(study) | _speed(benchmark_records())


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
        "checked": f"{certified['checked_pairs']:,}",
        "beyond": f"{certified['beyond_bound']:,}",
        "layer_s": f"{layer['seconds']:.0f}",
        "layer_positions": f"{layer['positions']:,}",
        **{f"{stage}_us": f"{certified['stages_us'][stage]:.2f}" for stage in ("baseline", "brackets", "rest")},
    }

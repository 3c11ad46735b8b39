"""Facts of the chapter on one's own model: the fitted cost of a study, and what a large model would cost."""

import pandas as pd

from raretok.measure.cost import Model

PYTHIA = {
    "parameters": 6.9e9,
    "tokens": 256 * 256,
    "positions": 6500,
    "vocab": 50_432,
    "d_model": 4096,
    "neurons": 16_384,
}
"""Sizes of a study of Pythia-6.9B with the default settings."""


def facts(
    points: pd.DataFrame, model: Model, tried: pd.DataFrame, teraflops: float, checkpoints: int
) -> dict[str, str]:
    """Return the numbers that the chapter on one's own model prints.

    Args:
        points: the measured studies, see ``cost.read_points``.
        model: the cost model that was fitted to them, see ``cost.fit``.
        tried: the architectures, see ``architecture.tried``.
        teraflops: the rate of a GPU's matrix products in 10¹² operations a second.
        checkpoints: the number of checkpoints of the large model.
    """
    rate, gpu = float(points["gflops"].median()), 1000 * teraflops
    error = model.error[["relative", "memory"]].abs()
    exact = tried[tried["form"] != "refused"]
    return {
        "tried": str(len(tried)),
        "exact": str(len(exact)),
        "after": str(int(exact["form"].str.contains("norm after").sum())),
        "capped": str(int(exact["form"].str.contains("soft cap").sum())),
        "pairs": f"{exact['pairs'].sum():,.0f}",
        "outside": f"{exact['outside'].sum():.0f}",
        "points": str(len(points)),
        "rate": f"{rate:,.0f}",
        "fixed": f"{model.fixed_seconds:.0f}",
        **{
            f"share_{part}": f"{share:.0%}" if share < 10 else "no measurable time"
            for part, share in model.share.items()
        },
        "error": f"{error['relative'].median():.0%}",
        "worst": f"{error['relative'].max():.0%}",
        "memory_error": f"{error['memory'].median():.0%}",
        "per_parameter": f"{model.memory[1]:.1f}",
        "per_activation": f"{model.memory[2]:.1f}",
        "teraflops": f"{teraflops:g}",
        "checkpoints": str(checkpoints),
        "one_minutes": f"{model.seconds(PYTHIA, gpu) / 60:.1f}",
        "many_hours": f"{model.seconds(PYTHIA, gpu, checkpoints) / 3600:.1f}",
        "cpu_days": f"{model.seconds(PYTHIA, rate, checkpoints) / 86400:.0f}",
        "gib": f"{model.mebibytes(PYTHIA) / 1024:.0f}",
    }

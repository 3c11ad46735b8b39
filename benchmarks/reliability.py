"""Split-half reliability of the effects on rare targets at every checkpoint of a run, from many held-out windows.

    python benchmarks/reliability.py reviews-neox runs/reviews-neox-seed1 …

The studies of the book afford a few thousand rare targets; here only these are ablated, so that tens of thousands are
affordable. Rows are added to ``raretok/shipped/reliability.csv``; a checkpoint that is there is not measured again.
"""

import sys

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from raretok import Study
from raretok.ablation import ablate, replaced_by
from raretok.findings.identification import SPLITS
from raretok.model.forward import run_trace
from raretok.shipped.trajectory import RELIABILITY as RESULTS
from raretok.stats.resampling import reliability, split_halves

WINDOWS = 1600


def measure(study: Study) -> dict[str, float]:
    """Reliability of the net effects (median and 95 % range over random splits), and of their order by size."""
    trace = run_trace(study.inputs.model, study.inputs.windows, progress=False)
    rows = np.flatnonzero(study.inputs.frequency.bands["rare"][trace.target])
    replacing = replaced_by(trace.activation, "mean", 0)
    sums = ablate(study.inputs.model.readout, trace[rows], replacing, progress=False)["loss"]
    net, weight = sums.net[:, 0], sums.weight[:, 0]
    low, middle, high = np.nanpercentile(
        reliability(net, weight, split_halves(len(weight), SPLITS, 0)), [2.5, 50, 97.5]
    )
    half = np.arange(len(weight)) % 2 == 0
    parts = [np.abs(net[h].sum(0) / weight[h].sum()) for h in (half, ~half)]
    order = float(stats.spearmanr(*parts).statistic)
    return {
        "targets": len(rows),
        "documents": len(weight),
        "reliability": middle,
        "low": low,
        "high": high,
        "rank": order,
    }


def main(runs: list[str]) -> None:
    """Measure what is not there yet."""
    table = pd.read_csv(RESULTS) if RESULTS.is_file() else pd.DataFrame(columns=["model", "step"])
    for run in runs:
        study = Study(model=run, corpus="movie-reviews-heldout", windows=WINDOWS)
        for step in tqdm(study.inputs.entry.steps, desc=study.inputs.entry.name):
            if ((table["model"] == study.inputs.entry.name) & (table["step"] == step)).any():
                continue
            row = {"model": study.inputs.entry.name, "step": step} | measure(study.at(step))
            table = pd.concat([table, pd.DataFrame([row])]).astype(dict.fromkeys(("step", "targets", "documents"), int))
            table.to_csv(RESULTS, index=False, float_format="%.4g")


if __name__ == "__main__":
    main(sys.argv[1:])

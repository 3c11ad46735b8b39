"""The cost of a study: operations counted by formula, seconds and memory by rates fitted to measurements."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray
from scipy.optimize import nnls

from raretok.errors import RaretokError

RESULTS = Path(__file__).with_name("cost.csv")
"""Measured by ``benchmarks/cost.py``, one row per study: its sizes, ``seconds``, ``peak_mib``, and ``gflops``, the
machine's rate of matrix products."""
PARTS = ("forward", "ablation")


def read_points(path: Path = RESULTS) -> pd.DataFrame:
    """Read the measured studies.

    Raises:
        RaretokError: the file is missing.
    """
    if not path.is_file():
        raise RaretokError(f"{path} is missing: `make cost` measures it, or clone the book's repository again")
    return pd.read_csv(path)


def operations(sizes: Mapping[str, Any] | pd.DataFrame) -> dict[str, Any]:
    """Count the floating-point operations of the two parts, from ``effects.sizes`` (numbers or columns).

    ``forward``: 2 · parameters · tokens. ``ablation``: positions · vocab · (6 d_model + 2 neurons), for the logits, the
    two other products with the unembedding, and the product with the squares of the second-order pass.
    """
    forward = 2.0 * sizes["parameters"] * sizes["tokens"]
    ablation = 1.0 * sizes["positions"] * sizes["vocab"] * (6.0 * sizes["d_model"] + 2.0 * sizes["neurons"])
    return {"forward": forward, "ablation": ablation}


@dataclass(frozen=True)
class Model:
    """Cost model: seconds = fixed + Σ operations / (share · rate); MiB = fixed + per parameter + per stored activation
    + what the engine holds, which is known.

    ``fixed_seconds``: the constant term; ``share``: share of the machine's rate of matrix products that each of
    ``PARTS`` reaches; ``memory``: constant term in MiB, and bytes per parameter and per activation; ``error``: relative
    error of every study (seconds, MiB), each predicted without the studies of its own model.
    """

    fixed_seconds: float
    share: dict[str, float]
    memory: tuple[float, float, float]
    error: pd.DataFrame

    def seconds(self, sizes: Mapping[str, Any], gflops: float, checkpoints: int = 1) -> float:
        """Predict the seconds on a machine with this rate of matrix products (10⁹ operations per second).

        Each part is assumed to reach the same share of the rate as in the measurements.
        """
        work = operations(sizes)
        return checkpoints * float(
            self.fixed_seconds + sum(work[p] / (self.share[p] * gflops * 1e9) for p in PARTS if self.share[p] < np.inf)
        )

    def mebibytes(self, sizes: Mapping[str, Any], bfloat16: bool = True) -> float:
        """Predict the peak memory in MiB, on hardware that multiplies in bfloat16 or not."""
        return float(_memory_terms(sizes) @ np.array(self.memory) + engine_mebibytes(sizes, bfloat16))


def engine_mebibytes(sizes: Mapping[str, Any] | pd.DataFrame, bfloat16: bool = True) -> Any:
    """Memory of what the certified pass holds: the unembedding in order, every neuron's attribution to the logits and
    its squares, in float32 or, with hardware for it, the squares and the unembedding once more in bfloat16.
    """
    of_neuron, of_dimension = (6.0, 6.0) if bfloat16 else (8.0, 4.0)
    return sizes["vocab"] * (of_neuron * sizes["neurons"] + of_dimension * sizes["d_model"]) / 2**20


def _memory_terms(sizes: Mapping[str, Any] | pd.DataFrame) -> ndarray:
    kept = sizes["tokens"] * (sizes["neurons"] + sizes["d_model"])
    return np.stack(np.broadcast_arrays(1.0, sizes["parameters"] / 2**20, kept / 2**20), -1).astype(float)


def fit(points: pd.DataFrame) -> Model:
    """Fit the cost model by non-negative least squares of the relative error.

    ``error`` is estimated by leaving each model out and has the columns ``model``, ``windows``, ``seconds``,
    ``predicted``, ``relative``, ``memory`` (relative).
    """
    work = operations(points)
    times = np.stack([np.ones(len(points)), *(work[p] / (points["gflops"] * 1e9) for p in PARTS)], -1)
    memory, peak, engine = _memory_terms(points), points["peak_mib"].to_numpy(), engine_mebibytes(points).to_numpy()
    rows = []
    for model in points["model"].unique():
        out = (points["model"] == model).to_numpy()
        predicted = times[out] @ _relative(times[~out], points["seconds"].to_numpy()[~out])
        size = engine[out] + memory[out] @ _relative(memory[~out], peak[~out], engine[~out])
        rows.append(
            points.loc[out, ["model", "windows", "seconds"]].assign(
                predicted=predicted,
                relative=predicted / points.loc[out, "seconds"] - 1,
                memory=size / peak[out] - 1,
            )
        )
    fixed, *inverse = _relative(times, points["seconds"].to_numpy())
    share = {p: 1 / x if x > 0 else np.inf for p, x in zip(PARTS, inverse, strict=True)}
    sizes = _relative(memory, peak, engine)
    return Model(float(fixed), share, (float(sizes[0]), float(sizes[1]), float(sizes[2])), pd.concat(rows))


def _relative(terms: ndarray, value: ndarray, known: ndarray | float = 0.0) -> ndarray:
    """Coefficients of the terms of least squared relative error; ``known`` is a part of the value that is none of
    theirs.
    """
    return np.asarray(nnls(terms / value[:, None], (value - known) / value)[0])

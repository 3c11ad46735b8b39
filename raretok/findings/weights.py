"""Do the weights of rare-token neurons have heavier tails than others', and does training cause it? (claims C13, C14)

The published analysis compares Hill's exponent with that of one or two random groups, and uses Marchenko–Pastur at
aspect ratio 1. The controlled analysis uses the same n, k and d throughout, a thousand random groups, a thousand
matched groups, Gaussian matrices, and the true aspect ratio (method §8).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from raretok.findings.emergence import require_start
from raretok.findings.groups import (
    DRAWS,
    Groups,
    control_groups,
    features,
    headline_sets,
    imbalance,
    member_set,
    neuron_sets,
    null_percentiles,
)
from raretok.findings.steps import by_step
from raretok.graph import at_every_step, table
from raretok.measure.effects import mlp_weights
from raretok.stats.resampling import LEVEL
from raretok.stats.spectra import (
    STATISTICS,
    gaussian_spectra,
    group_spectra,
    hill,
    layer_spectrum,
    mp_cdf,
    row_correlations,
    spectrum_statistics,
)
from raretok.stats.streams import stream

Matrices = Mapping[str, Float[ndarray, "neuron d_model"]]


@table(mlp_weights, neuron_sets, features)
def group_tails(
    matrices: Matrices, groups: Groups, matching: pd.DataFrame, seed: int, draws: int = DRAWS
) -> pd.DataFrame:
    """Compute statistics of the spectrum of every group's rows; one row per group, matrix and statistic.

    All matrices have the same shape. Columns: ``group``, ``size``, ``matrix`` (W_out, W_in, …), ``statistic``
    (``spectra.STATISTICS``), ``estimate``, ``imbalance`` (of the matched groups); for each null – ``random``,
    ``matched``, ``gaussian`` (independent normal entries of the same shape) – its percentile, ``<null>_low`` and
    ``<null>_high`` (95% range).
    """
    records = []
    correlations = {label: row_correlations(matrix) for label, matrix in matrices.items()}
    for name, group in groups.items():
        ids = group.ids
        rng = stream(seed, "weights.group_tails", len(ids))
        controls = control_groups(matching, group, draws, rng)
        apart = imbalance(matching, group, controls["matched"])
        columns = next(iter(matrices.values())).shape[1]
        gaussian = spectrum_statistics(gaussian_spectra(draws, len(ids), columns, rng), columns)
        for label, whole in correlations.items():
            own = spectrum_statistics(group_spectra(whole, ids[None]), columns)
            nulls = {k: spectrum_statistics(group_spectra(whole, drawn), columns) for k, drawn in controls.items()}
            nulls["gaussian"] = gaussian
            for statistic in STATISTICS:
                record: dict[str, Any] = {"group": name, "size": len(ids), "matrix": label, "statistic": statistic}
                record |= {"estimate": float(own[statistic][0]), "imbalance": apart}
                records.append(
                    record | null_percentiles(record["estimate"], {k: n[statistic] for k, n in nulls.items()})
                )
    return pd.DataFrame(records)


@table(at_every_step(mlp_weights), neuron_sets, at_every_step(features))
def tails_over_training(
    matrices: Mapping[int, Matrices], sets: Groups, matching: Mapping[int, pd.DataFrame], seed: int
) -> pd.DataFrame:
    """Compute ``group_tails`` of this checkpoint's ``HEADLINE`` groups at every checkpoint, by step."""
    chosen = headline_sets(sets)
    return by_step({step: group_tails(m, chosen, matching[step], seed) for step, m in matrices.items()})


@table(tails_over_training)
def growth(tails: pd.DataFrame) -> pd.DataFrame:
    """Follow Hill's exponent over training; one row per group and matrix.

    Args:
        tails: ``group_tails`` tables of the same groups with a column ``step``.

    Columns: ``group``, ``matrix``, ``steps`` (number of checkpoints), ``start``, ``end`` (exponent at the first and the
    last), ``imbalance`` (at the last), ``imbalance_at_start``, ``last_step``; ``outside_at_start`` (whether the
    exponent lies in the lowest 5% of every null at the first checkpoint); ``first_step``: the first step from which on,
    up to the last, it lies there (NaN if it does not at the last); ``null`` (its highest percentile at the last).
    """
    require_start(set(tails["step"]))
    records = []
    for (group, matrix), part in tails[tails["statistic"] == "hill"].groupby(["group", "matrix"], sort=False):
        part = part.sort_values("step")
        highest = part[["random", "matched", "gaussian"]].max(axis=1).to_numpy()
        inside = np.flatnonzero(highest > LEVEL)
        since = int(inside[-1]) + 1 if len(inside) else 0
        records.append(
            {"group": group, "matrix": matrix, "steps": len(part)}
            | {"start": float(part["estimate"].iloc[0]), "end": float(part["estimate"].iloc[-1])}
            | {"imbalance": float(part["imbalance"].iloc[-1])}
            | {"imbalance_at_start": float(part["imbalance"].iloc[0]), "last_step": int(part["step"].iloc[-1])}
            | {"outside_at_start": bool(highest[0] <= LEVEL)}
            | {"first_step": float(part["step"].iloc[since]) if since < len(part) else np.nan, "null": highest[-1]}
        )
    return pd.DataFrame(records)


def row_tails(
    matrices: Matrices, groups: Groups, matching: pd.DataFrame, seed: int, draws: int = DRAWS
) -> pd.DataFrame:
    """Compare the mean kurtosis and participation (see ``rows_of``) of a group's rows with those of control groups.

    The table has one row per group, matrix and statistic. Columns: ``group``, ``size``, ``matrix``, ``statistic``
    (kurtosis or participation), ``estimate``, ``imbalance`` (of the matched groups); for each null – ``random``,
    ``matched`` – its percentile, ``<null>_low`` and ``<null>_high`` (95% range).
    """
    rows, records = rows_of(matrices), []
    for name, group in groups.items():
        ids = group.ids
        controls = control_groups(matching, group, draws, stream(seed, "weights.row_tails", len(ids)))
        apart = imbalance(matching, group, controls["matched"])
        for label, part in rows.groupby("matrix", sort=False):
            for statistic in ("kurtosis", "participation"):
                values = part[statistic].to_numpy()
                record: dict[str, Any] = {"group": name, "size": len(ids), "matrix": label, "statistic": statistic}
                record |= {"estimate": float(values[ids].mean()), "imbalance": apart}
                records.append(
                    record
                    | null_percentiles(record["estimate"], {k: values[drawn].mean(1) for k, drawn in controls.items()})
                )
    return pd.DataFrame(records)


@table(at_every_step(mlp_weights), neuron_sets, at_every_step(features))
def rows_over_training(
    matrices: Mapping[int, Matrices], sets: Groups, matching: Mapping[int, pd.DataFrame], seed: int
) -> pd.DataFrame:
    """Compute ``row_tails`` of this checkpoint's ``HEADLINE`` groups at every checkpoint, by step."""
    chosen = headline_sets(sets)
    return by_step({step: row_tails(m, chosen, matching[step], seed) for step, m in matrices.items()})


@table(mlp_weights, neuron_sets, features)
def hill_plot(
    matrices: Matrices, sets: Groups, matching: pd.DataFrame, seed: int, group: str | None = None, draws: int = 200
) -> pd.DataFrame:
    """Compute Hill's exponent of a group (by default the headline) as a function of k, with the ranges of the nulls.

    Columns: ``matrix``, ``k``, ``estimate``; for random and matched groups the percentile, ``<null>_low`` and
    ``<null>_high``.
    """
    chosen = member_set(sets, group)
    records, ids = [], chosen.ids
    controls = control_groups(matching, chosen, draws, stream(seed, "weights.hill_plot", len(ids)))
    last = len(ids) - 1
    ks = sorted({round(last ** (j / 12)) for j in range(1, 13)} | {len(ids) // 2})
    for label, matrix in matrices.items():
        whole = row_correlations(matrix)
        own, nulls = group_spectra(whole, ids[None]), {k: group_spectra(whole, g) for k, g in controls.items()}
        for k in ks:
            record: dict[str, Any] = {"matrix": label, "k": k, "estimate": float(hill(own, k)[0])}
            records.append(record | null_percentiles(record["estimate"], {n: hill(x, k) for n, x in nulls.items()}))
    return pd.DataFrame(records)


@table(mlp_weights)
def layer_spectra(matrices: Matrices) -> pd.DataFrame:
    """Compute the spectrum of each whole matrix; one row per matrix.

    Columns: ``matrix``, ``rows``, ``columns``, ``alpha``, ``error``, ``tail`` (power law of the largest eigenvalues,
    exponent of the density), ``edge`` (of the Marchenko–Pastur bulk), ``spikes`` (number of eigenvalues beyond it),
    ``largest`` (largest eigenvalue over the edge).
    """
    records = []
    for label, matrix in matrices.items():
        spectrum = layer_spectrum(matrix)
        records.append(
            {"matrix": label, "rows": len(matrix), "columns": matrix.shape[1], "alpha": spectrum.tail.alpha}
            | {
                "error": spectrum.tail.error,
                "tail": spectrum.tail.tail,
                "edge": spectrum.edge,
                "spikes": spectrum.spikes,
            }
            | {"largest": float(spectrum.eigenvalues[-1] / spectrum.edge)}
        )
    return pd.DataFrame(records)


@table(mlp_weights)
def densities(matrices: Matrices, bins: int = 60) -> pd.DataFrame:
    """Compute histograms of each matrix's eigenvalues and of the fitted bulk.

    Columns: ``matrix``, ``eigenvalue`` (middle of the bin, over the bulk's variance), ``share``, ``bulk``.
    """
    frames = []
    for label, matrix in matrices.items():
        spectrum = layer_spectrum(matrix)
        scaled = spectrum.eigenvalues / spectrum.variance
        edges = np.geomspace(max(scaled[scaled > 0].min(), 1e-3), scaled.max() * 1.001, bins + 1)
        share = np.histogram(scaled, edges)[0] / len(scaled)
        bulk = np.diff(mp_cdf(edges, matrix.shape[1] / len(matrix)))
        middle = np.sqrt(edges[1:] * edges[:-1])
        frames.append(pd.DataFrame({"matrix": label, "eigenvalue": middle, "share": share, "bulk": bulk}))
    return pd.concat(frames, ignore_index=True)


@table(mlp_weights)
def rows_of(matrices: Matrices) -> pd.DataFrame:
    """Compute statistics of every neuron's rows.

    Columns: ``matrix``, ``neuron``, ``norm``, ``kurtosis`` (excess; 0 for normal entries), ``participation`` (inverse
    participation ratio Σw⁴/(Σw²)², 1/d … 1).
    """
    frames = []
    for label, matrix in matrices.items():
        w = matrix.astype(np.float64)
        square = (w**2).sum(1)
        frames.append(
            pd.DataFrame(
                {
                    "matrix": label,
                    "neuron": np.arange(len(w)),
                    "norm": np.sqrt(square),
                    "kurtosis": stats.kurtosis(w, axis=1),
                    "participation": (w**4).sum(1) / square**2,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)

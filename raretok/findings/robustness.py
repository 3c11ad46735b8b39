"""Do the conclusions depend on analysis choices?

The choices are the kind of ablation (claim C22), whether rarity is that of the input or of the target token, the
corpus, and the amount of text.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import stats

from raretok.ablation import ablate
from raretok.ablation.certified import Certified
from raretok.findings.identification import require_controls
from raretok.graph import arrays, memory, table
from raretok.measure import inputs
from raretok.measure.effects import band_sums, band_weights, engine, mean_activation, trace
from raretok.model.trace import Trace
from raretok.stats.rankcurve import HEAD
from raretok.stats.resampling import (
    bootstrap_counts,
    bootstrap_ratio,
    interval,
    ratio,
    resample_within,
    row_correlation,
    split_halves,
    top,
)
from raretok.stats.streams import stream
from raretok.stats.sums import SplitHalfSums, split_half_sums

KINDS = ("mean", "zero", "resample")
BANDS = ("rare with controls", "matched")
FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Fractions of half the documents, in the learning curve."""
SPLITS = 40
RANKED = 200
"""Number of resamples of a rank correlation."""


def _jaccard(a: Float[ndarray, " neuron"], b: Float[ndarray, " neuron"]) -> float:
    """Compute the Jaccard similarity of the first 33 neurons by magnitude."""
    x, y = top(np.abs(a), HEAD), top(np.abs(b), HEAD)
    return float((x & y).sum() / (x | y).sum())


def _spearman(a: Float[ndarray, "draw neuron"], b: Float[ndarray, "draw neuron"]) -> Float[ndarray, " draw"]:
    return row_correlation(stats.rankdata(a, axis=1), stats.rankdata(b, axis=1))


def compare(
    first: tuple[Float[ndarray, "document neuron"], Float[ndarray, " document"]],
    second: tuple[Float[ndarray, "document neuron"], Float[ndarray, " document"]],
    seed: int,
    paired: bool = True,
) -> dict[str, float]:
    """Measure the agreement of two measurements of every neuron's net effect.

    Args:
        first: sums and weights by document.
        second: likewise; of the same documents where ``paired``.
        seed: of the resampling.
        paired: resample the same documents in both.

    Returns:
        ``spearman`` with ``low`` and ``high`` (95% interval, documents resampled), ``pearson``, and ``jaccard`` of the
        first 33 neurons by magnitude.
    """
    counts = bootstrap_counts(len(first[1]), RANKED, seed)
    other = counts if paired else bootstrap_counts(len(second[1]), RANKED, seed, "second text")
    a, b = ratio(*first), ratio(*second)
    drawn = _spearman(bootstrap_ratio(*first, counts), bootstrap_ratio(*second, other))
    rho = float(_spearman(a[None], b[None])[0])
    low, high = interval(rho, drawn, most=1.0)
    return {
        "spearman": rho,
        "low": low,
        "high": high,
        "pearson": float(np.corrcoef(a, b)[0, 1]),
        "jaccard": _jaccard(a, b),
    }


@arrays(trace, band_weights, mean_activation, engine, band_sums, inputs.replacement)
def replaced(
    trace: Trace,
    weights: Mapping[str, ndarray],
    mean: ndarray,
    engine: Certified,
    sums: SplitHalfSums,
    replacement: Any,
    seed: int,
) -> dict[str, ndarray]:
    """Compute the effects of every kind of ablation on rare targets with controls and on those controls.

    The arrays are sums by document for each of ``KINDS``.
    """
    require_controls(sums)
    of_band = np.stack([weights[band] for band in BANDS])
    rows = np.flatnonzero(of_band.any(0))
    documents = np.unique(trace.document)
    part = trace[rows]
    whole = weights["all"] / weights["all"].sum()
    other = stream(seed, "robustness.replaced").choice(len(whole), len(rows), p=whole)
    replacing = {
        "mean": torch.from_numpy(mean),
        "zero": torch.zeros_like(trace.activation[0]),
        "resample": trace.activation[torch.from_numpy(other)],
    }
    if replacement == "mean":
        del replacing["mean"]  # The study has these effects at the same positions.
    at = np.searchsorted(documents, np.unique(part.document))
    net, weight = (np.stack(x, 1) for x in zip(*map(sums.of, BANDS), strict=True))
    kept: dict[str, ndarray] = {"half": sums.half, "weight": weight, "mean": net.astype(np.float32)}
    readout = engine.attribution.readout
    for kind, values in replacing.items():
        ablated = ablate(readout, part, values, of_band[:, rows], engine=engine)["loss"]
        kept[kind] = np.zeros(net.shape, dtype=np.float32)
        kept[kind][at] = ablated.net
    return kept


@memory(replaced)
def replacement_sums(kept: Mapping[str, ndarray]) -> dict[str, SplitHalfSums]:
    """Return ``replaced`` by kind of ablation."""
    return {k: split_half_sums(kept[k], None, kept["weight"], kept["half"], BANDS) for k in KINDS}


@table(replacement_sums)
def replacements(kinds: Mapping[str, SplitHalfSums], seed: int) -> pd.DataFrame:
    """Compare net effects under different kinds of ablation at the same positions; one row per band and pair of kinds.

    Columns: ``band``, ``first``, ``second``, ``neurons``, ``spearman``, ``pearson`` and ``jaccard`` of ``compare``;
    ``corrected`` with ``low`` and ``high`` (95% interval): the rank correlation corrected for noise, computed from
    halves of the documents as the correlation across the kinds over the geometric mean of the correlations within each.
    The kinds share positions, so ``spearman`` includes noise that they have in common and is attenuated by noise that
    they do not share.
    """
    records = []
    rng = stream(seed, "robustness.replacements")
    for band in BANDS:
        halves = split_halves(len(kinds["mean"].half), SPLITS, seed)
        drawn = halves[rng.integers(0, SPLITS, RANKED)]
        pairs = ((halves, 1 - halves), (resample_within(drawn, rng), resample_within(1 - drawn, rng)))
        ranks = {
            k: [tuple(stats.rankdata(bootstrap_ratio(*kinds[k].of(band), h), axis=1) for h in pair) for pair in pairs]
            for k in kinds
        }
        for a, b in combinations(kinds, 2):
            agreement = compare(kinds[a].of(band), kinds[b].of(band), seed)
            del agreement["low"], agreement["high"]
            over_splits, over_draws = (_corrected(x, y) for x, y in zip(ranks[a], ranks[b], strict=True))
            estimate = float(np.nanmedian(over_splits)) if np.isfinite(over_splits).any() else float("nan")
            low, high = interval(estimate, over_draws)
            record: dict[str, Any] = {"band": band, "first": a, "second": b, "neurons": kinds[a].sums.net.shape[2]}
            records.append(record | agreement | {"corrected": estimate, "low": low, "high": high})
    return pd.DataFrame(records)


def _corrected(
    first: tuple[Float[ndarray, "draw neuron"], ...], second: tuple[Float[ndarray, "draw neuron"], ...]
) -> Float[ndarray, " draw"]:
    """Compute the correlation of two kinds' ranks, corrected for noise.

    ``first``, ``second``: ranks in either half. The result is NaN where a kind does not agree with itself.
    """
    across = (row_correlation(first[0], second[1]) + row_correlation(second[0], first[1])) / 2
    within = np.maximum(row_correlation(*first), 0) * np.maximum(row_correlation(*second), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(within > 0, across / np.sqrt(within), np.nan)


@table(band_sums)
def definitions(data: SplitHalfSums, seed: int) -> pd.DataFrame:
    """Compare rarity of the input token with rarity of the target token; one row per pair of bands.

    Columns: ``first``, ``second`` and those of ``compare``.
    """
    pairs = (("rare", "rare input"), ("rare", "half of types"), ("rare", "half of types input"), ("rare", "common"))
    there = [(a, b) for a, b in pairs if data.of(b)[1].any()]
    return pd.DataFrame([{"first": a, "second": b} | compare(data.of(a), data.of(b), seed) for a, b in there])


@table(band_sums)
def across_corpora(first: SplitHalfSums, second: SplitHalfSums, seed: int) -> pd.DataFrame:
    """Compare the same neurons on two corpora; one row per band.

    Columns: ``band``, those of ``compare`` (documents resampled in each corpus), ``within`` (rank correlation between
    halves of the first corpus, not corrected).
    """
    rows = []
    for band in ("rare", "common", "all"):
        halves = split_halves(len(first.half), SPLITS, seed)
        within = _spearman(*(bootstrap_ratio(*first.of(band), h) for h in (halves, 1 - halves)))
        agreement = compare(first.of(band), second.of(band), seed, paired=False)
        rows.append({"band": band} | agreement | {"within": float(np.nanmedian(within))})
    return pd.DataFrame(rows)


@table(band_sums)
def learning_curve(data: SplitHalfSums, seed: int) -> pd.DataFrame:
    """Measure how much text a stable list of neurons requires; one row per fraction and random split.

    Neurons are ranked on some documents, and the ranking is compared with that on the other half of the documents.
    Columns: ``targets`` (number of rare targets used for the ranking), ``documents``, ``fraction``, ``split``,
    ``spearman`` and ``pearson`` of the net effects with those on the other half of the documents, ``jaccard`` of the
    first 33.
    """
    net, weight = data.of("rare")
    halves = split_halves(len(weight), SPLITS, seed)
    rng = stream(seed, "robustness.learning_curve")
    records = []
    for k, half in enumerate(halves):
        other = ratio(net[half == 0], weight[half == 0])
        members = rng.permutation(np.flatnonzero(half))
        for fraction in FRACTIONS:
            part: Int[ndarray, " document"] = members[: max(1, round(fraction * len(members)))]
            if not weight[part].any():
                continue
            own = ratio(net[part], weight[part])
            records.append(
                {"targets": float(weight[part].sum()), "documents": len(part), "fraction": fraction, "split": k}
                | {
                    "spearman": float(_spearman(own[None], other[None])[0]),
                    "pearson": float(np.corrcoef(own, other)[0, 1]),
                }
                | {"jaccard": _jaccard(own, other)}
            )
    return pd.DataFrame(records)


@memory(learning_curve)
def learning_curve_summary(curve: pd.DataFrame) -> pd.DataFrame:
    """Summarise the learning curve over random choices of documents, a row for each fraction and measure.

    Columns: ``targets`` (mean), ``measure`` (pearson, spearman, jaccard), ``value`` (median), ``low`` and ``high``
    (10th and 90th percentile).
    """
    by_fraction = curve.groupby("fraction")
    frames = [
        pd.DataFrame(
            {"targets": by_fraction["targets"].mean(), "measure": measure, "value": by_fraction[measure].median()}
            | {"low": by_fraction[measure].quantile(0.1), "high": by_fraction[measure].quantile(0.9)}
        )
        for measure in ("pearson", "spearman", "jaccard")
    ]
    return pd.concat(frames, ignore_index=True)

"""Do the conclusions depend on choices? Kind of ablation (claim C22), side that rarity is read from, corpus, and amount of text."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import stats

from raretok.findings.identification import Halves
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

KINDS = ("mean", "zero", "resample")
FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of half the documents, in the learning curve."""
SPLITS = 40
RANKED = 200
"""Resamples of a rank correlation."""


def _jaccard(a: Float[ndarray, " neuron"], b: Float[ndarray, " neuron"]) -> float:
    """Of the first 33 by magnitude."""
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
    """Agreement of two measurements of every neuron's net effect: ``spearman`` with ``low`` and ``high`` (95 %, documents resampled), ``pearson``, ``jaccard`` of the first 33 by magnitude.

    Args:
        first: sums and weights by document.
        second: likewise; of the same documents where ``paired``.
        seed: of the resampling.
        paired: resample the same documents in both.
    """
    counts = bootstrap_counts(len(first[1]), RANKED, seed)
    other = counts if paired else bootstrap_counts(len(second[1]), RANKED, seed + 1)
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


def replacements(kinds: Mapping[str, Halves], seed: int) -> pd.DataFrame:
    """Net effects under different kinds of ablation, at the same positions; a row a band and pair of kinds.

    Columns: ``band``, ``first``, ``second``, ``neurons``, ``spearman``, ``pearson`` and ``jaccard`` of ``compare``; ``corrected`` with ``low`` and ``high`` (95 %): the rank correlation freed of noise, from halves of the documents – across the kinds,
    over the geometric mean of that within each. The kinds share positions, so ``spearman`` holds noise that they have in common and lacks what they have not.
    """
    records = []
    rng = np.random.default_rng([seed, 15])
    for band in ("rare with controls", "matched"):
        halves = split_halves(len(kinds["mean"].half), SPLITS, seed)
        drawn = halves[rng.integers(0, SPLITS, RANKED)]
        pairs = ((halves, 1 - halves), (resample_within(drawn, rng), resample_within(1 - drawn, rng)))
        ranks = {
            k: [tuple(stats.rankdata(bootstrap_ratio(*kinds[k].of(band), h), axis=1) for h in pair) for pair in pairs]
            for k in kinds
        }
        for a, b in combinations(kinds, 2):
            found = compare(kinds[a].of(band), kinds[b].of(band), seed)
            del found["low"], found["high"]
            over_splits, over_draws = (_corrected(x, y) for x, y in zip(ranks[a], ranks[b], strict=True))
            estimate = float(np.nanmedian(over_splits)) if np.isfinite(over_splits).any() else float("nan")
            low, high = interval(estimate, over_draws)
            record: dict[str, Any] = {"band": band, "first": a, "second": b, "neurons": kinds[a].sums.net.shape[2]}
            records.append(record | found | {"corrected": estimate, "low": low, "high": high})
    return pd.DataFrame(records)


def _corrected(
    first: tuple[Float[ndarray, "draw neuron"], ...], second: tuple[Float[ndarray, "draw neuron"], ...]
) -> Float[ndarray, " draw"]:
    """Correlation of two kinds' ranks freed of noise; ``first``, ``second``: ranks in either half. NaN where a kind does not agree with itself."""
    across = (row_correlation(first[0], second[1]) + row_correlation(second[0], first[1])) / 2
    within = np.maximum(row_correlation(*first), 0) * np.maximum(row_correlation(*second), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(within > 0, across / np.sqrt(within), np.nan)


def definitions(data: Halves, seed: int) -> pd.DataFrame:
    """Rarity of the token that is read against rarity of the one that is predicted; a row a pair of bands: ``first``, ``second`` and those of ``compare``."""
    pairs = (("rare", "rare input"), ("rare", "half of types"), ("rare", "half of types input"), ("rare", "common"))
    there = [(a, b) for a, b in pairs if data.of(b)[1].any()]
    return pd.DataFrame([{"first": a, "second": b} | compare(data.of(a), data.of(b), seed) for a, b in there])


def across_corpora(first: Halves, second: Halves, seed: int) -> pd.DataFrame:
    """The same neurons on two corpora; a row a band: ``band``, those of ``compare`` (documents resampled in each), ``within`` (rank correlation between halves of the first corpus, not corrected)."""
    rows = []
    for band in ("rare", "common", "all"):
        halves = split_halves(len(first.half), SPLITS, seed)
        within = _spearman(*(bootstrap_ratio(*first.of(band), h) for h in (halves, 1 - halves)))
        found = compare(first.of(band), second.of(band), seed, paired=False)
        rows.append({"band": band} | found | {"within": float(np.nanmedian(within))})
    return pd.DataFrame(rows)


def learning_curve(data: Halves, seed: int) -> pd.DataFrame:
    """How much text a stable list takes: neurons ranked on some documents, against the rest of the documents; a row a fraction and random choice.

    Columns: ``targets`` (rare ones that were ranked on), ``documents``, ``split``, ``spearman`` and ``pearson`` of the net effects with those on the other half of the documents, ``jaccard`` of the first 33.
    """
    net, weight = data.of("rare")
    halves = split_halves(len(weight), SPLITS, seed)
    rng = np.random.default_rng([seed, 14])
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

"""Which neurons matter for rare tokens: effects by band, their reliability, and two definitions of the neurons.

In the controlled definition (method §4), the rare-specific effect S = net(rare) − net(matched) differs from 0 at FDR
q ≤ 0.05 on half A and has the same sign on half B. In the published definition, the neurons are the head of the rank
curve of |net| within each sign class, over positions chosen by the frequency of the input token.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import stats

from raretok.data.positions import LEAST_TARGETS
from raretok.errors import NotApplicable
from raretok.graph import memory, table
from raretok.measure.effects import band_sums
from raretok.stats.rankcurve import HEAD
from raretok.stats.resampling import (
    RESAMPLES,
    SPLITS,
    bootstrap_counts,
    bootstrap_ratio,
    fdr,
    ratio,
    row_range,
    split_halves,
    top,
    two_sided_p,
)
from raretok.stats.resampling import (
    reliability as split_half_reliability,
)
from raretok.stats.sums import SplitHalfSums

Q = 0.05
"""False discovery rate at which a neuron is selected."""
SMOOTHED = 9
"""Ranks of the running mean of a rank curve."""


@table(band_sums)
def effects(data: SplitHalfSums, seed: int) -> pd.DataFrame:
    """Estimate the effects of every neuron in every band that has positions; one row per band and neuron, in nats.

    Columns: ``band``, ``neuron``, ``n`` (positions ablated), ``net`` (mean Δ; > 0 if the neuron helps), ``se``
    (document bootstrap), ``low`` and ``high`` (95% interval), ``activity`` (mean |Δ|), ``spread`` (standard deviation
    of Δ over positions), ``net_a`` and ``net_b`` (halves of the documents), ``low_b`` and ``high_b`` (95% interval on
    half B).
    """
    counts = bootstrap_counts(len(data.half), RESAMPLES, seed)
    frames = []
    counts_b = bootstrap_counts(int((data.half == 1).sum()), RESAMPLES, seed, "B")
    for k, band in enumerate(data.bands):
        net, weight = data.of(band)
        if not weight.any():
            continue
        draws = bootstrap_ratio(net, weight, counts)
        low, high = row_range(draws)
        low_b, high_b = row_range(bootstrap_ratio(*data.of(band, 1), counts_b))
        frames.append(
            pd.DataFrame(
                {
                    "band": band,
                    "neuron": np.arange(net.shape[1]),
                    "n": int(data.sums.count[:, k].sum()),
                    "net": ratio(net, weight),
                    "se": np.nanstd(draws, axis=0, ddof=1),
                    "low": low,
                    "high": high,
                    "activity": ratio(data.sums.activity[:, k], weight),
                    "spread": np.sqrt(np.maximum(ratio(data.sums.square[:, k], weight) - ratio(net, weight) ** 2, 0)),
                    "net_a": ratio(*data.of(band, 0)),
                    "net_b": ratio(*data.of(band, 1)),
                    "low_b": low_b,
                    "high_b": high_b,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


@table(band_sums)
def reliability(data: SplitHalfSums, seed: int) -> pd.DataFrame:
    """Compute the split-half reliability of the neurons' net effects; one row per band that has positions.

    Columns: ``band``; ``reliability`` (median over random splits of the documents), ``low``, ``high`` (95% range over
    the splits); ``a_b`` (for the split into halves A and B that selection and report use); ``rank_a_b`` (Spearman
    correlation of |net| in A and B, which shows whether the *order* is reproduced beyond the few large effects that
    dominate ``reliability``).
    """
    splits = split_halves(len(data.half), SPLITS, seed)
    fixed = (data.half == 0)[None].astype(float)
    records = []
    for band in data.bands:
        if not data.of(band)[1].any():
            continue
        low, middle, high = np.nanpercentile(split_half_reliability(*data.of(band), splits), [2.5, 50, 97.5])
        a_b = float(split_half_reliability(*data.of(band), fixed)[0])
        rank_a_b = float(stats.spearmanr(*(np.abs(ratio(*data.of(band, h))) for h in (0, 1))).statistic)
        records.append(
            {"band": band, "reliability": middle, "low": low, "high": high, "a_b": a_b, "rank_a_b": rank_a_b}
        )
    return pd.DataFrame(records)


@table(band_sums)
def rare_token_neurons(data: SplitHalfSums, seed: int) -> pd.DataFrame:
    """Estimate every neuron's rare-specific effect and test which definitions it meets; one row per neuron, in nats.

    Columns: ``neuron``; ``s``, ``se``, ``low``, ``high`` (all documents); ``s_a``, ``se_a``, ``p``, ``q`` (half A,
    selection); ``s_b``, ``se_b`` (half B, report); ``direction`` (boost: net > 0 on rare targets of half A; suppress
    otherwise); ``selected`` (q on A alone); ``controlled`` (selected, and the same sign on B) and ``published`` (the
    two definitions); ``published_net`` (the effect that the published ranking sorts by) and ``published_rank``.

    Raises:
        NotApplicable: fewer than 200 rare targets have controls.
    """
    require_controls(data)
    whole, parts = _specific(data, None, seed), [_specific(data, half, seed) for half in (0, 1)]
    (s, draws), (s_a, draws_a), (s_b, draws_b) = whole, *parts
    low, high = row_range(draws)
    se, se_a, se_b = (np.nanstd(d, axis=0, ddof=1) for d in (draws, draws_a, draws_b))  # A resample may have no weight.
    p = two_sided_p(s_a, se_a, int((data.half == 0).sum()))
    q = fdr(p)
    published_net = ratio(*data.of("half of types input"))
    published, rank = published_head(published_net)
    return pd.DataFrame(
        {
            "neuron": np.arange(len(s)),
            "s": s,
            "se": se,
            "low": low,
            "high": high,
            "s_a": s_a,
            "se_a": se_a,
            "p": p,
            "q": q,
            "s_b": s_b,
            "se_b": se_b,
            "direction": np.where(ratio(*data.of("rare", 0)) > 0, "boost", "suppress"),
            "selected": q <= Q,
            "controlled": (q <= Q) & (np.sign(s_a) == np.sign(s_b)),
            "published": published,
            "published_net": published_net,
            "published_rank": rank,
        }
    )


def leading(identified: pd.DataFrame, most: int = 8) -> list[int]:
    """Return at most ``most`` controlled neurons, those with the largest |S| in half A.

    If there are no controlled neurons, the three neurons with the smallest q are returned.
    """
    controlled = identified[identified["controlled"]].sort_values("s_a", key=abs, ascending=False)
    first = controlled.head(most) if len(controlled) else identified.sort_values("q").head(3)
    return [int(i) for i in first["neuron"]]


def excludes_zero(neurons: pd.DataFrame) -> "pd.Series[bool]":
    """Return whether the 95% interval of each neuron's rare-specific effect on half B alone excludes 0."""
    return neurons["s_b"].abs() > 1.96 * neurons["se_b"]


def require_controls(data: SplitHalfSums) -> None:
    """Check that enough rare targets have equally hard common targets, which a rare-specific effect needs.

    Raises:
        NotApplicable: fewer than 200 have.
    """
    paired = int((data.of("rare with controls")[1]).sum())
    if paired < LEAST_TARGETS:
        raise NotApplicable(
            f"only {paired} rare targets have common targets as hard, fewer than {LEAST_TARGETS}, so nothing tells "
            "rare from "
            "hard: use more windows, or a later checkpoint"
        )


def _specific(
    data: SplitHalfSums, which: int | None, seed: int
) -> tuple[Float[ndarray, " neuron"], Float[ndarray, "resample neuron"]]:
    """Compute S and its bootstrap draws; the same documents are resampled for rare and matched positions."""
    rare, matched = data.of("rare with controls", which), data.of("matched", which)
    counts = bootstrap_counts(len(rare[1]), RESAMPLES, seed, "" if which is None else "AB"[which])
    draws = bootstrap_ratio(*rare, counts) - bootstrap_ratio(*matched, counts)
    return ratio(*rare) - ratio(*matched), np.where(np.isfinite(draws), draws, np.nan)


def published_head(net: Float[ndarray, " neuron"]) -> tuple[Bool[ndarray, " neuron"], Int[ndarray, " neuron"]]:
    """Apply the published definition: the first ``HEAD`` ranks of |net| within each sign class.

    Returns:
        Whether each neuron belongs to the head, and its rank, from 1.
    """
    head = np.zeros(len(net), dtype=bool)
    rank = np.zeros(len(net), dtype=int)
    for members in (np.flatnonzero(net > 0), np.flatnonzero(net <= 0)):
        order = members[np.argsort(-np.abs(net[members]), kind="stable")]
        rank[order] = np.arange(1, len(order) + 1)
        head[members] = top(np.abs(net[members]), HEAD)
    return head, rank


@memory(effects)
def rank_curves(effects: pd.DataFrame) -> pd.DataFrame:
    """Rank the neurons on half A and smooth their effects on half B, for rare, matched and common targets.

    Columns: ``band``; ``neuron``; ``rank`` by the size of the net effect in half A (from 1); ``size``, the effect in
    half B with the sign of half A (nats), as the running mean of ``SMOOTHED`` ranks.
    """
    curves = []
    for band in ("rare", "matched", "common"):
        part = effects[effects["band"] == band].sort_values("net_a", key=abs, ascending=False).reset_index(drop=True)
        held_out = part["net_b"] * np.sign(part["net_a"])
        smooth = held_out.rolling(SMOOTHED, center=True, min_periods=1).mean()
        curves.append(part.assign(rank=part.index + 1, size=smooth)[["band", "neuron", "rank", "size"]])
    return pd.concat(curves, ignore_index=True)


@memory(rare_token_neurons)
def overlap(neurons: pd.DataFrame) -> pd.DataFrame:
    """Compare the two definitions, by direction and for both directions together.

    Columns: ``direction``; ``controlled``, ``published`` and ``in both`` (numbers of neurons); ``jaccard`` (Jaccard
    similarity).
    """
    records = []
    for direction in ("boost", "suppress", "both"):
        part = neurons if direction == "both" else neurons[neurons["direction"] == direction]
        controlled, published = part["controlled"], part["published"]
        both, either = int((controlled & published).sum()), int((controlled | published).sum())
        records.append(
            {
                "direction": direction,
                "controlled": int(controlled.sum()),
                "published": int(published.sum()),
                "in both": both,
                "jaccard": both / either if either else float("nan"),
            }
        )
    return pd.DataFrame(records)

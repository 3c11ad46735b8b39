"""The three regimes of the rank curve – plateau, power law, rapid decay (claims C1–C6, C8).

The published form sorts the |effect| over all documents and fixes the boundaries at ln rank 3.5 and 5.5. The controlled
form orders neurons by half A and takes their values from half B; each statistic has an interval from resampling the
documents of B, and a percentile in nulls that are processed with the same two halves.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from raretok.findings.rankings import BANDS, DRAWS, MEASURES, curve_statistics, measured_twice
from raretok.graph import before_training, memory, table
from raretok.measure.effects import band_sums
from raretok.stats import powerlaw
from raretok.stats.breaks import STEP
from raretok.stats.nulls import NULLS, Kind, percentile
from raretok.stats.rankcurve import (
    HEAD,
    HEAD_END,
    MIDDLE_END,
    SHAPE,
    binned,
    local_slopes,
    ordered,
    rank_bins,
    shape,
)
from raretok.stats.resampling import (
    LEVEL,
    RESAMPLES,
    bootstrap_counts,
    bootstrap_ratio,
    interval,
    ratio,
    swap_documents,
)
from raretok.stats.streams import stream
from raretok.stats.sums import SplitHalfSums

BREAKS = ("break_1", "break_2", "plateau_share", "middle_share", "decay_share", "breaks")
"""Statistics read from the positions of the breaks, which lie on a grid."""
BOUNDED = ("middle_r2", "top_share", "gini", "agreement")
"""Statistics that are at most 1."""
LIGHT = ("half_normal", "exponential")
JUDGED_BY = dict.fromkeys(("head_excess", "flattening", "steepening"), (*LIGHT, "lognormal")) | {
    "agreement": ("noise",),
    "top_share": ("noise", *LIGHT),
    "gini": ("noise", *LIGHT),
}
"""A statistic counts as a departure only if it lies outside all of these nulls."""
SIGNED = ("head_excess", "flattening", "steepening")
"""Statistics for which 0 means no effect, so the interval must exclude 0 as well."""


@table(band_sums, before_training(band_sums))
def statistics(
    data: SplitHalfSums,
    untrained: SplitHalfSums | None,
    seed: int,
    draws: int = DRAWS,
    bands: Sequence[str] = BANDS,
    measures: Sequence[str] = ("net",),
    forms: Sequence[str] = ("published", "controlled"),
) -> pd.DataFrame:
    """Compute every statistic of every curve, with its interval and its percentiles in the nulls.

    Args:
        data: of the model.
        untrained: of the same model on the same windows before its first step, where there is such a checkpoint.
        seed: of resamples and nulls.
        draws: number of draws of each null.
        bands: bands of the curves.
        measures: net, activity.
        forms: published, controlled.

    The table has one row per band, measure, form and statistic. Columns: ``band``; ``measure`` (net: mean Δ; activity:
    mean |Δ|); ``form``; ``statistic``: those of ``rankcurve.shape``, and for the controlled form ``agreement``
    (correlation of the neurons' effects in A and B), ``break_1``, ``break_2`` (ln rank), ``flattening`` (slope before
    the first break minus slope after it; > 0 for a flat head), ``steepening`` (the same at the second break; > 0 for a
    steeper decay), ``plateau_share``, ``middle_share``, ``decay_share`` (of the neurons, between the breaks) and
    ``breaks`` (number chosen by BIC); ``estimate``, ``low``, ``high`` (95% interval; none in the published form);
    ``noise``, ``half_normal``, ``exponential``, ``lognormal``: percentile in that null, 0 to 1; ``untrained``:
    percentile among the curves of the untrained checkpoint with its documents resampled (controlled form);
    ``null_low``, ``null_high``: the widest 95% range of the nulls in ``JUDGED_BY`` (activity has no noise null, as it
    is positive by definition); ``departs``: +1 or −1 if the statistic lies in the outer 5% of each of those nulls on
    that side and, where 0 means no effect, its interval excludes 0; otherwise 0; ``null``: the least extreme of those
    percentiles.

    A curve whose halves do not agree beyond noise has no interpretable shape, so none of its net statistics in
    ``SIGNED`` departs. As noise has no held-out curve, the head excess is compared with noise in its published form as
    well.
    """
    records: list[dict[str, Any]] = []
    for band in [b for b in bands if data.of(b)[1].any()]:
        for measure in measures:
            for form in forms:
                curves = measured_twice(data, band, measure, form, seed, draws)
                by_source = {
                    source: curve_statistics(data, band, measure, form, *pair) for source, pair in curves.items()
                }
                if untrained is not None and form == "controlled" and untrained.of(band)[1].any():
                    pair = measured_twice(untrained, band, measure, form, seed, draws, ())["resampled"]
                    by_source["untrained"] = curve_statistics(untrained, band, measure, form, *pair)
                for name, observed in by_source["observed"].items():
                    estimate = float(observed[0])
                    low = high = np.nan
                    if form == "controlled":
                        low, high = interval(
                            estimate,
                            by_source["resampled"][name],
                            name not in BREAKS,
                            1.0 if name in BOUNDED else np.inf,
                        )
                        low, high = _with_grid(name, low, high)
                    records.append(
                        {"band": band, "measure": measure, "form": form, "statistic": name}
                        | {"estimate": estimate, "low": low, "high": high}
                        | {
                            n: percentile(estimate, by_source[n][name]) if n in by_source else np.nan
                            for n in (*NULLS, "untrained")
                        }
                        | _envelope([by_source[n][name] for n in JUDGED_BY.get(name, NULLS) if n in by_source])
                    )
    table = pd.DataFrame(records)
    judged = [_departure(row, table) for row in table.to_dict("records")]
    return table.assign(departs=[d for d, _ in judged], null=[p for _, p in judged])


def _with_grid(name: str, low: float, high: float) -> tuple[float, float]:
    """Widen the interval of a statistic that is read from breaks by half a step of their grid on either side."""
    half = STEP / 2
    if name in ("break_1", "break_2"):
        return low - half, high + half
    if name in ("plateau_share", "middle_share"):
        return low * np.exp(-half), high * np.exp(half)
    if name == "decay_share":
        return 1 - (1 - low) * np.exp(half), 1 - (1 - high) * np.exp(-half)
    return low, high


def _envelope(nulls: list[Float[ndarray, " draw"]]) -> dict[str, Any]:
    there = [null for null in nulls if np.isfinite(null).mean() > 0.5]
    if not there:
        return {"null_low": np.nan, "null_high": np.nan}
    ends = np.array([np.nanpercentile(null, [2.5, 97.5]) for null in there])
    return {"null_low": float(ends[:, 0].min()), "null_high": float(ends[:, 1].max())}


def _departure(row: dict[Any, Any], table: pd.DataFrame) -> tuple[int, float]:
    name = row["statistic"]
    if row["form"] == "published" or name not in JUDGED_BY:
        return 0, float("nan")
    places = [row[null] for null in JUDGED_BY[name] if (null, row["measure"]) != ("noise", "activity")]
    if row["measure"] == "net" and name in SIGNED:
        same = (table["band"] == row["band"]) & (table["measure"] == "net")
        agreement = table.loc[same & (table["statistic"] == "agreement"), "noise"].iloc[0]
        if not agreement >= 1 - LEVEL:
            return 0, float("nan")
        if name == "head_excess":
            published_rows = same & (table["statistic"] == name) & (table["form"] == "published")
            places += list(table.loc[published_rows, "noise"])
    if not places or not np.isfinite([row["estimate"], *places]).all():
        return 0, float("nan")
    above = row["estimate"] > 0
    null = min(places) if above else max(places)
    clear = name not in SIGNED or row["low"] > 0 or row["high"] < 0
    outside = null >= 1 - LEVEL if above else null <= LEVEL and name in SIGNED
    return (1 if above else -1) * int(clear and outside), null


@table(band_sums)
def contrasts(
    data: SplitHalfSums, seed: int, draws: int = DRAWS, others: Sequence[str] = ("matched", "common")
) -> pd.DataFrame:
    """Compare the statistics of the rare curve with those of another band in the controlled form.

    The table has one row per band and statistic. Columns: ``other`` (against matched, only rare targets that have
    controls count); ``statistic``: those of ``shape``, and ``lead``, the mean effect in nats, in B, of the 33 neurons
    that lead the rare curve in A, with their sign there; ``rare``, ``value`` (of the two curves); ``difference``
    (rare − value), ``low``, ``high`` (the same documents of B resampled for both curves); ``p``: two-sided, of the
    difference when the labels rare and other are exchanged in random documents (sums first scaled to the same total
    weight); ``exchanged``: percentile of the rare value among those of the curves with exchanged labels.
    """
    records = []
    for other in others:
        bands = "rare with controls" if other == "matched" else "rare", other
        if not all(data.of(band)[1].any() for band in bands):
            continue
        a, b = ([_unit(*data.of(band, half)) for band in bands] for half in (0, 1))
        first = [ratio(*part)[None] for part in a]
        second = [ratio(*part)[None] for part in b]
        counts = bootstrap_counts(len(b[0][1]), RESAMPLES // 2, seed)
        resampled = [bootstrap_ratio(*part, counts) for part in b]
        still = [np.broadcast_to(f, r.shape) for f, r in zip(first, resampled, strict=True)]
        labels_a, labels_b = (
            swap_documents(part[0], part[1], draws, seed, half) for half, part in (("A", a), ("B", b))
        )
        leaders = np.argsort(-np.abs(first[0][0]), kind="stable")[:HEAD]
        sign = np.sign(first[0][0, leaders])
        estimates, drawn, permuted = (
            [shape(ordered(x, y)) | {"lead": (y[:, leaders] * sign).mean(-1)} for x, y in zip(*pair, strict=True)]
            for pair in ((first, second), (still, resampled), (labels_a, labels_b))
        )
        for name in (*SHAPE, "lead"):
            rare, value = (float(x[name][0]) for x in estimates)
            low, high = interval(rare - value, drawn[0][name] - drawn[1][name])
            place = percentile(rare - value, permuted[0][name] - permuted[1][name])
            records.append(
                {"other": other, "statistic": name, "rare": rare, "value": value}
                | {"difference": rare - value, "low": low, "high": high, "p": 2 * min(place, 1 - place)}
                | {"exchanged": percentile(rare, permuted[0][name])}
            )
    columns = ["other", "statistic", "rare", "value", "difference", "low", "high", "p", "exchanged"]
    return pd.DataFrame(records, columns=columns)


def _unit(sums: Float[ndarray, "document neuron"], weight: Float[ndarray, " document"]) -> tuple[ndarray, ndarray]:
    return sums / weight.sum(), weight / weight.sum()


@table(band_sums)
def tails(data: SplitHalfSums, seed: int, draws: int = DRAWS, bands: Sequence[str] = ("rare",)) -> pd.DataFrame:
    """Fit power laws to the distribution of |net| over all documents (``stats.powerlaw``); one row per band.

    Columns: ``band``; ``neurons``; ``alpha``, ``error``, ``x_min`` (nats), ``tail`` (number of neurons above it), ``p``
    (of the fit); for each rival ``<rival> ratio`` (> 0 favours the power law) and ``<rival> p`` on that tail, and
    ``<rival> nested`` (p of the power law nested in the rival over head and middle, the ranks below e^5.5, a range that
    no fit has chosen).
    """
    records = []
    for band in [b for b in bands if data.of(b)[1].any()]:
        values = np.abs(ratio(*data.of(band)))
        fit = powerlaw.fit_tail(values)
        record = {"band": band, "neurons": len(values), "alpha": fit.alpha, "error": fit.error, "x_min": fit.x_min}
        record |= {"tail": fit.tail, "p": powerlaw.plausibility(values, draws, stream(seed, "regimes.tails"))}
        for _, row in powerlaw.compare(values, fit).iterrows():
            record |= {f"{row['rival']} ratio": row["ratio"], f"{row['rival']} p": row["p"]}
        for _, row in powerlaw.compare(values, powerlaw.fit_top(values, int(np.exp(MIDDLE_END)))).iterrows():
            record |= {f"{row['rival']} nested": row["nested"]}
        records.append(record)
    return pd.DataFrame(records)


@memory(band_sums)
def published(data: SplitHalfSums) -> pd.DataFrame:
    """Apply the published estimator within each sign class and to the whole layer.

    The table has one row per choice of positions and class. Columns: ``positions`` (rare targets, or positions whose
    input is a type of the rarer half, as published); ``neurons_in`` (boost, suppress, all); ``neurons``; ``head``,
    ``middle``, ``tail`` (shares of the neurons within the fixed boundaries); ``exponent`` (−slope of the middle),
    ``r2``, ``head_excess``; ``plateau`` (whether the head lies above the line).
    """
    records = []
    for band in ("rare", "half of types input"):
        net = ratio(*data.of(band))
        for name, member in (("boost", net > 0), ("suppress", net <= 0), ("all", net == net)):
            estimates = {k: float(v[0]) for k, v in shape(ordered(net[None, member], net[None, member]), 0.0).items()}
            count = int(member.sum())
            head, middle = (sum(np.log(np.arange(1, count + 1)) < end) / count for end in (HEAD_END, MIDDLE_END))
            records.append(
                {"positions": band, "neurons_in": name, "neurons": count}
                | {"head": head, "middle": middle - head, "tail": 1 - middle}
                | {"exponent": -estimates["middle_slope"], "r2": estimates["middle_r2"]}
                | {"head_excess": estimates["head_excess"], "plateau": estimates["head_excess"] > 0}
            )
    return pd.DataFrame(records)


@table(band_sums)
def curves(
    data: SplitHalfSums,
    seed: int,
    draws: int = DRAWS,
    bands: Sequence[str] = BANDS,
    measures: Sequence[str] = MEASURES,
    nulls: Sequence[Kind] = NULLS,
) -> pd.DataFrame:
    """Compute the rank curves of the data and of the nulls, for charts.

    The table has one row per band, measure, form, source and bin of ranks. Columns: ``band``, ``measure``, ``form``;
    ``source`` (observed, or a null); ``rank`` (geometric mean of the bin); ``value`` (nats; the median of a null),
    ``low``, ``high`` (95% interval: from resampling documents, or over the null's draws).
    """
    frames = []
    for band in [b for b in bands if data.of(b)[1].any()]:
        for measure in measures:
            for form in ("published", "controlled"):
                measurements = measured_twice(data, band, measure, form, seed, draws, nulls)
                bins = rank_bins(measurements["observed"][0].shape[1])
                means = {source: binned(ordered(*pair), bins) for source, pair in measurements.items()}
                for source in ("observed", *nulls):
                    if source not in means:
                        continue
                    over = means["resampled"] if (source, form) == ("observed", "controlled") else means[source]
                    low, high = np.percentile(over, [2.5, 97.5], axis=0)
                    frames.append(
                        pd.DataFrame(
                            {"band": band, "measure": measure, "form": form, "source": source}
                            | {
                                "rank": np.exp(bins.ln_rank),
                                "value": np.median(means[source], 0),
                                "low": low,
                                "high": high,
                            }
                        )
                    )
    return pd.concat(frames, ignore_index=True)


@memory(band_sums)
def slopes(data: SplitHalfSums, bands: Sequence[str] = BANDS) -> pd.DataFrame:
    """Compute local slopes of the sorted |net| in a sliding window, as published: ``band``, ``ln_rank``, ``slope``."""
    frames = []
    for band in [b for b in bands if data.of(b)[1].any()]:
        centres, slope = local_slopes(-np.sort(-np.abs(ratio(*data.of(band)))))
        frames.append(pd.DataFrame({"band": band, "ln_rank": centres, "slope": slope}))
    return pd.concat(frames, ignore_index=True)

"""The three regimes of the rank curve – plateau, power law, rapid decay – as published and with controls (claims C1–C6, C8).

Published: |effect| of all documents, sorted; boundaries fixed at ln rank 3.5 and 5.5. Controlled: order by half A, values of half B, each
statistic with an interval by resampling the documents of B and its percentile in nulls that go through the same two halves.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from raretok.findings.identification import Halves
from raretok.findings.rankings import BANDS, DRAWS, MEASURES, curve_statistics, measured_twice
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

BREAKS = ("break_1", "break_2", "plateau_share", "middle_share", "decay_share", "breaks")
"""Read from the positions of the breaks, which lie on a grid."""
BOUNDED = ("middle_r2", "top_share", "gini", "agreement")
"""At most 1."""
LIGHT = ("half_normal", "exponential")
JUDGED_BY = dict.fromkeys(("head_excess", "flattening", "steepening"), (*LIGHT, "lognormal")) | {
    "agreement": ("noise",),
    "top_share": ("noise", *LIGHT),
    "gini": ("noise", *LIGHT),
}
"""The nulls that a statistic must leave to count as a departure."""
SIGNED = ("head_excess", "flattening", "steepening")
"""0 means nothing, so that the interval must exclude it, too."""


def regimes(
    data: Halves,
    seed: int,
    draws: int = DRAWS,
    bands: Sequence[str] = BANDS,
    measures: Sequence[str] = MEASURES,
    forms: Sequence[str] = ("published", "controlled"),
    untrained: Halves | None = None,
) -> pd.DataFrame:
    """Every statistic of every curve, with interval and percentiles; a row a band, measure, form and statistic.

    Args:
        data: of the model.
        seed: of resamples and nulls.
        draws: of each null.
        bands: which curves.
        measures: net, activity.
        forms: published, controlled.
        untrained: of the same model on the same windows before its first step, where there is such a checkpoint.

    Columns: ``band``; ``measure`` (net: mean Δ; activity: mean |Δ|); ``form``; ``statistic``: those of ``rankcurve.shape``, and for the
    controlled form ``agreement`` (correlation of the neurons' effects in A and B), ``break_1``, ``break_2`` (ln rank), ``flattening`` (slope before the first break
    less slope after it: > 0 a flat head), ``steepening`` (the same at the second: > 0 a fall), ``plateau_share``, ``middle_share``, ``decay_share`` (of the
    neurons, between the breaks) and ``breaks`` (number chosen by BIC);
    ``estimate``, ``low``, ``high`` (95 % interval; none as published); ``noise``, ``half_normal``, ``exponential``, ``lognormal``: percentile in
    that null, 0 to 1; ``untrained``: percentile among the curves of the untrained checkpoint with its documents resampled (controlled form); ``null_low``, ``null_high``: the widest 95 % range of the nulls it is ``JUDGED_BY`` (activity has no noise null: it is positive by definition); ``departs``: +1 or −1 if the statistic lies in the outer 5 % of each null it is
    judged by on that side, and its interval excludes 0 where that means nothing, else 0; ``null``: the least extreme of those percentiles.
    A curve whose halves do not agree beyond noise has no shape, so nothing of it departs; and as noise has no held-out curve, the head excess is held
    against noise in its published form, too.
    """
    records: list[dict[str, Any]] = []
    for band in [b for b in bands if data.of(b)[1].any()]:
        for measure in measures:
            for form in forms:
                curves = measured_twice(data, band, measure, form, seed, draws)
                found = {source: curve_statistics(data, band, measure, form, *pair) for source, pair in curves.items()}
                if untrained is not None and form == "controlled" and untrained.of(band)[1].any():
                    pair = measured_twice(untrained, band, measure, form, seed, draws, ())["resampled"]
                    found["untrained"] = curve_statistics(untrained, band, measure, form, *pair)
                for name, observed in found["observed"].items():
                    estimate = float(observed[0])
                    low = high = np.nan
                    if form == "controlled":
                        low, high = interval(
                            estimate, found["resampled"][name], name not in BREAKS, 1.0 if name in BOUNDED else np.inf
                        )
                        low, high = _with_grid(name, low, high)
                    records.append(
                        {"band": band, "measure": measure, "form": form, "statistic": name}
                        | {"estimate": estimate, "low": low, "high": high}
                        | {
                            n: percentile(estimate, found[n][name]) if n in found else np.nan
                            for n in (*NULLS, "untrained")
                        }
                        | _envelope([found[n][name] for n in JUDGED_BY.get(name, NULLS) if n in found])
                    )
    table = pd.DataFrame(records)
    judged = [_departure(row, table) for row in table.to_dict("records")]
    return table.assign(departs=[d for d, _ in judged], null=[p for _, p in judged])


def _with_grid(name: str, low: float, high: float) -> tuple[float, float]:
    """Interval of what is read from breaks, wider by half a step of their grid on either side."""
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
            told = same & (table["statistic"] == name) & (table["form"] == "published")
            places += list(table.loc[told, "noise"])
    if not places or not np.isfinite([row["estimate"], *places]).all():
        return 0, float("nan")
    above = row["estimate"] > 0
    null = min(places) if above else max(places)
    clear = name not in SIGNED or row["low"] > 0 or row["high"] < 0
    outside = null >= 1 - LEVEL if above else null <= LEVEL and name in SIGNED
    return (1 if above else -1) * int(clear and outside), null


def contrasts(
    data: Halves, seed: int, draws: int = DRAWS, others: Sequence[str] = ("matched", "common")
) -> pd.DataFrame:
    """Statistics of the rare curve less those of another band, controlled form; a row a band and statistic.

    Columns: ``other`` (against matched, only rare targets that have controls count); ``statistic``: those of ``shape``, and ``lead``, the mean effect in nats, in
    B, of the 33 neurons that lead the rare curve in A, with their sign there; ``rare``, ``value`` (of the two
    curves); ``difference``, ``low``, ``high`` (documents of B resampled, the same for both); ``p``: two-sided, of the difference when the labels rare
    and other are exchanged in random documents (sums first brought to the same total weight); ``exchanged``: percentile of the rare value among those of
    the curves with exchanged labels.
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
        labels_a, labels_b = (swap_documents(part[0], part[1], draws, seed + k) for k, part in enumerate((a, b)))
        leaders = np.argsort(-np.abs(first[0][0]), kind="stable")[:HEAD]
        sign = np.sign(first[0][0, leaders])
        found, drawn, permuted = (
            [shape(ordered(x, y)) | {"lead": (y[:, leaders] * sign).mean(-1)} for x, y in zip(*pair, strict=True)]
            for pair in ((first, second), (still, resampled), (labels_a, labels_b))
        )
        for name in (*SHAPE, "lead"):
            rare, value = (float(x[name][0]) for x in found)
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


def tails(data: Halves, seed: int, draws: int = DRAWS, bands: Sequence[str] = ("rare",)) -> pd.DataFrame:
    """Power-law fits of the distribution of |net| over all documents (``stats.powerlaw``); a row a band.

    Columns: ``band``; ``neurons``; ``alpha``, ``error``, ``x_min`` (nats), ``tail`` (neurons above it), ``p`` (of the fit); for each rival ``<rival>
    ratio`` (> 0 favours the power law) and ``<rival> p`` on that tail, and ``<rival> nested`` (p of the power law inside the rival over head and
    middle, the ranks below e^5.5, which no fit has chosen).
    """
    records = []
    for band in [b for b in bands if data.of(b)[1].any()]:
        values = np.abs(ratio(*data.of(band)))
        fit = powerlaw.fit_tail(values)
        record = {"band": band, "neurons": len(values), "alpha": fit.alpha, "error": fit.error, "x_min": fit.x_min}
        record |= {"tail": fit.tail, "p": powerlaw.plausibility(values, draws, np.random.default_rng(seed))}
        for _, row in powerlaw.compare(values, fit).iterrows():
            record |= {f"{row['rival']} ratio": row["ratio"], f"{row['rival']} p": row["p"]}
        for _, row in powerlaw.compare(values, powerlaw.fit_top(values, int(np.exp(MIDDLE_END)))).iterrows():
            record |= {f"{row['rival']} nested": row["nested"]}
        records.append(record)
    return pd.DataFrame(records)


def published(data: Halves) -> pd.DataFrame:
    """What the published estimator says, within sign class and for the whole layer; a row a choice of positions and a class.

    Columns: ``positions`` (rare targets, or positions where a type of the rarer half is read, as published); ``neurons_in``
    (boost, suppress, all); ``neurons``; ``head``, ``middle``, ``tail`` (shares of the neurons that the fixed boundaries give); ``exponent`` (−slope of the middle), ``r2``,
    ``head_excess``; ``plateau`` (whether the head lies above the line).
    """
    records = []
    for band in ("rare", "half of types input"):
        net = ratio(*data.of(band))
        for name, member in (("boost", net > 0), ("suppress", net <= 0), ("all", net == net)):
            found = {k: float(v[0]) for k, v in shape(ordered(net[None, member], net[None, member]), 0.0).items()}
            count = int(member.sum())
            head, middle = (sum(np.log(np.arange(1, count + 1)) < end) / count for end in (HEAD_END, MIDDLE_END))
            records.append(
                {"positions": band, "neurons_in": name, "neurons": count}
                | {"head": head, "middle": middle - head, "tail": 1 - middle}
                | {"exponent": -found["middle_slope"], "r2": found["middle_r2"]}
                | {"head_excess": found["head_excess"], "plateau": found["head_excess"] > 0}
            )
    return pd.DataFrame(records)


def curves(
    data: Halves,
    seed: int,
    draws: int = DRAWS,
    bands: Sequence[str] = BANDS,
    measures: Sequence[str] = MEASURES,
    nulls: Sequence[Kind] = NULLS,
) -> pd.DataFrame:
    """Rank curves with the nulls' in the same axes, for charts; a row a band, measure, form, source and bin of ranks.

    Columns: ``band``, ``measure``, ``form``; ``source`` (observed, or a null); ``rank`` (geometric mean of the bin); ``value`` (nats; a null's median), ``low``,
    ``high`` (95 %: by resampling documents, or over the null's draws).
    """
    frames = []
    for band in [b for b in bands if data.of(b)[1].any()]:
        for measure in measures:
            for form in ("published", "controlled"):
                found = measured_twice(data, band, measure, form, seed, draws, nulls)
                bins = rank_bins(found["observed"][0].shape[1])
                means = {source: binned(ordered(*pair), bins) for source, pair in found.items()}
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


def slopes(data: Halves, bands: Sequence[str] = BANDS) -> pd.DataFrame:
    """Local slopes of the sorted |net| in a sliding window, as published: ``band``, ``ln_rank``, ``slope``."""
    frames = []
    for band in [b for b in bands if data.of(b)[1].any()]:
        centres, found = local_slopes(-np.sort(-np.abs(ratio(*data.of(band)))))
        frames.append(pd.DataFrame({"band": band, "ln_rank": centres, "slope": found}))
    return pd.concat(frames, ignore_index=True)

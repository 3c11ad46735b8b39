"""Charts and tables of the three regimes: rank curves among nulls, local slopes, percentiles, and simulated curves."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from raretok.charts.theme import BAND_COLOURS, BLUE, GREEN, GREY, ORANGE, PURPLE, finish, rounded, show_table
from raretok.claims.verdicts import pick_or_missing
from raretok.claims.wording import place, with_interval
from raretok.findings.regimes import JUDGED_BY
from raretok.stats.nulls import NULLS
from raretok.stats.powerlaw import RIVALS
from raretok.stats.rankcurve import HEAD, HEAD_END, MIDDLE_END

NULL_NAMES = {name: name.replace("_", "-") for name in ("noise", "half_normal", "exponential", "lognormal")}
STATISTIC_NAMES = {
    "head_excess": "head excess H",
    "flattening": "flattening at the first break",
    "steepening": "steepening at the second break",
    "agreement": "agreement of halves",
    "top_share": f"share of the first {HEAD}",
    "gini": "Gini",
    "middle_slope": "slope of the middle",
}
OTHER_NAMES = {
    "head_slope": "slope of the head",
    "middle_r2": "R² of the middle",
    "tail_deficit": "tail deficit T",
    "break_1": "first break (ln rank)",
    "break_2": "second break (ln rank)",
    "plateau_share": "share before the first break",
    "middle_share": "share between the breaks",
    "decay_share": "share after the second break",
    "breaks": "breaks chosen by BIC",
}
CONTRAST_NAMES = {
    "head_excess": "head excess H",
    "middle_slope": "slope of the middle",
    "top_share": f"share of the first {HEAD}",
    "gini": "Gini",
    "lead": f"mean effect of the {HEAD} leaders (nats)",
}
_LOG = alt.Scale(type="log")
_RANKS = alt.Scale(type="log", nice=False)
_RANK = "rank of the neuron by |effect|"


def _boundaries(title: str = _RANK) -> alt.Chart:
    table = pd.DataFrame({"rank": np.exp([HEAD_END, MIDDLE_END])})
    return alt.Chart(table).mark_rule(strokeDash=[2, 4], color=GREY).encode(alt.X("rank:Q", scale=_RANKS, title=title))


def published_curve(curves: pd.DataFrame) -> alt.LayerChart:
    """Plot the paper's figure: sorted |net effect| against rank on log–log axes, with the fixed boundaries."""
    part = curves[(curves["form"] == "published") & (curves["measure"] == "net") & (curves["source"] == "observed")]
    domain = ["rare", "matched", "common"]
    line = (
        alt.Chart(part[["band", "rank", "value"]])
        .mark_line(point=alt.OverlayMarkDef(size=14, filled=True))
        .encode(
            alt.X("rank:Q", scale=_RANKS, title=_RANK),
            alt.Y("value:Q", scale=_LOG, title="|net effect| (nats)"),
            alt.Color(
                "band:N", scale=alt.Scale(domain=domain, range=[BAND_COLOURS[b] for b in domain]), title="targets"
            ),
            tooltip=["band", alt.Tooltip("rank", format=".0f"), alt.Tooltip("value", format=".2e")],
        )
    )
    return finish(
        alt.layer(_boundaries(), line).properties(width="container"),
        "The sorted effects on rare targets, and on common ones",
        "all documents, each bin of ranks averaged; dashed: the published boundaries of the regimes, ln rank 3.5 and "
        "5.5",
        "Rank curves of the absolute net effect for rare, matched and common targets on log–log axes.",
    )


def published_table(published: pd.DataFrame) -> Any:
    """Show the published estimates, with a row for each choice of positions and each class of neurons.

    ``published`` is ``regimes.published``.
    """
    names = {"neurons_in": "class", "r2": "R²", "head_excess": "H", "plateau": "head above line"}
    columns = ["positions", "class", "neurons", "head", "exponent", "R²", "H", "head above line"]
    return show_table(
        published.rename(columns=names)[columns],
        {"head": "{:.1%}", "exponent": "{:.2f}", "R²": "{:.3f}", "H": "{:+.2f}"},
        "The published estimator, by choice of positions and class of neurons; it has no uncertainty and no null",
    )


def contrast_table(contrasts: pd.DataFrame) -> Any:
    """Compare statistics of the rare curve with those of other targets; ``contrasts`` is ``regimes.contrasts``."""
    shown = contrasts[contrasts["statistic"].isin(CONTRAST_NAMES)]
    intervals = [with_interval(r["difference"], r["low"], r["high"]) for r in shown.to_dict("records")]
    table = shown.rename(columns={"other": "against", "value": "other"}).assign(
        statistic=shown["statistic"].map(CONTRAST_NAMES), **{"difference [95%]": intervals}
    )
    return show_table(
        table[["against", "statistic", "rare", "other", "difference [95%]", "p"]],
        {"rare": "{:.3f}", "other": "{:.3f}", "p": "{:.3f}"},
        "The rare curve against the others, held out; p by exchanging labels in random documents",
    )


def rival_table(tails: pd.DataFrame) -> Any:
    """Compare the power law with other distributions of the effects on rare targets; ``tails`` is ``regimes.tails``."""
    tail = pick_or_missing(tails, band="rare")
    names = {"ratio": "likelihood ratio", "p": "p", "nested": "nested p"}
    values = {title: [tail[f"{rival} {name}"] for rival in RIVALS] for name, title in names.items()}
    table = pd.DataFrame({"rival": RIVALS} | values)
    return show_table(
        table,
        {"likelihood ratio": "{:+.2f}", "p": "{:.3f}", "nested p": "{:.3f}"},
        "The power law against its rivals on the same tail; a ratio > 0 favours the power law. Nested p: of the "
        "power law inside the rival, over head and middle",
    )


def local_slopes(slopes: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the slope in a window that slides over ln rank; the slope of a power law would be constant.

    Of ``facts``, ``head_slope`` and ``tail_slope`` are used.
    """
    domain = [b for b in ("rare", "matched", "common") if b in set(slopes["band"])]
    line = (
        alt.Chart(slopes.dropna().assign(rank=lambda x: np.exp(x["ln_rank"])))
        .mark_line()
        .encode(
            alt.X("rank:Q", scale=_RANKS, title=_RANK),
            alt.Y("slope:Q", title="local slope"),
            alt.Color(
                "band:N", scale=alt.Scale(domain=domain, range=[BAND_COLOURS[b] for b in domain]), title="targets"
            ),
        )
    )
    return finish(
        alt.layer(_boundaries(), line).properties(width="container", height=220),
        f"The local slope of the rare curve: {facts['head_slope']} in the head, {facts['tail_slope']} beyond the "
        "middle",
        "least squares in a window of 0.5 in ln rank, medians of each part; a power law would be level between the "
        "dashed boundaries",
        "Local slope of the rank curves against rank for rare, matched and common targets.",
    )


def overlay(curves: pd.DataFrame) -> alt.LayerChart:
    """Plot observed curves among their nulls; the reader chooses model, targets, statistic, form and null.

    ``curves`` are tables ``regimes.curves`` with a column ``model``.
    """
    shown = curves[curves["value"] > 0].copy()
    shown = rounded(shown, ["rank", "value", "low", "high"])
    floor = shown["value"].groupby([shown["model"], shown["band"], shown["measure"]]).transform("min")
    shown["low"] = shown["low"].clip(lower=floor)
    shown["source"] = shown["source"].replace(NULL_NAMES)
    chosen: dict[str, Any] = {}
    wanted = (
        ("model", "model ", list(dict.fromkeys(shown["model"]))),
        ("band", "targets ", ["rare", "matched", "common"]),
        ("measure", "statistic ", ["net", "activity"]),
        ("form", "form ", ["controlled", "published"]),
        ("null", "null ", list(NULL_NAMES.values())),
    )
    for name, label, options in wanted:
        first = "lognormal" if name == "null" else options[0]
        chosen[name] = alt.param(
            name=f"overlay_{name}", value=first, bind=alt.binding_select(options=options, name=label)
        )
    same = " && ".join(f"datum.{name} == overlay_{name}" for name in ("model", "band", "measure", "form"))
    kind = "datum.source == 'observed' ? 'observed' : 'null'"
    # The names of a curve are stored once and not at each of its points, where they would be a third of the page.
    names = ["model", "band", "measure", "form", "source"]
    shown["curve"] = shown.groupby(names, sort=False).ngroup()
    curves_named = shown[["curve", *names]].drop_duplicates()
    base = (
        alt.Chart(shown[["curve", "rank", "value", "low", "high"]])
        .transform_lookup("curve", alt.LookupData(curves_named, "curve", names))
        .transform_filter(f"{same} && (datum.source == 'observed' || datum.source == overlay_null)")
        .transform_calculate(kind=kind)
    )
    colour = alt.Color("kind:N", scale=alt.Scale(domain=["observed", "null"], range=[ORANGE, GREY]), title=None)
    x = alt.X("rank:Q", scale=_RANKS, title=_RANK)
    title = "net effect or activity (nats)"
    band = base.mark_area(opacity=0.22).encode(x, alt.Y("low:Q", scale=_LOG, title=title), alt.Y2("high:Q"), colour)
    line = base.mark_line(point=alt.OverlayMarkDef(size=16, filled=True)).encode(
        x,
        alt.Y("value:Q", scale=_LOG, title=title),
        colour,
        tooltip=["source:N", alt.Tooltip("rank", format=".0f"), alt.Tooltip("value", format=".2e")],
    )
    return finish(
        alt.layer(_boundaries(), band, line).add_params(*chosen.values()).properties(width="container", height=340),
        "The observed curve, and what a null looks like in the same axes",
        "choose below; ribbons: 95% of documents resampled (observed, controlled form) or of the null's draws; a bin "
        "without a positive mean has no point",
        "Observed rank curve with the ribbon of a chosen null distribution on the same log–log axes.",
    )


def percentiles(statistics: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the percentile of each judged statistic of the rare curve in each of its nulls.

    ``statistics`` is ``regimes.statistics``; of ``facts``, ``departing_statistics`` and ``judged_statistics`` are used.
    """
    part = statistics[(statistics["band"] == "rare") & (statistics["measure"] == "net")]
    part = part[part["form"] == "controlled"]
    part = part[part["statistic"].isin(JUDGED_BY)]
    table = part.melt("statistic", list(NULLS), "null", "percentile").dropna()
    table = table[[n in JUDGED_BY[s] for s, n in zip(table["statistic"], table["null"], strict=True)]]
    table["statistic"] = table["statistic"].map(STATISTIC_NAMES)
    table["null"] = table["null"].map(NULL_NAMES)
    order = [STATISTIC_NAMES[s] for s in JUDGED_BY]
    y = alt.Y("statistic:N", sort=order, title=None, axis=alt.Axis(labelLimit=220))
    marks = (
        alt.Chart(table)
        .mark_point(size=70, opacity=0.9)
        .encode(
            alt.X(
                "percentile:Q",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%"),
                title="percentile in the null",
            ),
            y,
            alt.Color("null:N", scale=alt.Scale(domain=list(NULL_NAMES.values()), range=[GREY, BLUE, GREEN, PURPLE])),
            alt.Shape("null:N", scale=alt.Scale(domain=list(NULL_NAMES.values()))),
            tooltip=["statistic", "null", alt.Tooltip("percentile", format=".1%")],
        )
    )
    limits = alt.Chart(pd.DataFrame({"percentile": [0.05, 0.95]})).mark_rule(strokeDash=[3, 3]).encode(x="percentile:Q")
    return finish(
        alt.layer(limits, marks).properties(width="container", height=200),
        f"{facts['departing_statistics']} of {facts['judged_statistics']} statistics of the rare curve leave every "
        "null they are judged by",
        "percentile of the controlled estimate in each null; dashed: the outer 5% on either side",
        "Dot plot of the percentile of each rank-curve statistic in the noise, half-normal, exponential and "
        "lognormal nulls.",
    )


def complete_table(statistics: pd.DataFrame, contrasts: pd.DataFrame) -> Any:
    """Show every statistic of every curve in the controlled form.

    The columns are the estimate with its interval, the percentile in each null, and whether the statistic leaves the
    nulls that it is judged by. ``statistics`` are tables ``regimes.statistics``. ``contrasts`` are tables
    ``regimes.contrasts``, which give the percentile among curves with exchanged labels. Either both are by step, or
    neither is.
    """
    part = statistics[statistics["form"] == "controlled"]
    exchanged = {
        (row.get("step"), row["statistic"]): row["exchanged"]
        for row in contrasts[contrasts["other"] == "matched"].to_dict("records")
    }
    rows: list[dict[str, Any]] = []
    for row in part.to_dict("records"):
        about_labels = (row["band"], row["measure"]) == ("rare", "net")
        place_of_rare = exchanged.get((row.get("step"), row["statistic"]), np.nan)
        rows.append(
            ({"step": f"{row['step']:,}"} if "step" in row else {})
            | {
                "effect": row["measure"],
                "targets": row["band"],
                "statistic": (STATISTIC_NAMES | OTHER_NAMES)[row["statistic"]],
                "estimate [95%]": with_interval(row["estimate"], row["low"], row["high"]),
            }
            | {name: place(row[null]) for null, name in NULL_NAMES.items()}
            | {"untrained": place(row["untrained"])}
            | {"labels exchanged": place(place_of_rare if about_labels else np.nan)}
            | {"outside": {1: "above", -1: "below", 0: "–"}[row["departs"]]}
        )
    caption = (
        "Percentile of each statistic in each null; outside: beyond the outer 5% of all that it is judged by. "
        "Labels exchanged: the rare targets that have controls, against these"
    )
    return show_table(pd.DataFrame(rows), caption=caption)


def simulations(curves: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot sorted independent draws of four distributions, all of which bend twice and are straight in the middle.

    ``curves`` come from ``findings.simulated_rankings``; of ``facts``, ``simulated_r2`` and ``neurons`` are used.
    """
    domain, drawn_rank = list(dict.fromkeys(curves["distribution"])), "rank of the draw"
    line = (
        alt.Chart(curves)
        .mark_line()
        .encode(
            alt.X("rank:Q", scale=_RANKS, title=drawn_rank),
            alt.Y("value:Q", scale=_LOG, title="size (median 1)"),
            alt.Color(
                "distribution:N", scale=alt.Scale(domain=domain, range=[BLUE, GREEN, PURPLE, ORANGE]), title=None
            ),
            alt.StrokeDash("distribution:N", scale=alt.Scale(domain=domain), title=None),
        )
    )
    return finish(
        alt.layer(_boundaries(drawn_rank), line).properties(width="container"),
        f"Independent draws of four kinds: a straight line fits each middle with R² of {facts['simulated_r2']} or more",
        f"{facts['neurons']} draws of each distribution, sorted; dashed: the published boundaries",
        "Sorted draws of half-normal, exponential, lognormal and power-law distributions on log–log axes.",
    )


def simulated_table(statistics: pd.DataFrame) -> Any:
    """Show ``statistics`` of the rank curves of independent draws, which come from ``findings.simulated_rankings``."""
    names = {"middle_r2": "R² of the middle", "middle_slope": "slope", "head_excess": "H"}
    return show_table(
        statistics.rename(columns=names),
        {"R² of the middle": "{:.3f}", "slope": "{:.2f}", "H": "{:+.2f}"},
        "One draw of each; another seed of the page gives other draws",
    )

"""Charts of the text: Zipf's curve with the bands, and how hard each frequency tenth is."""

import altair as alt
import pandas as pd

from raretok.charts.theme import BAND_COLOURS, finish, log_ranks
from raretok.data.frequency import DECILES

_BANDS = ["rare", "between", "common"]


def zipf(types: pd.DataFrame) -> alt.LayerChart:
    """Count against rank of every type of ``Study.types``, coloured by band; log–log."""
    shown = types.set_index("rank").loc[log_ranks(len(types))].reset_index()
    edges = types[types["band"] != "between"].groupby("band")["rank"].agg(["min", "max"])
    rules = pd.DataFrame(
        {"rank": [edges.loc["common", "max"], edges.loc["rare", "min"]], "edge": ["common ends", "rare begins"]}
    )
    x = alt.X("rank:Q", scale=alt.Scale(type="log"), title="rank of the token type (1: most frequent)")
    points = (
        alt.Chart(shown)
        .mark_circle(size=28)
        .encode(
            x,
            alt.Y("count:Q", scale=alt.Scale(type="log"), title="occurrences in the corpus"),
            alt.Color("band:N", scale=alt.Scale(domain=_BANDS, range=[BAND_COLOURS[b] for b in _BANDS]), title=None),
            tooltip=["text", "rank", alt.Tooltip("count", format=","), "band"],
        )
    )
    lines = alt.Chart(rules).mark_rule(strokeDash=[4, 4]).encode(x, tooltip="edge")
    total, rare = types["count"].sum(), types[types["band"] == "rare"]
    return finish(
        alt.layer(lines, points).properties(width="container"),
        "Most types are rare, most tokens are not",
        f"{len(types):,} types; the rarest {len(rare):,} make up {rare['count'].sum() / total:.1%} of {total:,} tokens",
        "Occurrences against rank of the token types, both on log axes, with the rare and the common band marked.",
    )


def difficulty(bands: pd.DataFrame) -> alt.LayerChart:
    """Mean loss by frequency tenth (``Study.bands``), with the rare, matched and common bands as levels."""
    tenths = bands[bands["band"].isin(DECILES)].assign(decile=range(1, len(DECILES) + 1))
    levels = bands[bands["band"].isin(["rare", "matched", "common"])]
    y = alt.Y("loss:Q", title="mean loss (nats)")
    bars = (
        alt.Chart(tenths)
        .mark_bar(color=BAND_COLOURS["between"], opacity=0.75)
        .encode(
            alt.X(
                "decile:O",
                title="tenth of the token mass by frequency of the target (1: rarest)",
                axis=alt.Axis(labelAngle=0),
            ),
            y,
            tooltip=["band", alt.Tooltip("loss", format=".2f"), alt.Tooltip("ablated", format=",")],
        )
    )
    domain = ["rare", "matched", "common"]
    colour = alt.Color(
        "band:N", scale=alt.Scale(domain=domain, range=[BAND_COLOURS[b] for b in domain]), title="mean of a band"
    )
    rules = alt.Chart(levels).mark_rule(size=2).encode(y, colour, tooltip=["band", alt.Tooltip("loss", format=".2f")])
    loss = bands.set_index("band")["loss"]
    return finish(
        alt.layer(bars, rules).resolve_scale(color="independent").properties(width="container", height=240),
        f"Rare targets cost {loss['rare']:.1f} nats, common ones {loss['common']:.1f}",
        "so they are compared with common targets that are as hard: the matched band",
        "Mean loss in nats for ten tenths of the token mass from the rarest targets to the most frequent, and for three bands.",
    )

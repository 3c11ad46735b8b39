"""Charts of the corpus: Zipf's curve with the bands, the loss by frequency tenth, type samples, and the model card."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from raretok.charts.theme import BAND_COLOURS, finish, log_ranks, show_table
from raretok.data.frequency import DECILES
from raretok.measure.inputs import Inputs

_BANDS = ["rare", "between", "common"]


def zipf(types: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot count against rank of every type of ``corpus.types`` on log–log axes, coloured by band."""
    shown = types.set_index("rank").loc[log_ranks(len(types))].reset_index()
    edges = types[types["band"] != "between"].groupby("band")["rank"].agg(["min", "max"])
    rules = pd.DataFrame(
        {"rank": [edges.loc["common", "max"], edges.loc["rare", "min"]], "edge": ["common ends", "rare begins"]}
    )
    x = alt.X("rank:Q", scale=alt.Scale(type="log"), title="rank of the token type, by the source that is used")
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
    return finish(
        alt.layer(lines, points).properties(width="container"),
        f"{facts['rare_share']} of the types are rare, and make up {facts['rare_mass']} of the tokens",
        f"{facts['types']} types; the rarest {facts['rare_types']} make up {facts['rare_mass']} of {facts['tokens']} "
        "tokens",
        "Occurrences against rank of the token types, both on log axes, with the rare and the common band marked.",
    )


def sources_table(sources: pd.DataFrame) -> Any:
    """Show how far the sources of ``corpus.sources`` agree on what is rare."""
    names = {"training": "training text", "merges": "tokenizer's merges", "words": "list of words", "text": "this text"}
    table = pd.DataFrame(
        {
            "source": sources["source"].map(names) + sources["used"].map({True: " (used)", False: ""}),
            "ρ with the one used": sources["agreement"],
            "rare by both": sources["shared"],
            "learned early": sources["early"],
            "left out": sources["unranked"],
            "why not": sources["reason"].replace("", None),
        }
    ).dropna(axis=1, how="all")
    caption = (
        "Sources of frequency: Spearman’s correlation over types; the share of the rare tokens that are rare by this "
        "source, too; the share of its rare tokens whose types are in the first half that the tokenizer learned; "
        "the share of all tokens whose types are in no band"
    )
    formats = {"ρ with the one used": "{:.2f}"} | dict.fromkeys(("rare by both", "learned early", "left out"), "{:.0%}")
    return show_table(table, formats, caption, wrap=True)


def type_samples(types: pd.DataFrame, seed: int, most: int = 24) -> Any:
    """Show a seeded sample of the rare types and one of the common types of ``corpus.types``."""
    rows = []
    for band in ("rare", "common"):
        part = types[types["band"] == band]
        drawn = part.sample(min(most, len(part)), random_state=seed)
        rows.append({"band": band, "types": "  ".join(f"“{text}”" for text in drawn["text"])})
    return show_table(pd.DataFrame(rows), caption="␣ is a leading space, ⏎ a line break", wrap=True)


def band_table(bands: pd.DataFrame) -> Any:
    """Show the content of each band of ``effects.bands``."""
    names = {"targets": "stands for", "effective": "effective number", "loss": "mean loss (nats)"}
    counts = dict.fromkeys(("ablated", "documents", "types"), "{:,}")
    sizes = dict.fromkeys(("stands for", "effective number"), "{:,.0f}")
    caption = "Positions by band; “input”: by the token that is read there, not the one predicted"
    return show_table(bands.rename(columns=names), {**counts, **sizes, "mean loss (nats)": "{:.2f}"}, caption)


def model_card(inputs: Inputs) -> Any:
    """Show the origin and the sizes of a study's model."""
    entry, model, step = inputs.entry, inputs.model, inputs.settings.step
    card = {
        "name": entry.name,
        "source": f"{entry.package.distribution} (package registry)" if entry.package else entry.source,
        "parameters": entry.parameters,
        "licence": entry.licence,
        "checkpoint": "final" if step is None else f"step {step}",
        "layers": str(len(model.blocks)),
        "width of the residual stream (d_model)": str(model.readout.w_out.shape[1]),
        "neurons of the last MLP layer (d_mlp)": str(model.readout.neurons),
        "vocabulary": f"{model.readout.vocab:,}",
        "final norm": "LayerNorm" if model.readout.centred else "RMSNorm",
        "identity of the weights": inputs.weights[:16],
        "note": entry.note or "–",
    }
    return show_table(
        pd.DataFrame({"property": list(card), "value": list(card.values())}), None, "Model card", wrap=True
    )


def difficulty(bands: pd.DataFrame, facts: Mapping[str, str]) -> alt.LayerChart:
    """Plot the mean loss by frequency tenth (``effects.bands``), with the rare, matched and common bands as levels."""
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
    return finish(
        alt.layer(bars, rules).resolve_scale(color="independent").properties(width="container", height=240),
        f"Rare targets cost {facts['rare_loss']} nats, common ones {facts['common_loss']}",
        "so they are compared with common targets that are as hard: the matched band",
        "Mean loss in nats for ten tenths of the token mass from the rarest targets to the most frequent, and for "
        "three bands.",
    )

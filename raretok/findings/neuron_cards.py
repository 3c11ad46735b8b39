"""What a neuron writes and where it fires.

The cards list the tokens that a neuron's output row promotes and suppresses, and its strongest contexts.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from raretok.data.frequency import UnigramCounts
from raretok.data.text import Windows
from raretok.findings import identification, intervention
from raretok.findings.groups import Activity, activity
from raretok.findings.identification import rare_token_neurons
from raretok.findings.neuron_types import neuron_types
from raretok.findings.steps import by_step
from raretok.graph import at_every_step, if_applicable, memory, table
from raretok.measure import inputs
from raretok.measure.effects import band_sums, effects, readout
from raretok.model.readout import Readout
from raretok.model.tokens import show_tokens
from raretok.stats.resampling import ratio
from raretok.stats.sums import SplitHalfSums

MOST = 20
"""Number of tokens kept at either end."""


@table(readout, inputs.frequency, inputs.tokenizer)
def logit_attribution(readout: Readout, frequency: UnigramCounts, tokenizer: Any) -> pd.DataFrame:
    """List the tokens that each neuron's output row promotes and suppresses most.

    Logits are per unit of activation, before the final scale. Columns: ``neuron``, ``rank``, ``promotes``,
    ``promotes_logit``, ``suppresses``, ``suppresses_logit``. Types that do not occur in the corpus are left out.
    """
    counts, show = frequency.counts, partial(show_tokens, tokenizer)
    readout = readout.to("cpu")
    relative = readout.unembed - readout.unembed.mean(1, keepdim=True)
    u = (readout.centre(readout.direction) * readout.gain) @ relative[:, : len(counts)]
    absent = torch.from_numpy(counts[: u.shape[1]] == 0)
    most = min(MOST, int((~absent).sum()))
    high, low = (x.masked_fill(absent, -torch.inf).topk(most) for x in (u, -u))
    return pd.DataFrame(
        {
            "neuron": np.repeat(np.arange(len(u)), most),
            "rank": np.tile(np.arange(1, most + 1), len(u)),
            "promotes": show(high.indices.flatten().numpy()),
            "promotes_logit": high.values.flatten().numpy(),
            "suppresses": show(low.indices.flatten().numpy()),
            "suppresses_logit": -low.values.flatten().numpy(),
        }
    )


@memory(logit_attribution)
def top_tokens(attribution: pd.DataFrame, neurons: Sequence[int], top: int = 8) -> pd.DataFrame:
    """Return the first rows of ``logit_attribution`` for some neurons."""
    chosen = attribution["neuron"].isin(neurons) & (attribution["rank"] <= top)
    return attribution[chosen].reset_index(drop=True)


@memory(activity)
def partners(activity: Activity, neurons: Sequence[int], most: int = 5) -> pd.DataFrame:
    """List the neurons whose activations correlate most with those of some neurons in rare-target contexts.

    Columns: ``neuron``, ``partner``, ``r`` (Pearson, of either sign), sorted by |r|, largest first.
    """
    weight = activity.weight["rare"]
    a = activity.activation[weight > 0].astype(np.float64)
    a = a - a.mean(0)
    size = np.sqrt((a**2).sum(0))
    size[size == 0] = np.inf
    neurons = list(neurons)
    r = (a[:, neurons].T @ a) / np.outer(size[neurons], size)
    r[np.arange(len(neurons)), neurons] = 0
    best = np.argsort(-np.abs(r), axis=1, kind="stable")[:, :most]
    return pd.DataFrame(
        {"neuron": np.repeat(neurons, best.shape[1]), "partner": best.ravel()}
        | {"r": np.take_along_axis(r, best, 1).ravel()}
    )


@memory(effects, inputs.windows, inputs.tokenizer)
def max_activating_contexts(
    measured: Mapping[str, ndarray], windows: Windows, tokenizer: Any, neurons: Sequence[int], before: int = 14
) -> pd.DataFrame:
    """List the contexts in which some neurons are most active; one row per context.

    Columns: ``neuron``, ``rank``, ``activation``, ``before`` (the last ``before`` input tokens), ``target`` (the next
    token), ``loss`` (nats).
    """
    rows: Int[ndarray, "context neuron"] = measured["context_row"]
    strength: Float[ndarray, "context neuron"] = measured["context_activation"]
    records = []
    for i in neurons:
        for k, row in enumerate(rows[:, i]):
            window, position = windows.tokens[measured["window"][row]], measured["position"][row]
            records.append(
                {
                    "neuron": i,
                    "rank": k + 1,
                    "activation": float(strength[k, i]),
                    "before": tokenizer.decode(window[max(1, position - before) : position + 1]),
                    "target": show_tokens(tokenizer, [int(measured["target"][row])])[0],
                    "loss": float(measured["loss"][row]),
                }
            )
    return pd.DataFrame(records)


@memory(band_sums)
def rare_net(sums: SplitHalfSums) -> pd.DataFrame:
    """Compute the net effect of every neuron on rare targets, in nats: ``neuron``, ``net``."""
    return pd.DataFrame({"net": ratio(*sums.of("rare"))}).rename_axis("neuron").reset_index()


@memory(rare_token_neurons, neuron_types, identification.effects)
def neuron_table(neurons: pd.DataFrame, types: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Join all results on each neuron; one row per neuron.

    Columns: those of ``rare_token_neurons`` and of ``neuron_types``, and ``<band>``, ``<band>_low``, ``<band>_high``
    (net effects, nats) for each of ``intervention.BANDS``.
    """
    columns = {"net": "", "low": "_low", "high": "_high"}
    parts = [neurons, types.drop(columns="neuron")]
    for band in intervention.BANDS:
        part = effects[effects["band"] == band].sort_values("neuron")[list(columns)].reset_index(drop=True)
        parts.append(part.rename(columns={c: band + end for c, end in columns.items()}))
    return pd.concat(parts, axis=1)


@memory(
    rare_token_neurons,
    identification.effects,
    neuron_types,
    logit_attribution,
    effects,
    inputs.windows,
    inputs.tokenizer,
    activity,
    if_applicable(at_every_step(rare_net)),
)
def cards(
    neurons: pd.DataFrame,
    effects: pd.DataFrame,
    types: pd.DataFrame,
    attribution: pd.DataFrame,
    measured: Mapping[str, ndarray],
    windows: Windows,
    tokenizer: Any,
    activity: Activity,
    training: Mapping[int, pd.DataFrame] | None,
    most: int = 40,
) -> dict[str, pd.DataFrame]:
    """Collect the tables that the cards of the rare-token neurons show, by name.

    At most ``most`` neurons have cards: controlled ones by |S| in half A, then published ones.
    """
    ordered = neurons.sort_values("s_a", key=abs, ascending=False, kind="stable")
    first = ordered["controlled"]
    chosen = pd.concat([ordered[first], ordered[ordered["published"] & ~first]]).head(most)
    ids = [int(i) for i in chosen["neuron"]]
    contexts = max_activating_contexts(measured, windows, tokenizer, ids)
    tables = {
        "neurons": chosen,
        "effects": effects[effects["neuron"].isin(ids)],
        "types": types[types["neuron"].isin(ids)],
        "tokens": top_tokens(attribution, ids),
        "contexts": contexts[contexts["rank"] <= 3],
        "partners": partners(activity, ids),
    }
    if training is not None:
        rare = by_step(training)
        tables["training"] = rare[rare["neuron"].isin(ids)]
    return tables

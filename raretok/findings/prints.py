"""What a neuron writes, and where it fires: the tokens its output row raises and lowers, and its strongest contexts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from raretok.data.text import Windows
from raretok.findings.groups import Activity
from raretok.model.readout import Readout
from raretok.model.tokens import show_tokens

MOST = 20
"""Tokens kept at either end of a footprint."""


def footprint_table(readout: Readout, counts: Int[ndarray, " vocab"], show: Callable[[Any], list[str]]) -> pd.DataFrame:
    """Tokens that each neuron's output row raises and lowers most, per unit of activation before the final scale.

    Columns: ``neuron``, ``rank``, ``promotes``, ``promotes_logit``, ``suppresses``, ``suppresses_logit``. Types that do not
    occur in the corpus (``counts`` 0) are left out; ``show`` turns token ids into texts.
    """
    readout = readout.to("cpu")
    relative = readout.unembed - readout.unembed.mean(1, keepdim=True)
    u = (readout.centre(readout.w_out) * readout.gain) @ relative[:, : len(counts)]
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


def partner_table(activity: Activity, neurons: list[int], most: int = 5) -> pd.DataFrame:
    """The neurons whose activations go with those of some neurons in rare-target contexts, either way: ``neuron``, ``partner``, ``r`` (Pearson), the largest |r| first."""
    weight = activity.weight["rare"]
    a = activity.activation[weight > 0].astype(np.float64)
    a = a - a.mean(0)
    size = np.sqrt((a**2).sum(0))
    size[size == 0] = np.inf
    r = (a[:, neurons].T @ a) / np.outer(size[neurons], size)
    r[np.arange(len(neurons)), neurons] = 0
    best = np.argsort(-np.abs(r), axis=1, kind="stable")[:, :most]
    return pd.DataFrame(
        {"neuron": np.repeat(neurons, best.shape[1]), "partner": best.ravel()}
        | {"r": np.take_along_axis(r, best, 1).ravel()}
    )


def context_table(
    measured: dict[str, ndarray], windows: Windows, tokenizer: Any, neurons: list[int], before: int
) -> pd.DataFrame:
    """Where some neurons are most active, a row a context.

    Columns: ``neuron``, ``rank``, ``activation``, ``before`` (the last ``before`` tokens read), ``target`` (the next
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

"""Δ[token, neuron]: the change of the loss when a neuron of the last MLP is ablated, reduced as it is computed.

``reference`` is a hooked forward pass, ``exact`` the rank-one identity, ``certified`` a second-order pass with a proof; the
public call is ``ablate``, which streams tiles of positions through the certified pass and keeps per-document sums.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from raretok.ablation.certified import Certified
from raretok.ablation.exact import exact_effects
from raretok.ablation.identity import footprints
from raretok.ablation.kernels import WORTH_COMPILING, can_compile
from raretok.errors import RaretokError
from raretok.model.readout import Readout
from raretok.model.trace import Trace

Replacement = Literal["mean", "zero", "resample"]
TILE_BYTES = 1 << 26
"""A tile holds as many positions as keep its token × vocab arrays within this each."""


@dataclass(frozen=True)
class DocumentSums:
    """Per-document sums over the positions of each band, float64: all that later statistics need.

    ``net`` sums weight·Δ and ``activity`` weight·|Δ| (nats); ``weight`` sums the weights, ``count`` counts positions.
    """

    net: Float[ndarray, "document band neuron"]
    activity: Float[ndarray, "document band neuron"]
    weight: Float[ndarray, "document band"]
    count: Int[ndarray, "document band"]
    fallback_share: float
    largest_bound: float


def replaced_by(
    trace_activation: Float[Tensor, "token neuron"], replacement: Replacement, seed: int
) -> Float[Tensor, "token neuron"] | Float[Tensor, " neuron"]:
    """What takes the place of each activation: its mean over the kept positions, zero, or another position's value."""
    if replacement == "mean":
        return trace_activation.double().mean(0).to(trace_activation)
    if replacement == "zero":
        return torch.zeros_like(trace_activation[0])
    generator = torch.Generator().manual_seed(seed)
    return trace_activation[torch.randperm(len(trace_activation), generator=generator)]


def ablate(
    readout: Readout,
    trace: Trace,
    replacing: Float[Tensor, "token neuron"] | Float[Tensor, " neuron"],
    weights: Float[ndarray, "band token"],
    tolerance: float = 1e-4,
    progress: bool = True,
) -> DocumentSums:
    """Ablate every neuron at every position of the trace and sum the effects by document and band.

    Args:
        readout: of the model the trace was taken from.
        trace: the positions to ablate at.
        replacing: what activations become, from ``replaced_by``.
        weights: what each position counts for in each band; 0 leaves it out.
        tolerance: what a Δ taken to second order may be off by, in nats; rounding may add to the exact ones, and the
            largest bound on any pair is part of the result.
        progress: show a bar on a terminal.

    Returns:
        Sums in the order of ``np.unique(trace.document)``.
    """
    from tqdm import tqdm

    documents, document = np.unique(trace.document, return_inverse=True)
    bands, neurons = len(weights), readout.neurons
    net = np.zeros((len(documents), bands, neurons))
    activity = np.zeros_like(net)
    engine = make_engine(readout, tolerance, len(trace))
    tile = max(1, TILE_BYTES // (4 * readout.vocab))
    fallen, largest = 0, 0.0
    with tqdm(total=len(trace), desc="ablating", unit="position", disable=None if progress else True) as bar:
        for start in range(0, len(trace), tile):
            rows = slice(start, start + tile)
            part = trace[np.arange(rows.start, min(rows.stop, len(trace)))]
            effects = engine(*tile_inputs(readout, part, replacing if replacing.ndim == 1 else replacing[rows]))
            fallen += int(effects.exact.sum())
            largest = max(largest, float(effects.bound.max()))
            value = effects.value.double().cpu().numpy()
            if not np.isfinite(value).all():
                raise RaretokError("an effect is NaN or infinite: the model's activations or weights are damaged")
            for d in np.unique(document[rows]):
                here = document[rows] == d
                weight = weights[:, rows][:, here]
                net[d] += weight @ value[here]
                activity[d] += weight @ np.abs(value[here])
            bar.update(len(value))
    by_document = np.eye(len(documents))[document]
    return DocumentSums(
        net,
        activity,
        (weights @ by_document).T,
        ((weights > 0) @ by_document).T.astype(np.int64),
        fallen / (len(trace) * neurons),
        largest,
    )


def make_engine(readout: Readout, tolerance: float, positions: int) -> Certified:
    """The certified pass as ``ablate`` uses it for so many positions: compiled where that pays."""
    compiled = positions * readout.neurons * readout.vocab >= WORTH_COMPILING
    return Certified(footprints(readout), tolerance, compiled and can_compile(readout.w_out.device.type))


def tile_inputs(
    readout: Readout, trace: Trace, replacing: Float[Tensor, "token neuron"] | Float[Tensor, " neuron"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Residual stream, δ and target of a trace, where the readout is."""
    where = readout.w_out.device
    delta = replacing.to(where) - trace.activation.to(where)
    return trace.residual.to(where), delta, torch.from_numpy(trace.target.astype(np.int64)).to(where)


def audit(engine: Certified, trace: Trace, replacing: Float[Tensor, " neuron"]) -> pd.DataFrame:
    """An engine held to the exact pass in float64, a row a pair; all in nats.

    Columns: ``neuron``, ``effect`` (float64), ``error`` (certified − float64), ``bound`` (what the certificate allows),
    ``exact`` (whether the pair was done exactly).
    """
    readout = engine.feet.readout
    residual, delta, target = tile_inputs(readout, trace, replacing)
    found = engine(residual, delta, target)
    truth = exact_effects(readout.to(torch.float64), residual.double(), delta.double(), target)
    return pd.DataFrame(
        {
            "neuron": np.tile(np.arange(readout.neurons), len(trace)),
            "effect": truth.flatten().cpu().numpy(),
            "error": (found.value - truth).flatten().cpu().numpy(),
            "bound": found.bound.flatten().cpu().numpy(),
            "exact": found.exact.flatten().cpu().numpy(),
        }
    )


def check_table(values: Float[ndarray, " check"]) -> pd.DataFrame:
    """How right the numbers of a study are: ``check``, ``value``, ``unit``, ``meaning``."""
    rows = [
        ("readout", values[0], "of logit spread", "the five tensors reproduce the model's own logits to this"),
        ("hooks", values[1], "nats", "the engine and hooked forward passes differ by at most this, on a sample"),
        ("fallback", values[2], "share", "of the pairs were done exactly, not to second order"),
        (
            "bound",
            values[3],
            "nats",
            "no pair is further from the truth than this, rounding included (as if roundings were independent)",
        ),
    ]
    return pd.DataFrame(rows, columns=["check", "value", "unit", "meaning"])

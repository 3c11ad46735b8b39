"""The measurements of a study: forward pass, positions, effects of every neuron there, and the check against hooks.

They are made once per study.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from torch import Tensor

from raretok.ablation import DocumentSums, ablate, make_engine, outputs, replaced_by
from raretok.ablation.certified import Certified
from raretok.data.frequency import UnigramCounts
from raretok.data.positions import BANDS, Selection, band_table, select
from raretok.data.text import Windows
from raretok.errors import NotApplicable
from raretok.graph import arrays, memory, table
from raretok.measure import inputs
from raretok.measure.checks import check_against_hooks, check_table
from raretok.model.forward import run_trace
from raretok.model.loaded import LoadedModel, in_precision
from raretok.model.passes import summed_inputs
from raretok.model.readout import Readout
from raretok.model.tokens import is_word_start
from raretok.model.trace import Trace
from raretok.stats.sums import SplitHalfSums

CONTEXTS = 5
"""Number of strongest contexts that are kept for each neuron."""
_OF_POSITION = ("target", "input", "window", "document", "half", "position", "loss")
Measured = Mapping[str, ndarray]
"""The arrays of ``effects``, by name."""


class Prepared(NamedTuple):
    """A forward pass, the mean inputs of every layer's output matrices, the positions to ablate, the mean and the
    replacement activations, the engine, and its error against hooks (nats)."""

    trace: Trace
    means: Mapping[str, ndarray]
    chosen: Selection
    mean: Tensor
    replacing: Tensor
    engine: Certified
    error: float


def prepare(
    model: LoadedModel,
    windows: Windows,
    frequency: UnigramCounts,
    tokenizer: Any,
    sample: int,
    replacement: Any,
    dtype: str,
    tolerance: float,
    seed: int,
) -> Prepared:
    """Do everything that precedes the ablations."""
    passing = in_precision(model, dtype)
    with summed_inputs(passing, windows.tokens.shape[1]) as sums:
        trace = run_trace(passing, windows)
    means = {
        name: (torch.stack(x) / len(trace)).float().cpu().numpy()
        for name, x in sums.items()
        if len({None if s is None else s.shape for s in x}) == 1 and x[0] is not None
    }
    word_start = is_word_start(tokenizer, len(frequency.counts))
    chosen = select(
        trace.target,
        trace.input,
        trace.loss,
        trace.position,
        trace.half,
        frequency.bands,
        word_start,
        sample,
        seed,
    )
    mean = replaced_by(trace.activation, "mean", seed)
    replacing = mean if replacement == "mean" else replaced_by(trace.activation, replacement, seed)
    if replacing.ndim == 2:
        replacing = replacing[torch.from_numpy(chosen.rows)]
    engine = make_engine(model.readout, tolerance, len(chosen.rows), trace.residual[torch.from_numpy(chosen.rows)])
    error = check_against_hooks(model, windows, trace if passing is model else None, mean, engine, seed)
    return Prepared(trace, means, chosen, mean, replacing, engine, error)


def ablate_prepared(
    model: LoadedModel, prepared: Prepared, tolerance: float, shard: tuple[int, int] = (0, 1)
) -> DocumentSums:
    """Run the ablations, or the k-th of n shards of them; effects are in nats."""
    picked, weights = prepared.trace[prepared.chosen.rows], prepared.chosen.weights
    return ablate(model.readout, picked, prepared.replacing, weights, tolerance, shard=shard, engine=prepared.engine)[
        "loss"
    ]


def collect(model: LoadedModel, prepared: Prepared, sums: DocumentSums) -> dict[str, ndarray]:
    """Collect the arrays that a study stores."""
    trace, chosen, mean, error = prepared.trace, prepared.chosen, prepared.mean, prepared.error
    picked = trace[chosen.rows]
    strongest, where = trace.activation.topk(min(CONTEXTS, len(trace)), dim=0)
    return {
        **{name: getattr(trace, name) for name in _OF_POSITION},
        "rows": chosen.rows,
        "weights": chosen.weights,
        "activation": picked.activation.float().cpu().numpy(),
        "residual": picked.residual.float().cpu().numpy(),
        "mean": mean.float().cpu().numpy(),
        **{f"mean_{name}": x for name, x in prepared.means.items()},
        "context_row": where.numpy(),
        "context_activation": strongest.numpy(),
        "net": sums.net,
        "activity": sums.activity,
        "square": sums.square,
        "weight": sums.weight,
        "count": sums.count,
        "sizes": np.array(model.sizes),
        "architecture": np.array(model.architecture),
        "device": np.array(model.hardware),
        "checks": np.array([model.readout_error, error, sums.fallback_share, sums.largest_bound]),
    }


@arrays(
    inputs.model,
    inputs.windows,
    inputs.frequency,
    inputs.tokenizer,
    inputs.sample,
    inputs.replacement,
    inputs.dtype,
    inputs.tolerance,
)
def effects(
    model: LoadedModel,
    windows: Windows,
    frequency: UnigramCounts,
    tokenizer: Any,
    sample: int,
    replacement: Any,
    dtype: str,
    tolerance: float,
    seed: int,
) -> dict[str, ndarray]:
    """Compute the effects of every neuron by document and band, in nats.

    The arrays include activations and residual streams at the ablated positions.
    """
    prepared = prepare(model, windows, frequency, tokenizer, sample, replacement, dtype, tolerance, seed)
    return collect(model, prepared, ablate_prepared(model, prepared, tolerance))


@memory(effects)
def selection(measured: Measured) -> Selection:
    """Return the positions that were ablated, and their weights."""
    return Selection(measured["rows"], measured["weights"])


@memory(effects)
def band_weights(measured: Measured) -> dict[str, ndarray]:
    """Return the weight of each ablated position in each band."""
    return dict(zip(BANDS, measured["weights"], strict=True))


@memory(effects)
def band_sums(measured: Measured) -> SplitHalfSums:
    """Return per-document sums of the effects, with the documents' halves."""
    m = measured
    documents, first = np.unique(m["document"][m["rows"]], return_index=True)
    sums = DocumentSums(m["net"], m["activity"], m["square"], m["weight"], m["count"], *map(float, m["checks"][2:]))
    assert len(documents) == len(sums.net)
    return SplitHalfSums(sums, m["half"][m["rows"]][first], BANDS)


@memory(effects)
def trace(measured: Measured) -> Trace:
    """Return the trace at the ablated positions."""
    m = measured
    of_position = {name: m[name][m["rows"]] for name in _OF_POSITION}
    return Trace(torch.from_numpy(m["activation"]), torch.from_numpy(m["residual"]), **of_position)


@memory(effects)
def mean_activation(measured: Measured) -> ndarray:
    """Return the mean activation of every neuron over all positions."""
    return measured["mean"]


@memory(effects)
def layer_means(measured: Measured) -> dict[str, ndarray]:
    """Return the mean inputs of every layer's output matrices over all positions.

    ``heads`` [layer, width] holds the outputs of the heads side by side, ``neurons`` [layer, neuron] the activations.

    Raises:
        NotApplicable: the layers of the model are not alike.
    """
    if not {"mean_heads", "mean_neurons"} <= set(measured):
        raise NotApplicable(
            "the layers of this model are not alike: some have another attention, or MLPs of other widths"
        )
    return {name: measured[f"mean_{name}"] for name in ("heads", "neurons")}


@memory(effects, inputs.windows)
def sizes(measured: Measured, windows: Windows) -> dict[str, Any]:
    """Describe the size of the measurement.

    Keys: ``architecture``, ``parameters``, ``layers``, ``d_model``, ``neurons``, ``vocab``, ``tokens`` read,
    ``positions`` ablated, ``documents``, and the ``device`` used.
    """
    names = ("parameters", "layers", "d_model", "neurons", "vocab")
    return {
        "architecture": str(measured["architecture"]),
        **{name: int(size) for name, size in zip(names, measured["sizes"], strict=True)},
        "tokens": int(windows.tokens.size),
        "positions": len(measured["rows"]),
        "documents": len(measured["net"]),
        "device": str(measured["device"]),
    }


@table(selection, effects)
def bands(selection: Selection, measured: Measured) -> pd.DataFrame:
    """Describe the content of each band, see ``band_table``."""
    return band_table(selection, measured["target"], measured["loss"], measured["document"])


@memory(effects)
def checks(measured: Measured) -> pd.DataFrame:
    """Tabulate the accuracy of the numbers, see ``check_table``."""
    return check_table(measured["checks"])


@memory(inputs.model)
def readout(model: LoadedModel) -> Readout:
    """Return the model's readout."""
    return model.readout


@memory(readout, trace, inputs.tolerance)
def engine(readout: Readout, trace: Trace, tolerance: float) -> Certified:
    """Return the certified pass, which every further ablation of a study shares."""
    return make_engine(readout, tolerance, len(trace), trace.residual)


@memory(inputs.frequency, readout)
def log_unigram(frequency: UnigramCounts, readout: Readout) -> ndarray:
    """Compute the log of the unigram distribution over the model's vocabulary."""
    return outputs.log_unigram(frequency.counts, readout.vocab)


@arrays(inputs.model)
def all_weights(model: LoadedModel) -> dict[str, ndarray]:
    """Return the last MLP's weights by name, one row per neuron, in float32."""
    return {name: w.float().cpu().numpy() for name, w in {"W_out": model.readout.w_out, **model.inputs}.items()}


@memory(all_weights)
def mlp_weights(weights: Measured) -> dict[str, ndarray]:
    """Return ``all_weights`` in the order of the book: ``W_out``, and ``W_in``, or ``W_gate`` and ``W_up``."""
    return {name: weights[name] for name in sorted(weights, key=lambda n: (n != "W_out", n))}


@memory(all_weights)
def gated(weights: Measured) -> bool:
    """Return whether the MLP is gated, in which case the sign of a neuron's activation is a convention."""
    return "W_gate" in weights

"""Checks of numerical accuracy: the engine is compared with hooked forward passes and with float64.

The module also builds the table of a study's checks.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from raretok.ablation import make_engine, replaced_by, tile_inputs
from raretok.ablation.certified import Certified
from raretok.ablation.exact import exact_effects
from raretok.ablation.reference import hooked_effects
from raretok.data.text import Windows
from raretok.errors import NotApplicable, RaretokError
from raretok.graph import table
from raretok.measure import inputs
from raretok.model.forward import run_trace
from raretok.model.lens import bridge_effects, bridge_of
from raretok.model.load import bos_id
from raretok.model.loaded import LoadedModel
from raretok.model.trace import Trace

RESULTS = Path(__file__).with_name("benchmarks.json")
CHECK_LIMIT = 5e-5
"""Largest difference in nats, beyond the tolerance, between the engine and a hooked forward pass in float32."""
MUCH = 0.1
"""Difference of the mean loss in nats by which windows are better with or without a first token."""
FEW_WINDOWS = 4
"""Number of windows that are run again for a check outside the study's own pass."""


def check_against_hooks(
    model: LoadedModel, windows: Windows, trace: Trace | None, mean: Tensor, engine: Certified, seed: int
) -> float:
    """Return the largest difference in nats between the engine and hooked forward passes, on a seeded sample.

    ``trace`` is None if it is not the model's own, as of a pass in another precision; then one window is run again.

    Raises:
        RaretokError: the difference exceeds the sum of the tolerance and ``CHECK_LIMIT``.
    """
    rng, tolerance = np.random.default_rng(seed), engine.tolerance
    window = int(rng.integers(len(windows.tokens)))
    neurons = rng.choice(model.readout.neurons, 3, replace=False)
    if trace is None:
        windows, window = Windows(*(x[[window]] for x in (windows.tokens, windows.document, windows.half))), 0
        trace = run_trace(model, windows, progress=False)
    compared = compare_with_hooks(model, windows, trace, mean, window, [int(i) for i in neurons], engine)
    error = float(compared["difference"].abs().max())
    if not error <= tolerance + CHECK_LIMIT:
        raise RaretokError(
            f"{model.entry.name}: the engine and a hooked forward pass differ by {error:.1e} nats, more than "
            f"{tolerance + CHECK_LIMIT:.1e}: this model's last layers are not of the supported form"
        )
    return error


def compare_with_hooks(
    model: LoadedModel,
    windows: Windows,
    trace: Trace,
    mean: Tensor,
    window: int,
    neurons: list[int],
    engine: Certified,
) -> pd.DataFrame:
    """Compute Δ of some neurons at the positions of one window by the engine and by hooked forward passes, in nats.

    The engine ablates all neurons; the replacement is the mean. Columns: ``neuron``, ``position``, ``hooked``,
    ``engine``, ``difference``.
    """
    part = trace[np.flatnonzero(trace.window == window)]
    effects = engine(*tile_inputs(model.readout, part, mean)).value.cpu()
    tables = []
    for i in neurons:
        hooked = hooked_effects(model, windows.tokens[[window]], i, mean[i])[0].cpu()
        tables.append(pd.DataFrame({"neuron": i, "position": part.position, "hooked": hooked, "engine": effects[:, i]}))
    compared = pd.concat(tables, ignore_index=True)
    return compared.assign(difference=compared["engine"] - compared["hooked"])


def _first_windows(model: LoadedModel, windows: Windows) -> tuple[Windows, Trace]:
    few = Windows(*(x[:FEW_WINDOWS] for x in (windows.tokens, windows.document, windows.half)))
    return few, run_trace(model, few, progress=False)


@table(inputs.model, inputs.windows, inputs.bos, inputs.tokenizer)
def first_token(model: LoadedModel, windows: Windows, bos: int | None, tokenizer: Any) -> pd.DataFrame:
    """Compute the mean loss of a few windows with and without the token that may start them.

    Columns: ``first`` (that token), ``used`` (whether the study's windows start with it), ``with_it``, ``without_it``
    (nats), ``other_is_better`` (whether the other way has a loss that is lower by more than ``MUCH``).

    Raises:
        NotApplicable: the tokenizer has no such token.
    """
    first = bos
    if bos is None and (model.entry.bos or tokenizer.bos_token_id is not None):
        first = bos_id(tokenizer, model.entry, "yes")
    if first is None or first >= model.embedded:
        raise NotApplicable(
            f"the tokenizer of {model.entry.name} has no token that starts a text, or the model cannot read it"
        )
    few = windows.tokens[: 2 * FEW_WINDOWS, bos is not None :]
    few = few[:, : few.shape[1] - (bos is None)]
    started = np.concatenate([np.full((len(few), 1), first, few.dtype), few], axis=1)
    document = np.arange(len(few))
    traces = [run_trace(model, Windows(tokens, document, document % 2), progress=False) for tokens in (started, few)]
    # The same targets: the windows without the token lack the first of those that are used.
    with_it, without_it = (
        float(t.loss.reshape(len(few), -1)[:, k:].mean()) for t, k in zip(traces, (1, 0), strict=True)
    )
    better = (with_it - without_it) * (1 if bos is not None else -1) > MUCH
    row = {"first": first, "used": bos is not None, "with_it": with_it, "without_it": without_it}
    return pd.DataFrame([row | {"other_is_better": better}])


@table(inputs.model, inputs.windows, inputs.tolerance)
def hooked(model: LoadedModel, windows: Windows, tolerance: float, neurons: tuple[int, ...]) -> pd.DataFrame:
    """Compute Δ of some neurons in the first window in three ways, see ``compare_with_hooks``.

    The column ``lens`` holds the effects by the hooks of transformer-lens, NaN if it cannot represent the model.
    """
    few, trace = _first_windows(model, windows)
    mean = replaced_by(trace.activation, "mean", 0)
    engine = make_engine(model.readout, tolerance, len(trace), trace.residual)
    compared = compare_with_hooks(model, few, trace, mean, 0, list(neurons), engine)
    bridge = bridge_of(model)
    for i in neurons if bridge else ():
        effects = bridge_effects(bridge, few.tokens[:1], i, mean[i])[0]
        compared.loc[compared["neuron"] == i, "lens"] = effects.cpu().numpy()
    return compared.reindex(columns=["neuron", "position", "hooked", "lens", "engine", "difference"])


@table(inputs.model, inputs.windows, inputs.tolerance)
def certificate(model: LoadedModel, windows: Windows, tolerance: float, seed: int, positions: int = 24) -> pd.DataFrame:
    """Compare the certified with the float64 pass at some positions of the first windows, see ``audit``."""
    _, trace = _first_windows(model, windows)
    rows = np.sort(np.random.default_rng(seed).permutation(len(trace))[:positions])
    mean = replaced_by(trace.activation, "mean", 0)
    return audit(make_engine(model.readout, tolerance, len(trace), trace.residual), trace[rows], mean)


def audit(engine: Certified, trace: Trace, replacing: Float[Tensor, " neuron"]) -> pd.DataFrame:
    """Compare an engine with the exact pass in float64; one row per pair, all values in nats.

    Columns: ``neuron``, ``effect`` (float64), ``error`` (certified − float64), ``bound`` (error bound of the
    certificate), ``used_fallback`` (whether it needed exponentials).
    """
    readout = engine.attribution.readout
    certified = engine(*tile_inputs(readout, trace, replacing))
    truth = exact_effects(readout.to(torch.float64), *tile_inputs(readout, trace, replacing, torch.float64))
    return pd.DataFrame(
        {
            "neuron": np.tile(np.arange(readout.neurons), len(trace)),
            "effect": truth.flatten().cpu().numpy(),
            "error": (certified.value - truth).flatten().cpu().numpy(),
            "bound": certified.bound.flatten().cpu().numpy(),
            "used_fallback": certified.used_fallback.flatten().cpu().numpy(),
        }
    )


def check_table(values: Float[ndarray, " check"]) -> pd.DataFrame:
    """Tabulate the accuracy of a study's numbers: ``check``, ``value``, ``unit``, ``meaning``."""
    rows = [
        ("readout", values[0], "of logit spread", "the five tensors reproduce the model's own logits to this"),
        ("hooks", values[1], "nats", "the engine and hooked forward passes differ by at most this, on a sample"),
        ("fallback", values[2], "share", "of the pairs needed exponentials, the second order was not enough"),
        ("bound", values[3], "nats", "no pair is further from the truth than this: proven up to measured rounding"),
    ]
    return pd.DataFrame(rows, columns=["check", "value", "unit", "meaning"])


def benchmark_records(path: Path = RESULTS) -> list[dict[str, Any]]:
    """Read the results of the last `make bench`, one record per method and set of dimensions.

    Raises:
        RaretokError: the file is missing or damaged.
    """
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RaretokError(f"{path} is not a readable list of results ({error}): run `make bench`") from None


def benchmark_table(records: list[dict[str, Any]], name: str) -> pd.DataFrame:
    """Format the records of one set of dimensions for readers; the error is the largest, in nats."""
    columns = {
        "method": "way",
        "us_per_pair": "µs per pair",
        "ratio_to_published": "× published",
        "limit_us": "limit (µs)",
        "max_error": "error",
        "peak_mib": "peak (MiB)",
    }
    return pd.DataFrame([r for r in records if r["name"] == name])[list(columns)].rename(columns=columns)

"""How right the numbers are: the engine held to float64, and the table of a study's checks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from raretok.ablation import tile_inputs
from raretok.ablation.certified import Certified
from raretok.ablation.exact import exact_effects
from raretok.errors import RaretokError
from raretok.model.trace import Trace

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results.json"


def audit(engine: Certified, trace: Trace, replacing: Float[Tensor, " neuron"]) -> pd.DataFrame:
    """An engine held to the exact pass in float64, a row a pair; all in nats.

    Columns: ``neuron``, ``effect`` (float64), ``error`` (certified − float64), ``bound`` (what the certificate allows),
    ``exact`` (whether it needed exponentials).
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
        ("fallback", values[2], "share", "of the pairs needed exponentials, the second order was not enough"),
        (
            "bound",
            values[3],
            "nats",
            "no pair is further from the truth than this, rounding included",
        ),
    ]
    return pd.DataFrame(rows, columns=["check", "value", "unit", "meaning"])


def benchmark_records(path: Path = RESULTS) -> list[dict[str, Any]]:
    """What `make bench` measured last, a record for each method and dimensions.

    Raises:
        RaretokError: there is no such file, or it is damaged.
    """
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RaretokError(f"{path} is not a readable list of results ({error}): run `make bench`") from None


def benchmark_table(records: list[dict[str, Any]], name: str) -> pd.DataFrame:
    """The records of some dimensions as readers see them, a row each; the error is the largest, in nats."""
    columns = {
        "method": "way",
        "us_per_pair": "µs per pair",
        "ratio_to_published": "× published",
        "limit_us": "limit (µs)",
        "max_error": "error",
        "peak_mib": "peak (MiB)",
    }
    return pd.DataFrame([r for r in records if r["name"] == name])[list(columns)].rename(columns=columns)

"""Verification of shipped numbers: a sample of them is recomputed from the shipped weights and compared."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from raretok.data.frequency import load_counts
from raretok.model.load import load_model, load_tokenizer
from raretok.model.registry import MODELS, ModelEntry, counts_of
from raretok.repository import MODELS as SHIPPED
from raretok.shipped.recipes import RECIPES
from raretok.shipped.training import held_out_loss, held_out_tokens, stream
from raretok.study import Study

ROUNDED = 5
"""Number of significant digits in the shipped tables of results."""
KEPT = 2e-3
"""Tolerance in nats for a held-out loss, which may change because weights are stored in float16."""

JUMPING, JUMP = ("noise", "half_normal", "exponential", "lognormal", "null", "null_low", "null_high"), 0.1
"""Columns of percentiles in simulated nulls and of the nulls' ranges, and their tolerance. They change in steps: where
another processor rounds differently, a simulated data set can move from one side of the estimate to the other."""
NOT_SHIPPED = ["untrained"]
"""Columns that depend on checkpoints that are not shipped, namely those of the other seeds before training."""


@dataclass(frozen=True)
class Check:
    """A check of a shipped number or table: its name, the largest difference on recomputation, and the tolerance."""

    what: str
    difference: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether the shipped and recomputed values agree within the tolerance; a NaN difference never does."""
        return self.difference <= self.allowed


def verify(full: bool = False) -> Iterator[Check]:
    """Compare shipped numbers with those recomputed from the shipped weights, and yield one check after the other.

    The checks cover the training counts, the held-out loss of the last checkpoint of every shipped model (with
    ``full``, of every checkpoint), and the reliability and the rank curve's statistics of the other seeds at their last
    checkpoint. Nothing is read from the store.
    """
    shipped = [e for e in MODELS.values() if e.kind == "shipped"]
    yield _counts(shipped[0])
    for entry in shipped:
        for step in entry.steps if full else entry.steps[-1:]:
            yield _loss(entry, step)
    for folder in sorted(SHIPPED.glob("results/*")):
        yield from _results(folder)


def _counts(entry: ModelEntry) -> Check:
    recipe, path = RECIPES[entry.recipe or ""], counts_of(Path(entry.source))
    assert path
    again = np.bincount(stream(load_tokenizer(entry.name), recipe.corpus), minlength=recipe.vocab)
    kept = load_counts(path, recipe.vocab).counts
    return Check("training counts", float(np.abs(kept - again).max()), 0.0)


def _loss(entry: ModelEntry, step: int) -> Check:
    log = [json.loads(line) for line in (Path(entry.source) / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = next(r["held_out"] for r in log if r["step"] == step and "held_out" in r)
    recipe, model = RECIPES[entry.recipe or ""], load_model(entry.name, step, "cpu")
    again = held_out_loss(model.network, held_out_tokens(model.tokenizer, recipe), recipe.context)
    return Check(f"held-out loss of {entry.name} @ {step}", abs(again - kept), KEPT)


def _results(folder: Path) -> Iterator[Check]:
    config = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["study"]
    entry = MODELS[config["model"]]
    with tempfile.TemporaryDirectory() as store:
        study = Study(store=store, device="cpu", **config).at(entry.steps[-1])
        for name, table in (("reliability", "identification.reliability"), ("statistics", "regimes.statistics")):
            kept = pd.read_csv(folder / f"{name}.csv").query(f"step == {entry.steps[-1]}").reset_index(drop=True)
            kept, again = kept.drop(columns=NOT_SHIPPED, errors="ignore"), study.table(table)
            of = f"of {entry.name} @ {entry.steps[-1]}"
            smooth = kept.drop(columns=[*JUMPING], errors="ignore")
            yield Check(f"{name} {of}", largest_difference(smooth, again), 10 ** (1 - ROUNDED))
            if jumping := [c for c in JUMPING if c in kept]:
                yield Check(f"nulls of the {name} {of}", largest_difference(kept[jumping], again), JUMP)


def largest_difference(kept: pd.DataFrame, again: pd.DataFrame) -> float:
    """The largest difference between the numbers of two tables, relative where they exceed 1.

    It is infinite if the tables differ in their number of rows, their texts or their missing values.
    """
    columns = [c for c in kept if c in again]
    if len(kept) != len(again) or not columns:
        return float("inf")
    largest = 0.0
    for column in columns:
        a, b = kept[column], again[column].reset_index(drop=True)
        if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
            x, y = a.to_numpy(float), b.to_numpy(float)
            if (np.isnan(x) != np.isnan(y)).any():
                return float("inf")
            differences = np.abs(x - y) / np.maximum(1, np.abs(y))
            largest = max(largest, float(np.nanmax(differences, initial=0.0)))
        elif not a.astype(str).equals(b.astype(str)):
            return float("inf")
    return largest

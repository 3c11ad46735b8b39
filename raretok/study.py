"""A study: one model, checkpoint and corpus, measured once; its tables are computed on first call and kept in the store."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from raretok.ablation import replaced_by
from raretok.ablation.audit import audit, check_table
from raretok.claims import Evidence, judge
from raretok.data.frequency import type_table
from raretok.data.positions import band_table
from raretok.data.text import Windows
from raretok.errors import RaretokError
from raretok.findings import emergence, identification, prints, regimes
from raretok.findings.identification import NoControls
from raretok.measurement import Measurement
from raretok.model.tokens import show_tokens
from raretok.model.trace import run_trace
from raretok.stats.nulls import NULLS
from raretok.store import code_digest, hash_of


class Study(Measurement):
    """Tables about one model on one text. ``device`` and ``store`` change no number beyond its bound and are in no key.

    >>> Study(model="smollm2-135m", windows=256).identification()  # doctest: +SKIP
    """

    def _table(self, name: str, compute: Any, **more: Any) -> pd.DataFrame:
        inputs = {"effects": hash_of(self.key), "code": code_digest("findings", "stats", "study"), **more}
        return self.store.table(name, inputs, compute)

    def bands(self) -> pd.DataFrame:
        """What each band holds, see ``band_table``."""
        m = self._measured
        return self._table("bands", lambda: band_table(self.selection, m["target"], m["loss"], m["document"]))

    def effects(self) -> pd.DataFrame:
        """Effect of every neuron in every band, see ``findings.identification.effects``."""
        return self._table("effects-table", lambda: identification.effects(self.halves, self.config.seed))

    def reliability(self) -> pd.DataFrame:
        """Split-half reliability by band, see ``findings.identification.reliabilities``."""
        return self._table("reliability", lambda: identification.reliabilities(self.halves, self.config.seed))

    def identification(self) -> pd.DataFrame:
        """The rare-token neurons by both definitions, see ``findings.identification.identify``."""
        return self._table("identification", lambda: identification.identify(self.halves, self.config.seed))

    def regimes(self, measure: str = "net") -> pd.DataFrame:
        """Statistics of the rank curves with intervals and percentiles in the nulls, see ``findings.regimes.regimes``."""
        start = self.at(0) if self.entry.local_run and 0 in self.entry.steps else None

        def compute() -> pd.DataFrame:
            untrained = start.halves if start else None
            return regimes.regimes(self.halves, self.config.seed, measures=(measure,), untrained=untrained)

        return self._table(f"regimes-{measure}", compute, untrained=hash_of(start.key) if start else None)

    def contrasts(self) -> pd.DataFrame:
        """Rank curve of rare targets against those of the other bands, see ``findings.regimes.contrasts``."""
        return self._table("contrasts", lambda: regimes.contrasts(self.halves, self.config.seed))

    def tails(self) -> pd.DataFrame:
        """Power-law fits of the effects, see ``findings.regimes.tails``."""
        return self._table("tails", lambda: regimes.tails(self.halves, self.config.seed))

    def published(self) -> pd.DataFrame:
        """What the published estimator says of the rank curves, see ``findings.regimes.published``."""
        return regimes.published(self.halves)

    def curves(self, nulls: bool = True) -> pd.DataFrame:
        """Rank curves and, unless left out, those of the nulls, see ``findings.regimes.curves``."""
        kinds, name = (NULLS, "curves") if nulls else ((), "curves-observed")
        return self._table(name, lambda: regimes.curves(self.halves, self.config.seed, nulls=kinds))

    def slopes(self) -> pd.DataFrame:
        """Local slopes of the rank curves, see ``findings.regimes.slopes``."""
        return regimes.slopes(self.halves)

    # Over training

    def at(self, step: int) -> "Study":
        """The same study at another checkpoint: the same windows, the same settings."""
        other = Study(device=self.device, store=self.store, **self.config.model_dump() | {"step": step})
        if self.entry.local_run:  # one tokenizer and one set of counts for all checkpoints, so one text
            for name in ("corpus", "tokenizer", "text", "windows", "frequency"):
                other.__dict__[name] = getattr(self, name)
        return other

    def over_training(self, table: Callable[["Study"], pd.DataFrame], progress: bool = True) -> pd.DataFrame:
        """A table of every checkpoint, with the column ``step``; checkpoints where it cannot be made are left out.

        Raises:
            RaretokError: the model has no checkpoints, or none at which the table can be made.
        """
        steps = self.entry.steps
        if not steps:
            raise RaretokError(f"{self.entry.name} has no checkpoints: `raretok models` lists models that have")
        found: dict[int, pd.DataFrame] = {}
        for step in tqdm(steps, desc="checkpoints", unit="checkpoint", disable=None if progress else True):
            with suppress(NoControls):
                found[step] = table(self.at(step))
        if not found:
            raise RaretokError(f"no checkpoint of {self.entry.name} has enough rare targets with controls")
        return emergence.by_step(found)

    def departures(self) -> pd.DataFrame:
        """When the rank curve's statistics leave their nulls, see ``findings.emergence.departures``."""
        return emergence.departures(self.over_training(Study.regimes))

    def evidence(self) -> Evidence:
        """What the rules of ``claims`` read; over training only for the last checkpoint of a trajectory."""
        steps = self.entry.steps
        whole = self.entry.local_run and self.config.step in (None, *steps[-1:])
        return Evidence(
            self.regimes(), self.contrasts(), self.tails(), self.published(), self.departures() if whole else None
        )

    def claims(self) -> pd.DataFrame:
        """The verdict on every claim whose rule applies, see ``claims.judge``."""
        return judge(self.evidence())

    # Neurons

    def overlap(self) -> pd.DataFrame:
        """Agreement of the two definitions, see ``findings.identification.overlap``."""
        return identification.overlap(self.identification())

    def checks(self) -> pd.DataFrame:
        """How right the numbers are, see ``ablation.check_table``."""
        return check_table(self._measured["checks"])

    def types(self) -> pd.DataFrame:
        """Every token type that occurs, see ``data.frequency.type_table``."""
        return type_table(self.frequency.counts, partial(show_tokens, self.tokenizer))

    def footprint(self, neurons: list[int], top: int = 8) -> pd.DataFrame:
        """Tokens that some neurons raise and lower most, see ``findings.prints.footprint_table``."""

        def compute() -> pd.DataFrame:
            return prints.footprint_table(
                self.model.readout, self.frequency.counts, partial(show_tokens, self.tokenizer)
            )

        table = self._table("footprint", compute)
        return table[table["neuron"].isin(neurons) & (table["rank"] <= top)].reset_index(drop=True)

    def contexts(self, neurons: list[int], before: int = 14) -> pd.DataFrame:
        """Where some neurons are most active, see ``findings.prints.context_table``."""
        return prints.context_table(self._measured, self.windows, self.tokenizer, neurons, before)

    def certificate(self, positions: int = 24) -> pd.DataFrame:
        """The certified pass against the exact one in float64 at some positions, see ``ablation.audit``."""

        def compute() -> pd.DataFrame:
            first = Windows(self.windows.tokens[:4], self.windows.document[:4], self.windows.half[:4])
            trace = run_trace(self.model, first)
            rows = np.sort(np.random.default_rng(self.config.seed).permutation(len(trace))[:positions])
            mean = replaced_by(trace.activation, "mean", 0)
            return audit(self._engine(trace), trace[rows], mean)

        return self._table(f"certificate-{positions}", compute)

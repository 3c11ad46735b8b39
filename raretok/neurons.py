"""What a study says of single neurons: effects, the rare-token neurons by both definitions, the groups they form, what they write and where they fire."""

from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from raretok.ablation.audit import check_table
from raretok.data.frequency import type_table
from raretok.data.positions import BANDS, band_table
from raretok.findings import groups, identification, prints
from raretok.findings.groups import HEADLINE, Activity, Groups
from raretok.measurement import Measurement
from raretok.model.tokens import show_tokens
from raretok.model.trace import Trace
from raretok.stats.resampling import ratio
from raretok.store import code_digest, hash_of

TABLES_BY = (
    "findings",
    "stats",
    "neurons",
    "upstream",
    "experiments",
    "study",
    "model/passes",
    "model/tokens",
    "model/upstream",
)
"""The parts of the package that tables come from."""


class Neurons(Measurement):
    """A measurement with its tables about single neurons."""

    def _table(self, name: str, compute: Any, **more: Any) -> pd.DataFrame:
        inputs = {"effects": hash_of(self.key), "code": code_digest(*TABLES_BY), **more}
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

    @cached_property
    def trace(self) -> Trace:
        """The ablated positions."""
        m = self._measured
        names = ("target", "input", "window", "document", "half", "position", "loss")
        arrays = {name: m[name][m["rows"]] for name in names}
        return Trace(torch.from_numpy(m["activation"]), torch.from_numpy(m["residual"]), **arrays)

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """What each ablated position counts for in each band."""
        return dict(zip(BANDS, self.selection.weights, strict=True))

    @cached_property
    def activity(self) -> Activity:
        """Activations at the ablated positions."""
        m = self._measured
        rows = m["rows"]
        _, document = np.unique(m["document"][rows], return_inverse=True)
        return Activity(m["activation"], self.weights, document, m["half"][rows])

    @cached_property
    def matrices(self) -> dict[str, np.ndarray]:
        """The last MLP's weights by name, a row a neuron: ``W_out``, and ``W_in`` or ``W_up`` and ``W_gate``."""

        def compute() -> dict[str, np.ndarray]:
            weights = {"W_out": self.model.readout.w_out, **self.model.inputs}
            return {name: w.float().cpu().numpy() for name, w in weights.items()}

        found = self.store.arrays("weights", {"weights": self.weights_digest, "code": code_digest("model")}, compute)
        return {name: found[name] for name in sorted(found, key=lambda n: (n != "W_out", n))}

    @cached_property
    def groups(self) -> Groups:
        """The groups that claims are about, and the first so many, see ``findings.groups.choose``."""
        return groups.choose(self.identification(), ratio(*self.halves.of("rare", 0)), self.features())

    @property
    def headline(self) -> str:
        """The group that chapters show: the controlled one where there is one, else the published one."""
        return next(name for name in (*reversed(HEADLINE), *self.groups) if name in self.groups)

    def features(self) -> pd.DataFrame:
        """What control groups are matched in, see ``findings.groups.features``."""
        norm = np.linalg.norm(self.matrices["W_out"], axis=1)
        return self._table("features", lambda: groups.features(self.activity, norm))

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

"""What a study measures: the forward pass, the positions, every neuron's effect there, and the check against hooks – once."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from torch import Tensor

from raretok.ablation import DocumentSums, ablate, make_engine, merge, replaced_by, tile_inputs
from raretok.ablation.certified import Certified
from raretok.ablation.reference import hooked_effects
from raretok.data.positions import BANDS, Selection, select
from raretok.data.text import digest_windows
from raretok.errors import RaretokError
from raretok.findings.identification import Halves
from raretok.model.tokens import is_word_start
from raretok.model.trace import Trace, run_trace
from raretok.reading import Reading
from raretok.store import code_digest

MEASURED_BY = (
    "data",
    "model/load",
    "model/checkpoint",
    "model/readout",
    "model/tokens",
    "model/trace",
    "ablation",
    "reading",
    "measurement",
)
"""The parts of the package that the effects come from."""
CONTEXTS = 5
"""How many of its strongest contexts are kept for each neuron."""
CHECK_LIMIT = 5e-5
"""Largest difference in nats, beyond the tolerance, between the engine and a hooked forward pass in float32."""


class _Prepared(NamedTuple):
    trace: Trace
    chosen: Selection
    replacing: Tensor
    error: float


class Measurement(Reading):
    """A reading whose effects are measured when first asked for, and kept."""

    @cached_property
    def key(self) -> dict[str, Any]:
        """Everything that changes the numbers, and nothing that does not."""
        settings = self.config.model_dump(include={"sample", "replacement", "tolerance", "seed"})
        return {
            "weights": self.weights_digest,
            "windows": digest_windows(self.windows),
            "frequency": self.frequency.digest,
            "code": code_digest(*MEASURED_BY),
            **settings,
        }

    @cached_property
    def _measured(self) -> dict[str, ndarray]:
        return self.store.arrays("effects", self.key, self._measure)

    def measure(self, jobs: int = 1) -> None:
        """Measure the effects, putting together what ``measure_share`` left of them; does nothing if they are there."""
        shares = [self.key | {"share": [k, jobs]} for k in range(jobs)]
        self.__dict__["_measured"] = self.store.arrays("effects", self.key, lambda: self._measure(jobs))
        for inputs in shares if jobs > 1 else []:
            self.store.drop("effects-share", inputs)

    def measure_share(self, k: int, jobs: int) -> None:
        """Do the ablations of the k-th of several jobs, k from 0, which may run side by side; each does the forward pass."""
        if not self.store.path("effects", self.key).is_dir():
            self._share(self._prepared, k, jobs)

    @cached_property
    def _prepared(self) -> _Prepared:
        """The forward pass, the choice of positions, what activations become, and the check against hooks."""
        c = self.config
        trace = run_trace(self.model, self.windows)
        word_start = is_word_start(self.tokenizer, len(self.frequency.counts))
        chosen = select(
            trace.target,
            trace.input,
            trace.loss,
            trace.position,
            trace.half,
            self.frequency.counts,
            word_start,
            c.sample,
            c.seed,
        )
        replacing = replaced_by(trace.activation, c.replacement, c.seed)
        if replacing.ndim == 2:
            replacing = replacing[torch.from_numpy(chosen.rows)]
        error = self._check_against_hooks(trace, len(chosen.rows))
        return _Prepared(trace, chosen, replacing, error)

    def _share(self, prepared: _Prepared, k: int, jobs: int) -> DocumentSums:
        """Per-document sums of the k-th of several jobs, kept where there are more than one."""

        def compute() -> dict[str, ndarray]:
            picked, tolerance = prepared.trace[prepared.chosen.rows], self.config.tolerance
            arguments = (self.model.readout, picked, prepared.replacing, prepared.chosen.weights, tolerance)
            return {n: np.asarray(x) for n, x in vars(ablate(*arguments, share=(k, jobs))["loss"]).items()}

        m = compute() if jobs == 1 else self.store.arrays("effects-share", self.key | {"share": [k, jobs]}, compute)
        exactness = (float(m["fallback_share"]), float(m["largest_bound"]))
        return DocumentSums(m["net"], m["activity"], m["square"], m["weight"], m["count"], *exactness)

    def _measure(self, jobs: int = 1) -> dict[str, ndarray]:
        """The arrays to keep."""
        trace, chosen, _, error = prepared = self._prepared
        sums = merge([self._share(prepared, k, jobs) for k in range(jobs)])
        picked = trace[chosen.rows]
        strongest, where = trace.activation.topk(min(CONTEXTS, len(trace)), dim=0)
        names = ("target", "input", "window", "document", "half", "position", "loss")
        kept = (
            {name: getattr(trace, name) for name in names}
            | {"rows": chosen.rows, "weights": chosen.weights, "activation": picked.activation.float().cpu().numpy()}
            | {
                "residual": picked.residual.float().cpu().numpy(),
                "mean": replaced_by(trace.activation, "mean", 0).float().cpu().numpy(),
            }
            | {"context_row": where.numpy(), "context_activation": strongest.numpy()}
            | {"net": sums.net, "activity": sums.activity, "square": sums.square}
            | {"weight": sums.weight, "count": sums.count}
            | {"sizes": np.array(self.model.sizes), "architecture": np.array(self.model.architecture)}
            | {"device": np.array(self.model.hardware)}
            | {"checks": np.array([self.model.readout_error, error, sums.fallback_share, sums.largest_bound])}
        )
        del self.__dict__["_prepared"]  # the trace of all positions is large
        return kept

    def _check_against_hooks(self, trace: Trace, positions: int) -> float:
        """Largest difference in nats between the engine and hooked forward passes, on a seeded sample; a failure stops."""
        rng = np.random.default_rng(self.config.seed)
        window = int(rng.integers(len(self.windows.tokens)))
        neurons = rng.choice(self.model.readout.neurons, 3, replace=False)
        compared = self.compare_with_hooks(trace, window, [int(i) for i in neurons], positions)
        error = float(compared["difference"].abs().max())
        if not error <= self.config.tolerance + CHECK_LIMIT:
            raise RaretokError(
                f"{self.entry.name}: the engine and a hooked forward pass differ by {error:.1e} nats, more than "
                f"{self.config.tolerance + CHECK_LIMIT:.1e}: this model's last layers are not of the supported form"
            )
        return error

    def compare_with_hooks(
        self, trace: Trace, window: int, neurons: list[int], positions: int | None = None
    ) -> pd.DataFrame:
        """Δ of some neurons at the positions of one window by the engine and by hooked forward passes, in nats.

        The engine is the one that a study of so many ``positions`` uses (by default: this study), on all neurons; the
        replacement is the mean. Columns: ``neuron``, ``position``, ``hooked``, ``engine``, ``difference``.
        """
        part = trace[np.flatnonzero(trace.window == window)]
        mean = replaced_by(trace.activation, "mean", 0)
        engine = self._engine(trace, positions)
        found = engine(*tile_inputs(self.model.readout, part, mean)).value.cpu()
        tables = []
        for i in neurons:
            hooked = hooked_effects(self.model, self.windows.tokens[[window]], i, mean[i])[0].cpu()
            tables.append(
                pd.DataFrame({"neuron": i, "position": part.position, "hooked": hooked, "engine": found[:, i]})
            )
        table = pd.concat(tables, ignore_index=True)
        return table.assign(difference=table["engine"] - table["hooked"])

    def _engine(self, trace: Trace, positions: int | None = None) -> Certified:
        count = len(self.selection.rows) if positions is None else positions
        return make_engine(self.model.readout, self.config.tolerance, count, trace.residual)

    def sizes(self) -> dict[str, Any]:
        """What was measured: ``architecture``, ``parameters``, ``layers``, ``d_model``, ``neurons``, ``vocab``, ``tokens`` read, ``positions`` ablated, ``documents``, and on which ``device``."""
        m = self._measured
        names = ("parameters", "layers", "d_model", "neurons", "vocab")
        return {
            "architecture": str(m["architecture"]),
            **{name: int(size) for name, size in zip(names, m["sizes"], strict=True)},
            "tokens": int(self.windows.tokens.size),
            "positions": len(m["rows"]),
            "documents": len(m["net"]),
            "device": str(m["device"]),
        }

    @cached_property
    def selection(self) -> Selection:
        """Positions that were ablated, and their weights."""
        return Selection(self._measured["rows"], self._measured["weights"])

    @cached_property
    def halves(self) -> Halves:
        """Per-document sums with the documents' halves."""
        m = self._measured
        documents, first = np.unique(m["document"][m["rows"]], return_index=True)
        sums = DocumentSums(m["net"], m["activity"], m["square"], m["weight"], m["count"], *map(float, m["checks"][2:]))
        assert len(documents) == len(sums.net)
        return Halves(sums, m["half"][m["rows"]][first], BANDS)

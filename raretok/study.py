"""A study: one model, checkpoint and corpus, measured once; its tables are computed on first call and kept in the store."""

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raretok.ablation import DocumentSums, Replacement, ablate, make_engine, replaced_by, tile_inputs
from raretok.ablation.audit import audit, check_table
from raretok.ablation.certified import Certified
from raretok.ablation.reference import hooked_effects
from raretok.data.frequency import UnigramCounts, count_tokens, load_counts, type_table
from raretok.data.positions import BANDS, Selection, band_table, select
from raretok.data.text import Corpus, Tokenised, Windows, digest_windows, load_corpus, make_windows, tokenise
from raretok.errors import RaretokError
from raretok.findings import identification, prints
from raretok.model.load import LoadedModel, bos_id, load_model, load_tokenizer, model_digest
from raretok.model.registry import ModelEntry, find_model
from raretok.model.tokens import is_word_start, show_tokens
from raretok.model.trace import Trace, run_trace
from raretok.store import Store, code_digest, hash_of

CONTEXTS = 5
"""How many of its strongest contexts are kept for each neuron."""
LEAST_DOCUMENTS = 20
CHECK_LIMIT = 5e-5
"""Largest difference in nats, beyond the tolerance, between the engine and a hooked forward pass in float32."""


class StudyConfig(BaseModel):
    """What defines a study; nothing else changes its numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field("smollm2-135m", description="a known name, a directory or a hub id")
    step: int | None = Field(None, description="training step, for models with checkpoints")
    corpus: str = Field("movie-reviews", description="a known name, a .txt .csv .jsonl .parquet path, or a hub id")
    text_column: str = Field("text", description="field that holds the text, where there are fields")
    counts: str | None = Field(None, description="a .npy or .json file of training counts; else the corpus is counted")
    windows: int = Field(256, ge=2, description="how many windows of text")
    length: int = Field(256, ge=16, description="tokens in a window")
    sample: int = Field(2000, ge=100, description="positions ablated beside the rare targets and their controls")
    replacement: Replacement = Field("mean", description="what an ablated activation becomes")
    tolerance: float = Field(1e-4, gt=0, description="what one Δ may be off by, in nats")
    seed: int = Field(0, ge=0, description="of documents, samples and resampling")


class Study:
    """Tables about one model on one text. ``device`` and ``store`` change no number beyond its bound and are in no key.

    >>> Study(model="smollm2-135m", windows=256).identification()  # doctest: +SKIP
    """

    def __init__(self, *, device: str = "auto", store: Store | Path | str | None = None, **config: Any) -> None:
        """``config``: the fields of ``StudyConfig``.

        Raises:
            RaretokError: an unknown or wrongly typed field; the message lists the right ones.
        """
        try:
            self.config = StudyConfig(**config)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise RaretokError(f"{wrong}. The parameters are {', '.join(StudyConfig.model_fields)}") from None
        self.device = device
        self.store = store if isinstance(store, Store) else Store(store)

    # What is read

    @cached_property
    def entry(self) -> ModelEntry:
        """The registry's entry of the model."""
        return find_model(self.config.model)

    @cached_property
    def weights_digest(self) -> str:
        """Identity of the weights."""
        return model_digest(self.entry, self.config.step)

    @cached_property
    def corpus(self) -> Corpus:
        """The documents.

        Raises:
            RaretokError: the corpus is what the model was trained on.
        """
        if self.config.corpus == self.entry.trained_on:
            raise RaretokError(
                f"{self.entry.name} was trained on most of {self.config.corpus}: use --corpus {self.entry.held_out}, which "
                f"it never saw, or --corpus {self.config.corpus}-train if you mean the text it was trained on"
            )
        return load_corpus(self.config.corpus, self.config.text_column)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return load_tokenizer(self.config.model, self.config.step)

    @cached_property
    def model(self) -> LoadedModel:
        """The model, loaded."""
        return load_model(self.config.model, self.config.step, self.device)

    @cached_property
    def text(self) -> Tokenised:
        """The whole corpus as token ids."""
        inputs = {
            "corpus": self.corpus.digest,
            "tokenizer": self.weights_digest,
            "code": code_digest("data/text"),
        }

        def encode(texts: list[str]) -> list[list[int]]:
            return list(self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])

        arrays = self.store.arrays("tokens", inputs, lambda: vars(tokenise(self.corpus, encode)))
        return Tokenised(**arrays)

    @cached_property
    def windows(self) -> Windows:
        """The windows of text."""
        c, name = self.config, self.corpus.name
        bos = bos_id(self.tokenizer, self.entry)
        windows = make_windows(self.text, name, c.windows, c.length, bos, c.seed)
        if (documents := len(np.unique(windows.document))) < LEAST_DOCUMENTS:
            raise RaretokError(
                f"the windows come from {documents} documents of {name}, fewer than {LEAST_DOCUMENTS}: documents are what "
                "uncertainty is estimated from, use more windows or a corpus of more documents"
            )
        return windows

    @cached_property
    def frequency(self) -> UnigramCounts:
        """Counts of the model's token types."""
        vocab = max(len(self.tokenizer), int(self.text.ids.max()) + 1)
        if self.config.counts is not None:
            return load_counts(Path(self.config.counts), vocab, self.model.readout.vocab)
        if self.entry.kind == "shipped":
            return load_counts(Path(self.entry.source) / "counts.json", vocab)
        return count_tokens(self.text.ids, vocab, f"counted in {self.corpus.name}, all {len(self.text.ids):,} tokens")

    # What is measured

    @cached_property
    def key(self) -> dict[str, Any]:
        """Everything that changes the numbers, and nothing that does not."""
        settings = self.config.model_dump(include={"sample", "replacement", "tolerance", "seed"})
        return {
            "weights": self.weights_digest,
            "windows": digest_windows(self.windows),
            "frequency": self.frequency.digest,
            "code": code_digest("data", "model", "ablation", "study"),
            **settings,
        }

    @cached_property
    def _measured(self) -> dict[str, ndarray]:
        return self.store.arrays("effects", self.key, self._measure)

    def _measure(self) -> dict[str, ndarray]:
        """Forward pass, choice of positions, ablation, and the check against hooks; the arrays to keep."""
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
        picked = trace[chosen.rows]
        if replacing.ndim == 2:
            replacing = replacing[torch.from_numpy(chosen.rows)]
        error = self._check_against_hooks(trace, len(picked))
        sums = ablate(self.model.readout, picked, replacing, chosen.weights, c.tolerance)["loss"]
        strongest, where = trace.activation.topk(min(CONTEXTS, len(trace)), dim=0)
        names = ("target", "input", "window", "document", "half", "position", "loss")
        return (
            {name: getattr(trace, name) for name in names}
            | {"rows": chosen.rows, "weights": chosen.weights}
            | {"context_row": where.numpy(), "context_activation": strongest.numpy()}
            | {"net": sums.net, "activity": sums.activity, "square": sums.square}
            | {"weight": sums.weight, "count": sums.count}
            | {"checks": np.array([self.model.readout_error, error, sums.fallback_share, sums.largest_bound])}
        )

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

    @cached_property
    def selection(self) -> Selection:
        """Positions that were ablated, and their weights."""
        return Selection(self._measured["rows"], self._measured["weights"])

    @cached_property
    def halves(self) -> identification.Halves:
        """Per-document sums with the documents' halves."""
        m = self._measured
        documents, first = np.unique(m["document"][m["rows"]], return_index=True)
        sums = DocumentSums(m["net"], m["activity"], m["square"], m["weight"], m["count"], *map(float, m["checks"][2:]))
        assert len(documents) == len(sums.net)
        return identification.Halves(sums, m["half"][m["rows"]][first], BANDS)

    # Tables

    def _table(self, name: str, compute: Any) -> pd.DataFrame:
        inputs = {"effects": hash_of(self.key), "code": code_digest("findings", "stats", "study")}
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

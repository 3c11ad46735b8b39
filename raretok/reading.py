"""What a study reads: its settings, the model, the text as windows of tokens, and how often each token occurs."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raretok.ablation import Replacement
from raretok.data.frequency import UnigramCounts, count_tokens, load_counts
from raretok.data.text import Corpus, Tokenised, Windows, load_corpus, make_windows, tokenise
from raretok.errors import RaretokError
from raretok.model.load import LoadedModel, bos_id, load_model, load_tokenizer, model_digest
from raretok.model.registry import ModelEntry, find_model
from raretok.store import Store, code_digest, hash_of

LEAST_DOCUMENTS = 20


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


class Reading:
    """A model and a text, read when first asked for."""

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

    @cached_property
    def entry(self) -> ModelEntry:
        """The registry's entry of the model."""
        return find_model(self.config.model)

    @cached_property
    def weights_digest(self) -> str:
        """Identity of the weights."""
        return model_digest(self.entry, self.config.step)

    @cached_property
    def checkpoints_digest(self) -> str | None:
        """Identity of the weights of all checkpoints, which tables over training come from; None where these are not files here."""
        if not self.entry.local_run:
            return None
        return hash_of({str(step): model_digest(self.entry, step) for step in self.entry.steps})

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
        return load_tokenizer(self.config.model, self.config.step, self.store)

    @cached_property
    def model(self) -> LoadedModel:
        """The model, loaded."""
        return load_model(self.config.model, self.config.step, self.device, store=self.store)

    @cached_property
    def text(self) -> Tokenised:
        """The whole corpus as token ids."""
        inputs = {
            "corpus": self.corpus.digest,
            "tokenizer": hashlib.sha256(self.tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
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
        if self.entry.local_run:
            return load_counts(self.entry.counts_file, vocab)
        return count_tokens(self.text.ids, vocab, f"counted in {self.corpus.name}, all {len(self.text.ids):,} tokens")

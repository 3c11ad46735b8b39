"""The inputs of a study: its settings, a model, a text as windows of tokens, and the frequency of each token."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from raretok.code import digest_of
from raretok.data.frequency import UnigramCounts, count_tokens, load_counts
from raretok.data.packages import WORDS
from raretok.data.readers import TextLayout
from raretok.data.text import (
    Corpus,
    Tokenised,
    Windows,
    digest_windows,
    load_corpus,
    make_windows,
    pack_windows,
    tokenise,
)
from raretok.data.words import word_order
from raretok.errors import NotApplicable, RaretokError
from raretok.graph import source
from raretok.measure.settings import StudySettings
from raretok.model.hub import steps_here
from raretok.model.load import bos_id, load_model, load_tokenizer, model_digest, wrap_model
from raretok.model.loaded import LoadedModel
from raretok.model.readout import extract_readout
from raretok.model.registry import ModelEntry, find_model
from raretok.model.tokens import decode_checked, digest_tokenizer, encode, learned_order, show_tokens
from raretok.store import Store

LEAST_DOCUMENTS = 20
SOURCES = ("training", "merges", "words", "text")
"""What can rank token types by frequency."""
TOKENISING = (tokenise, encode)
"""The functions that turn a text into token ids."""


class Text:
    """The documents, token ids, windows and token frequencies of a study. All checkpoints of a run share them."""

    def __init__(self, settings: StudySettings, entry: ModelEntry, tokenizer: Any, store: Store, given: Any) -> None:
        """Store what is given in memory; everything else is read when first asked for.

        ``tokenizer``, ``given``: a tokenizer, and documents or windows, in memory; None where the settings name them.
        """
        self._settings, self._entry, self._store = settings, entry, store
        self._tokenizer, self._given = tokenizer, given

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        if self._tokenizer is not None:
            return self._tokenizer
        return load_tokenizer(self._settings.model, self._settings.step, self._store)

    @cached_property
    def corpus(self) -> Corpus:
        """The documents.

        Raises:
            RaretokError: the model was trained on this corpus.
        """
        entry, name = self._entry, self._settings.corpus
        if isinstance(self._given, Corpus):
            return self._given
        if name == entry.trained_on:
            raise RaretokError(
                f"{entry.name} was trained on most of {name}: use --corpus {entry.held_out}, which "
                f"it never saw, or --corpus {name}-train if you mean the text it was trained on"
            )
        return load_corpus(name, self.layout)

    @property
    def layout(self) -> TextLayout:
        """Where the text is, and how to decode it if it is token ids."""
        return replace(self._settings.layout, decode=lambda ids: decode_checked(self.tokenizer, ids))

    @cached_property
    def tokens(self) -> Tokenised:
        """The whole corpus as token ids."""
        inputs = {"corpus": self.corpus.digest, "tokenizer": self.tokenizer_digest, "code": digest_of(*TOKENISING)}
        about = {"corpus": self.corpus.name, "tokenizer": self._entry.name}
        tokens = partial(tokenise, self.corpus, partial(encode, self.tokenizer))
        arrays = self._store.arrays("tokens", inputs, lambda: vars(tokens()), about)
        return Tokenised(**arrays)

    @cached_property
    def tokenizer_digest(self) -> str:
        """Digest that identifies the tokenizer."""
        return digest_tokenizer(self.tokenizer)

    @cached_property
    def bos(self) -> int | None:
        """Id of the token that starts a window; None if none does.

        Raises:
            NotApplicable: the windows are given.
        """
        if isinstance(self._given, Windows):
            raise NotApplicable("the windows are given, with or without a first token")
        return bos_id(self.tokenizer, self._entry, self._settings.bos)

    @cached_property
    def windows(self) -> Windows:
        """The windows of text."""
        s = self._settings
        if isinstance(self._given, Windows):
            name, windows = s.corpus, self._given
        else:
            name = self.corpus.name
            if s.pack:
                mark = self.bos if self.bos is not None else self.tokenizer.eos_token_id
                if mark is None:
                    raise RaretokError(
                        f"the tokenizer of {self._entry.name} has no token to part documents: leave --pack out"
                    )
                windows = pack_windows(self.tokens, name, s.windows, s.length, mark, self.bos is not None, s.seed)
            else:
                windows = make_windows(self.tokens, name, s.windows, s.length, self.bos, s.seed)
        if (documents := windows.count) < LEAST_DOCUMENTS:
            raise RaretokError(
                f"the windows come from {documents} documents of {name}, fewer than {LEAST_DOCUMENTS}: documents "
                "are what uncertainty is estimated from, use more windows or a corpus of more documents"
            )
        return windows

    def frequency(self, vocab: int, by: str | None = None) -> UnigramCounts:
        """Return the frequency of the model's token types.

        Args:
            vocab: Number of types that the model has.
            by: What ranks the types, as in the settings, which it replaces.

        Raises:
            NotApplicable: this source is not there for the model or the text.
        """
        by = by or self._settings.frequency
        if by == "auto":
            return next(f for f in (self._try(vocab, by) for by in ("training", "merges", "text")) if f is not None)
        if by == "training":
            return self._training(vocab)
        if by == "merges":
            counts = self._counted.counts
            order = learned_order(self.tokenizer, len(counts))
            order += np.where(order == 0, counts / counts.sum(), 0)  # An alphabet is not learned: the text ranks it.
            return replace(self._counted, order=order, source="in the order in which the tokenizer learned them")
        if by == "words":
            return replace(self._counted, order=self._words, source="by a list of English words")
        return self._counted

    def _try(self, vocab: int, by: str) -> UnigramCounts | None:
        try:
            return self.frequency(vocab, by)
        except NotApplicable:
            return None

    @cached_property
    def _counted(self) -> UnigramCounts:
        if isinstance(self._given, Windows):
            ids, name = self._given.tokens.ravel(), self._settings.corpus
        else:
            ids, name = self.tokens.ids, self.corpus.name
        types = max(len(self.tokenizer), int(ids.max()) + 1)
        return count_tokens(ids, types, f"by their counts in {name}, all {len(ids):,} tokens")

    def _training(self, vocab: int) -> UnigramCounts:
        types = len(self._counted.counts)
        if self._settings.counts is not None:
            path = Path(self._settings.counts)
        elif self._entry.local_run:
            path, vocab = self._entry.counts_file, types
        else:
            raise NotApplicable(f"the training text of {self._entry.name} has no counts: give them as --counts FILE")
        counts = load_counts(path, types, vocab)
        return replace(counts, source=f"by their counts in the training text, {counts.source}")

    @cached_property
    def _words(self) -> ndarray:
        if isinstance(self._given, Windows):
            raise NotApplicable("the windows are given as token ids, without their words")
        inputs = {
            "corpus": self.corpus.digest,
            "tokenizer": self.tokenizer_digest,
            "words": WORDS.wheel_sha256,
            "code": digest_of(word_order, *TOKENISING),
        }
        about = {"corpus": self.corpus.name, "tokenizer": self._entry.name}
        encoded, shown = partial(encode, self.tokenizer), partial(show_tokens, self.tokenizer)
        types = len(self._counted.counts)
        compute = partial(word_order, self.corpus.documents, encoded, shown, types)
        return self._store.arrays("words", inputs, lambda: {"order": compute()}, about)["order"]


class Inputs:
    """A model and a text, read when first asked for, and digests that identify them."""

    def __init__(
        self, settings: StudySettings, device: str, store: Store, given: tuple[Any, Any, Any] = (None, None, None)
    ) -> None:
        """Store what is given in memory; everything else is read when first asked for.

        ``given``: a model, its tokenizer, and documents or windows in memory; None where the settings name them.
        """
        self.settings, self.device, self.store, self._given = settings, device, store, given
        self._text: Text | None = None

    def at(self, step: int) -> "Inputs":
        """Return the inputs at another checkpoint, with the same windows where the checkpoints are of one run."""
        other = Inputs(self.settings.model_copy(update={"step": step}), self.device, self.store, self._given)
        if self.entry.local_run:  # All checkpoints share the tokenizer and the counts, so they share the text.
            other._text = self.text
        return other

    @cached_property
    def entry(self) -> ModelEntry:
        """The registry's entry of the model."""
        model, _, _ = self._given
        return find_model(self.settings.model) if model is None else ModelEntry(self.settings.model, "memory", "")

    @cached_property
    def text(self) -> Text:
        """The text."""
        if self._text is None:
            self._text = Text(self.settings, self.entry, self._given[1], self.store, self._given[2])
        return self._text

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.text.tokenizer

    @property
    def windows(self) -> Windows:
        """The windows of text."""
        return self.text.windows

    @property
    def bos(self) -> int | None:
        """Id of the token that starts a window."""
        return self.text.bos

    @cached_property
    def model(self) -> LoadedModel:
        """The model, loaded."""
        if self._given[0] is not None:
            return wrap_model(self.entry, self._given[0], self.tokenizer, self.device)
        return load_model(self.settings.model, self.settings.step, self.device, store=self.store)

    def release(self) -> None:
        """Release the model."""
        self.__dict__.pop("model", None)

    @property
    def local_run(self) -> bool:
        """Whether the model is one of the small ones trained here, for which more text is affordable."""
        return self.entry.local_run

    @cached_property
    def frequency(self) -> UnigramCounts:
        """Counts of the model's token types."""
        return self.text.frequency(self._vocab)

    @property
    def _vocab(self) -> int:
        """Number of the model's token types, where counts are given, which may be as many."""
        return self.model.readout.vocab if self.settings.counts else 0

    @cached_property
    def frequencies(self) -> dict[str, UnigramCounts | str]:
        """The frequency of the model's token types by every source, or why the source is not there."""
        found: dict[str, UnigramCounts | str] = {}
        for by in SOURCES:
            try:
                found[by] = self.text.frequency(self._vocab, by)
            except RaretokError as error:
                found[by] = str(error)
        return found

    @cached_property
    def weights(self) -> str:
        """Digest that identifies the weights.

        Raises:
            RaretokError: the model is not on this machine.
        """
        return model_digest(self.entry, self.settings.step, self._given[0])

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The checkpoints of the model that are on this machine, for tables over training.

        Raises:
            NotApplicable: there are fewer than two, or this study is not at the last.
        """
        checkpoints = steps_here(self.entry)
        if len(self.entry.steps) < 2:
            raise NotApplicable(f"{self.entry.name} has no checkpoints")
        if len(checkpoints) < 2:
            some = "one checkpoint" if checkpoints else "no checkpoint"
            raise NotApplicable(
                f"{self.entry.name} has {some} on this machine: `raretok fetch {self.entry.name} --step N` gets another"
            )
        if self.settings.step not in (None, checkpoints[-1]):
            raise NotApplicable(f"training is judged at its last checkpoint, step {checkpoints[-1]:,}")
        return checkpoints

    def digest(self, name: str) -> Any:
        """Return what identifies an input in the keys of the results that are computed from it."""
        read: dict[str, Callable[[], Any]] = {
            "model": lambda: {"weights": self.weights, "readout": digest_of(extract_readout)},
            "windows": lambda: digest_windows(self.windows),
            "frequency": lambda: self.frequency.digest,
            "frequencies": lambda: {by: getattr(f, "digest", f) for by, f in self.frequencies.items()},
            "tokenizer": lambda: self.text.tokenizer_digest,
            "local_run": lambda: self.local_run,
            "bos": lambda: self.bos,
        }
        return read[name]() if name in read else getattr(self.settings, name)

    def value(self, name: str) -> Any:
        """Return an input by its name."""
        return getattr(self if hasattr(type(self), name) else self.settings, name)

    def describe(self) -> dict[str, Any]:
        """Describe in words what the results were computed from."""
        return {"model": self.entry.name, **self.settings.model_dump(exclude={"model"}, exclude_defaults=True)}


model, windows, frequency, tokenizer = map(source, ("model", "windows", "frequency", "tokenizer"))
frequencies = source("frequencies")
local_run, bos = source("local_run"), source("bos")
sample, replacement, tolerance = map(source, ("sample", "replacement", "tolerance"))
every_head, dtype = map(source, ("every_head", "dtype"))

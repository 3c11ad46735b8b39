"""The text of a study: its documents, token ids and windows, and the frequencies of its token types."""

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
from raretok.data.text import Corpus, Tokenised, Windows, in_part, load_corpus, make_windows, pack_windows, tokenise
from raretok.data.words import word_order
from raretok.errors import NotApplicable, RaretokError
from raretok.measure.settings import StudySettings
from raretok.model.load import bos_id, load_tokenizer
from raretok.model.registry import ModelEntry
from raretok.model.tokens import decode_checked, digest_tokenizer, encode, learned_order, show_tokens, type_count
from raretok.store import Store

LEAST_DOCUMENTS = 20
SOURCES = ("training", "merges", "words", "text")
"""What can rank token types by frequency."""
TOKENISING = (tokenise, encode)
"""The functions that turn a text into token ids."""
RANKING = (word_order, show_tokens, *TOKENISING)
"""The functions that rank token types by a list of words."""


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
        """The windows of text.

        Raises:
            RaretokError: the text has too few windows or documents, or no part as asked for.
        """
        windows, name = self._cut()
        if (documents := windows.count) < LEAST_DOCUMENTS:
            raise RaretokError(
                f"the windows come from {documents} documents of {name}, fewer than {LEAST_DOCUMENTS}: documents "
                "are what uncertainty is estimated from, use more windows or a corpus of more documents"
            )
        return windows

    def _cut(self) -> tuple[Windows, str]:
        """The windows, and a name for the documents that they come from."""
        s = self._settings
        if isinstance(self._given, Windows):
            if s.part or s.pack:
                what = "take a part of: leave part out" if s.part else "pack: leave pack out"
                raise RaretokError(f"the windows are given, without documents to {what}")
            return self._given, s.corpus
        name = self.corpus.name if s.part is None else f"part {s.part} of {self.corpus.name}"
        within = None if s.part is None else in_part(self.corpus.documents, *map(int, s.part.split("/")))
        if not s.pack:
            return make_windows(self.tokens, name, s.windows, s.length, self.bos, s.seed, within), name
        first = self.bos is not None
        return pack_windows(self.tokens, name, s.windows, s.length, self._mark, first, s.seed, within), name

    @property
    def _mark(self) -> int:
        """Id of the token that separates packed documents."""
        mark = self.bos if self.bos is not None else self.tokenizer.eos_token_id
        if mark is None:
            raise RaretokError(
                f"the tokenizer of {self._entry.name} has no token to separate documents: leave --pack out"
            )
        return int(mark)

    def frequency(self, vocab: int, by: str | None = None) -> UnigramCounts:
        """Return the frequency of the model's token types.

        Args:
            vocab: Number of types that the model has.
            by: What ranks the types, as in the settings, which it replaces.

        Raises:
            NotApplicable: this source is not there for the model or the text.
        """
        found = self._ranked(vocab, by or self._settings.frequency)
        if not self._settings.pack:
            return found
        counts = found.counts.copy()
        counts[self._mark] = 0  # No text holds it, so that nothing is said about where it is predicted.
        return replace(found, counts=counts)

    def _ranked(self, vocab: int, by: str) -> UnigramCounts:
        if by == "auto":
            return next(f for f in (self._try(vocab, by) for by in ("training", "merges", "text")) if f is not None)
        if by == "training":
            return self._training(vocab)
        if by == "merges":
            counts = self._counted.counts
            order = learned_order(self.tokenizer, len(counts))
            # What was not learned, such as an alphabet, has the rank that its count has among what was.
            learned, rest = np.sort(counts[~np.isnan(order)]), np.isnan(order)
            order[rest] = np.searchsorted(learned, counts[rest], side="right") - len(learned) - 0.5
            return replace(self._counted, order=order, source="in the order in which the tokenizer learned them")
        if by == "words":
            return replace(self._counted, order=self._words, source="by a list of English words")
        return self._counted

    def _try(self, vocab: int, by: str) -> UnigramCounts | None:
        try:
            return self._ranked(vocab, by)
        except NotApplicable:
            return None

    @cached_property
    def _counted(self) -> UnigramCounts:
        if isinstance(self._given, Windows):
            ids, name = self._given.tokens.ravel(), self._settings.corpus
        else:
            ids, name = self.tokens.ids, self.corpus.name
        types = max(type_count(self.tokenizer), int(ids.max()) + 1)
        return count_tokens(ids, types, f"by counts in {name}, all {len(ids):,} tokens")

    def _training(self, vocab: int) -> UnigramCounts:
        types = len(self._counted.counts)
        if self._settings.counts is not None:
            path = Path(self._settings.counts)
        elif self._entry.local_run:
            path, vocab = self._entry.counts_file, types
        else:
            raise NotApplicable(f"the training text of {self._entry.name} has no counts: give them as --counts FILE")
        counts = load_counts(path, types, vocab)
        return replace(counts, source=f"by counts of the training text, {counts.source}")

    @cached_property
    def _words(self) -> ndarray:
        if isinstance(self._given, Windows):
            raise NotApplicable("the windows are given as token ids, without their words")
        inputs = {
            "corpus": self.corpus.digest,
            "tokenizer": self.tokenizer_digest,
            "words": WORDS.wheel_sha256,
            "code": digest_of(*RANKING),
        }
        about = {"corpus": self.corpus.name, "tokenizer": self._entry.name}
        encoded, shown = partial(encode, self.tokenizer), partial(show_tokens, self.tokenizer)
        types = len(self._counted.counts)
        compute = partial(word_order, self.corpus.documents, encoded, shown, types)
        return self._store.arrays("words", inputs, lambda: {"order": compute()}, about)["order"]

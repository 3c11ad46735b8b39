"""The inputs of a study: its settings, a model, a text as windows of tokens, and the frequency of each token."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from raretok.code import digest_of
from raretok.data.frequency import UnigramCounts
from raretok.data.text import Windows, digest_windows
from raretok.errors import NotApplicable, RaretokError
from raretok.graph import source
from raretok.measure.settings import StudySettings, read_settings
from raretok.measure.text import SOURCES, Text
from raretok.model.hub import steps_here
from raretok.model.load import load_model, model_digest, wrap_model
from raretok.model.loaded import LoadedModel
from raretok.model.readout import extract_readout
from raretok.model.registry import ModelEntry, find_model
from raretok.store import Store


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

    def on_part(self, part: str) -> "Inputs":
        """Return the inputs with a part of the documents, such as ``2/5``."""
        settings = read_settings(**self.settings.model_dump() | {"part": part})
        return Inputs(settings, self.device, self.store, self._given)

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

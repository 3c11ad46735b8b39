"""A study binds one model, one checkpoint and one text.

It resolves what declared computations need, computes each of them once, and keeps the results in the store.
"""

import json
import os
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from raretok.data.text import given_text
from raretok.errors import NotApplicable, RaretokError
from raretok.graph import NODES, WRAPPERS, Node, Of, Steps, at_every_step, load_all, node_of
from raretok.measure.inputs import Inputs
from raretok.measure.settings import read_settings
from raretok.model.hub import steps_here
from raretok.stats.streams import stream
from raretok.store import Store, hash_of


class Study:
    """Tables about one model on one text.

    ``device`` and ``store`` change no number by more than its error bound and are part of no key.

    >>> Study(model="smollm2-135m", windows=256).table("identification.rare_token_neurons")  # doctest: +SKIP
    >>> Study(model="smollm2-135m", windows=256).identification.rare_token_neurons()  # doctest: +SKIP, the same

    ``settings`` is a ``StudySettings``; ``inputs`` holds the model, text, windows and frequencies, which are read when
    they are first asked for; ``store`` is the results folder.
    """

    def __init__(
        self,
        model: Any = None,
        corpus: Any = None,
        *,
        tokenizer: Any = None,
        device: str = "auto",
        store: Store | Path | str | None = None,
        **settings: Any,
    ) -> None:
        """Create a study; no input is read before it is needed.

        Args:
            model: a known name, a path, a hub id, or a causal language model in memory (then with its ``tokenizer``).
            corpus: a known name, a path, a hub id, a list of documents, or windows of token ids:
                ``(tokens [window, position], document [window])``.
            tokenizer: the tokenizer of a model in memory.
            device: ``auto``, ``cpu``, ``cuda`` …
            store: the results folder; by default ``$RARETOK_STORE`` or ``.raretok``.
            settings: further fields of ``StudySettings``.

        Raises:
            RaretokError: a setting is unknown or wrongly typed; the message lists the valid ones.
        """
        in_memory = None
        if model is not None and not isinstance(model, str | Path):
            if tokenizer is None:
                raise RaretokError("a model in memory needs its tokenizer: Study(model=model, tokenizer=tokenizer)")
            in_memory, model = model, f"{type(model).__name__} in memory"
        text = None
        if corpus is not None and not isinstance(corpus, str | Path):
            text = given_text(corpus)
            corpus = text.name
            settings |= {} if text.shape is None else dict(zip(("windows", "length"), text.shape, strict=True))
        named = {k: v for k, v in {"model": model, "corpus": corpus}.items() if v is not None}
        self.settings = read_settings(**named, **settings)
        self.store = store if isinstance(store, Store) else Store(store)
        self.inputs = Inputs(self.settings, device, self.store, (in_memory, tokenizer, text and text.content))
        self._values: dict[str, Any] = {}
        self._digests: dict[str, Any] = {}
        self._reasons: dict[str, str] = {}
        self._at: dict[int, Study] = {}

    def table(self, name: str, **parameters: Any) -> pd.DataFrame:
        """Return a declared table by name, such as ``regimes.curves``, which is computed if it is not in the store.

        Raises:
            NotApplicable: the model or the text has no such table; the message says why.
            RaretokError: there is no table of that name, or no such parameter.
        """
        result = self.get(name, **parameters)
        if not isinstance(result, pd.DataFrame):
            raise RaretokError(f"{name} is no table but {type(result).__name__}: use study.get({name!r})")
        return result.copy()

    def __getattr__(self, room: str) -> "Room":
        """Return a finding by name; its attributes are the finding's computations: ``study.regimes.curves()``."""
        if not room.startswith("_"):
            load_all()
            if any(name.startswith(f"{room}.") for name in NODES):
                return Room(self, room)
        raise AttributeError(f"a study has no {room!r}")

    def get(self, wanted: Any, **parameters: Any) -> Any:
        """Return the value of a declared computation: a table, arrays, or another object that its function returns."""
        node = node_of(wanted).of(**parameters)
        self._note(node)
        return self._get(node)

    def _get(self, node: Node) -> Any:
        if node.kind == "input":
            return self.inputs.value(node.name)
        if node.kind == "steps":
            return self._steps(node)
        if node.kind == "start":
            start = self._start()
            return start._get(node.needs[0]) if start else None
        if node.kind == "optional":
            return self._if_applicable(self._get, node)
        name = _identity(node)
        if name in self._reasons:
            raise NotApplicable(self._reasons[name])
        if name not in self._values:
            try:
                self._values[name] = self.keep(node, partial(self._compute, node))
            except NotApplicable as error:
                self._reasons[name] = str(error)
                raise
        return self._values[name]

    def keep(self, wanted: Any, compute: Callable[[], Any]) -> Any:
        """Return the stored result of a computation; if there is none, the value of ``compute`` is stored and returned.

        Values of kind ``memory`` are computed each time and not stored.
        """
        node = node_of(wanted)
        if node.kind == "memory":
            return compute()
        keeps: Any = self.store.table if node.kind == "table" else self.store.arrays
        return keeps(node.name, self.key(node), compute, self.about)

    def is_kept(self, wanted: Any) -> bool:
        """Whether a result is in the store."""
        node = node_of(wanted)
        return self.store.content(node.name, self.key(node)) is not None

    def key(self, wanted: Any) -> dict[str, Any]:
        """Return what determines the content of a result: its code, its parameters, and the content of its needs."""
        node = node_of(wanted)
        given = {name: _plain(value) for name, value in node.given.items()}
        seeded = {"seed", "rng"} & set(node.parameters)
        return {
            "code": node.code,
            "given": ({"seed": self.settings.seed} if seeded else {}) | given,
            "needs": {name: self.digest(need) for name, need in node.arguments.items()},
        }

    def digest(self, wanted: Any) -> Any:
        """Return the identity of a value, which for a stored result is the digest of its content.

        Results that are computed from it therefore stay valid if computing it again yields equal content.
        """
        node = node_of(wanted)
        name = _identity(node)
        if name not in self._digests:
            self._digests[name] = self._digest(node)
        return self._digests[name]

    def _digest(self, node: Node) -> Any:
        if node.kind == "input":
            return self.inputs.digest(node.name)
        if node.kind == "steps":
            need = node.needs[0]
            return {str(step): self.at(step).digest(need) for step in self._steps(node)}
        if node.kind == "start":
            start = self._start()
            return start.digest(node.needs[0]) if start else None
        if node.kind == "optional":
            return self._if_applicable(self.digest, node)
        key = self.key(node)
        if node.kind == "memory":
            return hash_of(key)
        if (content := self.store.content(node.name, key)) is None:
            self._get(node)
            content = self.store.content(node.name, key)
        return content

    def _if_applicable(self, ask: Callable[[Node], Any], node: Node) -> Any:
        try:
            return ask(node.needs[0])
        except NotApplicable:
            return None

    def _compute(self, node: Node) -> Any:
        arguments = {name: self._get(need) for name, need in node.arguments.items()}
        arguments |= {
            name: v.study._get(node_of(v.wanted)) if isinstance(v, Of) else v for name, v in node.given.items()
        }
        if "seed" in node.parameters:
            arguments.setdefault("seed", self.settings.seed)
        if "rng" in node.parameters:
            arguments.setdefault("rng", stream(self.settings.seed, node.name))
        return node.compute(*arguments.values()) if node.judged_by else node.compute(**arguments)

    # Notes

    def noted(self, node: Node) -> str:
        """Describe, as a line of JSON, a computation and the digest of its value, or why it does not apply."""
        return json.dumps(self._described(node), sort_keys=True)

    def _described(self, node: Node) -> dict[str, Any]:
        try:
            digest = self.digest(node)
        except NotApplicable as error:
            digest = str(error)
        wanted = node.needs[0] if node.kind in WRAPPERS else node
        given = {
            name: v.study._described(node_of(v.wanted)) if isinstance(v, Of) else _plain(v)
            for name, v in wanted.given.items()
        }
        settings = self.settings.model_dump()
        return {"settings": settings, "kind": node.kind, "name": wanted.name, "given": given, "digest": digest}

    def _note(self, node: Node) -> None:
        """Add what is asked for to the file that ``$RARETOK_ASKED`` names, see ``book.asked``."""
        if path := os.environ.get("RARETOK_ASKED"):
            with Path(path).open("a", encoding="utf-8") as notes:
                notes.write(self.noted(node) + "\n")

    # Checkpoints

    def at(self, step: int) -> "Study":
        """Return the same study at another checkpoint, with the same windows and the same other settings."""
        if step not in self._at:
            self._at[step] = self._with(self.inputs.at(step), self._at)
        return self._at[step]

    def on_part(self, part: str) -> "Study":
        """Return the same study on a part of the documents, such as ``2/5``, into which they fall by their hashes."""
        return self._with(self.inputs.on_part(part), {})

    def _with(self, inputs: Inputs, at: "dict[int, Study]") -> "Study":
        other = Study.__new__(Study)
        other.settings, other.store, other.inputs = inputs.settings, self.store, inputs
        other._values, other._digests, other._reasons, other._at = {}, {}, {}, at
        return other

    def over_training(self, wanted: Any, **parameters: Any) -> pd.DataFrame:
        """Return the tables of all checkpoints as one, with the column ``step``.

        Checkpoints at which the table does not apply are left out and named in ``attrs["skipped"]``.

        Raises:
            NotApplicable: the model has no checkpoints, or none at which the table can be made.
        """
        node = node_of(wanted).of(**parameters)
        every = at_every_step(node)
        steps = self._steps(every, progress=True)
        self._note(every)
        table = pd.concat([t.assign(step=step) for step, t in steps.items()], ignore_index=True)
        table.attrs["skipped"] = steps.skipped
        return table

    def _steps(self, node: Node, progress: bool = False) -> Steps:
        need, studies = node.needs[0], {step: self.at(step) for step in self.inputs.steps}
        bar = tqdm(studies.items(), desc="checkpoints", unit="checkpoint", disable=None if progress else True)
        reasons: dict[int, str | None] = {}
        for step, study in bar:
            try:
                study.digest(need)
                reasons[step] = None
            except NotApplicable as error:
                reasons[step] = str(error)
            study.release()
        if not any(reason is None for reason in reasons.values()):
            raise NotApplicable(f"no checkpoint of {self.inputs.entry.name} has it: {next(iter(reasons.values()))}")

        def value(step: int) -> Any:
            result = studies[step]._get(need)
            studies[step].release()
            return result

        return Steps(reasons, value, reasons.get)

    def _start(self) -> "Study | None":
        entry = self.inputs.entry
        return self.at(0) if 0 in entry.steps and 0 in steps_here(entry) else None

    def release(self) -> None:
        """Free the values that are held in memory; stored results stay."""
        self._values.clear()
        self.inputs.release()

    # Claims

    def claims(self, only: Collection[str] | None = None) -> pd.DataFrame:
        """Return the verdicts on all claims, or on some, with a row for each; see ``claims.judge``.

        The row of a claim that does not apply says why.
        """
        from raretok.claims import judge

        return judge(self, only)

    @property
    def about(self) -> dict[str, Any]:
        """Describe in words what the results are about, and give a digest that all results of a study share."""
        words = self.inputs.describe()
        settings = self.settings.model_dump(exclude={"step"})
        return words | {"study": hash_of({"settings": settings, "weights": self.inputs.weights})}

    def __repr__(self) -> str:
        """The settings that differ from the defaults, and the results folder."""
        described = ", ".join(f"{k}={v!r}" for k, v in self.inputs.describe().items())
        return f"Study({described}; results in {self.store.root})"


class Room:
    """The computations of one finding as methods, each of which takes the parameters of its function."""

    def __init__(self, study: Study, name: str) -> None:
        """Bind the computations to a study; ``name`` is the name of the module that declares them."""
        self._study, self._name = study, name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a computation by name."""
        if name.startswith("_"):
            raise AttributeError(name)
        node = node_of(f"{self._name}.{name}")

        def value(**parameters: Any) -> Any:
            result = self._study.get(node, **parameters)
            return result.copy() if isinstance(result, pd.DataFrame) else result

        return value

    def __dir__(self) -> list[str]:
        """Return the names of the computations."""
        return sorted(n.partition(".")[2] for n in NODES if n.startswith(f"{self._name}."))


def _identity(node: Node) -> str:
    """Name and parameters of a computation, and of the one that it wraps; a study holds values under it in memory."""
    given = json.dumps({k: _plain(v) for k, v in node.given.items()}, sort_keys=True)
    wrapped = _identity(node.needs[0]) if node.kind in WRAPPERS else ""
    return f"{node.name} {given} {wrapped}"


def _plain(value: Any) -> Any:
    """Return a parameter in the form in which it enters a key."""
    if isinstance(value, Of):
        return {"of": value.study.digest(value.wanted)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value))
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value

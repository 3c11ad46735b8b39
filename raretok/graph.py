"""Declared computations: a function declares what it needs, and a study computes it once and keeps its result.

    @table(band_sums)
    def contrasts(sums: SplitHalfSums, seed: int) -> pd.DataFrame: ...

The function stays an ordinary function. Its needs fill its first parameters; the study fills ``seed`` and ``rng``;
other parameters keep their defaults unless ``of`` sets them. ``study.table("regimes.contrasts")`` and
``study.regimes.contrasts()`` return the table.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar

from raretok.code import digest_of, follow
from raretok.errors import RaretokError

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["input", "table", "arrays", "memory", "steps", "start", "optional"]
"""How a value comes about. An ``input`` is read. A ``table`` is computed and kept as Parquet, ``arrays`` are computed
and kept as arrays, and a value in ``memory`` is computed anew in every process. ``steps`` are the values of a
computation at every checkpoint, ``start`` is its value at the checkpoint before training, and ``optional`` is its value
where it applies."""
WRAPPERS = ("steps", "start", "optional")
"""Kinds of computations that only ask another one in a certain way."""
ROOMS = ("raretok.measure", "raretok.findings", "raretok.claims")
"""Packages whose modules declare computations."""


@dataclass(frozen=True, eq=False)
class Node:
    """A computation: its name (module and function), how its value is kept, its function, needs and set parameters."""

    name: str
    kind: Kind
    compute: Callable[..., Any]
    needs: tuple["Node", ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    judged_by: Callable[..., Any] | None = None
    """The function that ``compute`` is made from, where ``compute`` is not declared itself: the rule of a claim."""

    @property
    def function(self) -> Callable[..., Any]:
        """The function that was declared."""
        return self.judged_by or self.compute

    @cached_property
    def code(self) -> str:
        """Digest of the code that the function runs, without the code of its needs."""
        return digest_of(self.function)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the function's parameters."""
        return tuple(inspect.signature(self.function).parameters)

    @property
    def arguments(self) -> dict[str, "Node"]:
        """The needs that fill the first parameters, by parameter name, without the parameters that are set."""
        names = self.parameters[: len(self.needs)]
        return {name: need for name, need in zip(names, self.needs, strict=True) if name not in self.given}

    def of(self, **given: Any) -> "Node":
        """Return the same computation with some parameters set, which may include parameters that a need would fill.

        Raises:
            RaretokError: there is no such parameter.
        """
        if unknown := set(given) - set(self.parameters):
            free = [p for p in self.parameters[len(self.needs) :] if p not in ("seed", "rng", "progress")]
            raise RaretokError(
                f"{self.name} has no parameter {', '.join(sorted(unknown))}: it has {', '.join(free) or 'none'}"
            )
        return replace(self, given={**self.given, **given}) if given else self


@dataclass(frozen=True)
class Of:
    """A result of another study as the value of a parameter.

    An example is ``robustness.across_corpora(second=Of(other, band_sums))``.
    """

    study: Any
    wanted: Any


NODES: dict[str, Node] = {}
"""Every declared computation, by name."""


def node_of(wanted: Any) -> Node:
    """Return the node of a declared function or of a name such as ``regimes.curves``; a node is returned unchanged.

    Raises:
        RaretokError: there is no computation of that name.
    """
    if isinstance(wanted, Node):
        return wanted
    if not isinstance(wanted, str):
        node: Node = wanted.node
        return node
    load_all()
    if wanted not in NODES:
        room = wanted.partition(".")[0]
        known = [n for n in NODES if n.startswith(f"{room}.")] or sorted({n.partition(".")[0] for n in NODES})
        raise RaretokError(f"no table {wanted!r}: choose from {', '.join(known)}")
    return NODES[wanted]


def load_all(rooms: Iterable[str] = ROOMS) -> None:
    """Import every module that declares computations."""
    for room in rooms:
        for module in iter_modules(import_module(room).__path__, f"{room}."):
            import_module(module.name)


def source(name: str) -> Node:
    """Declare an input of a study: an attribute of its ``Inputs``."""
    return Node(name, "input", lambda: None)


def table(*needs: Any) -> Callable[[F], F]:
    """Declare a function that returns a data frame, which is kept in the store."""
    return _declare("table", needs)


def arrays(*needs: Any) -> Callable[[F], F]:
    """Declare a function that returns named arrays, which are kept in the store."""
    return _declare("arrays", needs)


def memory(*needs: Any) -> Callable[[F], F]:
    """Declare a function whose value is computed anew in every process, such as a view of stored results."""
    return _declare("memory", needs)


def _declare(kind: Kind, needs: tuple[Any, ...]) -> Callable[[F], F]:
    def declare(function: F) -> F:
        follow(function.__module__)
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        if (known := NODES.get(name)) and known.function.__module__ != function.__module__:
            raise RaretokError(f"{name} is already declared in {known.function.__module__}: rename one of the two")
        node = Node(name, kind, function, tuple(map(node_of, needs)))
        NODES[name] = function.node = node  # type: ignore[attr-defined]
        return function

    return declare


def at_every_step(wanted: Any) -> Node:
    """Declare a need for the values of a computation at every checkpoint, as ``Steps``."""
    need = node_of(wanted)
    return Node(f"{need.name} at every step", "steps", lambda: None, (need,))


def before_training(wanted: Any) -> Node:
    """Declare a need for the value of a computation at step 0, which is None for a model without that checkpoint."""
    need = node_of(wanted)
    return Node(f"{need.name} before training", "start", lambda: None, (need,))


def if_applicable(wanted: Any) -> Node:
    """Declare a need for the value of a computation, which is None for a model or text to which it does not apply."""
    need = node_of(wanted)
    return Node(f"{need.name} if applicable", "optional", lambda: None, (need,))


class Steps(Mapping[int, Any]):
    """A value at each checkpoint, which is computed when it is asked for and not held in memory.

    Checkpoints at which the value does not apply are left out, and ``skipped`` holds the reason for each.
    """

    def __init__(self, steps: Iterable[int], value: Callable[[int], Any], applies: Callable[[int], str | None]) -> None:
        """``value`` returns the value at a step; ``applies`` returns None, or the reason why a step has no value."""
        self._value = value
        reasons = {step: applies(step) for step in steps}
        self.skipped = {step: reason for step, reason in reasons.items() if reason is not None}
        self._steps = [step for step, reason in reasons.items() if reason is None]

    def __getitem__(self, step: int) -> Any:
        """Return the value at a step."""
        if step not in self._steps:
            raise KeyError(step)
        return self._value(step)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the steps in order."""
        return iter(self._steps)

    def __len__(self) -> int:
        """Return the number of steps that have a value."""
        return len(self._steps)

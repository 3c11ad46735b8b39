"""A claim is one declaration above its rule.

The declaration gives the statement, its source, the tables that the rule reads, and the simulated data that test the
rule.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from raretok.claims.verdicts import Judgement, Verdict
from raretok.code import follow
from raretok.errors import NotApplicable
from raretok.graph import Node, node_of

F = TypeVar("F", bound=Callable[..., Judgement])


@dataclass(frozen=True)
class Simulation:
    """Data sets with a known answer, which are made from what a study measured.

    ``material(study)`` returns what the data sets are made from; ``tables(material, seed)`` returns the tables of one
    data set, each under the function that declares it.
    """

    name: str
    material: Callable[[Any], Any]
    tables: Callable[[Any, int], Mapping[Any, Any]]


@dataclass(frozen=True)
class Claim:
    """One claim: its id, text and source, the reported value, the quantity that is measured for it, and the neurons.

    ``source`` names who makes the claim (E, N, D: see the related work), and ``about`` names the neurons that it is
    about. ``rule`` makes a ``Judgement`` of the tables that it ``reads``. ``only`` is the one family of models that the
    claim is about, if it is about one. ``threshold`` is the value that the rule
    compares the quantity, or its distance from the reported one, with. ``nulls`` are data in
    which the claim is untrue, and ``plants`` are data in which it is true. ``table`` is the verdict as a table of one
    row, which is kept like any other table.
    """

    id: str
    text: str
    source: str
    reported: str
    quantity: str
    rule: Callable[..., Judgement]
    reads: tuple[Node, ...]
    about: str
    only: str
    threshold: float | None
    nulls: tuple[Simulation, ...]
    plants: tuple[Simulation, ...]
    table: Node

    @property
    def room(self) -> str:
        """The finding that the claim is about, which names its chapter and the modules that measure, judge and draw
        it."""
        return self.rule.__module__.rpartition(".")[2]

    @property
    def order(self) -> tuple[str, int, str]:
        """The sort key of the claim: the letter, number and letter of its id."""
        letter, rest = self.id[:1], self.id[1:]
        digits = rest.rstrip("abcdefghijklmnopqrstuvwxyz")
        return letter, int(digits or 0), rest[len(digits) :]

    def judge(self, study: Any) -> dict[str, Any]:
        """Return the row of the table of claims for one study; a claim that does not apply says why."""
        try:
            if self.only and not study.inputs.entry.name.startswith(self.only):
                raise NotApplicable(f"it is about {self.only} alone")
            verdict = dict(study.get(self.table).iloc[0])
        except NotApplicable as error:
            verdict = Judgement(Verdict.NOT_APPLICABLE, str(error)).as_row()
        what = {"id": self.id, "claim": self.text, "source": self.source}
        return what | {"reported": self.reported, "quantity": self.quantity} | verdict


REGISTERED: dict[str, Claim] = {}
"""Every declared claim by id; ``claims.all_claims`` has them in order."""


def claim(
    id: str,
    text: str,
    *,
    source: str,
    reported: str,
    quantity: str,
    reads: Iterable[Any],
    about: str = "",
    only: str = "",
    threshold: float | None = None,
    nulls: Iterable[Simulation] = (),
    plants: Iterable[Simulation] = (),
) -> Callable[[F], F]:
    """Declare a rule, which takes the tables that it ``reads`` in that order; the arguments are fields of ``Claim``."""

    def declare(rule: F) -> F:
        follow(rule.__module__)

        def verdict(*tables: Any) -> pd.DataFrame:
            return pd.DataFrame([rule(*tables).as_row()])

        nodes = tuple(map(node_of, reads))
        node = Node(f"claims.{id}", "table", verdict, nodes, judged_by=rule)
        REGISTERED[id] = Claim(
            id, text, source, reported, quantity, rule, nodes, about, only, threshold, tuple(nulls), tuple(plants), node
        )
        return rule

    return declare

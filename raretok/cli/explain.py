"""The origin of a verdict, traced from the rule down to the weights and the text."""

from collections.abc import Callable, Iterator
from typing import Any

from raretok.claims import Claim
from raretok.errors import NotApplicable
from raretok.graph import WRAPPERS, Node

HOW = {
    "table": "kept as a table",
    "arrays": "kept as arrays",
    "memory": "made from",
    "steps": "at every checkpoint",
    "start": "before training",
    "optional": "where it applies",
}


def explain_claim(study: Any, claim: Claim) -> Iterator[str]:
    """Yield lines of text about a claim: its verdict, its rule, and the computations that it rests on.

    Each computation is listed once and indented below the computation that needs it.
    """
    row = claim.judge(study)
    yield f"{claim.id} {claim.text} ({claim.source}; reported: {claim.reported})"
    yield f"  {row['verdict']}: {row['why']}"
    if row["controlled"] == row["controlled"]:
        interval = f" [{row['low']:.4g}, {row['high']:.4g}]" if row["low"] == row["low"] else ""
        controlled = f"{row['controlled']:.4g}{interval}, n = {row['n']}"
        yield f"  {claim.quantity}: {controlled}; as published: {row['published']:.4g}"
    if claim.about:
        yield f"  about: {claim.about}"
    if claim.threshold is not None:
        yield f"  threshold of the rule: {claim.threshold:g}"
    yield f"  rule: {claim.rule.__module__}.{claim.rule.__name__}, code {claim.table.code}"
    for name, simulations in (("untrue", claim.nulls), ("true", claim.plants)):
        if simulations:
            yield f"  tried on data in which it is {name}: {', '.join(s.name for s in simulations)}"
    yield "  reads:"
    seen: set[str] = set()
    for need in claim.reads:
        yield from _explain(study, need, 2, seen)


def _explain(study: Any, node: Node, depth: int, seen: set[str]) -> Iterator[str]:
    indent = "  " * depth
    name = node.name + "".join(f", {parameter} {value}" for parameter, value in node.given.items())
    if name in seen:
        yield f"{indent}{name} (above)"
        return
    seen.add(name)
    if node.kind == "input":
        yield f"{indent}{node.name}: {_input(study, node.name)}"
        return
    code = "" if node.kind in WRAPPERS else f", code {node.code}"
    try:
        where = f", {study.store.path(node.name, study.key(node))}" if node.kind in ("table", "arrays") else ""
    except NotApplicable as error:
        where = f", not applicable: {error}"
    yield f"{indent}{name}: {HOW[node.kind]}{code}{where}"
    for need in node.needs if node.kind in WRAPPERS else node.arguments.values():
        yield from _explain(study, need, depth + 1, seen)


def _input(study: Any, name: str) -> str:
    """Describe an input in words, with its identity."""
    inputs, settings = study.inputs, study.settings
    step = "" if settings.step is None else f" @ {settings.step}"
    words: dict[str, Callable[[], str]] = {
        "model": lambda: f"{inputs.entry.name}{step}",
        "tokenizer": lambda: f"that of {inputs.entry.name}",
        "windows": lambda: f"{settings.windows} of {settings.length} tokens, {settings.corpus}, seed {settings.seed}",
        "frequency": lambda: inputs.frequency.source,
    }
    if name not in words:
        return str(inputs.value(name))
    identity = inputs.weights if name == "model" else inputs.digest(name)
    return f"{words[name]()} ({identity:.16})"

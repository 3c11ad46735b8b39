"""Calibration of the rules: how often each says *supported* on simulated data without an effect, or with a planted one.

The module measures these shares and reads the results of earlier measurements.
"""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from raretok.claims import all_claims
from raretok.claims.declaration import Claim, Simulation
from raretok.claims.verdicts import Verdict
from raretok.errors import RaretokError

RESULTS = Path(__file__).with_name("calibration.csv")
FOUND = 0.85
"""Share of the data sets with a planted answer in which a rule must find it; a test checks that the rules do."""
Key = tuple[str, str]
_materials: dict[Any, Any] = {}


def simulations() -> dict[Key, Simulation]:
    """Return every simulation that a claim is tried on, by the room of the first such claim and its own name."""
    by_key: dict[Key, Simulation] = {}
    for claim in all_claims():
        for simulation in (*claim.nulls, *claim.plants):
            if simulation not in by_key.values():
                by_key[claim.room, simulation.name] = simulation
    return by_key


def judged_on(tables: Any) -> Iterator[tuple[Claim, Verdict]]:
    """Yield the verdict of every rule whose tables are all in one data set."""
    by_name = {function.node.name: table for function, table in tables.items()}
    for claim in all_claims():
        if all(need.name in by_name for need in claim.reads):
            yield claim, claim.rule(*(by_name[need.name] for need in claim.reads)).verdict


def try_rules(key: Key, seed: int, material: Any) -> list[dict[str, Any]]:
    """Return the verdicts on one data set as rows of ``id``, ``data`` and ``verdict``."""
    simulation = simulations()[key]
    tables = simulation.tables(material, seed)
    return [{"id": c.id, "data": simulation.name, "verdict": v} for c, v in judged_on(tables)]


def _start(materials: dict[Any, Any]) -> None:
    _materials.update(materials)


def _try(task: tuple[Key, int]) -> list[dict[str, Any]]:
    key, seed = task
    return try_rules(key, seed, _materials[simulations()[key].material])


def calibrate(study: Any, rooms: Collection[str] = (), sets: int = 500, plants: int = 200) -> pd.DataFrame:
    """Measure the shares of data sets on which each rule says *supported* and *not supported*.

    The columns are ``id``, ``data``, ``supported``, ``denied`` and ``sets``.

    Args:
        study: the study that the data sets are made from.
        rooms: the rooms of the claims that are tried; by default all.
        sets: the number of data sets of each other kind.
        plants: the number of data sets of each kind that is planted for some claim and a null of none.

    Raises:
        RaretokError: a room has no simulations.
    """
    known = {room for room, _ in simulations()}
    if unknown := set(rooms) - known:
        raise RaretokError(f"no simulations of {', '.join(sorted(unknown))}: choose from {', '.join(sorted(known))}")
    planted = {s for c in all_claims() for s in c.plants} - {s for c in all_claims() for s in c.nulls}
    chosen = {key: s for key, s in simulations().items() if not rooms or key[0] in rooms}
    makers: set[Callable[[Any], Any]] = {s.material for s in chosen.values()}
    materials = {make: make(study) for make in makers}
    tasks = [(key, seed) for key, s in chosen.items() for seed in range(plants if s in planted else sets)]
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(initializer=_start, initargs=(materials,)) as pool:
        for verdicts in tqdm(pool.map(_try, tasks, chunksize=4), total=len(tasks), desc="data sets", disable=None):
            rows += verdicts
    return shares(pd.DataFrame(rows))


def shares(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the shares of ``calibrate`` from verdicts, a row for each rule and data set (``id``, ``data``,
    ``verdict``)."""
    said = verdicts.assign(
        supported=verdicts["verdict"] == Verdict.SUPPORTED, denied=verdicts["verdict"] == Verdict.NOT_SUPPORTED
    )
    by_data = said.groupby(["id", "data"], sort=False)
    result = by_data[["supported", "denied"]].mean().assign(sets=by_data.size()).reset_index()
    return in_order(result)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the order of the claims."""
    order = {c.id: k for k, c in enumerate(all_claims())}
    return table.sort_values("id", key=lambda x: x.map(order), kind="stable")


def calibration_results() -> pd.DataFrame:
    """Return every measured share by rule and kind of data: ``supported``, ``denied``, ``sets``.

    Rules that were not measured have no row.

    Raises:
        RaretokError: the results are missing.
    """
    if not RESULTS.is_file():
        raise RaretokError(
            f"{RESULTS} is missing: run `make calibration`, or clone the book's repository, it comes with it"
        )
    return pd.read_csv(RESULTS).set_index(["id", "data"])


def calibration_table(rules: Collection[str]) -> pd.DataFrame:
    """Return the shares of data sets on which each rule says *supported*, with a row for each rule.

    The columns are ``rule``; one column for each kind of data in which one of the claims is untrue (NaN for the rules
    of other claims); ``planted`` and ``planted, denied``, the shares of data sets with a planted answer on which the
    rule says *supported* and *not supported*; and ``sets``, the number of data sets of each kind in which the claim is
    untrue. Shares that were not measured are NaN.

    Raises:
        RaretokError: the results are missing.
    """
    measured = calibration_results().to_dict("index")
    claims = [c for c in all_claims() if c.id in rules]
    kinds = list(dict.fromkeys(s.name for c in claims for s in c.nulls))
    missing = {"supported": float("nan"), "denied": float("nan"), "sets": 0}
    rows = []
    for claim in claims:
        untrue = {s.name: measured.get((claim.id, s.name), missing) for s in claim.nulls}
        true = [measured.get((claim.id, s.name), missing) for s in claim.plants]
        rows.append(
            {"rule": claim.id}
            | {k.replace("half_normal", "half-normal"): untrue.get(k, missing)["supported"] for k in kinds}
            | {
                "planted": min((x["supported"] for x in true), default=float("nan")),
                "planted, denied": max((x["denied"] for x in true), default=float("nan")),
                "sets": min((int(x["sets"]) for x in untrue.values()), default=0),
            }
        )
    return pd.DataFrame(rows)

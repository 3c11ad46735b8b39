"""How often each rule of ``raretok.claims`` finds something: in data that hold nothing, and in data with a planted answer.

Data sets are made from the documents of a real study (by default the book's): its errors, with the sign of every document drawn anew, around effects
that are drawn or planted; or its rare and matched targets with their labels exchanged in random documents; those about groups of neurons, in ``groups.py``, and about heads, ablations and layers, in ``experiments.py``.
Writes ``calibration.csv``. Run it by ``make calibration``; about half an hour on two cores.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import experiments
import groups
import numpy as np
import pandas as pd
from tqdm import tqdm

from raretok import Study
from raretok.ablation import DocumentSums
from raretok.claims import CLAIMS, RANK_CURVE, Evidence, judge
from raretok.claims.calibration import STRENGTH
from raretok.findings import regimes, weights
from raretok.findings.emergence import by_step, departures
from raretok.findings.identification import Halves
from raretok.stats.resampling import ratio

BANDS = ("rare", "rare with controls", "matched", "common", "half of types input")
NULLS = ("noise", "half_normal", "exponential", "lognormal", "labels exchanged")
PLANTS = ("plateau and breaks", "head excess", "power law")
DRAWS, TAIL_DRAWS = 120, 60
LOGNORMAL_SPREAD = 1.3
PARETO = 1.5
"""Exponent of the planted power law's survival function; that of its density is one more."""
_real: Any


def _start(real: Any) -> None:
    global _real
    _real = real


def planted_curve(kind: str, neurons: int, rng: np.random.Generator) -> np.ndarray:
    """|effect| by rank, up to a factor: the paper's regimes (breaks at 1.7 % and 12.6 % of the neurons), or a lifted head."""
    ln_rank = np.log(np.arange(1, neurons + 1))
    first, second = np.log(0.017 * neurons), np.log(0.126 * neurons)
    if kind == "plateau and breaks":
        late = np.maximum(ln_rank - second, 0)
        return np.exp(-0.05 * ln_rank - 1.25 * np.maximum(ln_rank - first, 0) - 1.7 * late)
    if kind == "head excess":
        return np.exp(-0.5 * ln_rank + 1.0 * (ln_rank < 3.5))
    return np.sort((1 - rng.random(neurons)) ** (-1 / PARETO))[::-1].copy()


def planted(kind: str, neurons: int, square: float, rng: np.random.Generator) -> np.ndarray:
    """Effects with the planted rank curve in random order, of random sign; ``square`` is their mean square."""
    curve = planted_curve(kind, neurons, rng)
    effects = rng.permutation(curve) * rng.choice([-1.0, 1.0], neurons)
    return effects * np.sqrt(square / (effects**2).mean())


def independent(kind: str, neurons: int, square: float, rng: np.random.Generator) -> np.ndarray:
    """Effects of one distribution, of random sign, with expected mean square ``square``."""
    size = {
        "noise": lambda: np.zeros(neurons),
        "half_normal": lambda: np.abs(rng.standard_normal(neurons)),
        "exponential": lambda: rng.exponential(np.sqrt(0.5), neurons),
        "lognormal": lambda: np.exp(LOGNORMAL_SPREAD * rng.standard_normal(neurons) - LOGNORMAL_SPREAD**2),
    }[kind]()
    return size * rng.choice([-1.0, 1.0], neurons) * np.sqrt(square)


def simulated(kind: str, seed: int) -> Halves:
    """One data set."""
    rng = np.random.default_rng([seed, (*NULLS, *PLANTS).index(kind), groups.APART])
    sums, half = _real.sums, _real.half
    index = [_real.bands.index(b) for b in BANDS]
    net, weight = sums.net[:, index].copy(), sums.weight[:, index].copy()
    for b in range(len(BANDS)):
        net[:, b], weight[:, b] = net[:, b] / weight[:, b].sum(), weight[:, b] / weight[:, b].sum()
    documents, _, neurons = net.shape
    if kind == "labels exchanged":
        swap = rng.integers(0, 2, documents).astype(bool)
        for array in (net, weight):
            a, b = array[:, 1].copy(), array[:, 2].copy()
            array[swap, 1], array[swap, 2] = b[swap], a[swap]
            array[:, 0] = array[:, 1]
    else:
        square = float((ratio(*_real.of("rare", 0)) * ratio(*_real.of("rare", 1))).mean())
        residual = net - weight[:, :, None] * net.sum(0)
        residual *= rng.choice([-1.0, 1.0], (documents, 1, 1))
        if kind in PLANTS:
            rare = planted(kind, neurons, STRENGTH**2 * square, rng)
            other = planted("power law", neurons, STRENGTH**2 * square, rng)
        else:
            rare = other = independent(kind, neurons, square, rng)
        effects = np.stack([rare, rare, other, other, rare])
        net = residual + weight[:, :, None] * effects
    count = np.ones((documents, len(BANDS)), dtype=np.int64)
    return Halves(DocumentSums(net, np.abs(net), net**2, weight, count, 0.0, 0.0), half, BANDS)


def examine(task: tuple[str, int]) -> tuple[str, int, Evidence]:
    """The tables of one data set."""
    kind, seed = task
    data = simulated(kind, seed)
    bands = ("rare",)
    table = regimes.regimes(data, seed, DRAWS, bands, ("net",))
    contrasts = regimes.contrasts(data, seed, DRAWS, ("matched",))
    tails = regimes.tails(data, seed, TAIL_DRAWS)
    return kind, seed, Evidence(table, contrasts, tails, regimes.published(data))


def verdicts(found: dict[tuple[str, int], Evidence]) -> pd.DataFrame:
    """Verdict of every rule on every data set; a trajectory is a noise set followed by two sets of its kind."""
    rows = []
    last = {kind: max(s for k, s in found if k == kind) for kind, _ in found}
    for (kind, seed), evidence in found.items():
        tables = [
            found["noise", (seed + 2) % (last["noise"] + 1)],
            evidence,
            found[kind, (seed + 1) % (last[kind] + 1)],
        ]
        emergence = departures(by_step({k: e.regimes for k, e in enumerate(tables)}))
        whole = Evidence(evidence.regimes, evidence.contrasts, evidence.tails, evidence.published, emergence)
        rows.append(judge(whole)[["id", "verdict"]].assign(data=kind, seed=seed))
    return pd.concat(rows, ignore_index=True)


def of_groups(task: tuple[str, int]) -> tuple[str, int, Evidence]:
    """The tables of one data set about a group of neurons."""
    kind, seed = task
    return kind, seed, groups.evidence(kind, seed, _real)


def verdicts_of_groups(found: dict[tuple[str, int], Evidence]) -> pd.DataFrame:
    """Verdict of every rule about groups on every data set; a trajectory is a set of normal rows followed by two sets of its kind."""
    rows = []
    last = {kind: max(s for k, s in found if k == kind) for kind, _ in found}
    for (kind, seed), evidence in found.items():
        start = found["gaussian rows", (seed + 2) % (last["gaussian rows"] + 1)]
        tables = [start, evidence, found[kind, (seed + 1) % (last[kind] + 1)]]
        growth = weights.growth(by_step({k: e.group_tails for k, e in enumerate(tables)}))
        whole = replace(evidence, growth=growth, model="pythia-2.8b")
        about = [c.id for c in CLAIMS if c.id not in RANK_CURVE and c.needs not in experiments.TABLES]
        rows.append(judge(whole, about)[["id", "verdict"]].assign(data=kind, seed=seed))
    return pd.concat(rows, ignore_index=True)


def of_experiments(task: tuple[str, int]) -> tuple[str, int, Evidence]:
    """The table of one data set about heads, kinds of neurons, ablations or layers."""
    kind, seed = task
    return kind, seed, experiments.evidence(kind, seed, _real)


def verdicts_of_experiments(found: dict[tuple[str, int], Evidence]) -> pd.DataFrame:
    """Verdict of the rules that each data set has a table for."""
    rows = []
    for (kind, seed), evidence in found.items():
        about = [c.id for c in CLAIMS if c.needs in experiments.TABLES and getattr(evidence, c.needs) is not None]
        rows.append(judge(evidence, about)[["id", "verdict"]].assign(data=kind, seed=seed))
    return pd.concat(rows, ignore_index=True)


def measure(about: str, sets: int, plants: int) -> pd.DataFrame:
    """Share of data sets on which each rule says *supported*, and *not supported*: ``id``, ``data``, ``supported``, ``denied``, ``sets``."""
    study = Study()
    if about == "groups":
        kinds, planted, examined, judged = (*groups.NULLS, *groups.PLANTS), groups.PLANTS, of_groups, verdicts_of_groups
        real = groups.real(study)
    elif about == "experiments":
        kinds, planted = (*experiments.NULLS, *experiments.PLANTS), experiments.PLANTS
        examined, judged, real = of_experiments, verdicts_of_experiments, experiments.real(study)
    else:
        kinds, planted, examined, judged = (*NULLS, *PLANTS), PLANTS, examine, verdicts
        real = study.halves
    tasks = [(kind, s) for kind in kinds for s in range(plants if kind in planted else sets)]
    found = {}
    with ProcessPoolExecutor(initializer=_start, initargs=(real,)) as pool:
        for kind, seed, evidence in tqdm(pool.map(examined, tasks, chunksize=4), total=len(tasks), desc=about):
            found[kind, seed] = evidence
    table = judged(found)
    shares = table.assign(supported=table["verdict"] == "supported", denied=table["verdict"] == "not supported")
    by_data = shares.groupby(["id", "data"])
    result = by_data[["supported", "denied"]].mean().assign(sets=by_data.size()).reset_index()
    order = {c.id: k for k, c in enumerate(CLAIMS)} | {d: k for k, d in enumerate(kinds)}
    return result.sort_values(["id", "data"], key=lambda x: x.map(order))


def main(about: list[str], sets: int, plants: int, out: Path) -> None:
    """Measure and write the table; rules that are not measured keep their rows."""
    for part in about:
        result = measure(part, sets, plants)
        if out.is_file():
            before = pd.read_csv(out)
            result = pd.concat([before[~before["id"].isin(result["id"])], result])
        order = {c.id: k for k, c in enumerate(CLAIMS)}
        result = result.sort_values("id", key=lambda x: x.map(order), kind="stable")
        result.to_csv(out, index=False, float_format="%.4f")
        print(result.pivot(index="id", columns="data", values="supported").to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "about",
        nargs="*",
        default=["rank curve", "groups", "experiments"],
        help="rank curve, groups, experiments, or all",
    )
    parser.add_argument("--sets", type=int, default=500, help="data sets of each kind without an answer")
    parser.add_argument("--plants", type=int, default=200, help="data sets of each kind with a planted answer")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("calibration.csv"))
    given = parser.parse_args()
    main(given.about, given.sets, given.plants, given.out)

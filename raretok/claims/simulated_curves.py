"""Rank curves with a known answer: the errors of a study around effects that are zero, drawn at random, or planted."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from raretok.claims.declaration import Simulation
from raretok.findings import regimes
from raretok.measure.effects import band_sums
from raretok.stats.resampling import ratio
from raretok.stats.streams import stream
from raretok.stats.sums import SplitHalfSums, split_half_sums

STRENGTH = 4.0
"""Planted rank curves are this many times as large (root mean square) as those of the study they are planted in."""
BANDS = ("rare", "rare with controls", "matched", "common", "half of types input")
DRAWS, TAIL_DRAWS = 120, 60
LOGNORMAL_SPREAD = 1.3
PARETO = 1.5
"""Exponent of the planted power law's survival function; the exponent of its density is larger by one."""


def planted_curve(kind: str, neurons: int, rng: np.random.Generator) -> ndarray:
    """Return |effect| by rank, up to a factor.

    The curve has the paper's regimes (breaks at 1.7% and 12.6% of the neurons), a lifted head, or the form of a power
    law.
    """
    ln_rank = np.log(np.arange(1, neurons + 1))
    first, second = np.log(0.017 * neurons), np.log(0.126 * neurons)
    if kind == "plateau and breaks":
        late = np.maximum(ln_rank - second, 0)
        return np.exp(-0.05 * ln_rank - 1.25 * np.maximum(ln_rank - first, 0) - 1.7 * late)
    if kind == "head excess":
        return np.exp(-0.5 * ln_rank + 1.0 * (ln_rank < 3.5))
    return np.sort((1 - rng.random(neurons)) ** (-1 / PARETO))[::-1].copy()


def planted(kind: str, neurons: int, square: float, rng: np.random.Generator) -> ndarray:
    """Return effects of random sign with the planted rank curve, in random order; ``square`` is their mean square."""
    effects = rng.permutation(planted_curve(kind, neurons, rng)) * rng.choice([-1.0, 1.0], neurons)
    return effects * np.sqrt(square / (effects**2).mean())


def independent(kind: str, neurons: int, square: float, rng: np.random.Generator) -> ndarray:
    """Draw effects of random sign from one distribution; ``square`` is their expected mean square."""
    sizes: dict[str, Callable[[], ndarray]] = {
        "noise": lambda: np.zeros(neurons),
        "half_normal": lambda: np.abs(rng.standard_normal(neurons)),
        "exponential": lambda: rng.exponential(np.sqrt(0.5), neurons),
        "lognormal": lambda: np.exp(LOGNORMAL_SPREAD * rng.standard_normal(neurons) - LOGNORMAL_SPREAD**2),
    }
    return sizes[kind]() * rng.choice([-1.0, 1.0], neurons) * np.sqrt(square)


def simulated_sums(kind: str, real: SplitHalfSums, seed: int) -> SplitHalfSums:
    """Simulate one data set: the study's errors around other effects, with the sign of every document drawn anew.

    In the kind *labels exchanged*, the study's rare and matched targets are exchanged in random documents instead.
    """
    rng = stream(seed, "claims.regimes", kind)
    index = [real.bands.index(b) for b in BANDS]
    net, weight = real.sums.net[:, index].copy(), real.sums.weight[:, index].copy()
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
        square = float((ratio(*real.of("rare", 0)) * ratio(*real.of("rare", 1))).mean())
        residual = net - weight[:, :, None] * net.sum(0)
        residual *= rng.choice([-1.0, 1.0], (documents, 1, 1))
        if kind in PLANTS:
            rare = planted(kind, neurons, STRENGTH**2 * square, rng)
            other = planted("power law", neurons, STRENGTH**2 * square, rng)
        else:
            rare = other = independent(kind, neurons, square, rng)
        net = residual + weight[:, :, None] * np.stack([rare, rare, other, other, rare])
    return split_half_sums(net, np.abs(net), weight, real.half, BANDS)


def simulated_statistics(kind: str, real: SplitHalfSums, seed: int) -> pd.DataFrame:
    """Return ``regimes.statistics`` of one data set."""
    return regimes.statistics(simulated_sums(kind, real, seed), None, seed, DRAWS, ("rare",))


def simulated_tables(kind: str, real: SplitHalfSums, seed: int) -> dict[Any, pd.DataFrame]:
    """Return the tables of one data set."""
    data = simulated_sums(kind, real, seed)
    return {
        regimes.statistics: simulated_statistics(kind, real, seed),
        regimes.contrasts: regimes.contrasts(data, seed, DRAWS, ("matched",)),
        regimes.tails: regimes.tails(data, seed, TAIL_DRAWS),
        regimes.published: regimes.published(data),
    }


def sums_of(study: Any) -> SplitHalfSums:
    """Return the sums that data sets are made from."""
    sums: SplitHalfSums = study.get(band_sums)
    return sums


NULLS = ("noise", "half_normal", "exponential", "lognormal")
PLANTS = ("plateau and breaks", "head excess", "power law")
SIMULATIONS = {
    kind: Simulation(kind, sums_of, partial(simulated_tables, kind)) for kind in (*NULLS, "labels exchanged", *PLANTS)
}
RANK = tuple(SIMULATIONS[kind] for kind in NULLS)
LABELS = (*RANK, SIMULATIONS["labels exchanged"])
"""Exchanged labels make only C1 and C8 untrue, because no other claim about the rank curve compares rare targets."""
BREAKS, EXCESS, POWER_LAW = ((SIMULATIONS[kind],) for kind in PLANTS)

"""Selection of the positions to ablate, and their weights in each band (method §2).

All positions of interest are selected: rare targets and, for the published definition, rare inputs. From the rest a
seeded sample stratified by frequency decile is drawn and weighted so that every band mean is an unbiased estimate for
its band. Matched controls are common-target positions that are as hard as the rare ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from raretok.data.frequency import DECILES
from raretok.errors import RaretokError

LEAST_TARGETS = 200
BANDS = (
    "rare",
    "rare with controls",
    "matched",
    "common",
    "half of types",
    *DECILES,
    "all",
    "rare input",
    "half of types input",
)
"""Names of the bands. They are defined by the target or, where the name ends in ``input``, by the token read.

``matched`` holds common targets as hard as the rare ones; ``rare with controls`` holds the rare ones that have such.
"""
HEAVIEST = (4, 4, 10)
"""Largest number of rare targets per control at each level of matching; rare targets that exceed it at every level have
no controls."""


@dataclass(frozen=True)
class Selection:
    """Positions to ablate (``rows``, ascending) and the weight of each in each of ``BANDS``."""

    rows: Int[ndarray, " selected"]
    weights: Float[ndarray, "band selected"]


def select(
    target: Int[ndarray, " token"],
    input: Int[ndarray, " token"],
    loss: Float[ndarray, " token"],
    position: Int[ndarray, " token"],
    half: Int[ndarray, " token"],
    bands: Mapping[str, Bool[ndarray, " vocab"]],
    word_start: Bool[ndarray, " vocab"],
    sample: int,
    seed: int,
) -> Selection:
    """Choose and weight the positions to ablate.

    Args:
        target: Next token at every used position.
        input: Token read at every used position.
        loss: Cross-entropy of the target in nats.
        position: Position in the window.
        half: Half of the documents, 0 or 1; controls are taken from the same half.
        bands: The token types of each band, see ``frequency.type_bands``.
        word_start: Which types start a word.
        sample: Number of positions to sample from those that are not of interest, over all deciles.
        seed: Seed of the sample and of the controls.

    Raises:
        RaretokError: if there are fewer than 200 rare targets.
    """
    rng = np.random.default_rng(seed)
    rare = bands["rare"][target]
    if rare.sum() < LEAST_TARGETS:
        raise RaretokError(
            f"the band rare has {rare.sum()} targets, fewer than {LEAST_TARGETS}: use more windows or another corpus"
        )
    weight = np.zeros(len(target))
    counted = np.logical_or.reduce([bands[name] for name in DECILES])[target]
    certain = rare | (bands["half of types"][input] & counted)
    weight[certain] = 1.0
    for name in DECILES:
        stratum = np.flatnonzero(bands[name][target] & ~certain)
        drawn = rng.choice(stratum, min(len(stratum), -(-sample // len(DECILES))), replace=False)
        weight[drawn] = len(stratum) / max(len(drawn), 1)
    matched, paired = match_controls(rare, bands["common"][target], loss, position, half, word_start[target], rng)
    rows = np.flatnonzero((weight > 0) | (matched > 0))
    in_band = {name: weight * member[target] for name, member in bands.items()}
    in_band |= {
        "rare with controls": paired.astype(float),
        "matched": matched,
        "all": weight,
        "rare input": weight * bands["rare"][input],
        "half of types input": weight * bands["half of types"][input],
    }
    return Selection(rows, np.stack([in_band[name][rows] for name in BANDS]))


def match_controls(
    rare: Bool[ndarray, " token"],
    common: Bool[ndarray, " token"],
    loss: Float[ndarray, " token"],
    position: Int[ndarray, " token"],
    half: Int[ndarray, " token"],
    word_start: Bool[ndarray, " token"],
    rng: np.random.Generator,
) -> tuple[Float[ndarray, " token"], Bool[ndarray, " token"]]:
    """Weights that make common-target positions comparable to rare ones, and which rare ones have controls.

    Within each half of the documents, strata are loss decile (of the rare losses) × quarter of the window × word start.
    Where controls are too few for the number of rare targets (``HEAVIEST``), strata are merged over position, then over
    word start; rare targets that still have too few controls are left out of the comparison. In each half, the weights
    sum to the number of rare positions with controls. That number may be 0, for example if a model has only learned
    which tokens are rare.
    """
    edges = np.quantile(loss[rare], np.linspace(0.1, 0.9, 9))
    decile = np.searchsorted(edges, loss) + 10 * half
    quarter = np.searchsorted(np.quantile(position, [0.25, 0.5, 0.75]), position)
    common = common & (loss >= loss[rare].min()) & (loss <= loss[rare].max())
    weight = np.zeros(len(rare))
    waiting = rare.copy()
    keys = (decile * 8 + quarter * 2 + word_start, decile * 2 + word_start, decile)
    for key, heaviest in zip(keys, HEAVIEST, strict=True):
        for stratum in np.unique(key[waiting]):
            wanted = waiting & (key == stratum)
            controls = np.flatnonzero(common & (key == stratum))
            if heaviest * len(controls) < wanted.sum():
                continue
            drawn = rng.choice(controls, min(len(controls), wanted.sum()), replace=False)
            weight[drawn] += wanted.sum() / len(drawn)
            waiting &= ~wanted
    return weight, rare & ~waiting


def band_table(
    selection: Selection,
    target: Int[ndarray, " token"],
    loss: Float[ndarray, " token"],
    document: Int[ndarray, " token"],
) -> pd.DataFrame:
    """One row per band.

    Columns: ``band``, ``ablated`` (number of positions), ``targets`` (number that they represent), ``effective``
    (effective number of positions), ``documents``, ``types`` and ``loss`` (mean, in nats).
    """
    rows = selection.rows
    records = []
    for name, weight in zip(BANDS, selection.weights, strict=True):
        held = rows[weight > 0]
        w = weight[weight > 0]
        records.append(
            {
                "band": name,
                "ablated": len(held),
                "targets": w.sum(),
                "effective": w.sum() ** 2 / (w**2).sum() if len(w) else 0.0,
                "documents": len(np.unique(document[held])),
                "types": len(np.unique(target[held])),
                "loss": np.average(loss[held], weights=w) if len(w) else np.nan,
            }
        )
    return pd.DataFrame(records)

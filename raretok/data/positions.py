"""Which positions are ablated, and what each counts for in each band (method §2).

All positions of interest are taken: rare targets, and – for the published definition – rare inputs. Of the rest a seeded
sample stratified by frequency decile, weighted so that every band mean is an unbiased estimate for its band. Matched
controls are common-target positions that are as hard as the rare ones.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from raretok.data.frequency import DECILES, type_bands
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
"""By target – matched: common targets as hard as the rare ones that have such – and, named so, by the token read."""
HEAVIEST = (4, 4, 10)
"""Rare targets that one control may stand for at most, at each level of matching; beyond, they go without controls."""


@dataclass(frozen=True)
class Selection:
    """Positions to ablate (``rows``, ascending) and what each counts for in each of ``BANDS``."""

    rows: Int[ndarray, " selected"]
    weights: Float[ndarray, "band selected"]


def select(
    target: Int[ndarray, " token"],
    input: Int[ndarray, " token"],
    loss: Float[ndarray, " token"],
    position: Int[ndarray, " token"],
    half: Int[ndarray, " token"],
    counts: Int[ndarray, " vocab"],
    word_start: Bool[ndarray, " vocab"],
    sample: int,
    seed: int,
) -> Selection:
    """Choose and weight the positions to ablate.

    Args:
        target: next token of every used position.
        input: token read there.
        loss: its cross-entropy in nats.
        position: place in the window.
        half: half of the documents, 0 or 1; controls are of the same half.
        counts: unigram counts of the token types.
        word_start: which types start a word.
        sample: how many of the positions that are not of interest, in all deciles together.
        seed: of the sample.

    Raises:
        RaretokError: fewer than 200 rare targets.
    """
    rng = np.random.default_rng(seed)
    bands = type_bands(counts)
    rare = bands["rare"][target]
    if rare.sum() < LEAST_TARGETS:
        raise RaretokError(
            f"the band rare has {rare.sum()} targets, fewer than {LEAST_TARGETS}: use more windows or another corpus"
        )
    weight = np.zeros(len(target))
    certain = rare | bands["half of types"][input]
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
    """Weights that make common-target positions resemble rare ones, and which rare ones have controls at all.

    Within each half of the documents, strata are loss decile (of the rare losses) × quarter of the window × word start.
    Where controls are too few for their number of rare targets (``HEAVIEST``), strata are merged over position, then over
    word start; what even so has too few is left out of the comparison. The weights sum to the number of rare positions
    with controls, in each half; none may have any, as where a model has only learned which tokens are rare.
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
    """One row a band: positions ablated, targets they stand for, effective number, documents, types, mean loss (nats)."""
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

"""C23: the last layer against the others."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from raretok.claims.declaration import Simulation, claim
from raretok.claims.verdicts import Estimate, Judgement, Verdict, decide
from raretok.findings import layers
from raretok.findings.layers import Attributions
from raretok.stats.resampling import LEVEL
from raretok.stats.streams import stream

QUESTION = "Is the last layer special?"
NEURONS, LAYERS = 150, 30


def material(study: Any, seed: int = 0) -> Attributions:
    """Return the first-order effects of some neurons of a study's last layer."""
    measured: Attributions = study.get(layers.attributions)
    neurons = stream(seed, "claims.layers.neurons").permutation(measured.net.shape[-1])[:NEURONS]
    return Attributions(measured.net[-1:][..., neurons], measured.weight)


def simulated(kind: str, real: Attributions, seed: int) -> dict[Any, pd.DataFrame]:
    """Simulate layers with effects of one size, or a last layer with effects twice as large, with the study's noise."""
    rng = stream(seed, "claims.layers", kind)
    windows = len(real.weight)
    drawn = rng.integers(0, windows, windows)
    net, weight = real.net[0][drawn], real.weight[drawn]
    residual = net - weight[:, :, None] * (real.net[0].sum(0) / real.weight.sum(0)[:, None])
    noise = [residual * rng.choice([-1.0, 1.0], (windows, 1, 1)) for _ in range(LAYERS)]
    size = np.sqrt(((residual**2).sum(0) / weight.sum(0)[:, None] ** 2).mean())
    signal = 3 * size * rng.standard_normal((LAYERS, 2, net.shape[-1]))
    if kind == "last layer larger":
        signal[-1] *= 2
    made = np.stack([n + weight[:, :, None] * s for n, s in zip(noise, signal, strict=True)])
    return {layers.layer_effects: layers.layer_effects(Attributions(made, weight), seed, resamples=200)}


ALIKE, LARGER = (Simulation(kind, material, partial(simulated, kind)) for kind in ("layers alike", "last layer larger"))


@claim(
    "C23",
    "the last layer is special",
    source="reviewers of D",
    reported="–",
    quantity="last layer's share of the rare-specific effects of all",
    reads=(layers.layer_effects,),
    nulls=[ALIKE],
    plants=[LARGER],
)
def last_layer(layer_effects: pd.DataFrame) -> Judgement:
    """C23: no other layer's neurons act as much on rare targets in particular."""
    table = layer_effects
    if len(table) < 2:
        return Judgement(Verdict.INCONCLUSIVE, "there is no other layer to compare with")
    if not np.isfinite(table["energy"]).all():
        return Judgement(Verdict.INCONCLUSIVE, "too few rare targets with controls in its windows")
    row = dict(table.iloc[-1])
    first, last = int(table["energy"].argmax()), len(table) - 1
    verdict, why = decide(
        (
            row["above"] >= 1 - LEVEL and row["low"] > 0,
            Verdict.SUPPORTED,
            f"no other layer has as much, in at least {1 - LEVEL:.0%} of the resamples",
        ),
        (row["ahead"], Verdict.NOT_SUPPORTED, f"another layer has more (most: layer {first} of 0 to {last})"),
        (
            True,
            Verdict.INCONCLUSIVE,
            f"which layer has most the data cannot tell (it seems: layer {first} of 0 to {last})",
        ),
    )
    return Judgement(verdict, why, controlled=Estimate(row["share"]), n=int(row["documents"]))

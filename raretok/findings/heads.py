"""Which attention heads are ablated, how many each of them stands for, and what they do to the last MLP's neurons."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray

BANDS = ("rare", "common")
SPECIFIC, SAMPLED, LAYERS, OF_LAYER = 16, 16, 4, 2
"""Numbers of heads with the largest screened difference between rare and common targets, of random heads, and of whole
layers that are ablated in larger models. The strongest head in either band and the strongest ``OF_LAYER`` heads of each
of these layers, as screened, are ablated, too."""


class Chosen(NamedTuple):
    """The heads that are ablated (``head``, counted through all layers), how many heads each of them ``represents``,
    the layers that are ablated as a whole, and the number of heads in a layer (``by_layer``)."""

    head: Int[ndarray, " head"]
    represents: Float[ndarray, " head"]
    layer: Int[ndarray, " layer"]
    by_layer: int

    @property
    def drawn(self) -> Bool[ndarray, " head"]:
        """Which heads are of the random sample; none if every head is ablated."""
        return self.represents > 1


@dataclass(frozen=True)
class HeadEffects:
    """Σ |Δz| of every neuron by ablated head and by whole layer, summed over the positions of each document.

    z is the activation in units of its standard deviation; ``weight`` holds the number of positions.
    """

    heads: Float[ndarray, "head document band neuron"]
    layers: Float[ndarray, "layer document band neuron"]
    weight: Float[ndarray, "document band"]
    chosen: Chosen

    def of(
        self, members: Int[ndarray, " n"]
    ) -> tuple[Float[ndarray, "head document band"], Float[ndarray, "layer document band"]]:
        """Return the sums of the mean over some neurons."""
        return self.heads[..., members].mean(-1, dtype=np.float64), self.layers[..., members].mean(-1, dtype=np.float64)

    def strongest(self, heads: Float[ndarray, "draw head band"]) -> Float[ndarray, "draw layer band"]:
        """Return the largest of the influences of the ablated heads of each of the ablated layers."""
        of_layer = self.chosen.head // self.chosen.by_layer
        return np.stack([heads[:, of_layer == layer].max(1) for layer in self.chosen.layer], axis=1)


def choose(screened: pd.DataFrame, every: bool, rng: np.random.Generator) -> Chosen:
    """Choose the heads and layers to ablate: all of them, or by the screen and at random.

    Args:
        screened: ``screened_heads``.
        every: whether to take all.
        rng: for the random heads.
    """
    layers, count = int(screened["layer"].max()) + 1, len(screened)
    by_layer = count // layers
    if every:
        return Chosen(np.arange(count), np.ones(count), np.arange(layers), by_layer)
    size = screened[list(BANDS)].fillna(0.0).to_numpy()
    specific = np.argsort(size[:, 1] - size[:, 0], kind="stable")[:SPECIFIC]
    some = np.unique(np.linspace(0, layers - 1, LAYERS).round().astype(int))
    of_layer = np.argsort(-size.mean(1).reshape(layers, by_layer)[some], axis=1, kind="stable")[:, :OF_LAYER]
    strongest = (some[:, None] * by_layer + of_layer).ravel()
    certain = np.unique(np.concatenate([size.argmax(0), specific, strongest]))
    others = np.setdiff1d(np.arange(count), certain)
    drawn = rng.choice(others, min(SAMPLED, len(others)), replace=False)
    represents = np.ones(count)
    represents[drawn] = len(others) / max(len(drawn), 1)
    head = np.union1d(certain, drawn)
    return Chosen(head, represents[head], some, by_layer)

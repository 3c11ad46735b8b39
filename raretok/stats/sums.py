"""Sums by document, with the documents split into two halves; most statistics of effects are computed from them."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


@dataclass(frozen=True, eq=False)
class SplitHalfSums:
    """Sums by document with the half of each document and the names of the bands.

    ``sums`` has ``net``, ``activity`` and ``weight`` by document and band: ``ablation.DocumentSums``, or what
    ``split_half_sums`` builds. Half A is 0 and half B is 1. Two instances are equal only if they are the same object.
    """

    sums: Any
    half: Int[ndarray, " document"]
    bands: tuple[str, ...]

    def of(
        self, band: str, which: int | None = None, measure: str = "net"
    ) -> tuple[Float[ndarray, "d neuron"], Float[ndarray, " d"]]:
        """Sums (``net`` or ``activity``) and weights of one band, for all documents or for one half."""
        rows = slice(None) if which is None else self.half == which
        k = self.bands.index(band)
        return getattr(self.sums, measure)[rows, k], self.sums.weight[rows, k]


def split_half_sums(
    net: Float[ndarray, "document band neuron"],
    activity: Float[ndarray, "document band neuron"] | None,
    weight: Float[ndarray, "document band"],
    half: Int[ndarray, " document"],
    bands: tuple[str, ...],
) -> SplitHalfSums:
    """Build the sums from stored arrays; the sums of |Δ| are NaN if ``activity`` is None."""
    missing = np.broadcast_to(np.float64("nan"), net.shape)
    sums = SimpleNamespace(net=net, activity=missing if activity is None else activity, weight=weight)
    return SplitHalfSums(sums, half, bands)

"""Is the last layer special? First-order effects of the neurons of every layer (claim C23).

A gradient screens all layers at once: the effect of an ablation is δ · ∂loss/∂a, to first order. Documents are split in halves, and a layer's effect is the product of both halves' rare-specific effects
summed over its neurons: noise of the halves is independent, so it adds nothing on average (method §9). A sample is held to full ablations.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import stats

from raretok.stats.rankcurve import HEAD
from raretok.stats.resampling import by_document, interval, ratio, resample_within, row_correlation, split_halves, top

BANDS = ("rare with controls", "matched")
WINDOWS = 24
"""Windows – a document each – that gradients are taken on."""
RESAMPLED = 400
CHECKED = 12
"""Neurons that are ablated in full beside the screen, and the windows they are ablated on."""
CHECKED_WINDOWS = 2


@dataclass(frozen=True)
class Attributions:
    """First-order effects (nats) summed over the positions of each of ``BANDS`` in each window, or document; ``weight``: positions."""

    net: Float[ndarray, "layer window band neuron"]
    weight: Float[ndarray, "window band"]

    def by_document(self, document: Int[ndarray, " window"]) -> "Attributions":
        """The same with the windows of a document together: documents are what is resampled."""
        return Attributions(by_document(self.net, document, 1), by_document(self.weight, document, 0))

    def specific(self, counts: Float[ndarray, "draw window"]) -> Float[ndarray, "draw layer neuron"]:
        """Rare-specific effect of every neuron, net(rare) − net(matched), in each draw; NaN without positions."""
        with np.errstate(invalid="ignore", divide="ignore"):
            parts = [
                np.einsum("dw,lwn->dln", counts, self.net[:, :, b], optimize=True)
                / (counts @ self.weight[:, b])[:, None, None]
                for b in range(len(BANDS))
            ]
        return np.asarray(parts[0] - parts[1])


def layer_effects(data: Attributions, seed: int, resamples: int = RESAMPLED) -> pd.DataFrame:
    """How much the neurons of each layer act on rare targets in particular; a row a layer.

    Columns: ``layer``; ``energy``: Σ over neurons of S_A·S_B, an estimate of Σ S² without the noise's share (nats²), median over random halves, with ``low`` and ``high`` (95 %, documents resampled within
    halves); ``share`` of all layers' (0…1, negative energies count as 0); ``reliability`` of S; ``neurons`` of the first 33 by |S| of the layer among the first 33 of all; ``above`` (share of the resamples in
    which no other layer has as much); ``ahead`` (whether some other layer has more, beyond chance: 5 % over all the others); ``documents``.

    ``data``: by document.
    """
    documents = len(data.weight)
    halves = split_halves(documents, 50, seed)
    energies = _energy(data, halves, 1 - halves)
    energy = np.full(len(data.net), np.nan)
    if (there := np.isfinite(energies).all(1)).any():
        energy = np.median(energies[there], axis=0)
    rng = np.random.default_rng([seed, 12])
    half = halves[rng.integers(0, len(halves), resamples)]
    a, b = resample_within(half, rng), resample_within(1 - half, rng)
    drawn = _energy(data, a, b)
    drawn = drawn[np.isfinite(drawn).all(1)]
    ends = [interval(float(e), drawn[:, k], units=documents // 2) for k, e in enumerate(energy)]
    positive = np.maximum(energy, 0)
    whole = data.specific(np.ones((1, documents)))[0]
    first = top(np.abs(whole).ravel(), HEAD).reshape(whole.shape).sum(1)
    most = drawn.argmax(1) if len(drawn) else np.zeros(0)
    above = (most[:, None] == np.arange(len(energy))).sum(0) / max(len(drawn), 1)
    return pd.DataFrame(
        {"layer": np.arange(len(energy)), "energy": energy, "low": [e[0] for e in ends], "high": [e[1] for e in ends]}
        | {
            "share": positive / max(positive.sum(), 1e-300),
            "reliability": _reliability(data, halves),
            "neurons": first,
            "above": above,
            "ahead": _ahead(energy, drawn),
        }
        | {"documents": documents}
    )


def _ahead(energy: Float[ndarray, " layer"], drawn: Float[ndarray, "draw layer"]) -> list[bool]:
    """Of every layer, whether some other has more, beyond what chance makes the largest of so many differences."""
    found = []
    for k in range(len(energy)):
        others = np.delete(np.arange(len(energy)), k)
        more, spread = (
            energy[others] - energy[k],
            (drawn[:, others] - drawn[:, [k]]).std(0) if len(drawn) > 1 else np.inf,
        )
        found.append(bool((more > stats.norm.isf(0.05 / max(len(others), 1)) * spread).any()))
    return found


def _energy(
    data: Attributions, a: Float[ndarray, "draw window"], b: Float[ndarray, "draw window"]
) -> Float[ndarray, "draw layer"]:
    parts = [(data.specific(a[k : k + 20]) * data.specific(b[k : k + 20])).sum(2) for k in range(0, len(a), 20)]
    return np.concatenate(parts)


def _reliability(data: Attributions, halves: Float[ndarray, "split document"]) -> Float[ndarray, " layer"]:
    """Of the rare-specific effects, median over the splits."""
    first, second = (data.specific(h) for h in (halves, 1 - halves))
    r = row_correlation(first.reshape(-1, first.shape[2]), second.reshape(-1, first.shape[2])).reshape(first.shape[:2])
    with np.errstate(invalid="ignore", divide="ignore"):
        r = 2 * r / (1 + r)
    return np.median(r[np.isfinite(r).all(1)], axis=0) if np.isfinite(r).all(1).any() else np.full(r.shape[1], np.nan)


def against_exact(
    data: Attributions, net: Float[ndarray, "document band neuron"], weight: Float[ndarray, "document band"]
) -> pd.DataFrame:
    """The screen against the exact effects of the last layer on the same positions; a row a band.

    Args:
        data: first-order effects.
        net: exact sums of the same bands and documents, see ``ablation.DocumentSums``.
        weight: their weights.

    Columns: ``band``, ``pearson``, ``spearman`` (of the neurons' net effects), ``slope`` (of first-order on exact; 1 is perfect).
    """
    rows = []
    for b, band in enumerate(BANDS):
        exact = ratio(net[:, b], weight[:, b])
        first = data.net[-1, :, b].sum(0) / data.weight[:, b].sum()
        rows.append(
            {"band": band, "pearson": float(np.corrcoef(exact, first)[0, 1])}
            | {
                "spearman": float(stats.spearmanr(exact, first).statistic),
                "slope": float((exact @ first) / (exact @ exact)),
            }
        )
    return pd.DataFrame(rows)


def to_check(data: Attributions, seed: int) -> list[tuple[int, int]]:
    """Layer and neuron of those that are ablated in full: half of them the strongest of layers at even distances, half drawn at random."""
    net = np.abs(data.net[:, :CHECKED_WINDOWS, 0].sum(1))
    rng = np.random.default_rng([seed, 13])
    spaced = np.unique(np.linspace(0, len(net) - 1, CHECKED // 2).round().astype(int))
    strongest = [(int(k), int(net[k].argmax())) for k in spaced]
    drawn: Int[ndarray, " x"] = rng.integers(0, len(net), CHECKED // 2)
    return strongest + [(int(k), int(rng.integers(net.shape[1]))) for k in drawn]


def check_rows(
    chosen: list[tuple[int, int]],
    data: Attributions,
    ablated: Float[ndarray, "chosen window"],
    weight: Float[ndarray, " window"],
) -> pd.DataFrame:
    """First-order and full effect on rare targets of the ``to_check`` neurons: ``layer``, ``neuron``, ``screened``, ``ablated`` (mean over the checked windows, nats)."""
    rows: list[dict[str, Any]] = []
    for (layer, neuron), full in zip(chosen, ablated, strict=True):
        first = data.net[layer, : len(weight), 0, neuron].sum() / weight.sum()
        rows.append(
            {"layer": layer, "neuron": neuron, "screened": float(first), "ablated": float(full.sum() / weight.sum())}
        )
    return pd.DataFrame(rows)

"""Is the last layer special? First-order effects of the neurons of every layer (claim C23).

One gradient screens all layers: to first order, the effect of an ablation is δ · ∂loss/∂a. Documents are split into
halves, and the effect of a layer is the product of the two halves' rare-specific effects, summed over its neurons. The
noise of the halves is independent, so its expected contribution is zero (method §9). A sample of neurons is checked
against full ablations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import stats

from raretok.ablation import ablate
from raretok.ablation.certified import Certified
from raretok.data.positions import Selection
from raretok.data.text import Windows
from raretok.findings.identification import require_controls
from raretok.graph import arrays, memory, table
from raretok.measure import inputs
from raretok.measure.effects import (
    band_sums,
    band_weights,
    engine,
    layer_means,
    mean_activation,
    selection,
    trace,
)
from raretok.model import passes
from raretok.model.loaded import LoadedModel
from raretok.model.trace import SKIP, Trace
from raretok.model.upstream import losses, neuron_attributions
from raretok.stats.rankcurve import HEAD
from raretok.stats.resampling import by_document, interval, ratio, resample_within, row_correlation, split_halves, top
from raretok.stats.streams import stream
from raretok.stats.sums import SplitHalfSums

BANDS = ("rare with controls", "matched")
WINDOWS = 24
"""Number of windows, each of a different document, on which gradients are computed."""
RESAMPLED = 400
CHECKED = 12
"""Number of neurons that are also ablated in full to check the screen; ``CHECKED_WINDOWS`` windows are used."""
CHECKED_WINDOWS = 2


@dataclass(frozen=True)
class Attributions:
    """First-order effects (nats), summed over the positions of each of ``BANDS`` in each window or document.

    ``weight`` holds the weights of these positions, summed likewise.
    """

    net: Float[ndarray, "layer window band neuron"]
    weight: Float[ndarray, "window band"]

    def by_document(self, document: Int[ndarray, " window"]) -> "Attributions":
        """Sum the windows of each document, as documents are the units that are resampled."""
        return Attributions(by_document(self.net, document, 1), by_document(self.weight, document, 0))

    def specific(self, counts: Float[ndarray, "draw window"]) -> Float[ndarray, "draw layer neuron"]:
        """Compute every neuron's net(rare) − net(matched) in each draw; NaN without positions."""
        with np.errstate(invalid="ignore", divide="ignore"):
            parts = [
                np.einsum("dw,lwn->dln", counts, self.net[:, :, b], optimize=True)
                / (counts @ self.weight[:, b])[:, None, None]
                for b in range(len(BANDS))
            ]
        return np.asarray(parts[0] - parts[1])


@memory(inputs.windows, selection, band_weights, inputs.local_run)
def layer_text(
    windows: Windows, selection: Selection, weights: Mapping[str, ndarray], local_run: bool
) -> tuple[Int[ndarray, "window position"], Float[ndarray, "band window used"]]:
    """Select the windows for the gradients and the weights of their positions in each band.

    All windows are used for the small models that are trained here.
    """
    count, used = len(windows.tokens), windows.tokens.shape[1] - 1 - SKIP
    of_band = np.zeros((len(BANDS), count * used))
    of_band[:, selection.rows] = [weights[band] for band in BANDS]
    taken = count if local_run else min(WINDOWS, count)
    return windows.tokens[:taken], of_band.reshape(len(of_band), count, used)[:, :taken]


@arrays(inputs.model, layer_text, layer_means, band_sums)
def gradients(
    model: LoadedModel,
    text: tuple[Int[ndarray, "window position"], ndarray],
    means: Mapping[str, ndarray],
    sums: SplitHalfSums,
) -> dict[str, ndarray]:
    """Compute the first-order effects of every layer's neurons, see ``model.upstream.neuron_attributions``."""
    require_controls(sums)
    return {"net": neuron_attributions(model, *text, means["neurons"])}


@memory(gradients, layer_text)
def attributions(kept: Mapping[str, ndarray], text: tuple[ndarray, ndarray]) -> Attributions:
    """Return ``gradients`` by window."""
    return Attributions(kept["net"], text[1].sum(2).T)


@memory(attributions, inputs.windows)
def document_attributions(data: Attributions, windows: Windows) -> Attributions:
    """Return ``attributions`` by document."""
    return data.by_document(windows.document[: len(data.weight)])


@table(document_attributions)
def layer_effects(data: Attributions, seed: int, resamples: int = RESAMPLED) -> pd.DataFrame:
    """Measure how strongly the neurons of each layer act specifically on rare targets; one row per layer.

    Args:
        data: attributions by document.
        seed: of splits and resamples.
        resamples: number of resamples.

    Columns: ``layer``; ``energy``: Σ over neurons of S_A·S_B, an estimate of Σ S² without the contribution of noise
    (nats²), median over random halves, with ``low`` and ``high`` (95% interval, documents resampled within halves);
    ``share`` of the energy of all layers (0…1; negative energies count as 0); ``reliability`` of S; ``neurons``: how
    many neurons of the layer are among the first 33 of all layers by |S|; ``above`` (share of the resamples in which no
    other layer has as much energy); ``ahead`` (whether some other layer has significantly more, at a level of 5% over
    all the others); ``documents``.
    """
    documents = len(data.weight)
    halves = split_halves(documents, 50, seed)
    energies = _energy(data, halves, 1 - halves)
    energy = np.full(len(data.net), np.nan)
    if (there := np.isfinite(energies).all(1)).any():
        energy = np.median(energies[there], axis=0)
    rng = stream(seed, "layers.layer_effects")
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
    """Test, for every layer, whether some other layer has significantly more energy.

    The level is corrected for the number of other layers.
    """
    verdicts = []
    for k in range(len(energy)):
        others = np.delete(np.arange(len(energy)), k)
        more, spread = (
            energy[others] - energy[k],
            (drawn[:, others] - drawn[:, [k]]).std(0) if len(drawn) > 1 else np.inf,
        )
        verdicts.append(bool((more > stats.norm.isf(0.05 / max(len(others), 1)) * spread).any()))
    return verdicts


def _energy(
    data: Attributions, a: Float[ndarray, "draw window"], b: Float[ndarray, "draw window"]
) -> Float[ndarray, "draw layer"]:
    parts = [(data.specific(a[k : k + 20]) * data.specific(b[k : k + 20])).sum(2) for k in range(0, len(a), 20)]
    return np.concatenate(parts)


def _reliability(data: Attributions, halves: Float[ndarray, "split document"]) -> Float[ndarray, " layer"]:
    """Compute the reliability of the rare-specific effects, median over the splits."""
    first, second = (data.specific(h) for h in (halves, 1 - halves))
    r = row_correlation(first.reshape(-1, first.shape[2]), second.reshape(-1, first.shape[2])).reshape(first.shape[:2])
    with np.errstate(invalid="ignore", divide="ignore"):
        r = 2 * r / (1 + r)
    return np.median(r[np.isfinite(r).all(1)], axis=0) if np.isfinite(r).all(1).any() else np.full(r.shape[1], np.nan)


@table(attributions, trace, mean_activation, band_weights, engine)
def layer_agreement(
    data: Attributions,
    trace: Trace,
    mean: Float[ndarray, " neuron"],
    weights: Mapping[str, ndarray],
    engine: Certified,
) -> pd.DataFrame:
    """Compare the gradient with the exact effects of the last layer, see ``against_exact``."""
    of_band = np.stack([weights[band] for band in BANDS])
    rows = np.flatnonzero((trace.window < len(data.weight)) & of_band.any(0))
    readout, replacing = engine.attribution.readout, torch.from_numpy(mean)
    sums = ablate(readout, trace[rows], replacing, of_band[:, rows], engine=engine)["loss"]
    return against_exact(data, sums.net, sums.weight)


@table(inputs.model, layer_text, layer_means, attributions)
def layer_checks(
    model: LoadedModel,
    text: tuple[Int[ndarray, "window position"], ndarray],
    means: Mapping[str, ndarray],
    data: Attributions,
    seed: int,
) -> pd.DataFrame:
    """Compare the gradient with full ablations of some neurons, see ``check_rows``."""
    chosen = to_check(data, seed)
    tokens, weights = text[0][:CHECKED_WINDOWS], text[1][:, :CHECKED_WINDOWS]
    mean = torch.from_numpy(means["neurons"]).to(model.readout.w_out)
    base = passes.run_pass(model, tokens)
    rare = weights[0] > 0
    before = losses(model, base.residual, tokens, rare)
    ablated = []
    for layer, neuron in chosen:
        after = passes.ablate_neuron(model, base, layer, neuron, mean[layer])
        rise = np.zeros(rare.shape)
        rise[rare] = (losses(model, after, tokens, rare) - before).double().cpu().numpy()
        ablated.append((weights[0] * rise).sum(1))
    return check_rows(chosen, data, np.stack(ablated), weights[0].sum(1))


def against_exact(
    data: Attributions, net: Float[ndarray, "document band neuron"], weight: Float[ndarray, "document band"]
) -> pd.DataFrame:
    """Compare the screen with the exact effects of the last layer on the same positions; one row per band.

    Args:
        data: first-order effects.
        net: exact sums of the same bands and documents, see ``ablation.DocumentSums``.
        weight: their weights.

    Columns: ``band``, ``pearson``, ``spearman`` (of the neurons' net effects), ``slope`` (of first-order on exact
    effects; 1 is perfect).
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
    """Choose the neurons that are ablated in full, as pairs of layer and neuron.

    Half of them are the strongest neurons of evenly spaced layers, half are drawn at random.
    """
    net = np.abs(data.net[:, :CHECKED_WINDOWS, 0].sum(1))
    rng = stream(seed, "layers.to_check")
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
    """Compare the first-order and the full effects of the ``to_check`` neurons on rare targets.

    Columns: ``layer``, ``neuron``, ``screened``, ``ablated`` (mean over the checked windows, nats).
    """
    rows: list[dict[str, Any]] = []
    for (layer, neuron), full in zip(chosen, ablated, strict=True):
        first = data.net[layer, : len(weight), 0, neuron].sum() / weight.sum()
        rows.append(
            {"layer": layer, "neuron": neuron, "screened": float(first), "ablated": float(full.sum() / weight.sum())}
        )
    return pd.DataFrame(rows)

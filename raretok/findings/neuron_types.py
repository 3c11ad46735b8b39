"""Are the rare-token neurons entropy or token-frequency neurons (Stolfo et al. 2024) under another name? (claim C21)

Entropy neurons write large vectors that hardly discriminate between tokens, and act through the scale of the final
norm; token-frequency neurons move the prediction along the log-unigram direction. Both criteria are applied to every
neuron, and each effect is decomposed by recomputing it with the scale, or with the component along that direction, held
fixed (method §3, §9).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import stats

from raretok.ablation import ablate
from raretok.ablation.certified import Certified
from raretok.findings.identification import rare_token_neurons
from raretok.graph import arrays, memory, table
from raretok.measure.effects import band_weights, engine, log_unigram, mean_activation, readout, trace
from raretok.model.readout import Readout
from raretok.model.trace import Trace
from raretok.stats.resampling import RESAMPLES, bootstrap_counts, interval, ratio
from raretok.stats.streams import stream
from raretok.stats.sums import SplitHalfSums, split_half_sums

SHARES = (0.025, 0.05, 0.1, 0.2)
"""Sizes of the bottom singular subspace of the unembedding, as shares of d_model."""
EXTREME = 0.1
"""Share of the layer's neurons that counts as extreme."""
MEDIATED = 0.5
"""Smallest mediated share of the effect: through the scale of the final norm for an entropy neuron, and through the
log-unigram direction for a token-frequency neuron."""
PER_BAND = 250
"""Number of positions of each band at which effects are decomposed."""
BANDS = ("all", "rare with controls", "matched")
PATHS = {"frozen_scale": "the norm's scale", "frozen_frequency": "the log-unigram direction"}
OUTPUTS = ("loss", "entropy", "kl", *PATHS)
KINDS = {"entropy_neuron": "entropy", "frequency_neuron": "token frequency", "either": "either"}
_BLOCK = 4096


def sample_positions(
    weights: Mapping[str, Float[ndarray, " row"]], seed: int, most: int = PER_BAND, bands: Sequence[str] = BANDS
) -> tuple[Int[ndarray, " kept"], Float[ndarray, "band kept"]]:
    """Draw some positions of each band in proportion to their weights.

    Returns:
        The positions, and how often each was drawn for each band; the mean over a band's draws is an estimate of the
        band's mean.
    """
    rng = stream(seed, "neuron_types.positions")
    drawn = np.zeros((len(bands), len(next(iter(weights.values())))))
    for b, band in enumerate(bands):
        w = weights[band]
        held = np.flatnonzero(w)
        if len(held):
            equal = w[held].max() == w[held].min()
            size = min(most, len(held)) if equal else most
            np.add.at(drawn[b], rng.choice(held, size, replace=not equal, p=w[held] / w.sum()), 1.0)
    kept = np.flatnonzero(drawn.any(0))
    return kept, drawn[:, kept]


@arrays(trace, band_weights, mean_activation, engine, log_unigram)
def outputs(
    trace: Trace,
    weights: Mapping[str, ndarray],
    mean: ndarray,
    engine: Certified,
    log_unigram: ndarray,
    seed: int,
) -> dict[str, ndarray]:
    """Compute the ablations' effects on further outputs, and direct effects, on a sample of the positions.

    The arrays are sums of each of ``OUTPUTS``, and the weights and halves of the documents.
    """
    rows, drawn = sample_positions(weights, seed)
    part = trace[rows]
    readout, replacing = engine.attribution.readout, torch.from_numpy(mean)
    sums = ablate(readout, part, replacing, drawn, outputs=OUTPUTS, log_unigram=log_unigram, engine=engine)
    kept = {f"{o} {m}": getattr(s, m).astype(np.float32) for o, s in sums.items() for m in ("net", "activity")}
    _, first = np.unique(part.document, return_index=True)
    return kept | {"weight": sums["loss"].weight, "half": part.half[first]}


@memory(outputs)
def output_sums(kept: Mapping[str, ndarray]) -> dict[str, SplitHalfSums]:
    """Return ``outputs`` by name."""
    return {
        o: split_half_sums(kept[f"{o} net"], kept[f"{o} activity"], kept["weight"], kept["half"], BANDS)
        for o in OUTPUTS
    }


@table(readout, log_unigram)
def geometry(readout: Readout, log_unigram: Float[ndarray, " vocab"], shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """Describe each neuron's output row relative to the unembedding with the gain of the final norm folded in.

    The table has one row per neuron. Columns: ``neuron``; ``norm`` (of the centred row); ``logit_variance`` (LogitVar:
    variance over the vocabulary of the cosine of the row with a token's direction); ``null_<share>`` (share of ‖w‖² in
    that share of the singular directions, from the bottom, 0…1); ``frequency_cosine`` (of the logit footprint with the
    log-unigram direction, both centred, −1…1).
    """
    readout = readout.to("cpu")
    w = readout.centre(readout.direction.float())
    unembed = readout.unembed.float() * readout.gain.float()[:, None]
    if readout.centred:
        unembed = unembed - unembed.mean(0)
    unembed = unembed - unembed.mean(1, keepdim=True)  # An offset common to all tokens changes no probability.
    norm = w.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    direction = torch.from_numpy(log_unigram - log_unigram.mean()).float()
    direction = direction / direction.norm()
    first, second, square, along = (torch.zeros(len(w), dtype=torch.float64) for _ in range(4))
    for v in range(0, readout.vocab, _BLOCK):
        part = unembed[:, v : v + _BLOCK]
        u = w @ part
        cosine = u / (norm[:, None] * part.norm(dim=0).clamp_min(torch.finfo(torch.float32).tiny))
        first += cosine.double().sum(1)
        second += cosine.double().square().sum(1)
        square += u.double().square().sum(1)
        along += (u @ direction[v : v + _BLOCK]).double()
    variance = second / readout.vocab - (first / readout.vocab).square()
    # eigh sorts in ascending order, so the first columns are the bottom singular directions.
    _, basis = torch.linalg.eigh(unembed.double() @ unembed.double().T)
    energy = ((w.double() @ basis).square() / norm.double().square()[:, None]).numpy()
    skipped = 1 if readout.centred else 0  # Centring removes one direction.
    null = {f"null_{s:g}": energy[:, : skipped + max(1, round(s * w.shape[1]))].sum(1) for s in shares}
    return pd.DataFrame(
        {"neuron": np.arange(len(w)), "norm": norm.double().numpy(), "logit_variance": variance.numpy()}
        | null
        | {"frequency_cosine": (along / square.sqrt().clamp_min(1e-30)).numpy()}
    )


@table(geometry, output_sums)
def neuron_types(shape: pd.DataFrame, outputs: Mapping[str, SplitHalfSums]) -> pd.DataFrame:
    """Apply both criteria to every neuron; one row per neuron with the columns of ``geometry`` and those below.

    ``loss`` (mean |Δ loss|, nats); ``scale_share``, ``frequency_share`` (mediated share of it, 1 − mean |direct
    effect| / mean |total effect|; < 0 where the path opposes the rest of the effect); ``entropy`` (mean Δ entropy),
    ``divergence`` (mean Δ KL(model ‖ unigram)), ``divergence_size`` (mean |Δ KL|), in nats; ``entropy_neuron`` (norm in
    the top tenth, LogitVar in the bottom tenth, at least half of the effect through the scale), ``frequency_neuron``
    (|Δ KL| in the top tenth, at least half of the effect through the log-unigram direction), ``either``.

    Args:
        shape: ``geometry``.
        outputs: sums of each of the engine's outputs over the band ``all``.
    """

    def mean(output: str, measure: str) -> Float[ndarray, " neuron"]:
        return ratio(*outputs[output].of("all", measure=measure))

    total = mean("loss", "activity")
    with np.errstate(invalid="ignore", divide="ignore"):
        through = {path: 1 - mean(path, "activity") / total for path in PATHS}
    kinds = shape.assign(
        loss=total,
        scale_share=through["frozen_scale"],
        frequency_share=through["frozen_frequency"],
        entropy=mean("entropy", "net"),
        divergence=mean("kl", "net"),
        divergence_size=mean("kl", "activity"),
    )
    entropy, frequency = _of_kinds(kinds, MEDIATED)
    return kinds.assign(entropy_neuron=entropy, frequency_neuron=frequency, either=entropy | frequency)


def _of_kinds(kinds: pd.DataFrame, mediated: float) -> tuple[Bool[ndarray, " neuron"], Bool[ndarray, " neuron"]]:
    """Return which neurons are entropy neurons, and which are token-frequency neurons, at a least mediated share."""
    norm, variance, size = (kinds[c].to_numpy() for c in ("norm", "logit_variance", "divergence_size"))
    shape = (norm >= np.quantile(norm, 1 - EXTREME)) & (variance <= np.quantile(variance, EXTREME))
    entropy = shape & (kinds["scale_share"].to_numpy() >= mediated)
    return entropy, (size >= np.quantile(size, 1 - EXTREME)) & (kinds["frequency_share"].to_numpy() >= mediated)


@table(neuron_types, rare_token_neurons)
def type_overlap(kinds: pd.DataFrame, neurons: pd.DataFrame) -> pd.DataFrame:
    """Count how many of the rare-token neurons are of each kind; one row per definition and kind.

    Columns: ``group`` (controlled, published), ``kind`` (entropy, token frequency, either), ``neurons`` (in the layer),
    ``of_kind``, ``size`` (of the group), ``both``, ``expected`` (among as many random neurons), ``p`` (hypergeometric,
    of at least as many), ``share`` (both / size) with ``low`` and ``high`` (95% interval, Clopper–Pearson).
    """
    records = []
    for group in ("controlled", "published"):
        members = neurons[group].to_numpy()
        for column, kind in KINDS.items():
            of_kind = kinds[column].to_numpy()
            size, n = int(members.sum()), len(members)
            record: dict[str, Any] = {
                "group": group,
                "kind": kind,
                "neurons": n,
                "of_kind": int(of_kind.sum()),
                "size": size,
            }
            record |= _beside_chance(of_kind, members)
            both = int(record["both"])
            low, high = (0.0, 1.0)
            if size:
                low, high = stats.binomtest(both, size).proportion_ci(method="exact")
            records.append(record | {"share": both / size if size else np.nan, "low": low, "high": high})
    return pd.DataFrame(records)


@table(output_sums, rare_token_neurons)
def direct_effect_share(outputs: Mapping[str, SplitHalfSums], neurons: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Compute the share of the rare-specific effect that remains with a path held fixed; one row per group and path.

    Effects are measured on half B, with the sign that they have on half A. The controlled neurons are also chosen on
    half A, the published ones on all documents.

    Columns: ``group`` (controlled, published), ``size``, ``path``, ``total`` and ``direct`` (mean over the group of the
    rare-specific effect, with the sign of half A, nats), ``share`` (direct / total) with ``low`` and ``high`` (95%
    interval, documents resampled).
    """
    sign = np.sign(neurons["s_a"].to_numpy())

    def oriented(output: str, members: Int[ndarray, " n"]) -> Float[ndarray, " draw"]:
        data = outputs[output]
        rare, matched = data.of("rare with controls", 1), data.of("matched", 1)
        counts = np.vstack([np.ones(len(rare[1])), bootstrap_counts(len(rare[1]), RESAMPLES, seed)])
        with np.errstate(invalid="ignore", divide="ignore"):
            a, b = (
                (counts @ (sums[:, members] @ sign[members])) / (counts @ weight) for sums, weight in (rare, matched)
            )
        return np.asarray((a - b) / len(members))

    records = []
    for group, column in (("controlled", "selected"), ("published", "published")):
        members = np.flatnonzero(neurons[column])
        if not len(members):
            continue
        total = oriented("loss", members)
        for output, path in PATHS.items():
            direct = oriented(output, members)
            with np.errstate(invalid="ignore", divide="ignore"):
                share = direct / total
            low, high = interval(float(share[0]), share[1:], moved=False)
            records.append(
                {"group": group, "size": len(members), "path": path, "total": total[0], "direct": direct[0]}
                | {"share": share[0], "low": low, "high": high}
            )
    return pd.DataFrame(records, columns=["group", "size", "path", "total", "direct", "share", "low", "high"])


@memory(neuron_types)
def sensitivity(kinds: pd.DataFrame) -> pd.DataFrame:
    """Compute the mean share of ‖w‖² in the bottom singular directions for each choice of their number.

    Columns: ``directions`` (share of d_model), ``entropy neurons``, ``token-frequency neurons``, ``all neurons``.
    """
    rows = []
    for column in [c for c in kinds if str(c).startswith("null_")]:
        values = kinds[column]
        rows.append(
            {"directions": float(str(column).removeprefix("null_"))}
            | {
                "entropy neurons": values[kinds["entropy_neuron"]].mean(),
                "token-frequency neurons": values[kinds["frequency_neuron"]].mean(),
            }
            | {"all neurons": values.mean()}
        )
    return pd.DataFrame(rows)


@memory(neuron_types, rare_token_neurons)
def thresholds(
    kinds: pd.DataFrame, neurons: pd.DataFrame, shares: Sequence[float] = (0.125, 0.25, 0.375, 0.5)
) -> pd.DataFrame:
    """Count the neurons of each kind, and the controlled rare-token neurons among them, at smaller mediated shares.

    Columns: ``mediated share``, ``entropy neurons``, ``token-frequency neurons``, ``rare-token neurons among them``,
    ``expected`` (among as many random neurons), ``p`` (hypergeometric, of at least as many).
    """
    rare = neurons["controlled"].to_numpy()
    rows = []
    for share in shares:
        entropy, frequency = _of_kinds(kinds, share)
        chance = _beside_chance(entropy | frequency, rare)
        rows.append(
            {
                "mediated share": share,
                "entropy neurons": int(entropy.sum()),
                "token-frequency neurons": int(frequency.sum()),
            }
            | {"rare-token neurons among them": chance.pop("both")}
            | chance
        )
    return pd.DataFrame(rows)


def _beside_chance(kind: Bool[ndarray, " neuron"], rare: Bool[ndarray, " neuron"]) -> dict[str, Any]:
    """Count the neurons in both sets, with the count expected by chance and the probability of at least as many."""
    both, many, of_kind, size = int((kind & rare).sum()), len(rare), int(kind.sum()), int(rare.sum())
    p = float(stats.hypergeom.sf(both - 1, many, of_kind, size))
    return {"both": both, "expected": size * of_kind / many, "p": p}

"""Are the rare-token neurons entropy or token-frequency neurons (Stolfo et al. 2024), seen from another side? (claim C21)

Entropy neurons write large vectors that hardly tell tokens apart and act through the scale of the final norm; token-frequency neurons move the
prediction along the log-unigram direction. Both criteria are applied to every neuron, and each effect is taken apart: what remains of it with
the scale, or with that direction, held as it was (method §3, §9).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import stats

from raretok.findings.identification import Halves
from raretok.model.readout import Readout
from raretok.stats.resampling import RESAMPLES, bootstrap_counts, interval, ratio

SHARES = (0.025, 0.05, 0.1, 0.2)
"""Shares of d_model that the bottom singular directions of the unembedding are taken to be."""
EXTREME = 0.1
"""An extreme is this share of the layer's neurons."""
MEDIATED = 0.5
"""Of its effect, an entropy neuron has at least this share from the scale of the final norm, a token-frequency neuron from the log-unigram direction."""
PER_BAND = 250
"""Positions of each band at which effects are taken apart."""
BANDS = ("all", "rare with controls", "matched")
PATHS = {"frozen_scale": "the norm's scale", "frozen_frequency": "the log-unigram direction"}
KINDS = {"entropy_neuron": "entropy", "frequency_neuron": "token frequency", "either": "either"}
_BLOCK = 4096


def sample_positions(
    weights: Mapping[str, Float[ndarray, " row"]], seed: int, most: int = PER_BAND, bands: Sequence[str] = BANDS
) -> tuple[Int[ndarray, " kept"], Float[ndarray, "band kept"]]:
    """Some positions of each band, drawn by what they count for, and how often each was drawn: a band's mean over them estimates the band's."""
    rng = np.random.default_rng([seed, 11])
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


def geometry(readout: Readout, log_unigram: Float[ndarray, " vocab"], shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """What each neuron's output row does to the unembedding, the final norm's gain folded into it; a row a neuron.

    Columns: ``neuron``; ``norm`` (of the centred row); ``logit_variance`` (LogitVar: variance over the vocabulary of the cosine of the row with a token's
    direction); ``null_<share>`` (share of ‖w‖² in the bottom so many of the singular directions, 0…1); ``frequency_cosine`` (of the logit footprint with the log-unigram direction, both centred, −1…1).
    """
    readout = readout.to("cpu")
    w = readout.centre(readout.w_out.float())
    unembed = readout.unembed.float() * readout.gain.float()[:, None]
    if readout.centred:
        unembed = unembed - unembed.mean(0)
    unembed = unembed - unembed.mean(1, keepdim=True)  # what is common to all tokens moves no probability
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
    # eigh: ascending, so the first columns are the bottom singular directions.
    _, basis = torch.linalg.eigh(unembed.double() @ unembed.double().T)
    energy = ((w.double() @ basis).square() / norm.double().square()[:, None]).numpy()
    skipped = 1 if readout.centred else 0  # the direction that centring takes out holds nothing
    null = {f"null_{s:g}": energy[:, : skipped + max(1, round(s * w.shape[1]))].sum(1) for s in shares}
    return pd.DataFrame(
        {"neuron": np.arange(len(w)), "norm": norm.double().numpy(), "logit_variance": variance.numpy()}
        | null
        | {"frequency_cosine": (along / square.sqrt().clamp_min(1e-30)).numpy()}
    )


def relatives(shape: pd.DataFrame, outputs: Mapping[str, Halves]) -> pd.DataFrame:
    """Both criteria and their parts, a row a neuron: ``geometry`` and what follows.

    ``loss`` (mean |Δ loss|, nats); ``scale_share``, ``frequency_share`` (mediated share of it, 1 − mean |direct effect| / mean |total effect|, < 0 where the path works against the rest);
    ``entropy`` (mean Δ entropy), ``divergence`` (mean Δ KL(model ‖ unigram)), ``divergence_size`` (mean |Δ KL|), in nats; ``entropy_neuron`` (norm in the top tenth,
    LogitVar in the bottom tenth, half of the effect through the scale), ``frequency_neuron`` (|Δ KL| in the top tenth, half of the effect through the log-unigram direction), ``either``.

    Args:
        shape: ``geometry``.
        outputs: sums of each of the engine's outputs over the band ``all``.
    """

    def mean(output: str, measure: str) -> Float[ndarray, " neuron"]:
        return ratio(*outputs[output].of("all", measure=measure))

    total = mean("loss", "activity")
    with np.errstate(invalid="ignore", divide="ignore"):
        through = {path: 1 - mean(path, "activity") / total for path in PATHS}
    size = mean("kl", "activity")
    norm, variance = shape["norm"].to_numpy(), shape["logit_variance"].to_numpy()
    is_entropy = (norm >= np.quantile(norm, 1 - EXTREME)) & (variance <= np.quantile(variance, EXTREME))
    is_entropy &= through["frozen_scale"] >= MEDIATED
    is_frequency = (size >= np.quantile(size, 1 - EXTREME)) & (through["frozen_frequency"] >= MEDIATED)
    return shape.assign(
        loss=total,
        scale_share=through["frozen_scale"],
        frequency_share=through["frozen_frequency"],
        entropy=mean("entropy", "net"),
        divergence=mean("kl", "net"),
        divergence_size=size,
        entropy_neuron=is_entropy,
        frequency_neuron=is_frequency,
        either=is_entropy | is_frequency,
    )


def overlap(kinds: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """How many of the rare-token neurons are of each kind; a row a definition and kind.

    Columns: ``group`` (controlled, published), ``kind`` (entropy, token frequency, either), ``neurons`` (of the layer), ``of_kind``, ``size`` (of the group), ``both``, ``expected`` (of as many neurons
    at random), ``p`` (hypergeometric, at least so many), ``share`` (both / size) with ``low`` and ``high`` (95 %, Clopper–Pearson).
    """
    records = []
    for group in ("controlled", "published"):
        members = found[group].to_numpy()
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


def remaining(outputs: Mapping[str, Halves], found: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What remains of the rare-specific effect with a path held, measured on half B and oriented by half A, by which controlled neurons are also chosen (published ones are chosen on all documents); a row a group and path.

    Columns: ``group`` (controlled, published), ``size``, ``path``, ``total`` and ``direct`` (mean over the group of the rare-specific effect in the direction that half A says, nats), ``share`` (direct / total) with
    ``low`` and ``high`` (95 %, documents resampled).
    """
    sign = np.sign(found["s_a"].to_numpy())

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
        members = np.flatnonzero(found[column])
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


def sensitivity(shape: pd.DataFrame, kinds: pd.DataFrame) -> pd.DataFrame:
    """Mean share of ‖w‖² in the bottom singular directions for each choice of their number: ``directions`` (share of d_model), ``entropy neurons``, ``token-frequency neurons``, ``all neurons``."""
    rows = []
    for column in [c for c in shape if str(c).startswith("null_")]:
        values = shape[column]
        rows.append(
            {"directions": float(str(column).removeprefix("null_"))}
            | {
                "entropy neurons": values[kinds["entropy_neuron"]].mean(),
                "token-frequency neurons": values[kinds["frequency_neuron"]].mean(),
            }
            | {"all neurons": values.mean()}
        )
    return pd.DataFrame(rows)


def thresholds(
    kinds: pd.DataFrame, found: pd.DataFrame, shares: Sequence[float] = (0.125, 0.25, 0.375, 0.5)
) -> pd.DataFrame:
    """How many neurons are of each kind, and how many of the controlled rare-token neurons among them, when a smaller mediated share is enough.

    Columns: ``mediated share``, ``entropy neurons``, ``token-frequency neurons``, ``rare-token neurons among them``, ``expected`` (of as many neurons at random), ``p`` (hypergeometric, of at least as many).
    """
    rare = found["controlled"].to_numpy()
    norm, variance, size = (kinds[c].to_numpy() for c in ("norm", "logit_variance", "divergence_size"))
    shape = (norm >= np.quantile(norm, 1 - EXTREME)) & (variance <= np.quantile(variance, EXTREME))
    rows = []
    for share in shares:
        entropy = shape & (kinds["scale_share"].to_numpy() >= share)
        frequency = (size >= np.quantile(size, 1 - EXTREME)) & (kinds["frequency_share"].to_numpy() >= share)
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
    """Neurons that are both, how many as many at random would be, and how often at least so many."""
    both, many, of_kind, size = int((kind & rare).sum()), len(rare), int(kind.sum()), int(rare.sum())
    p = float(stats.hypergeom.sf(both - 1, many, of_kind, size))
    return {"both": both, "expected": size * of_kind / many, "p": p}

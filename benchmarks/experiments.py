"""Data sets for the rules about heads, groups, kinds of neurons, kinds of ablation and layers: some in which a claim is untrue, some in which it was planted.

All but the kinds of neurons are made from what was measured on a real study (by default the book's), so that sizes and noise are real; on as many windows as the claims are judged on.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from groups import APART

from raretok import Study
from raretok.ablation import DocumentSums
from raretok.claims import Evidence
from raretok.findings import intervention, layers, relatives, robustness, routing
from raretok.findings.groups import Group
from raretok.findings.identification import Halves

NULLS = ("heads exchanged", "strongest head alone", "gain of noise", "random group", "another ranking", "layers alike")
PLANTS = ("bands exchanged", "heads add up", "gain", "group of a kind", "same ranking", "last layer larger")
TABLES = ("routing", "joint_groups", "kinship", "replacements", "layer_effects")
"""Of ``Evidence``."""
NEURONS, SIZE, LAYERS = 150, 30, 30


@dataclass(frozen=True)
class Real:
    """What data sets are made from: influences of the heads on some neurons, joint effects, first-order effects of one layer, and effects on rare targets by document."""

    influences: routing.Influences
    joint: dict[str, np.ndarray]
    attributions: layers.Attributions
    net: np.ndarray
    weight: np.ndarray


def real(study: Study, seed: int = 0) -> Real:
    """Some neurons of a study."""
    neurons = np.random.default_rng(seed).permutation(study.model.readout.neurons)[:NEURONS]
    found, screened = study.influences, study.attributions
    few = routing.Influences(found.heads[..., neurons], found.layers[..., neurons], found.weight)
    one = layers.Attributions(screened.net[-1:][..., neurons], screened.weight)
    net, weight = study.halves.of("rare with controls")
    return Real(few, intervention.best_groups(study.bench, progress=False), one, net[:, neurons], weight)


def evidence(kind: str, seed: int, real: Real) -> Evidence:
    """The table of one data set that its claim's rule reads."""
    rng = np.random.default_rng([seed, (*NULLS, *PLANTS).index(kind), APART])
    nothing = pd.DataFrame()
    return Evidence(nothing, nothing, nothing, nothing, **_table(kind, seed, real, rng))


def _table(kind: str, seed: int, real: Real, rng: np.random.Generator) -> dict[str, Any]:
    if kind in ("heads exchanged", "strongest head alone", "bands exchanged", "heads add up"):
        return {"routing": _routing(kind, seed, real.influences, rng)}
    if kind in ("gain of noise", "gain"):
        return {"joint_groups": _joint(kind, seed, real.joint, rng)}
    if kind in ("random group", "group of a kind"):
        return {"kinship": _kinship(kind, rng)}
    if kind in ("another ranking", "same ranking"):
        return {"replacements": _replacements(kind, seed, real, rng)}
    return {"layer_effects": _layers(kind, seed, real.attributions, rng)}


def _routing(kind: str, seed: int, found: routing.Influences, rng: np.random.Generator) -> pd.DataFrame:
    windows = len(found.weight)
    drawn = rng.integers(0, windows, windows)
    heads, whole, weight = found.heads[:, drawn].copy(), found.layers[:, drawn].copy(), found.weight[drawn].copy()
    # No difference between the bands: what a window has in one it has, by chance, in the other.
    with np.errstate(invalid="ignore", divide="ignore"):
        per = heads / weight[None, :, :, None]
    both = np.nanmean(per, axis=2, keepdims=True)
    per = np.where(np.isfinite(per), per, both)
    swap = rng.integers(0, 2, windows).astype(bool)
    per[:, swap] = per[:, swap][:, :, ::-1]
    heads = per * weight[None, :, :, None]
    if kind == "heads exchanged":
        some = rng.permutation(len(heads))[: len(heads) // 2]
        heads[some, :, 0] = heads[np.roll(some, 1), :, 0]
    by_layer = heads.reshape(len(whole), -1, *heads.shape[1:])
    own = by_layer[np.arange(len(whole)), by_layer.sum((2, 3, 4)).argmax(1)]
    times = 3.0 if kind == "heads add up" else 1.5
    whole = own * times * np.exp(0.2 * rng.standard_normal((len(whole), windows, 1, 1)))
    group = rng.permutation(heads.shape[-1])[:SIZE]
    matching = pd.DataFrame(rng.standard_normal((heads.shape[-1], 2)), columns=["one", "two"])
    data = routing.Influences(heads.astype(np.float32), whole.astype(np.float32), weight)
    return routing.routing(data, {"controlled": Group("B", group, group)}, matching, seed, draws=20)


def _joint(kind: str, seed: int, found: dict[str, np.ndarray], rng: np.random.Generator) -> pd.DataFrame:
    weight = found["weight"]
    gap = found["greedy_joint"] - found["single_joint"]
    gap = gap - np.outer(gap.sum(1) / weight.sum(), weight)
    flipped = gap * rng.choice([-1.0, 1.0], len(weight))
    if kind == "gain":
        flipped = flipped + 4.5 * np.sqrt((gap**2).sum(1))[:, None] * weight / weight.sum()
    apart = {"greedy": np.arange(len(gap)), "single": np.arange(len(gap)) + len(gap)}
    return intervention.joint_groups(found | apart | {"greedy_joint": found["single_joint"] + flipped}, seed)


def _kinship(kind: str, rng: np.random.Generator) -> pd.DataFrame:
    of_kind = np.zeros(1500, dtype=bool)
    of_kind[:60] = True
    pool = rng.permutation(1500)
    members = (
        pool[:SIZE]
        if kind == "random group"
        else np.concatenate([np.arange(26), 60 + rng.permutation(1440)[: SIZE - 26]])
    )
    controlled = np.isin(np.arange(1500), members)
    kinds = pd.DataFrame({"entropy_neuron": of_kind, "frequency_neuron": False, "either": of_kind})
    return relatives.overlap(kinds, pd.DataFrame({"controlled": controlled, "published": controlled}))


def _replacements(kind: str, seed: int, real: Real, rng: np.random.Generator) -> pd.DataFrame:
    net, weight = real.net, real.weight
    index = np.arange(net.shape[1])
    if kind == "another ranking":
        some = rng.permutation(index)[: len(index) // 3]
        index[some] = rng.permutation(some)
    residual = net - np.outer(weight, net.sum(0) / weight.sum())
    noise = 0.3 * residual * rng.choice([-1.0, 1.0], (len(weight), 1))

    def halves(sums: np.ndarray) -> Halves:
        both, w = np.stack([sums, sums], axis=1), np.stack([weight, weight], axis=1)
        count = (w > 0).astype(np.int64)
        return Halves(
            DocumentSums(both, np.abs(both), both**2, w, count, 0.0, 0.0),
            rng.integers(0, 2, len(w)),
            ("rare with controls", "matched"),
        )

    kinds = {"mean": halves(net), "zero": halves(net[:, index] + noise), "resample": halves(net + noise)}
    return robustness.replacements(kinds, seed)


def _layers(kind: str, seed: int, found: layers.Attributions, rng: np.random.Generator) -> pd.DataFrame:
    windows = len(found.weight)
    drawn = rng.integers(0, windows, windows)
    net, weight = found.net[0][drawn], found.weight[drawn]
    residual = net - weight[:, :, None] * (found.net[0].sum(0) / found.weight.sum(0)[:, None])
    noise = [residual * rng.choice([-1.0, 1.0], (windows, 1, 1)) for _ in range(LAYERS)]
    size = np.sqrt(((residual**2).sum(0) / weight.sum(0)[:, None] ** 2).mean())
    signal = 3 * size * rng.standard_normal((LAYERS, 2, net.shape[-1]))
    if kind == "last layer larger":
        signal[-1] *= 2
    made = np.stack([n + weight[:, :, None] * s for n, s in zip(noise, signal, strict=True)])
    return layers.layer_effects(layers.Attributions(made, weight), seed, resamples=200)

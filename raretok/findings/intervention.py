"""What do rare-token neurons contribute? (claim C20)

Groups are ablated jointly and exactly, and activations are scaled. Only the final norm and the unembedding follow the
last MLP, so ablating or scaling a group takes a single exact step per position, whatever the size of the group. Choices
are made on half A of the documents, and results are reported on half B.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from tqdm import tqdm

from raretok.ablation import TileInputs, ablate, tile_inputs
from raretok.ablation.certified import Certified
from raretok.ablation.exact import joint_effects
from raretok.ablation.identity import Baseline, baseline
from raretok.findings.groups import Group, control_groups, features
from raretok.findings.identification import rare_token_neurons
from raretok.findings.neuron_types import sample_positions
from raretok.graph import arrays, memory, table
from raretok.measure.effects import band_weights, engine, mean_activation, trace
from raretok.model.readout import Readout
from raretok.model.trace import Trace
from raretok.stats.groups import random_groups
from raretok.stats.resampling import RESAMPLES, bootstrap_counts, bootstrap_ratio, interval, ratio
from raretok.stats.streams import stream

BANDS = ("rare", "matched", "common")
PER_BAND = 150
"""Number of positions of each band and half."""
GREEDY = 10
"""Number of neurons in the group that is built greedily."""
CHOICE = 1e-3
"""Tolerance of an effect, in nats, while the group is chosen; the reported numbers are exact."""
SIZES = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
CONTROLS = 3
"""Number of groups of each kind that a pruned group is compared with."""
WORSE = 0.25
"""A setting preserves common targets if their loss, interval included, rises by at most this share of the gain on rare
targets."""
SETTINGS = (0.0, 0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.0)
"""Factors that activations are multiplied by; 1 changes nothing."""


@dataclass(frozen=True)
class GroupAblation:
    """Exact effects of changing some neurons together, at some positions.

    ``engine``: the certified pass of the study; ``trace``: the positions; ``mean``: mean activation of every neuron;
    ``weights``: weight of each position in each of ``BANDS``.
    """

    engine: Certified
    trace: Trace
    mean: Float[Tensor, " neuron"]
    weights: Float[ndarray, "band row"]

    @property
    def readout(self) -> Readout:
        """The readout of the model."""
        return self.engine.attribution.readout

    def part(self, half: int, bands: Sequence[str] = BANDS) -> "GroupAblation":
        """Return the positions of one half of the documents that some bands hold."""
        held = self.weights[[BANDS.index(b) for b in bands]].any(0)
        rows = np.flatnonzero((self.trace.half == half) & held)
        return replace(self, trace=self.trace[rows], weights=self.weights[:, rows])

    def sums(
        self, effects: Float[ndarray, " row"]
    ) -> tuple[Float[ndarray, "document band"], Float[ndarray, "document band"]]:
        """Sum the weighted effects and the weights by document."""
        _, document = np.unique(self.trace.document, return_inverse=True)
        member = np.eye(document.max() + 1)[document]
        return member.T @ (self.weights * effects).T, member.T @ self.weights.T

    @cached_property
    def _inputs(self) -> TileInputs:
        return tile_inputs(self.readout, self.trace, self.mean)

    @cached_property
    def _base(self) -> Baseline:
        residual, _, target, mlp = self._inputs
        return baseline(self.engine.attribution, residual, target, self.engine.compiled, mlp)

    def ablated(self, members: Sequence[int] | Int[ndarray, " n"]) -> Float[ndarray, " row"]:
        """Compute Δ in nats of mean-ablating the members together."""
        index = torch.from_numpy(np.asarray(members, dtype=np.int64)).to(self._inputs.residual.device)
        return self._effects(self._inputs.delta[:, index], index, (1.0,))[0]

    def scaled(self, members: Int[ndarray, " n"], by: Sequence[float]) -> Float[ndarray, "factor row"]:
        """Compute Δ in nats of multiplying the members' activations by each of some factors."""
        device = self._inputs.residual.device
        index = torch.from_numpy(members.astype(np.int64)).to(device)
        return self._effects(self.trace.activation.to(device)[:, index], index, [f - 1 for f in by])

    def _effects(self, delta: Tensor, index: Tensor, times: Sequence[float]) -> Float[ndarray, "time row"]:
        change = delta @ self.readout.w_out[index]
        effects = joint_effects(self.engine.attribution, self._base, change, times, self.engine.compiled)
        return np.asarray(effects.double().cpu().numpy())


@memory(engine, trace, mean_activation, band_weights)
def group_ablation(
    engine: Certified, trace: Trace, mean: ndarray, band_weights: Mapping[str, ndarray], seed: int
) -> GroupAblation:
    """Sample positions of each band and half, at which groups are ablated together."""
    rows, weights = [], []
    for half in (0, 1):
        inside = {b: np.where(trace.half == half, band_weights[b], 0.0) for b in BANDS}
        kept, drawn = sample_positions(inside, seed, PER_BAND, BANDS)
        rows.append(kept)
        weights.append(drawn)
    chosen = trace[np.concatenate(rows)]
    return GroupAblation(engine, chosen, torch.from_numpy(mean), np.concatenate(weights, axis=1))


@memory(rare_token_neurons)
def order(neurons: pd.DataFrame) -> Int[ndarray, " neuron"]:
    """Order all neurons by the size of their rare-specific effect in half A, largest first."""
    return np.argsort(-neurons["s_a"].abs().to_numpy(), kind="stable")


@memory(rare_token_neurons)
def scaled_groups(neurons: pd.DataFrame) -> dict[str, Int[ndarray, " n"]]:
    """Return the groups to scale: the rare-token neurons chosen on half A – all, boost and suppress."""
    chosen, boost = neurons["selected"].to_numpy(), (neurons["direction"] == "boost").to_numpy()
    groups = {"all": chosen, "boost": chosen & boost, "suppress": chosen & ~boost}
    return {name: np.flatnonzero(members) for name, members in groups.items() if members.any()}


def greedy(ablation: GroupAblation, count: int = GREEDY, progress: bool = True) -> Int[ndarray, " count"]:
    """Choose, one after the other, the neurons whose joint ablation raises the loss on rare targets most.

    Once a group is ablated, adding a neuron is a single ablation of the modified residual stream, so each step is one
    pass over all neurons.
    """
    trace = ablation.trace
    chosen: list[int] = []
    readout = ablation.readout
    for _ in tqdm(range(count), desc="greedy group", unit="neuron", disable=None if progress else True):
        sums = ablate(
            ablation.readout, trace, ablation.mean, ablation.weights[:1], CHOICE, progress=False, engine=ablation.engine
        )["loss"]
        net = sums.net[:, 0].sum(0)
        net[chosen] = -np.inf
        best = int(net.argmax())
        chosen.append(best)
        row = readout.w_out[best]
        change = (ablation.mean[best] - trace.activation[:, best]).to(row)[:, None] * row
        step = readout.step(readout.mlp_output(trace.activation.to(row.device)), change).to(trace.residual)
        activation = trace.activation.clone()
        activation[:, best] = ablation.mean[best]
        trace = replace(trace, residual=trace.residual + step, activation=activation)
    return np.array(chosen)


@arrays(group_ablation)
def best_groups(ablation: GroupAblation, progress: bool = True) -> dict[str, ndarray]:
    """Choose a greedy group and the neurons with the largest single effects on half A, and evaluate both on half B.

    For the first k members of each group, the joint effect and the sum of the single effects are computed.

    Returns:
        ``greedy``, ``single`` (ids in order of choice); ``greedy_joint``, ``single_joint`` [k, document] – sums on rare
        targets when the first k are ablated together; ``greedy_sum``, ``single_sum`` – sums of their single effects;
        ``weight`` [document].
    """
    a, b = (ablation.part(half, ("rare",)) for half in (0, 1))
    single = ablate(a.readout, a.trace, a.mean, a.weights[:1], progress=False, engine=a.engine)["loss"]
    alone = single.net[:, 0].sum(0)
    count = min(GREEDY, len(alone))
    groups = {"greedy": greedy(a, count, progress), "single": np.argsort(-alone, kind="stable")[:count]}
    results: dict[str, ndarray] = {}
    for name, ids in groups.items():
        together = [b.sums(b.ablated(ids[: k + 1]))[0][:, 0] for k in range(count)]
        singly = [b.sums(b.ablated(ids[k : k + 1]))[0][:, 0] for k in range(count)]
        results |= {name: ids, f"{name}_joint": np.stack(together), f"{name}_sum": np.cumsum(singly, axis=0)}
    return results | {"weight": b.sums(np.zeros(len(b.trace)))[1][:, 0]}


@table(best_groups)
def joint_groups(groups: Mapping[str, ndarray], seed: int) -> pd.DataFrame:
    """Summarise ``best_groups`` by group size; one row per size.

    Effects are mean rises of the loss on rare targets of half B, in nats. Columns: ``k``; ``greedy``, ``single`` (joint
    effect of either group); ``gain`` (greedy − single) with ``low``, ``high``; ``synergy`` (joint effect of the greedy
    group minus the sum of its single effects) with ``synergy_low``, ``synergy_high``; ``jaccard`` (of the two groups);
    ``documents``. The intervals are 95% intervals with documents resampled.
    """
    weight = groups["weight"]
    counts = np.vstack([np.ones(len(weight)), bootstrap_counts(len(weight), RESAMPLES, seed)])
    mean = {k: bootstrap_ratio(groups[k].T, weight, counts) for k in ("greedy_joint", "single_joint", "greedy_sum")}
    gain, synergy = mean["greedy_joint"] - mean["single_joint"], mean["greedy_joint"] - mean["greedy_sum"]
    rows = []
    for k in range(len(groups["greedy"])):
        ends = [interval(float(x[0, k]), x[1:, k], moved=False) for x in (gain, synergy)]
        a, b = set(groups["greedy"][: k + 1].tolist()), set(groups["single"][: k + 1].tolist())
        rows.append(
            {"k": k + 1, "greedy": mean["greedy_joint"][0, k], "single": mean["single_joint"][0, k]}
            | {"gain": gain[0, k], "low": ends[0][0], "high": ends[0][1]}
            | {"synergy": synergy[0, k], "synergy_low": ends[1][0], "synergy_high": ends[1][1]}
            | {"jaccard": len(a & b) / len(a | b), "documents": len(weight)}
        )
    return pd.DataFrame(rows)


def _by_band(ablation: GroupAblation, effects: Float[ndarray, " row"], seed: int) -> list[dict[str, float | str]]:
    sums, weight = ablation.sums(effects)
    counts = bootstrap_counts(len(weight), RESAMPLES, seed)
    rows: list[dict[str, float | str]] = []
    for b, band in enumerate(BANDS):
        one = (sums[:, [b]], weight[:, b])
        estimate = float(ratio(*one)[0])
        low, high = interval(estimate, bootstrap_ratio(*one, counts)[:, 0], moved=False)
        rows.append({"band": band, "net": estimate, "low": low, "high": high})
    return rows


@table(group_ablation, order, features)
def pruning(
    ablation: GroupAblation, order: Int[ndarray, " neuron"], matching: pd.DataFrame, seed: int, progress: bool = True
) -> pd.DataFrame:
    """Compute the rise of the loss on half B when k neurons are ablated together.

    The k neurons are the first of an order, or as many others.

    Args:
        ablation: positions.
        order: neurons, ordered by their effects on half A.
        matching: ``groups.features``.
        seed: of the control groups.
        progress: show a bar on a terminal.

    Columns: ``k``, ``kind`` (first, matched, random), ``draw``, ``band``, ``net`` (nats), ``low``, ``high`` (95%
    interval, documents resampled).
    """
    b, neurons = ablation.part(1), len(order)
    rng, rows = stream(seed, "intervention.pruning"), []
    for k in tqdm(
        [*(s for s in SIZES if s < neurons), neurons], desc="pruning", unit="size", disable=None if progress else True
    ):
        groups = [("first", 0, order[:k])]
        if k < neurons / 4:
            matched = control_groups(matching, Group("B", order[:k], order[:k]), CONTROLS, rng)["matched"]
            groups += [("matched", d, ids) for d, ids in enumerate(matched)]
        if k < neurons:
            groups += [("random", d, ids) for d, ids in enumerate(random_groups(neurons, k, CONTROLS, rng))]
        for kind, draw, ids in groups:
            rows += [{"k": k, "kind": kind, "draw": draw} | r for r in _by_band(b, b.ablated(ids), seed)]
    return pd.DataFrame(rows)


@memory(pruning)
def pruning_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Average the losses over the groups of a size and kind.

    Columns: ``k``, ``kind``, ``band``, ``net`` (mean over the groups, nats), ``low``, ``high`` (95% interval of the
    ordered group; nan for control groups, which are several).
    """
    by_kind = table.groupby(["k", "kind", "band"], sort=False)
    curves = by_kind[["net", "low", "high"]].mean().reset_index()
    return curves.assign(**{end: curves[end].where(curves["kind"] == "first") for end in ("low", "high")})


@table(group_ablation, scaled_groups)
def scaling(ablation: GroupAblation, groups: Mapping[str, Int[ndarray, " n"]], seed: int) -> pd.DataFrame:
    """Compute the change of the loss when a group's activations are multiplied.

    The table has one row per group, factor, half and band. Columns: ``group``, ``size``, ``factor``, ``half`` (A, B),
    ``band``, ``net`` (nats, < 0 is better), ``low``, ``high`` (95% interval, documents resampled).
    """
    rows = []
    for half, name in ((0, "A"), (1, "B")):
        part = ablation.part(half)
        for group, ids in groups.items():
            for factor, effects in zip(SETTINGS, part.scaled(ids, SETTINGS), strict=True):
                where = {"group": group, "size": len(ids), "factor": factor, "half": name}
                rows += [where | r for r in _by_band(part, effects, seed)]
    return pd.DataFrame(rows, columns=["group", "size", "factor", "half", "band", "net", "low", "high"])


@memory(scaling)
def best_setting(table: pd.DataFrame, tested: pd.DataFrame | None = None) -> pd.DataFrame:
    """Choose the best factor on half A, and report its effect on half B.

    The best factor lowers the loss on rare targets of half A most without raising the loss on common targets there.

    Args:
        table: ``scaling``, from which the factor is chosen.
        tested: another corpus's ``scaling`` of the same groups, whose half B is reported instead.

    Columns: ``group``, ``size``, ``factor`` (1 if none lowers the loss on rare targets without raising it on common
    ones), and on half B ``rare``, ``rare_low``, ``rare_high``, ``common``, ``common_low``, ``common_high``; ``holds``
    (whether, intervals included, rare is below 0 and common is at most ``WORSE`` times the gain on rare targets).
    """
    rows = []
    tested = table if tested is None else tested
    for group, part in table.groupby("group", sort=False):
        a = part[part["half"] == "A"].pivot(index="factor", columns="band", values="net")
        a = a[(a["common"] <= 0) & (a["rare"] < 0)]
        row: dict[str, Any] = {"group": group, "size": int(part["size"].iloc[0]), "factor": 1.0}
        if len(a):
            factor = float(a.index.to_numpy(dtype=float)[int(a["rare"].to_numpy().argmin())])
            b = tested[(tested["group"] == group) & (tested["half"] == "B") & (tested["factor"] == factor)].set_index(
                "band"
            )
            row["factor"] = factor
            for band in ("rare", "common"):
                row |= {
                    band: b.loc[band, "net"],
                    f"{band}_low": b.loc[band, "low"],
                    f"{band}_high": b.loc[band, "high"],
                }
            row["holds"] = bool(row["rare_high"] < 0 and row["common_high"] <= -WORSE * row["rare"])
        else:
            row |= {f"{band}{end}": 0.0 for band in ("rare", "common") for end in ("", "_low", "_high")} | {
                "holds": False
            }
        rows.append(row)
    ends = [f"{band}{end}" for band in ("rare", "common") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["group", "size", "factor", *ends, "holds"])

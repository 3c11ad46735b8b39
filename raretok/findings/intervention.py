"""What rare-token neurons are good for: groups ablated together, exactly, and activations scaled (claim C20).

Nothing but the final norm and the unembedding follows the last MLP, so a group's ablation, and any scaling of it, is one exact step for each position whatever the size of the group. Choices are made
on half A of the documents, numbers come from half B.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from tqdm import tqdm

from raretok.ablation import ablate, tile_inputs
from raretok.ablation.exact import joint_effects
from raretok.ablation.identity import Footprints, footprints
from raretok.findings.groups import Group, control_groups
from raretok.model.readout import Readout
from raretok.model.trace import Trace
from raretok.stats.groups import random_groups
from raretok.stats.resampling import RESAMPLES, bootstrap_counts, bootstrap_ratio, interval, ratio

BANDS = ("rare", "matched", "common")
PER_BAND = 150
"""Positions of each band and half."""
GREEDY = 10
"""Neurons in a group that is built one by one."""
CHOICE = 1e-3
"""What an effect may be off by, in nats, while the group is chosen; its numbers are exact."""
SIZES = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
CONTROLS = 3
"""Groups of each kind that a pruned group is compared with."""
WORSE = 0.25
"""A setting keeps common targets if they lose, interval included, no more than this share of what rare ones gain."""
SETTINGS = (0.0, 0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.0)
"""What activations are multiplied by; 1 changes nothing."""


@dataclass(frozen=True)
class Bench:
    """Positions at which groups are ablated: their trace, the activations' means, and what each counts for in ``BANDS``."""

    readout: Readout
    trace: Trace
    mean: Float[Tensor, " neuron"]
    weights: Float[ndarray, "band row"]

    def part(self, half: int) -> "Bench":
        """The positions of one half of the documents."""
        rows = np.flatnonzero(self.trace.half == half)
        return replace(self, trace=self.trace[rows], weights=self.weights[:, rows])

    def sums(
        self, effects: Float[ndarray, " row"]
    ) -> tuple[Float[ndarray, "document band"], Float[ndarray, "document band"]]:
        """Weighted effects and weights by document."""
        _, document = np.unique(self.trace.document, return_inverse=True)
        member = np.eye(document.max() + 1)[document]
        return member.T @ (self.weights * effects).T, member.T @ self.weights.T


class Joint:
    """Exact effects of changing some neurons together, with the footprints made once."""

    def __init__(self, bench: Bench) -> None:
        """``bench``: the positions."""
        self.bench = bench
        self.residual, self.delta, self.target = tile_inputs(bench.readout, bench.trace, bench.mean)
        self.feet: Footprints = footprints(bench.readout, self.residual)

    def ablated(self, members: Sequence[int] | Int[ndarray, " n"]) -> Float[ndarray, " row"]:
        """Δ in nats of mean-ablating them together."""
        index = torch.as_tensor(np.asarray(members, dtype=np.int64), device=self.residual.device)
        return self._effects(self.delta[:, index], index)

    def scaled(self, members: Int[ndarray, " n"], by: float) -> Float[ndarray, " row"]:
        """Δ in nats of multiplying their activations."""
        index = torch.as_tensor(members.astype(np.int64), device=self.residual.device)
        activation = self.bench.trace.activation.to(self.residual.device)[:, index]
        return self._effects((by - 1) * activation, index)

    def _effects(self, delta: Tensor, index: Tensor) -> Float[ndarray, " row"]:
        found = joint_effects(self.feet, self.residual, delta, self.target, index)
        return np.asarray(found.double().cpu().numpy())


def greedy(bench: Bench, count: int = GREEDY, progress: bool = True) -> Int[ndarray, " count"]:
    """Neurons whose joint ablation raises the loss on rare targets most, chosen one after the other.

    After a group is ablated, one more neuron is a single ablation at the moved stream: each step is one pass over all neurons.
    """
    trace = bench.trace
    chosen: list[int] = []
    w_out = bench.readout.w_out.to(trace.residual)
    for _ in tqdm(range(count), desc="greedy group", unit="neuron", disable=None if progress else True):
        found = ablate(bench.readout, trace, bench.mean, bench.weights[:1], CHOICE, progress=False)["loss"]
        net = found.net[:, 0].sum(0)
        net[chosen] = -np.inf
        best = int(net.argmax())
        chosen.append(best)
        step = (bench.mean[best] - trace.activation[:, best])[:, None] * w_out[best]
        trace = replace(trace, residual=trace.residual + step)
    return np.array(chosen)


def best_groups(bench: Bench, progress: bool = True) -> dict[str, ndarray]:
    """The greedy group and the neurons with the largest single effects, both chosen on half A; on half B what each first so many do together, and what they do singly.

    Returns:
        ``greedy``, ``single`` (ids in order of choice); ``greedy_joint``, ``single_joint`` [k, document] – sums on rare targets when the first k are ablated
        together; ``greedy_sum``, ``single_sum`` – sums of their single effects; ``weight`` [document].
    """
    a, b = bench.part(0), bench.part(1)
    alone = ablate(a.readout, a.trace, a.mean, a.weights[:1], progress=False)["loss"].net[:, 0].sum(0)
    count = min(GREEDY, len(alone))
    groups = {"greedy": greedy(a, count, progress), "single": np.argsort(-alone, kind="stable")[:count]}
    joint = Joint(b)
    found: dict[str, ndarray] = {}
    for name, ids in groups.items():
        together = [b.sums(joint.ablated(ids[: k + 1]))[0][:, 0] for k in range(count)]
        singly = [b.sums(joint.ablated(ids[k : k + 1]))[0][:, 0] for k in range(count)]
        found |= {name: ids, f"{name}_joint": np.stack(together), f"{name}_sum": np.cumsum(singly, axis=0)}
    return found | {"weight": b.sums(np.zeros(len(b.trace)))[1][:, 0]}


def joint_groups(found: Mapping[str, ndarray], seed: int) -> pd.DataFrame:
    """``best_groups`` by size; effects are mean rises of the loss on rare targets of half B, in nats; a row a size.

    Columns: ``k``; ``greedy``, ``single`` (joint effect of either group); ``gain`` (greedy − single) with ``low``, ``high``; ``synergy`` (joint effect less the sum of single ones, of the greedy group) with ``synergy_low``,
    ``synergy_high``; ``jaccard`` (of the two groups); ``documents``. Intervals: 95 %, documents resampled.
    """
    weight = found["weight"]
    counts = np.vstack([np.ones(len(weight)), bootstrap_counts(len(weight), RESAMPLES, seed)])
    mean = {k: bootstrap_ratio(found[k].T, weight, counts) for k in ("greedy_joint", "single_joint", "greedy_sum")}
    gain, synergy = mean["greedy_joint"] - mean["single_joint"], mean["greedy_joint"] - mean["greedy_sum"]
    rows = []
    for k in range(len(found["greedy"])):
        ends = [interval(float(x[0, k]), x[1:, k], moved=False) for x in (gain, synergy)]
        a, b = set(found["greedy"][: k + 1].tolist()), set(found["single"][: k + 1].tolist())
        rows.append(
            {"k": k + 1, "greedy": mean["greedy_joint"][0, k], "single": mean["single_joint"][0, k]}
            | {"gain": gain[0, k], "low": ends[0][0], "high": ends[0][1]}
            | {"synergy": synergy[0, k], "synergy_low": ends[1][0], "synergy_high": ends[1][1]}
            | {"jaccard": len(a & b) / len(a | b), "documents": len(weight)}
        )
    return pd.DataFrame(rows)


def _by_band(bench: Bench, effects: Float[ndarray, " row"], seed: int) -> list[dict[str, float | str]]:
    sums, weight = bench.sums(effects)
    counts = bootstrap_counts(len(weight), RESAMPLES, seed)
    rows: list[dict[str, float | str]] = []
    for b, band in enumerate(BANDS):
        one = (sums[:, [b]], weight[:, b])
        estimate = float(ratio(*one)[0])
        low, high = interval(estimate, bootstrap_ratio(*one, counts)[:, 0], moved=False)
        rows.append({"band": band, "net": estimate, "low": low, "high": high})
    return rows


def pruning(
    bench: Bench, order: Int[ndarray, " neuron"], matching: pd.DataFrame, seed: int, progress: bool = True
) -> pd.DataFrame:
    """Rise of the loss on half B when the first k neurons of an order are ablated together, and when as many others are.

    Args:
        bench: positions.
        order: neurons, by what half A says of them.
        matching: ``groups.features``.
        seed: of the control groups.
        progress: show a bar on a terminal.

    Columns: ``k``, ``kind`` (first, matched, random), ``draw``, ``band``, ``net`` (nats), ``low``, ``high`` (95 %, documents resampled).
    """
    b, neurons = bench.part(1), len(order)
    joint, rng, rows = Joint(b), np.random.default_rng([seed, 15]), []
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
            rows += [{"k": k, "kind": kind, "draw": draw} | r for r in _by_band(b, joint.ablated(ids), seed)]
    return pd.DataFrame(rows)


def scaling(bench: Bench, groups: Mapping[str, Int[ndarray, " n"]], seed: int) -> pd.DataFrame:
    """Change of the loss when the activations of a group are multiplied; a row a group, factor, half and band.

    Columns: ``group``, ``size``, ``factor``, ``half`` (A, B), ``band``, ``net`` (nats, < 0 is better), ``low``, ``high`` (95 %, documents resampled).
    """
    rows = []
    for half, name in ((0, "A"), (1, "B")):
        part = bench.part(half)
        joint = Joint(part)
        for group, ids in groups.items():
            for factor in SETTINGS:
                where = {"group": group, "size": len(ids), "factor": factor, "half": name}
                rows += [where | r for r in _by_band(part, joint.scaled(ids, factor), seed)]
    return pd.DataFrame(rows, columns=["group", "size", "factor", "half", "band", "net", "low", "high"])


def best_setting(table: pd.DataFrame, tested: pd.DataFrame | None = None) -> pd.DataFrame:
    """The factor that lowers the loss on rare targets of half A most without raising that on common ones there, and what it does on half B.

    Args:
        table: ``scaling``, which the factor is chosen from.
        tested: another corpus's ``scaling`` of the same groups, whose half B is reported instead.

    Columns: ``group``, ``size``, ``factor`` (1 if none lowers it), and on half B ``rare``, ``rare_low``, ``rare_high``, ``common``, ``common_low``, ``common_high``; ``holds`` (beyond chance, rare is below 0, and common is not above ``WORSE`` of what rare gains).
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

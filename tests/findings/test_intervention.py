"""Groups ablated together and activations scaled, against the model's own readout and brute force."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import EXACT_FORMS

from raretok.ablation import ablate_group, make_engine
from raretok.findings import intervention


def ablation_of(traced, architecture: str) -> intervention.GroupAblation:
    model, _, trace, mean = traced(architecture, torch.float64, 8)
    weights = np.zeros((3, len(trace)))
    weights[np.arange(len(trace)) % 3, np.arange(len(trace))] = 1.0 + np.arange(len(trace)) % 2
    engine = make_engine(model.readout, 1e-4, len(trace), trace.residual)
    return intervention.GroupAblation(engine, trace, mean, weights)


def losses(ablation, residual):
    target = torch.from_numpy(ablation.trace.target.astype(np.int64))
    return torch.nn.functional.cross_entropy(ablation.readout.logits(residual), target, reduction="none")


@pytest.mark.parametrize("architecture", EXACT_FORMS)
def test_joint_effects_are_those_of_the_moved_stream(traced, architecture):
    ablation = ablation_of(traced, architecture)
    members = np.array([3, 17, 40])
    trace = ablation.trace
    before = losses(ablation, trace.residual)
    readout = ablation.readout
    mlp, w_out = readout.mlp_output(trace.activation), readout.w_out[members]
    moved = trace.residual + readout.step(mlp, (ablation.mean[members] - trace.activation[:, members]) @ w_out)
    np.testing.assert_allclose(ablation.ablated(members), losses(ablation, moved) - before, atol=1e-9)
    np.testing.assert_allclose(
        ablation.ablated(members), ablate_group(ablation.readout, trace, members.tolist(), ablation.mean), atol=1e-9
    )
    doubled = trace.residual + readout.step(mlp, trace.activation[:, members] @ w_out)
    twice, same = ablation.scaled(members, (2.0, 1.0))
    np.testing.assert_allclose(twice, losses(ablation, doubled) - before, atol=1e-9)
    np.testing.assert_allclose(same, 0, atol=1e-12)


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma3", "gemma2"])
def test_greedy_choice_is_that_of_brute_force(traced, architecture):
    ablation = ablation_of(traced, architecture)
    chosen = intervention.greedy(ablation, 3, progress=False)
    weight = ablation.weights[0]
    for k in range(3):
        rises = [
            (weight * ablation.ablated(np.array([*chosen[:k], i]))).sum() if i not in chosen[:k] else -np.inf
            for i in range(ablation.readout.neurons)
        ]
        assert rises[chosen[k]] >= max(rises) - 2 * intervention.CHOICE * weight.sum()
    assert len(set(chosen.tolist())) == 3


def test_groups_of_one_are_the_same_and_the_table_adds_up(traced):
    found = intervention.best_groups(ablation_of(traced, "llama"), progress=False)
    table = intervention.joint_groups(found, 0)
    assert table["k"].tolist() == list(range(1, intervention.GREEDY + 1))
    np.testing.assert_allclose(table["synergy"].iloc[0], 0, atol=1e-9)
    np.testing.assert_allclose(table["gain"], table["greedy"] - table["single"])
    k = intervention.GREEDY
    a, b = set(found["greedy"][:k]), set(found["single"][:k])
    assert table["jaccard"].iloc[-1] == len(a & b) / len(a | b)


def test_pruning_all_is_ablating_all(traced):
    ablation = ablation_of(traced, "gpt2")
    neurons = ablation.readout.neurons
    matching = pd.DataFrame(np.random.default_rng(0).standard_normal((neurons, 2)), columns=["one", "two"])
    table = intervention.pruning(ablation, np.arange(neurons), matching, 0, progress=False)
    part = ablation.part(1)
    everything = part.ablated(np.arange(neurons))
    whole = table[(table["k"] == neurons) & (table["band"] == "common")]
    assert whole["kind"].tolist() == ["first"]
    np.testing.assert_allclose(whole["net"], (part.weights[2] * everything).sum() / part.weights[2].sum())
    assert set(table.loc[table["k"] == 10, "kind"]) == {"first", "matched", "random"}


def test_scaling_by_nothing_is_zero_ablation(traced):
    ablation = ablation_of(traced, "gpt_neox")
    members = np.array([2, 5])
    table = intervention.scaling(ablation, {"some": members}, 0)
    assert len(table) == 2 * len(intervention.SETTINGS) * 3
    part = ablation.part(0)
    zero = ablate_group(part.readout, part.trace, members.tolist(), "zero")
    row = table[(table["factor"] == 0) & (table["half"] == "A") & (table["band"] == "rare")].iloc[0]
    np.testing.assert_allclose(row["net"], (part.weights[0] * zero).sum() / part.weights[0].sum())


def scaled(values: dict[tuple[str, float, str], float]) -> pd.DataFrame:
    rows = [
        {"group": "g", "size": 3, "factor": f, "half": h, "band": b, "net": v, "low": v - 0.1, "high": v + 0.1}
        for (h, f, b), v in values.items()
    ]
    return pd.DataFrame(rows)


def test_the_best_setting_is_chosen_on_a_and_reported_on_b():
    values = {("A", 0.5, "rare"): -1.0, ("A", 0.5, "common"): -0.1, ("A", 2.0, "rare"): -3.0, ("A", 2.0, "common"): 0.1}
    values |= {
        ("B", 0.5, "rare"): -0.5,
        ("B", 0.5, "common"): 0.01,
        ("B", 2.0, "rare"): -3.0,
        ("B", 2.0, "common"): -1.0,
    }
    row = intervention.best_setting(scaled(values)).iloc[0]
    assert row["factor"] == 0.5  # 2 lowers the loss on rare targets more, but raises it on common ones
    assert row["rare"] == -0.5
    assert row["holds"]
    worse = values | {("B", 0.5, "common"): 0.2}
    assert not intervention.best_setting(scaled(values), scaled(worse)).iloc[0]["holds"]
    none = {k: abs(v) for k, v in values.items()}
    row = intervention.best_setting(scaled(none)).iloc[0]
    assert row["factor"] == 1
    assert not row["holds"]


def test_control_groups_are_averaged_and_have_no_interval():
    rows = [("first", 0, 1.0), ("random", 0, 2.0), ("random", 1, 4.0)]
    table = pd.DataFrame(
        [{"k": 3, "kind": k, "draw": d, "band": "rare", "net": n, "low": n - 1, "high": n + 1} for k, d, n in rows]
    )
    curves = intervention.pruning_curves(table).set_index("kind")
    assert curves["net"].to_dict() == {"first": 1.0, "random": 3.0}
    assert curves.loc["first", ["low", "high"]].tolist() == [0.0, 2.0]
    assert curves.loc["random", ["low", "high"]].isna().all()

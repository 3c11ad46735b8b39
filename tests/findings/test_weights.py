"""Weight tables: planted tails are placed beyond their controls, Gaussian rows are not, and growth is when they
leave.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from raretok.errors import NotApplicable
from raretok.findings import weights
from raretok.findings.groups import Group
from raretok.model.load import load_model

GROUP = np.arange(24)
GROUPS = {"controlled": Group("B", GROUP, GROUP), "published": Group("all", np.arange(10, 40), np.arange(10, 40))}


def rows_of(shared=0.0, neurons=300, columns=64, seed=0):
    """Gaussian rows; those of the first 24 share a few directions of Pareto size."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((neurons, columns))
    spikes = rng.pareto(1.5, 6) + 1
    w[GROUP] += shared * rng.standard_normal((24, 6)) @ (np.sqrt(spikes)[:, None] * rng.standard_normal((6, columns)))
    return w


def matching_of(w):
    return pd.DataFrame({"log norm": np.log(np.linalg.norm(w, axis=1))})


def test_shared_heavy_directions_lie_beyond_every_null():
    w = rows_of(0.4)
    table = weights.group_tails({"W_out": w}, GROUPS, matching_of(w), 0, 200)
    row = table[table["group"] == "controlled"].set_index("statistic")
    assert row.loc["hill", ["random", "matched", "gaussian"]].max() <= 0.02
    assert row.loc["stable_rank", ["random", "matched", "gaussian"]].max() <= 0.02
    assert row.loc["mp_distance", ["random", "matched", "gaussian"]].min() >= 0.98
    assert (table["size"] == table["group"].map({"controlled": 24, "published": 30})).all()


def test_gaussian_rows_lie_among_their_nulls():
    places = []
    for seed in range(24):
        w = rows_of(seed=seed)
        table = weights.group_tails({"W_out": w}, {"controlled": GROUPS["controlled"]}, matching_of(w), seed, 80)
        places.append(table.set_index("statistic").loc["hill", ["random", "matched", "gaussian"]].astype(float))
    assert (np.array(places) <= 0.05).mean(0).max() <= 0.2
    assert np.array(places).mean(0) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("places", "first", "start"),
    [([0.5, 0.04, 0.3, 0.01, 0.02], 8, False), ([0.01, 0.5, 0.9, 0.9, 0.9], np.nan, True), ([0.01] * 5, 0, True)],
)
def test_growth_is_the_step_since_which_the_tail_is_heavier(places, first, start):
    table = pd.DataFrame(
        {"group": "controlled", "matrix": "W_out", "statistic": "hill", "step": [0, 2, 4, 8, 16], "random": 0.01}
        | {"estimate": [5.0, 4, 3, 2, 1], "matched": places, "gaussian": 0.0, "imbalance": 0.1}
    )
    [row] = weights.growth(table).to_dict("records")
    assert row["first_step"] == pytest.approx(first, nan_ok=True)
    assert row["outside_at_start"] == start
    assert (row["start"], row["end"], row["steps"]) == (5.0, 1.0, 5)
    assert (row["imbalance_at_start"], row["last_step"]) == (0.1, 16)


def test_growth_needs_a_checkpoint_before_training():
    table = pd.DataFrame({"group": "controlled", "matrix": "W_out", "statistic": "hill", "step": [2, 4]})
    with pytest.raises(NotApplicable, match="no checkpoint before training"):
        weights.growth(table)


def test_the_hill_plot_reaches_the_headline():
    w = rows_of(0.4)
    table = weights.hill_plot({"W_out": w}, GROUPS, matching_of(w), 0, "controlled", 60).set_index("k")
    own = weights.group_tails({"W_out": w}, {"controlled": GROUPS["controlled"]}, matching_of(w), 0, 60)
    assert table.loc[12, "estimate"] == pytest.approx(own.set_index("statistic").loc["hill", "estimate"])
    assert table.index.min() == 1
    assert table.index.max() == 23
    assert (table["matched_low"] <= table["matched_high"]).all()


def test_layers_densities_and_rows():
    w = rows_of()
    layer = weights.layer_spectra({"W_out": w}).iloc[0]
    assert (layer["rows"], layer["columns"]) == (300, 64)
    density = weights.densities({"W_out": w})
    assert density["share"].sum() == pytest.approx(1, abs=0.02)
    assert density["bulk"].sum() == pytest.approx(1, abs=0.05)
    table = weights.rows_of({"W": np.array([[1.0, 0, 0, 0], [1, 1, 1, 1]])})
    assert table["norm"].tolist() == [1, 2]
    assert table["participation"].tolist() == [1, 0.25]
    normal = weights.rows_of({"W": np.random.default_rng(0).standard_normal((400, 500))})
    assert normal["kurtosis"].mean() == pytest.approx(0, abs=0.05)


def test_localised_rows_lie_above_their_control_groups_and_plain_ones_among_them():
    w = rows_of()
    matching = matching_of(w)
    localised = w.copy()
    localised[GROUP, 0] = 30.0
    localised[GROUP] *= np.linalg.norm(w[GROUP], axis=1, keepdims=True) / np.linalg.norm(
        localised[GROUP], axis=1, keepdims=True
    )
    table = weights.row_tails({"W_out": localised}, GROUPS, matching, 0, 200)
    row = table[table["group"] == "controlled"].set_index("statistic")
    assert set(row.index) == {"kurtosis", "participation"}
    assert row[["random", "matched"]].to_numpy(dtype=float).min() >= 0.98
    by_hand = (localised[GROUP] ** 4).sum(1) / (localised[GROUP] ** 2).sum(1) ** 2
    assert row.loc["participation", "estimate"] == pytest.approx(by_hand.mean())
    places = []
    for seed in range(24):
        plain = rows_of(seed=seed)
        found = weights.row_tails({"W_out": plain}, {"controlled": GROUPS["controlled"]}, matching_of(plain), seed, 80)
        places.append(found[["random", "matched"]].to_numpy(dtype=float))
    assert np.mean(np.array(places) >= 0.95, axis=0).max() <= 0.25
    assert np.mean(places, axis=0) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [
        ("gpt2", {"W_in": "c_fc"}),
        ("gpt_neox", {"W_in": "dense_h_to_4h"}),
        ("llama", {"W_up": "up_proj", "W_gate": "gate_proj"}),
    ],
)
def test_input_weights_are_what_the_neurons_read(models, architecture, layers):
    model = load_model(str(models[architecture]), device="cpu")
    assert set(model.inputs) == set(layers)
    x = torch.randn(5, model.readout.w_out.shape[1])
    last = [m for n, m in model.network.named_modules() if n.endswith(".mlp")][-1]
    for name, layer in layers.items():
        module = getattr(last, layer)
        assert torch.allclose(x @ model.inputs[name].T, module(x) - module(x * 0), atol=1e-5)

"""The table of all neurons as a file, and as cards."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from raretok import RaretokError, Study
from raretok.charts import neuron_cards as charts
from raretok.cli import app
from raretok.cli.export import FORMATS, write_neurons

TABLE = pd.DataFrame(
    {"neuron": [0, 1], "direction": ["boost", "suppress"], "s": [0.25, np.nan], "controlled": [True, False]}
)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_holds_the_table(tmp_path, suffix):
    path = tmp_path / f"neurons{suffix}"
    write_neurons(TABLE, path, {"model": "m"})
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix == ".csv":
        pd.testing.assert_frame_equal(pd.read_csv(path), TABLE)
    elif suffix == ".json":
        found = json.loads(path.read_text())
        assert found["about"] == {"model": "m"}
        assert found["neurons"][1] == {"neuron": 1, "direction": "suppress", "s": None, "controlled": False}
    else:
        with safe_open(path, "numpy") as file:
            assert file.metadata() == {"model": "m"}
            assert file.get_tensor("direction").tolist() == [1, -1]
            assert file.get_tensor("controlled").tolist() == [True, False]


def test_wrong_names_say_what_to_do(tmp_path):
    with pytest.raises(RaretokError, match=r"\.csv, \.json, \.safetensors"):
        write_neurons(TABLE, tmp_path / "neurons.xlsx", {})
    with pytest.raises(RaretokError, match="does not exist"):
        write_neurons(TABLE, tmp_path / "nowhere" / "neurons.csv", {})


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_place_that_cannot_be_written_is_told(suffix):
    with pytest.raises(RaretokError, match="cannot be written"):
        write_neurons(TABLE, Path("/proc") / f"neurons{suffix}", {})  # where not even root can make a file


@pytest.fixture(scope="module")
def tiny(models, corpus_file, tmp_path_factory):
    return {"model": str(models["gpt_neox"]), "corpus": str(corpus_file), "windows": 120, "length": 64, "sample": 300}


def test_the_command_writes_every_neuron(tiny, tmp_path):
    out = tmp_path / "neurons.csv"
    options = [x for k, v in tiny.items() if k != "model" for x in (f"--{k}", str(v))]
    result = CliRunner().invoke(app, ["export", tiny["model"], *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out)
    assert table["neuron"].tolist() == list(range(96))
    assert {"s_b", "rare", "rare_low", "matched", "scale_share", "entropy_neuron", "published"} <= set(table)


def test_cards_are_complete_and_escape_what_is_in_the_text(tiny):
    facts = Study(**tiny).get("neuron_cards.cards", most=5)
    facts["contexts"] = facts["contexts"].assign(before="<script>alert(1)</script>")
    page = charts.cards(facts, "cell").data
    assert page.count("<details>") == 5
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for neuron in facts["neurons"]["neuron"]:
        assert f'id="cell-{neuron}"' in page
    assert charts.link(7) == '<a href="neuron_cards.html#neuron-7">7</a>'


def test_partners_are_those_whose_activations_go_along():
    from raretok.findings.groups import Activity
    from raretok.findings.neuron_cards import partners

    rng = np.random.default_rng(0)
    a = rng.standard_normal((200, 6))
    a[:, 3] = -a[:, 0] + 0.1 * a[:, 3]
    a[:, 5] = 0
    activity = Activity(a, {"rare": np.ones(200)}, np.zeros(200, dtype=int), np.zeros(200, dtype=int))
    table = partners(activity, [0], most=2)
    assert table["partner"].iloc[0] == 3
    assert table["r"].iloc[0] < -0.9
    assert len(table) == 2

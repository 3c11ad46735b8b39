"""Numbers of the chapter on the last layer, against the layers and the checks."""

import numpy as np
import pandas as pd
import pytest

from raretok import Study
from raretok.book.facts import layers


def test_the_numbers_are_those_of_the_last_layer_and_the_checks(study):
    numbers = layers.facts(study)
    assert all(type(text) is str for text in numbers.values())
    energy = np.maximum(study.table("layers.layer_effects")["energy"], 0).tolist()
    assert numbers["layers"] == str(len(energy))
    assert numbers["last_share"] == f"{energy[-1] / sum(energy):.0%}"
    checks = study.table("layers.layer_checks")
    assert numbers["checked"] == str(len(checks))
    assert numbers["checks_r"] == f"{np.corrcoef(checks['screened'], checks['ablated'])[0, 1]:.3f}"


@pytest.mark.parametrize(("energy", "rank"), [((1.0, 3.0), "more than any other"), ((3.0, 1.0), "layer 0 more: 75%")])
def test_the_last_layer_is_set_beside_the_one_that_holds_most(study, monkeypatch, energy, rank):
    share = [e / sum(energy) for e in energy]
    layers_of = pd.DataFrame({"layer": [0, 1], "energy": energy, "share": share, "above": 0.5, "documents": 9})
    monkeypatch.setattr(Study, "table", lambda _, name: layers_of)
    assert layers.layer_facts(study)["last_rank"] == rank


def test_a_share_of_nothing_is_none(study, monkeypatch):
    nothing = pd.DataFrame({"layer": [0, 1], "energy": -1.0, "share": np.nan, "above": 0.5, "documents": 9})
    monkeypatch.setattr(Study, "table", lambda _, name: nothing)
    assert layers.layer_facts(study)["last_share"] == "none"

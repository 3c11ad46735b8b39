"""Numbers of the chapter on neuron types, against the neurons."""

import numpy as np

from raretok import Study
from raretok.book.facts import neuron_types


def test_the_numbers_are_those_of_the_neurons(study):
    numbers = neuron_types.facts(study)
    assert all(type(text) is str for text in numbers.values())
    types, neurons = study.table("neuron_types.neuron_types"), study.table("identification.rare_token_neurons")
    rare = set(np.flatnonzero(neurons["controlled"]))
    of_kind = set(np.flatnonzero(types["entropy_neuron"] | types["frequency_neuron"]))
    assert numbers["size"] == str(len(rare))
    assert numbers["both"] == str(len(rare & of_kind))
    assert numbers["expected"] == f"{len(rare) * len(of_kind) / len(types):.1f}"
    assert numbers["middle_scale"] == f"{np.median(types['scale_share']):.1%}"


def test_without_controlled_neurons_nothing_remains(study, monkeypatch):
    shares = study.table("neuron_types.direct_effect_share")
    monkeypatch.setattr(Study, "table", lambda _, name: shares[shares["group"] != "controlled"])
    numbers = neuron_types._remaining(study)
    assert numbers["frozen_scale_remains"] == numbers["frozen_frequency_remains"] == "–"
    assert "there are no controlled rare-token neurons" in numbers["remains"]

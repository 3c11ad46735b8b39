"""Neurons that Stolfo et al. (2024) list are found by the criteria; only where the weights are on this machine
(`raretok fetch gpt2`).
"""

import pytest

from raretok import Study
from raretok.model.load import is_here
from raretok.model.registry import MODELS

ENTROPY = {"gpt2": (584, 2378, 2870, 2123, 1611, 2910), "pythia-410m": (1829, 1332, 2455, 3562, 2756, 2362)}
FREQUENCY = {"pythia-410m": (87, 417, 730, 2017, 3412)}


def kinds(name: str):
    if not is_here(MODELS[name]):
        pytest.skip(f"not run: {name} is not on this machine, `raretok fetch {name}` gets it")
    return Study(model=name, windows=128).table("neuron_types.neuron_types").set_index("neuron")


@pytest.mark.hub
@pytest.mark.parametrize("name", ENTROPY)
def test_listed_entropy_neurons_stand_out(name):
    table = kinds(name).loc[list(ENTROPY[name])]
    everything = kinds(name)
    assert (table["norm"] > everything["norm"].quantile(0.9)).mean() >= 0.8
    assert (table["logit_variance"] < everything["logit_variance"].quantile(0.1)).mean() >= 0.8
    assert table["scale_share"].median() > everything["scale_share"].quantile(0.95)


@pytest.mark.hub
@pytest.mark.parametrize("name", FREQUENCY)
def test_listed_token_frequency_neurons_stand_out(name):
    table = kinds(name).loc[list(FREQUENCY[name])]
    everything = kinds(name)
    assert (table["divergence_size"] > everything["divergence_size"].quantile(0.9)).mean() >= 0.8
    assert table["frequency_share"].median() > everything["frequency_share"].quantile(0.95)

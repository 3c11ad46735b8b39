"""The numbers of the chapter on identification, counted again from the tables."""

import numpy as np
import pytest

from raretok.book.facts import identification
from raretok.findings.identification import leading


def test_the_numbers_are_those_of_the_tables(study):
    facts = identification.facts(study)
    assert all(isinstance(text, str) for text in facts.values())
    found, effects = study.table("identification.rare_token_neurons"), study.table("identification.effects")
    controlled, published = (set(found.loc[found[c], "neuron"]) for c in ("controlled", "published"))
    assert facts["neurons"] == str(study.inputs.model.readout.neurons)
    assert facts["controlled"] == str(len(controlled))
    assert facts["published"] == str(len(published))
    assert facts["both"] == str(len(controlled & published))
    assert facts["either"] == str(len(controlled | published))
    rare = effects[effects["band"] == "rare"].sort_values("net_a", key=np.abs, ascending=False)
    size = rare["net_b"].abs().to_numpy()
    assert facts["head_share"] == f"{100 * size[: int(facts['head'])].sum() / size.sum():.0f}%"
    hooked = study.table("checks.hooked", neurons=tuple(leading(found)[:3]))
    assert facts["hooked_pairs"] == str(len(hooked))
    assert float(facts["hooked_worst"]) == pytest.approx((hooked["engine"] - hooked["hooked"]).abs().max(), rel=0.5)


def test_the_leading_neurons_are_controlled_ones_or_the_clearest(study):
    found = study.table("identification.rare_token_neurons")
    some = found.assign(controlled=found["neuron"].isin([3, 7, 11]), s_a=-found["neuron"].astype(float))
    assert leading(some) == [11, 7, 3]
    assert leading(some, 2) == [11, 7]
    none = found.assign(controlled=False, q=found["neuron"].rsub(1000) / 1000)
    assert leading(none) == sorted(found["neuron"], reverse=True)[:3]

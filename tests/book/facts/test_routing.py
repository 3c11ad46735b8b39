"""Numbers of the chapter on attention heads, against the heads themselves."""

import numpy as np
from scipy import stats

from raretok.book.facts import routing


def test_the_numbers_are_those_of_the_heads(study):
    numbers = routing.facts(study)
    assert all(type(text) is str for text in numbers.values())
    heads = study.table("routing.heads")
    strongest = max(heads.to_dict("records"), key=lambda head: head["rare"])
    assert numbers["strongest_head"] == f"head {strongest['head']} of layer {strongest['layer']}"
    assert numbers["strongest_influence"] == f"{strongest['rare']:.2f}"
    assert numbers["same_order"] == f"{stats.spearmanr(heads['rare'], heads['common']).statistic:.2f}"
    effects, members = study.get("routing.head_effects"), study.get("groups.neuron_sets")
    assert numbers["heads"] == str(len(effects.heads))
    assert numbers["size"] in {str(len(group.ids)) for group in members.values()}


def test_a_layer_is_set_beside_its_strongest_head_at_rare_targets(study):
    layers = study.table("routing.whole_layers").query("band == 'rare'")
    ratios = [whole / strongest for whole, strongest in zip(layers["whole"], layers["strongest"], strict=True)]
    assert routing.head_facts(study)["layer_ratio"] == f"{np.median(ratios):.1f}"

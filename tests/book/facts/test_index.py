"""Facts of the front page against the tables of a study."""

import numpy as np
import pytest

from raretok import Study
from raretok.book.facts import index


@pytest.fixture(scope="module")
def study(models, corpus_file, tmp_path_factory):
    settings = {"windows": 120, "length": 64, "sample": 300, "device": "cpu"}
    store = tmp_path_factory.mktemp("store")
    return Study(model=str(models["llama"]), corpus=str(corpus_file), store=store, **settings)


def test_facts_are_texts_and_those_of_the_tables(study):
    numbers = index.facts(study)
    assert all(isinstance(value, str) for value in numbers.values())
    neurons = study.table("identification.rare_token_neurons")
    controlled = (neurons["q"] <= 0.05) & (np.sign(neurons["s_a"]) == np.sign(neurons["s_b"]))
    assert numbers["neurons"] == "80"
    assert numbers["controlled"] == str(controlled.sum())
    assert int(numbers["boost"]) + int(numbers["suppress"]) == controlled.sum()
    assert numbers["both"] == str((controlled & neurons["published"]).sum())
    assert numbers["published"] == str(neurons["published"].sum())
    verdicts = study.claims()["verdict"]
    assert int(numbers["judged"]) == (verdicts != "not applicable").sum()
    assert int(numbers["judged"]) + int(numbers["not_applicable"]) == len(verdicts)
    names = ("supported", "not_supported", "null", "inconclusive")
    assert sum(int(numbers[name]) for name in names) == int(numbers["judged"])

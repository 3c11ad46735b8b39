"""Facts of the chapter on weights against the tables that they come from."""

import numpy as np
import pytest
from scipy import stats

from raretok.book.facts import weights
from raretok.charts import weights as charts


@pytest.fixture(scope="module")
def numbers(study):
    return weights.facts(study)


def test_every_fact_is_a_text(numbers):
    assert all(isinstance(value, str) for value in numbers.values())


def test_rank_correlations_are_those_of_the_weights(study, numbers):
    w = study.get("effects.mlp_weights")["W_out"].astype(float)
    size = study.identification.rare_token_neurons()["s"].abs()
    kinds = {"norm": np.linalg.norm(w, axis=1), "excess kurtosis": stats.kurtosis(w, axis=1)}
    for name, values in kinds.items():
        assert f"{name} {stats.spearmanr(values, size).statistic:+.2f}" in numbers["row_correlations"]


def test_the_layer_is_described_by_its_shape_and_spikes(study, numbers):
    w = study.get("effects.mlp_weights")["W_out"]
    assert numbers["layer_matrix"] == "W_out"
    assert numbers["layer_eigenvalues"] == str(min(w.shape))
    assert numbers["d_model"] == str(w.shape[1])
    assert int(numbers["k"]) == int(numbers["size"]) // 2


def test_a_model_without_checkpoints_tells_nothing_about_training(study, numbers):
    assert numbers["C14_verdict"] == "not applicable"
    assert numbers["W_out_start"] == numbers["W_in_end"] == numbers["trained"] == "–"


def test_charts_print_the_facts(study, numbers):
    rows, neurons = study.weights.rows_of(), study.identification.rare_token_neurons()
    title = charts.rows_against_effect(rows, neurons, numbers).to_dict()["title"]["text"]
    assert title.endswith(numbers["row_correlations"])
    title = charts.spectrum(study.weights.densities(), numbers).to_dict()["title"]["text"]
    assert title.startswith(f"{numbers['layer_spikes']} of {numbers['layer_eigenvalues']} eigenvalues")


def test_tables_of_the_chapter_show_every_row(study, numbers):
    tails = study.weights.group_tails()
    shown = (tails["group"] == numbers["group"]).sum()
    assert charts.null_table(tails, numbers["group"]).to_html().count("<tr>") == 1 + shown > 1
    published = tails["group"].str.startswith("published") & (tails["statistic"] == "hill")
    assert charts.published_table(tails).to_html().count("<tr>") == 1 + published.sum() > 1
    assert charts.layer_table(study.weights.layer_spectra()).to_html().count("<tr>") == 3

"""Facts of the chapter on co-activation against the tables that they come from."""

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from raretok import Study
from raretok.book.facts import coactivation
from raretok.charts import coactivation as charts
from raretok.claims.wording import number
from raretok.findings.groups import headline

SETTINGS = {"windows": 120, "length": 64, "sample": 300, "device": "cpu"}


@pytest.fixture(scope="module")
def study(models, corpus_file, tmp_path_factory):
    """Of a model with so many neurons that the published group, which has 66, is less than half of them."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copytree(models["gpt_neox"], folder, dirs_exist_ok=True)
    config = AutoConfig.from_pretrained(folder)
    config.intermediate_size = 192
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(float(parameter.ndim == 1), 0.3)
    model.save_pretrained(folder)
    store = tmp_path_factory.mktemp("store")
    return Study(model=str(folder), corpus=str(corpus_file), store=store, **SETTINGS)


@pytest.fixture(scope="module")
def other(study):
    """The same model on other windows."""
    return Study(model=study.settings.model, corpus=study.settings.corpus, store=study.store, **SETTINGS | {"seed": 1})


@pytest.fixture(scope="module")
def numbers(study):
    return coactivation.facts(study)


def test_every_fact_is_a_text(numbers):
    assert all(isinstance(value, str) for value in numbers.values())


def test_what_remains_of_a_correlation_is_that_of_permuted_activations(study, numbers):
    sets, activity = study.get("groups.neuron_sets"), study.get("groups.activity")
    weight = activity.of("rare", "all")
    rows = np.flatnonzero(weight)
    own = activity.activation[np.ix_(rows, sets["published"].ids)]
    lengths = np.sqrt(np.average(own**2, axis=0, weights=weight[rows]))
    cosine = (own * weight[rows, None]).T @ own / weight.sum() / np.outer(lengths, lengths)
    upper = np.triu_indices(len(cosine), 1)
    assert f"observed {cosine[upper].mean():+.3f}" in numbers["cosines"]
    assert abs(float(numbers["r_permuted"])) < 0.02


def test_pairs_are_counted_and_averaged(study, numbers):
    sets, activity = study.get("groups.neuron_sets"), study.get("groups.activity")
    group = sets[headline(sets)]
    weight = activity.of("rare", group.part)
    members = study.get("coactivation.largest")
    correlation = np.cov(activity.activation[:, members], rowvar=False, aweights=weight, ddof=0)
    scale = np.sqrt(np.diag(correlation))
    r = (correlation / np.outer(scale, scale))[np.triu_indices(len(members), 1)]
    strongest = r[np.argsort(-np.abs(r))][: charts.LINKS]
    assert float(numbers["pairs_r"]) == pytest.approx(r.mean(), abs=0.006)
    assert int(numbers["shown"]) == len(members)
    assert int(numbers["links"]) == len(strongest)
    assert int(numbers["links_positive"]) == (strongest > 0).sum()


def test_contexts_and_clusters_are_those_of_the_tables(study, numbers):
    group = numbers["group"]
    row = study.coactivation.by_context().set_index(["group", "statistic"]).loc[(group, "within_r")]
    rare, matched = number(row["rare"]), number(row["matched"])
    assert numbers["within_r_contexts"].startswith(f"{rare} at rare targets and {matched} at")
    clusters = study.coactivation.clusters().set_index(["group", "resolution"])
    assert numbers["q"] == f"{clusters.loc[(group, 1.0), 'q']:.3f}"


def test_a_model_without_checkpoints_can_be_compared_with(study, other, numbers):
    assert numbers["compare"] == "–"
    both = coactivation.facts(study, other)
    observed = other.coactivation.permuted_activations().set_index("statistic").loc["cosine", "observed"]
    assert both["compare"] == other.settings.model
    assert f"observed {observed:+.3f}" in both["cosines"]
    assert {both[f"{name}_at_end"] for name in charts.FOLLOWED} == {"–"}


def test_charts_print_the_facts(study, numbers):
    pairs = study.table("coactivation.pairs")
    assert f"mean {numbers['pairs_r']}, in" in charts.heat_map(pairs, numbers).to_dict()["title"]["text"]
    title = charts.network(pairs, numbers).to_dict()["title"]
    assert title["text"].startswith(f"{numbers['links_positive']} of the {numbers['links']} strongest")


def test_tables_of_the_chapter_show_every_row(study, numbers):
    contexts = study.coactivation.by_context()
    shown = (contexts["group"] == numbers["group"]).sum()
    assert charts.context_table(contexts, numbers["group"]).to_html().count("<tr>") == 1 + shown > 1
    assert charts.published_table(study.coactivation.statistics()).to_html().count("<tr>") > 1
    clusters = study.coactivation.clusters()
    assert charts.cluster_table(clusters).to_html().count("<tr>") == 1 + len(clusters)

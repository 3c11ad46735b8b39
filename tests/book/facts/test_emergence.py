"""Facts of the chapters on training against the tables that they come from, on a run of three checkpoints."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import VOCAB
from scipy import stats
from transformers import AutoConfig, AutoModelForCausalLM

from raretok import Study
from raretok.book.facts import emergence, weights
from raretok.charts import emergence as charts
from raretok.charts import weights as weight_charts
from raretok.errors import NotApplicable

STEPS = (0, 4, 8)


@pytest.fixture(scope="module")
def study(models, corpus_file, tmp_path_factory):
    """One random model on its way to another; so wide that the published group is less than half of it."""
    run = tmp_path_factory.mktemp("run")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(models["gpt_neox"] / name, run)
    (run / "counts.json").write_text(json.dumps(np.arange(1, VOCAB + 1).tolist()))
    config = AutoConfig.from_pretrained(models["gpt_neox"])
    config.intermediate_size = 192
    for step in STEPS:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(float(parameter.ndim == 1), 0.3)
                parameter.add_(step / STEPS[-1] * 0.1 * torch.randn_like(parameter))
        model.save_pretrained(run / f"step{step}")
    settings = {"windows": 120, "length": 64, "sample": 300, "device": "cpu"}
    return Study(model=str(run), corpus=str(corpus_file), store=tmp_path_factory.mktemp("store"), **settings)


@pytest.fixture(scope="module")
def numbers(study):
    return emergence.facts(study)


def test_every_fact_is_a_text(numbers):
    assert all(isinstance(value, str) for value in numbers.values())
    assert numbers["checkpoints"] == "3"
    assert numbers["seeds"] == "1"
    assert numbers["larger"] == ""


def test_leaders_settle_where_half_of_them_lead(study, numbers):
    net = {step: study.at(step).identification.effects().query("band == 'rare'")["net"].abs() for step in STEPS}
    leaders = {step: set(values.reset_index(drop=True).nlargest(33).index) for step, values in net.items()}
    half = [step for step in STEPS if len(leaders[step] & leaders[STEPS[-1]]) >= 33 / 2]
    assert numbers["settled"] == str(half[0])


def test_reliability_is_that_of_the_first_and_the_last_checkpoint(study, numbers):
    for name, step in (("start", 0), ("end", 8)):
        row = study.at(step).identification.reliability().set_index("band").loc["rare"]
        assert numbers[name] == f"{row['reliability']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def test_neurons_that_do_not_last_count_among_those_whose_middle_is_told(study, numbers):
    since = study.emergence.onsets()["since"]
    assert numbers["final"] == str(len(since))
    assert numbers["never"] == str(since.isna().sum())
    later = np.sort(since.fillna(np.inf))
    if len(since) and np.isfinite(middle := later[int(np.ceil((len(later) - 1) / 2))]):
        assert numbers["since"] == f"{middle:,.0f}"
    else:
        assert numbers["since"] == "none"


def test_checkpoints_that_are_left_out_are_named_with_their_reason(study, monkeypatch):
    of_neurons = study.over_training("identification.rare_token_neurons")
    of_neurons.attrs["skipped"] = {16: "no controls", 0: "no rare targets"}
    given = study.over_training

    def over_training(wanted, **parameters):
        return of_neurons if wanted == "identification.rare_token_neurons" else given(wanted, **parameters)

    monkeypatch.setattr(study, "over_training", over_training)
    assert emergence.facts(study)["without"] == "step 0 (no rare targets); step 16 (no controls)"


def test_verdicts_are_given_at_every_step(study, numbers):
    verdicts = emergence.verdicts(study)
    of = verdicts.set_index(["step", "id"])["verdict"]
    assert sorted(set(verdicts["step"])) == list(STEPS)
    assert of[(0, "C7")] == "not applicable"
    assert of[(8, "C7")] == numbers["C7_verdict"] != "not applicable"
    last = verdicts[verdicts["step"] == 8]["verdict"]
    assert numbers["supported"] == str((last == "supported").sum())
    assert numbers["judged"] == str((last != "not applicable").sum())
    assert charts.published_answers(verdicts).to_html().count("<tr>") == 1 + verdicts["id"].nunique()


def test_charts_print_the_facts(study, numbers):
    table = study.over_training("regimes.statistics").assign(seed=0)
    title = charts.statistic(table, "agreement", numbers).to_dict()["title"]["text"]
    assert title == f"Agreement of halves: {numbers['agreement_departure']}"
    title = charts.stability(study.emergence.stability(), numbers).to_dict()["title"]["text"]
    assert title.endswith(f"at step {numbers['settled']}")
    onsets = study.emergence.onsets()
    drawn = charts.onsets(onsets, list(STEPS), numbers).to_dict()
    assert numbers["since"] in drawn["title"]["text"] or numbers["final"] == "0"
    assert drawn["encoding"]["x"]["scale"]["domain"] == ["0", "4", "8"]


def test_steps_of_departure_read_as_text():
    shown = pd.DataFrame({"statistic": ["agreement", "gini"], "outside_at_start": [False, True]})
    text = charts.departure_table(shown.assign(first_step=[1024.0, np.nan], null=[0.01, 0.5])).to_html()
    assert "1,024" in text
    assert "none" in text


def test_a_model_without_checkpoints_says_so(models, corpus_file):
    with pytest.raises(NotApplicable, match="checkpoint"):
        emergence.facts(Study(model=str(models["gpt2"]), corpus=str(corpus_file), windows=120, length=64))


def test_weights_over_training_are_those_of_the_checkpoints(study):
    told = weights.facts(study, study)
    alphas = [study.at(step).weights.layer_spectra().set_index("matrix").loc["W_out", "alpha"] for step in (0, 8)]
    assert [told["layer_alpha_start"], told["layer_alpha_end"]] == [f"{alpha:.1f}" for alpha in alphas]
    layers = study.over_training("weights.layer_spectra")
    assert told["layer_alpha_end"] in weight_charts.layer_tails(layers, told).to_dict()["title"]["text"]
    w = study.at(8).get("effects.mlp_weights")["W_out"]
    sets = study.get("groups.neuron_sets")
    if "controlled" in sets:
        rows = w[sets["controlled"].ids].astype(float)
        table = study.weights.rows_over_training().query("step == 8 and group == 'controlled' and matrix == 'W_out'")
        estimates = table.set_index("statistic")["estimate"]
        assert estimates["kurtosis"] == pytest.approx(stats.kurtosis(rows, axis=1).mean(), rel=1e-4)
        assert told["W_out_kurtosis_at_end"] == f"{table.set_index('statistic').loc['kurtosis', 'matched']:.0%}"
    else:
        assert told["W_out_start"] == "–"

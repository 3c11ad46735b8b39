"""The model that ships: complete, loadable at every step, better than n-grams, and English."""

from dataclasses import replace

import numpy as np
import pytest

from raretok import RaretokError, Study
from raretok.data.text import load_corpus
from raretok.model.load import load_model, load_tokenizer
from raretok.model.registry import MODELS, find_model
from raretok.repository import MODELS as SHIPPED
from raretok.shipped import trajectory
from raretok.shipped.recipes import RECIPES
from raretok.shipped.training import stream

NAME = "reviews-neox"


def test_every_checkpoint_loads_and_its_readout_is_right():
    entry = find_model(NAME)
    assert len(entry.steps) >= 12
    assert entry.steps[0] == 0
    assert entry.steps[-1] == RECIPES[NAME].steps
    for step in entry.steps:
        model = load_model(NAME, step, "cpu")
        assert model.readout_error < 1e-4
        assert model.readout.neurons == RECIPES[NAME].d_mlp
    with pytest.raises(RaretokError, match=r"reviews-neox has no step 3: choose one of 0, "):
        load_model(NAME, 3, "cpu")


@pytest.mark.parametrize("seed", [1, 2])
def test_another_seed_is_another_model_of_the_same_kind(seed):
    other = f"{NAME}-seed{seed}"
    assert find_model(other).steps == (RECIPES[NAME].steps,)
    model, first = load_model(other, None, "cpu"), load_model(NAME, None, "cpu")
    assert model.readout_error < 1e-4
    assert model.readout.w_out.shape == first.readout.w_out.shape
    assert (model.readout.w_out - first.readout.w_out).abs().mean() > 0.01
    held_out = trajectory.loss_table(other).set_index("text").loc["held out", "loss"]
    own = trajectory.loss_table(NAME).set_index("text").loc["held out", "loss"]
    assert held_out.iloc[-1] == pytest.approx(own.iloc[-1], abs=0.05)


def test_the_second_family_is_complete_and_better_than_n_grams():
    name = "reviews-gpt2"
    recipe, model = RECIPES[name], load_model(name, None, "cpu")
    assert find_model(name).steps == (recipe.steps,)
    assert model.architecture == "gpt2"
    assert model.readout_error < 1e-4
    assert model.readout.neurons == recipe.d_mlp
    held_out = trajectory.loss_table(name).query("text == 'held out'").set_index("step")["loss"]
    baselines = trajectory.baseline_table(name).set_index("model")["loss"]
    assert held_out[recipe.steps] < baselines["trigram"] - 0.05


def test_results_of_the_other_seeds_are_of_every_statistic():
    for table in ("statistics", "reliability", "verdicts", "tails"):
        found = trajectory.seed_table(NAME, table)
        assert set(found["seed"]) == {1, 2}
        assert {0, 4096} <= set(found["step"])


def test_counts_are_those_of_the_training_text():
    study = Study(model=NAME, corpus="movie-reviews-heldout", device="cpu")
    ids = stream(load_tokenizer(NAME), "movie-reviews-train")
    assert (study.inputs.frequency.counts == np.bincount(ids, minlength=RECIPES[NAME].vocab)).all()


def test_its_folder_is_a_run_with_the_tokenizer_and_counts_of_all():
    by_path = Study(model=str(SHIPPED / NAME), step=512, corpus="movie-reviews-heldout", device="cpu")
    by_name = Study(model=NAME, step=512, corpus="movie-reviews-heldout", device="cpu")
    assert by_path.inputs.entry.kind == "run"
    assert by_path.inputs.weights == by_name.inputs.weights
    assert (by_path.inputs.frequency.counts == by_name.inputs.frequency.counts).all()


def test_held_out_text_is_held_out():
    train, held_out = (set(load_corpus(f"movie-reviews-{part}").documents) for part in ("train", "heldout"))
    assert not train & held_out
    assert train | held_out == set(load_corpus("movie-reviews").documents)
    assert len(held_out) == pytest.approx((len(train) + len(held_out)) / 10, abs=1)


def test_it_beats_every_n_gram_model_on_the_same_tokens():
    log, baselines = trajectory.loss_table(NAME), trajectory.baseline_table(NAME).set_index("model")["loss"]
    held_out = log[log["text"] == "held out"].set_index("step")["loss"]
    assert baselines["unigram"] > baselines["bigram"] > baselines["trigram"] > held_out.iloc[-1] + 0.1
    assert held_out.iloc[0] == pytest.approx(np.log(RECIPES[NAME].vocab), abs=0.1)


def test_the_model_card_says_what_was_measured():
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    rows = [(r.model, r.loss) for r in trajectory.baseline_table(NAME).itertuples()]
    shipped = [name for name, entry in MODELS.items() if entry.kind == "shipped"]
    rows += [(name, trajectory.loss_table(name).query("text == 'held out'")["loss"].iloc[-1]) for name in shipped]
    for name, loss in rows:
        assert f"| {name} | {loss:.3f} |" in card


def test_samples_are_seeded():
    one, two = (trajectory.sample_table(NAME, (64,), "The film is", tokens=5) for _ in range(2))
    assert one.equals(two)
    assert one["text"][0].startswith("The film is")


def test_results_of_other_seeds_are_found_beside_the_model(monkeypatch, tmp_path):
    assert trajectory.seed_table("smollm2-135m", "statistics").empty
    for seed in (1, 2):
        folder = tmp_path / "results" / f"{NAME}-seed{seed}"
        folder.mkdir(parents=True)
        (folder / "statistics.csv").write_text(f"step,estimate,seed\n0,0.5,{seed}\n8,0.7,{seed}\n")
    moved = replace(find_model(NAME), source=str(tmp_path / NAME))
    monkeypatch.setattr(trajectory, "find_model", lambda _: moved)
    table = trajectory.seed_table(NAME, "statistics")
    assert table["seed"].tolist() == [1, 1, 2, 2]
    assert trajectory.seed_table(NAME, "verdicts").empty


def test_other_models_have_no_log():
    with pytest.raises(RaretokError, match="smollm2-135m has no training log here: choose .* .reviews-neox."):
        trajectory.loss_table("smollm2-135m")


def test_it_ships_small():
    assert sum(p.stat().st_size for p in SHIPPED.rglob("*") if p.is_file()) < 100 * 2**20

"""A recipe trained in seconds: it learns, resumes after a kill exactly, and says what is wrong."""

import json
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raretok import RaretokError, Study
from raretok.measure.effects import effects as effects_of
from raretok.model.load import load_model
from raretok.shipped import training
from raretok.shipped.recipes import Recipe
from raretok.shipped.training import batch_at, train
from raretok.shipped.trajectory import write_results
from raretok.sweep.summary import identity

STEPS = 40
SMALL = {"vocab": 300, "d_model": 16, "layers": 1, "heads": 2, "d_mlp": 32, "context": 32, "batch": 4, "warmup": 4}


@pytest.fixture
def recipe(corpus_file, monkeypatch):
    made = Recipe(corpus=str(corpus_file), held_out=str(corpus_file), steps=STEPS, **SMALL)
    monkeypatch.setitem(training.RECIPES, "test", made)
    monkeypatch.setitem(training.RECIPES, "test-gpt2", made.model_copy(update={"architecture": "gpt2"}))
    monkeypatch.setattr(training, "STATE_EVERY", 7)
    return made


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ["test", "test-gpt2"])
def test_checkpoints_load_everywhere_and_the_model_learns(recipe, name, tmp_path):
    last = train(name, 0, tmp_path / "run", "cpu")
    assert last == tmp_path / "run" / f"step{STEPS}"
    steps = {int(p.name[4:]) for p in (tmp_path / "run").glob("step*")}
    assert steps == {0, 1, 2, 4, 8, 16, 32, STEPS}
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    held_out = {x["step"]: x["held_out"] for x in log if "held_out" in x}
    assert set(held_out) == steps
    assert held_out[0] == pytest.approx(np.log(recipe.vocab), abs=0.1)
    assert held_out[STEPS] < held_out[0] - 0.5
    model = AutoModelForCausalLM.from_pretrained(last, local_files_only=True)
    assert next(model.parameters()).dtype == torch.float16
    assert len(AutoTokenizer.from_pretrained(last.parent, local_files_only=True)) == recipe.vocab
    assert load_model(str(last), device="cpu").readout.vocab == recipe.vocab
    counts = json.loads((tmp_path / "run" / "counts.json").read_text())
    assert counts[0] == 200


def test_a_run_is_a_model_with_checkpoints_and_its_counts_are_the_frequencies(recipe, tmp_path, corpus_file):
    train("test", 0, tmp_path / "run", "cpu")
    settings = {
        "model": str(tmp_path / "run"),
        "corpus": str(corpus_file),
        "windows": 300,
        "length": 32,
        "device": "cpu",
    }
    study = Study(**settings)
    assert study.inputs.entry.steps == (0, 1, 2, 4, 8, 16, 32, STEPS)
    counts = json.loads((tmp_path / "run" / "counts.json").read_text())
    assert study.inputs.frequency.counts.tolist() == counts
    effects = study.over_training("identification.effects")
    assert set(effects["step"]) == set(study.inputs.entry.steps)
    assert study.at(STEPS).key(effects_of) == study.key(effects_of) != study.at(0).key(effects_of)
    write_results(study, 0, tmp_path / "results")
    for table in ("statistics", "reliability", "verdicts"):
        assert set(pd.read_csv(tmp_path / "results" / f"{table}.csv")["step"]) == set(study.inputs.entry.steps)
    manifest = json.loads((tmp_path / "results" / "manifest.json").read_text())
    assert manifest["weights"][str(STEPS)] == study.inputs.weights
    assert manifest["commands"][1].startswith("raretok emergence runs/run --corpus")
    with pytest.raises(RaretokError, match="run has no step 3: choose one of 0, 1, 2, 4"):
        _ = study.at(3).inputs.weights


def test_a_run_stopped_anywhere_goes_on_identically(recipe, tmp_path):
    train("test", 3, tmp_path / "whole", "cpu")
    for stop in (5, 7, 23, STEPS):
        train("test", 3, tmp_path / "parts", "cpu", stop=stop)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    train("test", 4, tmp_path / "other", "cpu")
    assert (
        contents(tmp_path / "other")["step40/model.safetensors"]
        != contents(tmp_path / "whole")["step40/model.safetensors"]
    )


POINTS = (
    ("_update", 6, "before"),
    ("save_file", 2, "before"),
    ("save_file", 3, "after"),
    ("_save_state", 2, "after"),
    ("_checkpoint", 1, "after"),
    ("_update", 9, "after"),
)
"""Functions of ``training``, and at which of their calls one run after the other is killed."""


def test_a_killed_run_goes_on_identically(recipe, corpus_file, tmp_path):
    """kill -9 at chosen points; no part of a checkpoint is ever seen under its name."""
    script = (
        "import os, signal, sys; from pathlib import Path; from raretok.shipped import training\n"
        f"training.RECIPES['test'] = training.Recipe.model_validate_json({recipe.model_dump_json()!r})\n"
        "training.STATE_EVERY = 7\n"
        "def fatal(name, number, after):\n"
        "    function, calls = getattr(training, name), []\n"
        "    def call(*arguments, **named):\n"
        "        calls.append(name)\n"
        "        if len(calls) == number and not after: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        found = function(*arguments, **named)\n"
        "        if len(calls) == number: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return found\n"
        "    setattr(training, name, call)\n"
        "if len(sys.argv) > 2: fatal(sys.argv[2], int(sys.argv[3]), sys.argv[4] == 'after')\n"
        "training.train('test', 0, Path(sys.argv[1]), 'cpu')\n"
    )
    command = [sys.executable, "-c", script]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    out = tmp_path / "killed"
    for name, number, moment in POINTS:
        done = subprocess.run([*command, str(out), name, str(number), moment], check=False)
        assert done.returncode == -signal.SIGKILL, (name, number, moment)
        for folder in out.glob("step*"):
            assert {p.name for p in folder.iterdir()} >= {"config.json", "model.safetensors"}
            AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    subprocess.run([*command, str(out)], check=True)
    whole, killed = contents(tmp_path / "whole"), contents(out)
    # What a killed process was writing stays beside, under a name with a dot that nothing reads.
    assert {k: v for k, v in killed.items() if not k.startswith(".")} == whole


def test_every_epoch_reads_the_text_once_and_anew(recipe):
    ids = np.arange(40 * 32 + 5, dtype=np.int32)
    per_epoch = (len(ids) // 32 - 1) * 32
    steps = (len(ids) // 32 - 1) // recipe.batch
    first = np.concatenate([batch_at(ids, recipe, 0, s)[:, :-1].ravel() for s in range(steps)])
    assert len(np.unique(first)) == len(first) > per_epoch - 4 * 32
    again = np.concatenate([batch_at(ids, recipe, 0, s)[:, :-1].ravel() for s in range(steps)])
    assert (first == again).all()
    assert (batch_at(ids, recipe, 1, 0) != batch_at(ids, recipe, 0, 0)).any()


def test_the_rate_rises_and_falls(recipe):
    rates = [recipe.rate(s) for s in range(STEPS + 1)]
    assert rates[: recipe.warmup] == sorted(rates[: recipe.warmup])
    assert max(rates) == pytest.approx(recipe.learning_rate)
    assert rates[recipe.warmup :] == sorted(rates[recipe.warmup :], reverse=True)
    assert rates[-1] == pytest.approx(recipe.learning_rate * recipe.least_rate)


def test_what_is_wrong_is_said(recipe, tmp_path, monkeypatch):
    with pytest.raises(RaretokError, match="unknown recipe 'nothing': known are reviews-neox"):
        train("nothing", 0, tmp_path, "cpu")
    train("test", 0, tmp_path / "run", "cpu", stop=2)
    with pytest.raises(RaretokError, match="holds a run of another recipe or seed"):
        train("test", 1, tmp_path / "run", "cpu")
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(RaretokError, match=r"state.safetensors is damaged .* delete it"):
        train("test", 0, tmp_path / "run", "cpu")

    def full(*_):
        raise OSError(28, "No space left on device")

    state.unlink()
    monkeypatch.setattr(training, "save_file", full)
    before = contents(tmp_path / "run")
    with pytest.raises(RaretokError, match="cannot be written .No space left on device.: what is there stays"):
        train("test", 0, tmp_path / "run", "cpu")
    assert {k: v for k, v in contents(tmp_path / "run").items() if k in before and k != "log.jsonl"} == {
        k: v for k, v in before.items() if k != "log.jsonl"
    }
    assert not list((tmp_path / "run").glob(".draft-*step*"))


def test_damaged_checkpoints_are_named(recipe, tmp_path):
    last = train("test", 0, tmp_path / "run", "cpu", stop=4)
    weights = last / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RaretokError, match=r"model.safetensors in .*step4 is damaged"):
        load_model(str(last), device="cpu")
    weights.write_bytes(whole)
    (last / "config.json").write_text("{")
    with pytest.raises(RaretokError, match="step4"):
        load_model(str(last), device="cpu")


def test_a_model_is_not_studied_on_its_own_training_text():
    with pytest.raises(RaretokError, match="trained on most of movie-reviews: use --corpus movie-reviews-heldout"):
        _ = Study(model="reviews-neox", corpus="movie-reviews").inputs.text.corpus


def test_tables_over_training_are_those_of_all_checkpoints(recipe, tmp_path, corpus_file):
    train("test", 0, tmp_path / "run", "cpu", stop=4)

    def digest():
        study = Study(model=str(tmp_path / "run"), step=2, corpus=str(corpus_file), windows=120, length=32)
        return study.inputs.weights, identity(study)["checkpoints"]

    before = digest()
    train("test", 0, tmp_path / "run", "cpu")
    after = digest()
    assert before[0] == after[0]
    assert before[1] != after[1]

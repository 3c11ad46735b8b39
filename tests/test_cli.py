import json
import subprocess
import sys

import pytest

from raretok.model.registry import MODELS


def raretok(*arguments, **environment):
    import os

    command = [sys.executable, "-c", "from raretok.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def test_help_names_every_command():
    done = raretok("--help")
    assert done.returncode == 0
    for command in (
        "models",
        "corpora",
        "fetch",
        "train",
        "measure",
        "neurons",
        "export",
        "claims",
        "emergence",
        "sweep",
        "report",
        "compare",
    ):
        assert command in done.stdout


def test_models_are_listed():
    rows = json.loads(raretok("models", "--json").stdout)
    assert [r["model"] for r in rows] == list(MODELS)
    here = {r["model"]: r for r in rows if r["here"] == "yes"}
    assert {"smollm2-135m", "reviews-neox"} <= set(here)
    assert here["reviews-neox"]["checkpoints"] == "12: 0–4096"


def test_corpora_are_listed():
    assert {"movie-reviews", "bbc-news"} <= {r["corpus"] for r in json.loads(raretok("corpora", "--json").stdout)}


def test_measure_then_neurons(models, corpus_file):
    study = [models["gpt2"], "--corpus", corpus_file, "--windows", 120, "--length", 64, "--sample", 300]
    done = raretok("measure", *study)
    assert done.returncode == 0, done.stderr
    assert "128 neurons" in done.stdout
    rows = json.loads(raretok("neurons", *study, "--top", 5, "--json").stdout)
    assert all(r["q on A"] <= 0.05 for r in rows)
    rows = json.loads(raretok("claims", *study, "--json").stdout)
    rank_curve, groups = (
        ["C1", "C2", "C3", "C4", "C5", "C6a", "C6b", "C8"],
        ["C9", "C10", "C11", "C12", "C13", "C15", "C17", "C18", "C19", "C20", "C21", "C22", "C23"],
    )
    assert [r["id"] for r in rows] == rank_curve + groups
    [compared] = json.loads(raretok("compare", "--json").stdout)[:1]
    assert (compared["study"], compared["id"]) == ("gpt2", "C1")
    assert "? inconclusive" in raretok("compare").stdout
    shown = raretok("claims", *study).stdout
    assert "C6b  the head departs from the power law: it lies above – " in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["measure", "nothing"], "unknown model 'nothing'"),
        (["measure", "--corpus", "nothing"], "unknown corpus 'nothing'"),
        (["measure", "pythia-70m", "--step", "3"], "has no step 3: choose one of 0, 1, 2"),
        (["measure", "pythia-70m"], "run `raretok fetch pythia-70m`"),
        (["compare"], "no studies in the results folder"),
        (["sweep", "nothing.yml"], "no file nothing.yml"),
        (["report", "--chapters", "nothing"], "no chapter nothing: choose from"),
        (["fetch"], "nothing to fetch"),
        (["train", "nothing"], "unknown recipe 'nothing': known are reviews-neox, reviews-gpt2, micro"),
        (["measure", "reviews-neox", "--step", "3"], "reviews-neox has no step 3: choose one of 0, 16, 32"),
        (["emergence"], "smollm2-135m has no checkpoints: `raretok models` lists models that have"),
        (["measure", "reviews-neox"], "use --corpus movie-reviews-heldout"),
    ],
)
def test_errors_are_one_line_and_nonzero(arguments, message):
    done = raretok(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("raretok: ")
    assert len(done.stderr.strip().splitlines()) == 1

import json
import os
import subprocess
import sys

import pytest

from raretok.claims import all_claims
from raretok.cli import main
from raretok.model.registry import MODELS


def raretok(*arguments, **environment):
    """The command in a process of its own; without compiling, which takes longer than what is compiled."""
    environment = {"TORCH_COMPILE_DISABLE": "1"} | environment
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
        "table",
        "neurons",
        "export",
        "claims",
        "explain",
        "store",
        "emergence",
        "sweep",
        "report",
        "compare",
        "doctor",
        "replicate",
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
    assert [r["id"] for r in rows] == [c.id for c in all_claims()]
    inapplicable = {r["id"]: r["why"] for r in rows if r["verdict"] == "not applicable"}
    assert set(inapplicable) == {"C7", "C14", "C16"}
    assert "no checkpoint" in inapplicable["C7"]
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
        (["emergence"], "smollm2-135m has no checkpoints"),
        (["claims", "--only", "C99"], "no claim C99: choose from C1, C2"),
        (["explain", "reviews-neox", "C99"], "no claim C99: choose from C1, C2"),
        (["table", "reviews-neox", "regimes.x"], "no table 'regimes.x': choose from regimes.statistics"),
        (["measure", "reviews-neox"], "use --corpus movie-reviews-heldout"),
    ],
)
def test_errors_are_one_line_and_nonzero(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["raretok", *arguments])
    monkeypatch.setattr("raretok.cli.process.prepare", lambda: None)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("raretok: ")
    assert len(said.strip().splitlines()) == 1


def test_an_error_is_the_exit_code_of_the_process():
    done = raretok("fetch")
    assert done.returncode == 2
    assert done.stderr.startswith("raretok: nothing to fetch: name a model")


@pytest.fixture
def study(models, corpus_file):
    return [models["gpt2"], "--corpus", corpus_file, "--windows", 120, "--length", 64, "--sample", 300]


def test_the_version_is_told():
    assert raretok("--version").stdout.startswith("raretok ")


def test_tables_some_claims_and_where_a_verdict_comes_from(study, own_store):
    model, *options = study
    rows = json.loads(raretok("table", model, "effects.bands", *options, "--json").stdout)
    assert {"rare", "common"} <= {r["band"] for r in rows}
    assert raretok("table", model, "effects.bands", *options, "--csv").stdout.startswith("band,ablated,targets")
    rows = json.loads(raretok("claims", *study, "--only", "C13,C1", "--json").stdout)
    assert [r["id"] for r in rows] == ["C1", "C13"]
    lines = raretok("explain", model, "C13", *options).stdout.splitlines()
    assert lines[0].startswith("C13 their weights are heavier-tailed (E; reported: lower Hill exponent)")
    text = "\n".join(lines)
    for part in (
        "rule: raretok.claims.weights.heavier, code ",
        "weights.group_tails: kept as a table, code ",
        str(own_store),
        "model: gpt2 (",
        "windows: 120 of 64 tokens",
        "frequency: in the order in which the tokenizer learned them (",
    ):
        assert part in text
    assert "not applicable: " in raretok("explain", model, "C7", *options).stdout


def test_claims_on_sets_of_documents(models, corpus_file):
    sized = ["--corpus", corpus_file, "--windows", 90, "--length", 64, "--sample", 200]
    done = raretok("replicate", models["gpt2"], *sized, "--sets", 2, "--only", "C22")
    assert done.returncode == 0, done.stderr
    header, row = done.stdout.splitlines()
    assert header.split()[:4] == ["id", "most", "sets", "of"]
    assert row.startswith("C22")
    assert raretok("replicate", models["gpt2"], *sized, "--sets", 1).returncode == 2


def test_the_store_tells_what_it_holds_and_deletes_only_what_is_stale_and_only_when_told(study, own_store):
    raretok("measure", *study)
    [row] = [
        r
        for r in json.loads(raretok("store", "ls", "--json").stdout)
        if r["corpus"].endswith("documents.csv") and r["model"] == "gpt2" and "windows" in r["settings"]
    ]
    assert row["results"] >= 3
    assert row["MiB"] > 0
    assert row["stale"] == 0
    assert "holds nothing that is stale" in raretok("store", "gc").stdout
    [manifest] = own_store.glob("effects.bands/*/manifest.json")
    held = json.loads(manifest.read_text())
    held["inputs"]["code"] = "older"
    from raretok.store import hash_of

    manifest.write_text(json.dumps(held))
    manifest.parent.rename(manifest.parent.with_name(hash_of(held["inputs"])))
    (own_store / "effects.bands" / ".draft-x").mkdir()
    asked = subprocess.run(
        [sys.executable, "-m", "raretok", "store", "gc"], input="n\n", capture_output=True, text=True, check=False
    )
    assert "1 result: the code that made them has changed since" in asked.stdout
    assert "nothing deleted" in asked.stdout
    assert list(own_store.glob("effects.bands/*/table.parquet"))
    assert "deleted" in raretok("store", "gc", "--yes").stdout
    assert not list(own_store.glob("effects.bands/*"))
    assert list(own_store.glob("effects.effects/*/manifest.json"))


def test_a_command_sets_threads_and_memory_before_torch_is_loaded(monkeypatch):
    code = """
import os, sys
from raretok.cli import process
process.prepare()
assert "torch" not in sys.modules and "numpy" not in sys.modules
print(os.environ["OMP_WAIT_POLICY"], os.environ["OPENBLAS_NUM_THREADS"])
"""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["PASSIVE", "7"]  # What the user has set stays.

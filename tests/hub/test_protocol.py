"""The hub's own protocol on the loopback address: `fetch` and all that follows, in processes of their own."""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml
from protocol import LARGE, Hub
from safetensors.torch import load_file, save_file

from raretok.repository import ROOT

PYTHIA, C4 = "EleutherAI/pythia-70m-deduped", "allenai/c4"
README = """---
configs:
- config_name: en
  data_files:
  - {split: train, path: en/c4-train.*.json.gz}
  - {split: validation, path: en/c4-validation.*.json.gz}
---
"""
SMALL = {"windows": 120, "length": 64, "sample": 300}


def packed(documents):
    rows = (json.dumps({"text": d, "url": ""}) + "\n" for d in documents)
    return gzip.compress("".join(rows).encode(), mtime=0)


def files_of(folder: Path, seed: int = 0):
    """The files of a model whose weights are in two parts with an index, and differ by ``seed``."""
    tensors = {name: t + 1e-3 * seed for name, t in load_file(folder / "model.safetensors").items()}
    names = sorted(tensors)
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".json"}
    where = {}
    for k, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{k:05}-of-00002.safetensors"
        where |= dict.fromkeys(part, file)
        save_file({n: tensors[n].contiguous() for n in part}, folder.parent / file, {"format": "pt"})
        files[file] = (folder.parent / file).read_bytes()
    files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": where}).encode()
    return files


@pytest.fixture(scope="module")
def hub(models, documents, tmp_path_factory):
    """A hub that holds Pythia with three steps, a larger one, GPT-2, a gated model, and a text of two splits."""
    served = Hub()
    for name in (PYTHIA, "EleutherAI/pythia-410m-deduped"):
        for seed, revision in enumerate(("step0", "step14000", "step143000", "main")):
            served.repository(name).commit(revision, files_of(models["gpt_neox"], min(seed, 2)))
    served.repository("openai-community/gpt2").commit("main", files_of(models["gpt2"]))
    served.repository("somebody/gated").commit("main", files_of(models["llama"]))
    served.repository("somebody/gated").gated = True
    halves = documents[:20], documents
    text = {
        f"en/c4-{s}.00000-of-00001.json.gz": packed(d) for s, d in zip(("train", "validation"), halves, strict=True)
    }
    served.repository(C4, "datasets").commit("main", {"README.md": README.encode()} | text)
    with served.serve() as address:
        served.address = address
        yield served


@dataclass
class Machine:
    """A machine that reaches this hub, with a cache of its own."""

    address: str
    folder: Path

    def python(self, *arguments, **environment):
        given = os.environ | {"HF_ENDPOINT": self.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(self.folder / "home")}
        given |= {"RARETOK_STORE": str(self.folder / "store"), "OMP_NUM_THREADS": "1", "TORCH_COMPILE_DISABLE": "1"}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=self.folder, env=given | environment, capture_output=True, text=True)

    def __call__(self, *arguments, **environment):
        return self.python("-m", "raretok", *arguments, **environment)


@pytest.fixture
def raretok(hub, tmp_path):
    """The command of a machine."""
    return Machine(hub.address, tmp_path)


def test_a_checkpoint_in_parts_comes_whole_and_is_read_without_the_hub(hub, raretok, corpus_file):
    largest = max(hub.repository(PYTHIA).files[hub.repository(PYTHIA).at("step0")].values(), key=len)
    assert len(largest) > LARGE
    hub.break_off = {f"/stored/{hashlib.sha256(largest).hexdigest()}"}
    hub.asked.clear()
    fetched = raretok("fetch", "pythia-70m-deduped", "--step", "0")
    assert fetched.returncode == 0, fetched.stderr
    assert not hub.break_off
    place = Path(fetched.stdout.strip().removeprefix("pythia-70m-deduped is at "))
    commit = hub.repository(PYTHIA).at("step0")
    assert place.name == commit
    assert {p.name: p.read_bytes() for p in place.iterdir()} == hub.repository(PYTHIA).files[commit]
    hub.asked.clear()
    said = raretok("doctor", "pythia-70m-deduped", "--step", "0", "--corpus", corpus_file, "--length", "64")
    assert "GPTNeoXForCausalLM" in said.stdout, said.stdout + said.stderr
    missing = raretok("measure", "pythia-70m-deduped", "--step", "14000")
    assert "run `raretok fetch pythia-70m-deduped --step 14000`" in missing.stderr
    assert hub.asked == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pythia-70m-deduped", "--step", "1000"), "it has no revision step1000"),
        (("pythia-160m",), "there is no such repository, or it is private: check the name, or log in"),
        (("somebody/gated",), "its owner asks for consent: give it on the hub's page, then log in"),
        (("--corpus", "somebody/nothing"), "there is no such repository, or it is private"),
        (("--corpus", "allenai/c4:de:train"), "could not be fetched: .*'de' not found"),
        (("--corpus", "allenai/c4:en:test"), "could not be fetched: .*test"),
        (("--corpus", "allenai/c4:en:validation[900:910]"), "holds no documents: ask for others"),
        (("--corpus", "allenai/c4:en:validation[:10%]"), "give a split, or documents of it by number"),
    ],
)
def test_what_the_hub_does_not_give_is_told(raretok, arguments, told):
    done = raretok("fetch", *arguments)
    assert done.returncode == 2
    assert re.search(told, done.stderr), done.stderr


def test_a_busy_hub_is_asked_again(hub, raretok):
    hub.busy = 2
    done = raretok("fetch", "pythia-70m-deduped", "--step", "14000")
    assert done.returncode == 0, done.stderr
    assert "the hub is busy, or the connection broke: trying again in 1 s" in done.stderr


def test_only_the_documents_that_are_asked_for_are_read_and_only_once(hub, raretok, documents, models):
    name = "allenai/c4:en:validation[50:100]"
    missing = raretok("measure", models["gpt_neox"], "--corpus", name)
    assert f"run `raretok fetch --corpus '{name}'`" in missing.stderr
    hub.asked.clear()
    assert "is here: 50 documents" in raretok("fetch", "--corpus", name).stdout
    # of another split no more is read than one block, which tells how its files are packed
    read = [(path, part) for path, part in hub.downloads() if "en/c4-" in path]
    assert any("c4-validation" in path for path, _ in read)
    assert all(part for path, part in read if "c4-train" in path)
    hub.asked.clear()
    read = raretok.python("-c", f"from raretok.data.text import load_corpus; print(load_corpus({name!r}).documents[0])")
    assert read.stdout.strip() == documents[50]
    assert hub.asked == []


def test_the_papers_sweep_in_miniature(hub, raretok, tmp_path, models):
    """Its own file with few steps and small windows; the second model's checkpoints go when they are done."""
    plan = yaml.safe_load((ROOT / "sweep-paper.yml").read_text(encoding="utf-8"))
    for entry in plan["studies"]:
        entry |= SMALL | {"corpus": "allenai/c4:en:validation[:200]", "chapters": []}
        if "steps" in entry:
            entry["steps"] = [0, 14000, 143000]
    plan["studies"][1] |= {"keep": False, "claims": "rank-curve", "steps": [143000]}
    plan["studies"][2] |= {"claims": "rank-curve"}
    plan["ahead"] = 1
    (tmp_path / "sweep-paper.yml").write_text(yaml.safe_dump(plan))
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text(
        yaml.safe_dump({"cores": 2, "set-threads": ["measure=1", "report=1"]})
    )
    done = raretok("sweep", "sweep-paper.yml", "--profile", "profile", "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    claims = pd.read_csv(tmp_path / "out" / "claims.csv")
    last = claims[(claims["model"] == "pythia-70m-deduped") & (claims["step"] == 143000)].set_index("id")
    assert (last.loc["C7", "verdict"] != "not applicable", last.loc["C7", "n"]) == (True, 3)
    # the small random model has few neurons to compare, but checkpoints it has
    assert "checkpoint" not in last.loc["C14", "why"], last.loc["C14", "why"]
    kept = {p.name for p in (tmp_path / "home" / "hub" / "models--EleutherAI--pythia-410m-deduped").glob("snapshots/*")}
    assert not kept
    evicted = [json.loads(p.read_text())["bytes"] for p in (tmp_path / "out" / "evicted").glob("pythia-410m*")]
    assert len(evicted) == 1
    assert all(evicted)
    assert len(list((tmp_path / "home/hub/models--EleutherAI--pythia-70m-deduped/snapshots").iterdir())) == 3
    hub.asked.clear()
    sizes = [f"--{name}={value}" for name, value in SMALL.items()]
    text = ["--corpus", "allenai/c4:en:validation[:200]", "--step", "143000"]
    emerged = raretok("emergence", "pythia-70m-deduped", *text, *sizes)
    assert emerged.returncode == 0, emerged.stderr
    assert "head_excess" in emerged.stdout
    again = raretok("sweep", "sweep-paper.yml", "--profile", "profile", "--out", "out", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stdout + again.stderr
    assert hub.asked == []

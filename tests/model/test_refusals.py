"""Models that cannot be studied are refused by what they lack, before anything is measured."""

import json
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import windows_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from raretok import RaretokError, Study
from raretok.model import hub
from raretok.model.forward import run_trace
from raretok.model.load import load_model, load_tokenizer, model_digest
from raretok.model.readout import extract_readout
from raretok.model.registry import MODELS, ModelEntry


def no_projection(model):
    del model.transformer.h[-1].mlp.c_proj


def normed_mlp(model):
    model.transformer.h[-1].post_mlp_layernorm = torch.nn.Tanh()


def no_norm(model):
    model.transformer.ln_f = None


def another_norm(model):
    model.transformer.ln_f = torch.nn.Identity()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (no_projection, "its parts are not where .* its last block has ln_1, attn, ln_2, mlp"),
        (normed_mlp, "the norm after its MLP, Tanh, is neither a LayerNorm nor an RMSNorm"),
        (no_norm, "it has no transformer.ln_f, the norm between its last block and the unembedding"),
        (another_norm, "its final norm, Identity, is neither a LayerNorm nor an RMSNorm"),
    ],
)
def test_a_model_of_another_form_is_refused_by_name(models, change, says):
    model = AutoModelForCausalLM.from_pretrained(models["gpt2"])
    change(model)
    with pytest.raises(RaretokError, match=f"GPT2LMHeadModel is not supported: {says}"):
        extract_readout(model)


def test_blocks_that_are_elsewhere_are_told():
    model = torch.nn.Linear(2, 2)
    model.config = SimpleNamespace()
    with pytest.raises(RaretokError, match=r"Linear is not supported: its parts are not where .* \(no parts\)"):
        extract_readout(model)


def test_a_loss_that_is_no_number_is_told(models):
    model = load_model(str(models["gpt2"]), device="cpu")
    for parameter in model.network.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(RaretokError, match="gpt2 gives NaN or infinite losses or activations: its weights are damaged"):
        run_trace(model, windows_of(2))


def test_an_engine_that_hooks_do_not_bear_out_stops(models, corpus_file, monkeypatch, own_store):
    study = Study(model=str(models["gpt2"]), corpus=str(corpus_file), windows=120, length=64, sample=300, device="cpu")
    unlike = pd.DataFrame({"difference": [0.5, -1.0]})
    monkeypatch.setattr("raretok.measure.checks.compare_with_hooks", lambda *_: unlike)
    with pytest.raises(RaretokError, match=r"the engine and a hooked forward pass differ by 1.0e\+00 nats, more than"):
        study.get("effects.effects")
    assert not list(own_store.glob("effects.effects/*"))


@pytest.fixture
def copy(models, tmp_path):
    return shutil.copytree(models["gpt2"], tmp_path / "copy")


def configured(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_settings_that_do_not_fit_the_weights_are_told(copy):
    configured(copy, n_layer=0)
    with pytest.raises(RaretokError, match="says 0 layers, but the weights are"):
        load_model(str(copy), device="cpu")
    configured(copy, n_layer=2, n_embd=33, n_head=2)
    with pytest.raises(RaretokError, match="could not be loaded as a causal language model"):
        load_model(str(copy), device="cpu")


def test_weights_that_lack_tensors_are_told(copy):
    weights = load_file(copy / "model.safetensors")
    gone = next(name for name in weights if "h.1.attn.c_attn.weight" in name)
    save_file({k: v for k, v in weights.items() if k != gone}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(RaretokError, match=r"lack 1 tensors, such as .*h.1.attn.c_attn.weight"):
        load_model(str(copy), device="cpu")


def test_a_tokenizer_is_asked_for_where_there_is_none(copy):
    for path in [*copy.glob("tokenizer*"), *copy.glob("vocab*"), *copy.glob("merges*")]:
        path.unlink()
    with pytest.raises(RaretokError, match="has no tokenizer .*: write it there with save_pretrained"):
        load_tokenizer(str(copy))


def test_a_checkpoint_that_is_gone_and_a_snapshot_without_settings_say_where_to_get_them(tmp_path, monkeypatch):
    with pytest.raises(RaretokError, match="mine is not in .*: it comes with the book's repository"):
        model_digest(ModelEntry("mine", "run", str(tmp_path / "mine"), steps=(0, 1)), 1)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(RaretokError, match="run `raretok fetch pythia-70m"):
        hub.snapshot(MODELS["pythia-70m"], 512)

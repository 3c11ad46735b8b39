import json
import shutil

import pytest
import torch
from conftest import ARCHITECTURES
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from raretok import RaretokError
from raretok.model.load import load_model, model_digest
from raretok.model.loaded import forward
from raretok.model.readout import check_readout, extract_readout
from raretok.model.registry import MODELS, PYTHIA_STEPS, find_model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_readout_reproduces_the_models_logits(models, architecture):
    plain = AutoModelForCausalLM.from_pretrained(models[architecture])
    ids = torch.arange(40).reshape(2, 20) * 11 % 400
    truth = plain(ids).logits
    loaded = load_model(str(models[architecture]), device="cpu")
    assert loaded.readout_error < 1e-4
    activation, residual = forward(loaded, ids)
    found = loaded.readout.logits(residual.flatten(0, 1)).reshape(truth.shape)
    assert (found - truth).abs().max() < 1e-5
    assert activation.shape == (2, 20, loaded.readout.neurons)
    losses = loaded.readout.losses(residual[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert losses.mean() == pytest.approx(float(plain(ids, labels=ids).loss), abs=1e-5)


@pytest.mark.parametrize("field", ["gain", "unembed", "eps"])
def test_a_wrong_readout_fails_its_check(models, field):
    model = load_model(str(models["gpt2"]), device="cpu")
    residual = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    logits = model.readout.logits(residual)
    assert check_readout(model.readout, residual, logits, "m") == 0
    wrong = getattr(model.readout, field) * 1.01 if field != "eps" else 0.1
    from dataclasses import replace

    with pytest.raises(RaretokError, match="misses the model's logits"):
        check_readout(replace(model.readout, **{field: wrong}), residual, logits, "m")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_refused(models, tmp_path, value):
    folder = shutil.copytree(models["llama"], tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][3, 4] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RaretokError, match="NaN or infinite values in w_out"):
        load_model(str(folder), device="cpu")


def test_truncated_weights_are_refused(models, tmp_path):
    folder = shutil.copytree(models["gpt2"], tmp_path / "cut")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(RaretokError, match="model.safetensors"):
        load_model(str(folder), device="cpu")


def test_an_unsupported_architecture_is_refused_by_name():
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 50,
    }
    mixtral = MixtralForCausalLM(MixtralConfig(**small, num_local_experts=2))
    with pytest.raises(RaretokError, match="MixtralForCausalLM is not supported: .* a mixture of experts"):
        extract_readout(mixtral)


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(RaretokError, match="unknown model 'smollm': known are smollm2-135m"):
        find_model("smollm")
    with pytest.raises(RaretokError, match=r"no config\.json"):
        find_model(str(tmp_path))


def test_a_wrong_step_lists_the_right_ones():
    assert len(PYTHIA_STEPS) == 154
    assert MODELS["pythia-70m"].revision(512) == "step512"
    with pytest.raises(RaretokError, match=r"no step 3: choose one of 0, 1, 2, 4, .*143000 \(154 in all\)"):
        MODELS["pythia-70m"].revision(3)
    with pytest.raises(RaretokError, match="no training checkpoints"):
        MODELS["smollm2-135m"].revision(3)


@pytest.mark.parametrize("name", ["pythia-70m", "someone/something"])
def test_a_hub_model_that_is_not_here_says_how_to_fetch_it(name):
    with pytest.raises(RaretokError, match=f"run `raretok fetch {name}`"):
        model_digest(find_model(name), None)
    with pytest.raises(RaretokError, match=f"run `raretok fetch {name}`"):
        load_model(name)


def test_the_digest_follows_the_weights(models, tmp_path):
    folder = shutil.copytree(models["gpt2"], tmp_path / "copy")
    entry = find_model(str(folder))
    before = model_digest(entry, None)
    assert before == model_digest(find_model(str(models["gpt2"])), None)
    config = json.loads((folder / "config.json").read_text())
    shutil.copytree(folder, tmp_path / "changed")
    (tmp_path / "changed" / "config.json").write_text(json.dumps(config | {"layer_norm_epsilon": 0.1}))
    assert model_digest(find_model(str(tmp_path / "changed")), None) != before


@pytest.mark.parametrize("use_rslora", [False, True])
def test_an_adapter_is_merged_into_its_base(models, tmp_path, use_rslora):
    base = AutoModelForCausalLM.from_pretrained(models["llama"])
    wanted = LoraConfig(r=4, lora_alpha=16, target_modules=["down_proj", "q_proj"], use_rslora=use_rslora)
    adapted = get_peft_model(base, wanted)
    adapted.peft_config["default"].base_model_name_or_path = str(models["llama"])
    for name, tensor in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(tensor, 0, 0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(40)[None]
    with torch.no_grad():
        expected = adapted.eval()(ids).logits
    entry = find_model(str(tmp_path / "adapter"))
    assert (entry.kind, entry.name) == ("adapter", "adapter")
    merged = load_model(str(tmp_path / "adapter"), device="cpu")
    assert (merged.network(ids).logits - expected).abs().max() < 1e-4
    assert (load_model(str(models["llama"]), device="cpu").network(ids).logits - expected).abs().max() > 1e-2
    first = model_digest(entry, None)
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"nothing")
    assert model_digest(entry, None) != first
    with pytest.raises(RaretokError, match="cannot be merged into llama"):
        load_model(str(tmp_path / "adapter"), device="cpu")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"revision": "step7"}))
    with pytest.raises(RaretokError, match=r"adapter_config.json is for revision step7 of .*llama: merge it with peft"):
        load_model(str(tmp_path / "adapter"), device="cpu")
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "other.safetensors")
    torch.save({}, tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(RaretokError, match=r"has no adapter_model.safetensors: write the adapter again"):
        model_digest(entry, None)
    shutil.copy(tmp_path / "adapter" / "other.safetensors", tmp_path / "adapter" / "adapter_model.safetensors")
    path.write_text("{}")
    with pytest.raises(RaretokError, match="names no base model: write the adapter again"):
        load_model(str(tmp_path / "adapter"), device="cpu")


def test_pickled_weights_are_refused(models, tmp_path):
    folder = shutil.copytree(models["gpt2"], tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(RaretokError, match="has no .safetensors weights"):
        model_digest(find_model(str(folder)), None)


def test_a_file_overwritten_in_place_has_another_digest(tmp_path):
    from raretok.data.packages import digest_files

    path = tmp_path / "file"
    path.write_bytes(b"one")
    before = digest_files((path,))
    path.write_bytes(b"three")
    assert digest_files((path,)) != before

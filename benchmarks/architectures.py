"""Which architectures are exact, and which are refused and why: ``raretok/model/architectures.csv``.

Every family is a tiny model with random weights. Effects are compared with forward hooks twice: in float32 with the
plain transformers model as it is, and in float64 with one whose norms compute in float64 as those of transformers do
not. The certified pass in float32 is held to its own bounds.
"""

import copy
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from raretok.ablation import make_engine, replaced_by, tile_inputs
from raretok.ablation.exact import exact_effects
from raretok.ablation.reference import hooked_effects
from raretok.data.text import Windows
from raretok.errors import RaretokError
from raretok.model import load
from raretok.model.architecture import RESULTS
from raretok.model.forward import run_trace
from raretok.model.loaded import LoadedModel
from raretok.model.registry import ModelEntry

VOCAB, LENGTH = 199, 16
SIZE = {
    **{"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8},
    **{"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64},
    **{"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
}
ROTARY = {"rotary_dim": 4}
FALCON = {"head_dim": None}
LATENT = {"head_dim": None, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 8}
LATENT |= {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
FAMILIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("gpt2", "", {}),
    ("gpt2", "attention not scaled", {"scale_attn_weights": False}),
    ("gpt2", "attention scaled by layer", {"scale_attn_by_inverse_layer_idx": True}),
    ("gpt2", "untied", {"tie_word_embeddings": False}),
    ("gpt2", "one layer", {"num_hidden_layers": 1}),
    ("gpt2", "large epsilon", {"layer_norm_epsilon": 0.1}),
    ("gpt_bigcode", "", {}),
    ("gpt_bigcode", "many keys", {"multi_query": False}),
    ("gpt_bigcode", "attention not scaled", {"scale_attn_weights": False}),
    ("gpt_neo", "", {"attention_types": [[["global", "local"], 1]], "num_layers": 2}),
    ("gptj", "", ROTARY),
    ("codegen", "", ROTARY),
    ("falcon", "", FALCON),
    ("falcon", "new blocks", FALCON | {"new_decoder_architecture": True}),
    ("falcon", "serial, ALiBi", FALCON | {"parallel_attn": False, "alibi": True}),
    ("falcon", "biases", FALCON | {"bias": True}),
    ("bloom", "", {}),
    ("bloom", "residual after the norm", {"apply_residual_connection_post_layernorm": True}),
    ("mpt", "", {}),
    ("gpt_neox", "", {}),
    ("gpt_neox", "serial", {"use_parallel_residual": False}),
    ("gpt_neox", "no attention biases", {"attention_bias": False}),
    ("gpt_neox", "tied", {"tie_word_embeddings": True}),
    ("gpt_neox", "one layer", {"num_hidden_layers": 1}),
    ("llama", "", {}),
    ("llama", "tied", {"tie_word_embeddings": True}),
    ("llama", "biases", {"mlp_bias": True, "attention_bias": True}),
    ("llama", "large epsilon", {"rms_norm_eps": 0.1}),
    ("mistral", "", {}),
    ("mistral", "sliding window", {"sliding_window": 4}),
    ("qwen2", "", {}),
    ("qwen3", "", {}),
    ("qwen3_5_text", "", {"num_hidden_layers": 4}),
    ("phi", "Phi-1, Phi-2", {}),
    ("phi3", "", {}),
    ("gemma", "", {}),
    ("gemma2", "", {}),
    ("gemma2", "low soft cap", {"final_logit_softcapping": 2.0}),
    ("gemma2", "no soft cap", {"final_logit_softcapping": None}),
    ("gemma3_text", "", {}),
    ("gemma4_text", "embeddings in every layer", {}),
    ("gemma4_text", "", {"hidden_size_per_layer_input": 0}),
    ("vaultgemma", "", {}),
    ("olmo", "", {}),
    ("olmo2", "", {}),
    ("olmo3", "", {}),
    ("glm", "", {}),
    ("glm4", "", {}),
    ("exaone4", "", {}),
    ("stablelm", "", {}),
    ("stablelm", "parallel", {"use_parallel_residual": True}),
    ("smollm3", "", {}),
    ("starcoder2", "", {}),
    ("persimmon", "", {}),
    ("opt", "", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    ("opt", "norm after the blocks (350m)", {"ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    ("opt", "no biases", {"ffn_dim": 48, "word_embed_proj_dim": 32, "enable_bias": False}),
    ("xglm", "", {"ffn_dim": 48, "attention_heads": 4, "num_layers": 2, "d_model": 32}),
    ("cohere", "", {}),
    ("cohere", "logits scaled", {"logit_scale": 0.3}),
    ("cohere2", "", {}),
    ("granite", "", {}),
    (
        *("granite", "multipliers"),
        {"residual_multiplier": 0.4, "logits_scaling": 5.0, "embedding_multiplier": 3.0, "attention_multiplier": 0.2},
    ),
    ("nemotron", "", {}),
    ("lfm2", "", {}),
    ("helium", "", {}),
    ("ministral", "", {}),
    ("ministral3", "", {}),
    ("diffllama", "", {}),
    ("cwm", "", {}),
    ("seed_oss", "", {}),
    ("apertus", "", {}),
    ("arcee", "", {}),
    ("hunyuan_v1_dense", "", {}),
    ("ernie4_5", "", {}),
    ("bitnet", "", {}),
    ("hyperclovax", "", {}),
    ("hyperclovax", "norm after the MLP", {"use_post_norm": True, "residual_multiplier": 0.5}),
    ("mixtral", "", {}),
    ("olmoe", "", {}),
    ("qwen3_moe", "", {}),
    ("deepseek_v3", "dense layers alone", LATENT),
    ("gpt_oss", "", {}),
    ("mamba", "", {}),
    ("rwkv", "", {}),
    ("recurrent_gemma", "", {}),
    ("jamba", "", {}),
    ("falcon_h1", "", {}),
    ("openai-gpt", "GPT-1", {}),
    ("ctrl", "", {}),
    ("biogpt", "", {}),
    ("bert-generation", "", {}),
)
"""Name of the family in transformers, what is unusual, and settings beside ``SIZE``; None takes a setting away."""

SINGLE = ("xglm",)
"""Families whose attention does not run in float64; they are compared in float32."""


class Tokens:
    """As much of a tokenizer as loading needs."""

    def __len__(self) -> int:
        """Return the number of token types."""
        return VOCAB


def tiny(family: str, given: dict[str, Any]) -> Any:
    """A model with random weights, none of which is 0 or 1 by default."""
    settings = {name: value for name, value in (SIZE | given).items() if value is not None or name not in SIZE}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.0 if name.endswith("bias") else 1.0, 0.3)
        else:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model.eval()


def against_hooks(model: LoadedModel, tokens: ndarray, effects: Tensor, replacing: Tensor) -> float:
    """Largest difference of some neurons' effects from hooked passes of the model, in nats."""
    return max(
        float((hooked_effects(model, tokens, k, replacing[0, k]).flatten() - effects[:, k]).abs().max())
        for k in range(0, model.readout.neurons, 5)
    )


def compare(family: str, variant: str, given: dict[str, Any]) -> dict[str, Any]:
    """One row of the table, see ``architecture.tried``."""
    model, entry = tiny(family, given), ModelEntry(family, "memory", "")
    row = {"family": family, "architecture": type(model).__name__, "variant": variant}
    try:
        dtype = torch.float32 if family in SINGLE else torch.float64
        precise = load._wrap(entry, copy.deepcopy(model), Tokens(), "cpu", dtype)
        single = load._wrap(entry, model, Tokens(), "cpu", torch.float32)
    except RaretokError as error:
        return row | {"form": "refused", "why": str(error).partition(" is not supported: ")[2] or str(error)}
    tokens = np.random.default_rng(0).integers(1, VOCAB, (6, LENGTH)).astype(np.int32)
    windows = Windows(tokens, np.arange(6), np.arange(6) % 2)
    trace = run_trace(precise, windows, progress=False)
    inputs = tile_inputs(precise.readout, trace, replaced_by(trace.activation, "mean", 0))
    effects = exact_effects(precise.readout, *inputs)
    error = against_hooks(precise, tokens, effects, inputs.delta + trace.activation)
    trace = run_trace(single, windows, progress=False)
    mean = replaced_by(trace.activation, "mean", 0)
    found = make_engine(single.readout, 1e-4, len(trace), trace.residual)(*tile_inputs(single.readout, trace, mean))
    truth = exact_effects(single.readout.to(torch.float64), *tile_inputs(single.readout, trace, mean, torch.float64))
    plain = against_hooks(single, tokens, truth, mean.expand_as(trace.activation))
    outside = int(((found.value - truth).abs() > found.bound).sum())
    form = "exact" + ("" if single.readout.after is None else ", norm after the MLP")
    form += "" if single.readout.cap is None else ", soft cap: every pair with exponentials"
    return row | {"form": form, "error": error, "plain": plain, "outside": outside, "pairs": truth.numel(), "why": ""}


def main() -> None:
    """Write the table."""
    logging.set_verbosity_error()
    table = pd.DataFrame([compare(*family) for family in FAMILIES])
    table = table.astype({"outside": "Int64", "pairs": "Int64"})
    table.to_csv(RESULTS, index=False, float_format="%.1e")
    print(table.drop(columns="why").to_string())


if __name__ == "__main__":
    main()

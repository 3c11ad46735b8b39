"""Where the families of decoders keep the parts that are measured, and the names of their multipliers.

A family is one row of ``LAYOUTS`` (following tuned-lens). Everything else about its final layers is read from the model
by trying, see ``readout``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).with_name("architectures.csv")
"""Every family that was tried, by ``benchmarks/architectures.py``."""


class Layout(NamedTuple):
    """Paths of a family's parts: the blocks and the final norm in a model, and the rest in a block.

    ``attention_out`` and ``mlp_out`` are the output matrices of attention and MLP; ``mlp_inputs`` names the MLP's input
    matrices; two names stand for two matrices in one, one below the other.
    """

    blocks: str
    final_norm: str
    attention_out: str
    mlp_out: str
    mlp_inputs: Mapping[str, str]


_GATED = {"mlp.up_proj": "W_up", "mlp.gate_proj": "W_gate", "mlp.gate_up_proj": "W_gate W_up"}
LAYOUTS = (
    # GPT-2, StarCoder (GPT-BigCode)
    Layout("transformer.h", "transformer.ln_f", "attn.c_proj", "mlp.c_proj", {"mlp.c_fc": "W_in"}),
    # GPT-Neo
    Layout("transformer.h", "transformer.ln_f", "attn.attention.out_proj", "mlp.c_proj", {"mlp.c_fc": "W_in"}),
    # GPT-J, CodeGen
    Layout("transformer.h", "transformer.ln_f", "attn.out_proj", "mlp.fc_out", {"mlp.fc_in": "W_in"}),
    # Falcon, BLOOM
    Layout(
        *("transformer.h", "transformer.ln_f", "self_attention.dense"),
        *("mlp.dense_4h_to_h", {"mlp.dense_h_to_4h": "W_in"}),
    ),
    # MPT
    Layout("transformer.blocks", "transformer.norm_f", "attn.out_proj", "ffn.down_proj", {"ffn.up_proj": "W_in"}),
    # GPT-NeoX, Pythia
    Layout(
        *("gpt_neox.layers", "gpt_neox.final_layer_norm", "attention.dense"),
        *("mlp.dense_4h_to_h", {"mlp.dense_h_to_4h": "W_in"}),
    ),
    # LLaMA, SmolLM, Mistral, Qwen, OLMo, Phi-3, Gemma-1, GLM, Cohere, Granite, Nemotron, StableLM and others
    Layout("model.layers", "model.norm", "self_attn.o_proj", "mlp.down_proj", _GATED),
    # StarCoder2
    Layout("model.layers", "model.norm", "self_attn.o_proj", "mlp.c_proj", {"mlp.c_fc": "W_in"}),
    # Phi-1, Phi-2
    Layout("model.layers", "model.final_layernorm", "self_attn.dense", "mlp.fc2", {"mlp.fc1": "W_in"}),
    # Persimmon
    Layout(
        *("model.layers", "model.final_layernorm", "self_attn.dense"),
        *("mlp.dense_4h_to_h", {"mlp.dense_h_to_4h": "W_in"}),
    ),
    # OPT
    Layout("model.decoder.layers", "model.decoder.final_layer_norm", "self_attn.out_proj", "fc2", {"fc1": "W_in"}),
    # XGLM
    Layout("model.layers", "model.layer_norm", "self_attn.out_proj", "fc2", {"fc1": "W_in"}),
    # LFM2
    Layout(
        *("model.layers", "model.embedding_norm", "self_attn.out_proj"),
        *("feed_forward.w2", {"feed_forward.w3": "W_up", "feed_forward.w1": "W_gate"}),
    ),
)
AFTER_MLP = ("post_feedforward_layernorm", "post_mlp_layernorm", "post_norm2")
"""Names, in a block, of a norm of the MLP's output."""
TIMES, OVER = ("logit_scale", "lm_head_multiplier"), ("logits_scaling",)
"""Settings by which logits are multiplied, and by which they are divided."""
CAPS = ("final_logit_softcapping",)
"""Settings of a soft cap of the logits, after they are multiplied."""
BLOCK_TIMES = ("residual_multiplier",)
"""Settings by which the output of an MLP is multiplied before it is added to the residual stream."""


def layout_of(model: nn.Module) -> Layout | None:
    """The layout of a causal language model from transformers; None if it is of no known family."""
    fitting = [layout for layout in LAYOUTS if _fits(model, layout)]
    # Blocks of a hybrid model need not have attention, but of two families the one whose attention is there is meant.
    return max(fitting, key=lambda layout: _has_attention(model, layout), default=None)


def _fits(model: nn.Module, layout: Layout) -> bool:
    blocks = find(model, layout.blocks)
    return bool(blocks) and all(
        part is not None for part in (find(model, layout.final_norm), find(blocks[-1], layout.mlp_out))
    )


def _has_attention(model: nn.Module, layout: Layout) -> bool:
    return any(find(block, layout.attention_out) is not None for block in find(model, layout.blocks))


def find(module: Any, path: str) -> Any:
    """The submodule at a dotted path; None if there is none."""
    for part in path.split("."):
        module = getattr(module, part, None)
        if module is None:
            return None
    return module


def setting(config: Any, *names: str) -> Any:
    """The first of some settings that a model has and that is not None, also where they are in a part about text."""
    for place in (config, getattr(config, "text_config", None)):
        for name in names:
            if (value := getattr(place, name, None)) is not None:
                return value
    return None


def mlp_inputs(block: nn.Module, layout: Layout) -> dict[str, Float[Tensor, "neuron d_model"]]:
    """A block's MLP input weights, one row per neuron: ``W_in``, or ``W_up`` and ``W_gate`` in a gated MLP."""
    found: dict[str, Tensor] = {}
    for path, names in layout.mlp_inputs.items():
        if (layer := find(block, path)) is not None:
            parts = rows_of(layer).detach().chunk(len(names.split()))
            found |= dict(zip(names.split(), parts, strict=True))
    return found


def rows_of(layer: Any) -> Float[Tensor, "output input"]:
    """The weight of a linear layer with one row per output; Conv1D (GPT-2) stores its transpose."""
    weight: Tensor = layer.weight
    return weight.T if type(layer).__name__ == "Conv1D" else weight


def tried() -> "pd.DataFrame":
    """Every family that was tried, as a tiny model with random weights.

    Columns: ``family``, ``architecture`` (class), ``variant``, ``form`` (exact; exact, norm after the MLP; refused),
    ``error`` (largest difference of an effect from hooks, in float64, with norms that compute in float64; nats),
    ``plain`` (the same from hooks on the model as it is, in float32), ``outside`` (pairs of the certified
    pass beyond their bound), ``pairs``, ``why`` (of a refusal).
    """
    import pandas as pd

    return pd.read_csv(
        RESULTS, keep_default_na=False, na_values=dict.fromkeys(("error", "plain", "outside", "pairs"), "")
    )

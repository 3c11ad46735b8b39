"""Where the common families of decoders keep the parts that are measured.

A family of architectures is one row of ``LAYOUTS`` (following tuned-lens); ``readout`` knows the forms of final layers.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn


class Layout(NamedTuple):
    """Paths of a family's parts: the blocks and the final norm in a model, and the rest in a block.

    ``attention_out`` and ``mlp_out`` are the output matrices of attention and MLP; ``mlp_inputs`` names the MLP's input
    matrices.
    """

    blocks: str
    final_norm: str
    attention_out: str
    mlp_out: str
    mlp_inputs: Mapping[str, str]


LAYOUTS = (
    # GPT-2
    Layout("transformer.h", "transformer.ln_f", "attn.c_proj", "mlp.c_proj", {"mlp.c_fc": "W_in"}),
    # GPT-NeoX, Pythia
    Layout(
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        "attention.dense",
        "mlp.dense_4h_to_h",
        {"mlp.dense_h_to_4h": "W_in"},
    ),
    # LLaMA, SmolLM2, Mistral, Qwen, OLMo
    Layout(
        "model.layers",
        "model.norm",
        "self_attn.o_proj",
        "mlp.down_proj",
        {"mlp.up_proj": "W_up", "mlp.gate_proj": "W_gate"},
    ),
)


def layout_of(model: nn.Module) -> Layout | None:
    """The layout of a causal language model from transformers; None if it is of no known family."""
    return next((layout for layout in LAYOUTS if find(model, layout.blocks) is not None), None)


def find(module: Any, path: str) -> Any:
    """The submodule at a dotted path; None if there is none."""
    for part in path.split("."):
        module = getattr(module, part, None)
        if module is None:
            return None
    return module


def mlp_inputs(block: nn.Module, layout: Layout) -> dict[str, Float[Tensor, "neuron d_model"]]:
    """A block's MLP input weights, one row per neuron: ``W_in``, or ``W_up`` and ``W_gate`` in a gated MLP."""
    layers = [(name, find(block, path)) for path, name in layout.mlp_inputs.items()]
    return {name: rows_of(layer).detach() for name, layer in layers if layer is not None}


def rows_of(layer: Any) -> Float[Tensor, "output input"]:
    """The weight of a linear layer with one row per output; Conv1D (GPT-2) stores its transpose."""
    weight: Tensor = layer.weight
    return weight.T if type(layer).__name__ == "Conv1D" else weight

"""A loaded model, and a forward pass that keeps what a study measures."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raretok.model.architecture import Layout, find, setting
from raretok.model.readout import Readout
from raretok.model.registry import ModelEntry


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to be measured.

    It holds the causal language model of transformers (``network``), the layout of its family, its tokenizer, its
    checked readout with the error of that check, and the last MLP's input weights by name. ``parallel`` tells whether
    attention and MLP of a block read the same stream, so that neither reaches the other.
    """

    entry: ModelEntry
    network: Any
    layout: Layout
    tokenizer: Any
    readout: Readout
    readout_error: float
    inputs: dict[str, Tensor]
    parallel: bool

    @property
    def blocks(self) -> Any:
        """The blocks, in order."""
        return find(self.network, self.layout.blocks)

    @property
    def layer(self) -> int:
        """Index of the last block."""
        return len(self.blocks) - 1

    @property
    def heads(self) -> int:
        """Number of attention heads in a layer."""
        return int(setting(self.network.config, "num_attention_heads", "n_heads", "n_head"))

    @property
    def context(self) -> int | None:
        """Largest number of tokens in a window; None if there is no limit."""
        return setting(self.network.config, "max_position_embeddings", "n_positions", "max_seq_len")

    @property
    def embedded(self) -> int:
        """Number of token types that the model can read."""
        return int(self.network.get_input_embeddings().weight.shape[0])

    @property
    def architecture(self) -> str:
        """The family of the model, as ``transformers`` names it."""
        return str(self.network.config.model_type)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of parameters, layers, residual-stream dimensions, neurons in the last MLP, and token types."""
        parameters, r = sum(p.numel() for p in self.network.parameters()), self.readout
        return parameters, len(self.blocks), r.w_out.shape[1], r.neurons, r.vocab

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.readout.w_out.device

    @property
    def hardware(self) -> str:
        """A description of the device."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type}, {torch.get_num_threads()} threads"


def in_precision(model: LoadedModel, dtype: str) -> LoadedModel:
    """The model with a forward pass in ``float32`` or ``bfloat16``; its readout stays in float32."""
    if dtype == "float32":
        return model
    return replace(model, network=copy.deepcopy(model.network).to(getattr(torch, dtype)))


def forward(
    model: LoadedModel, ids: Int[Tensor, "window position"]
) -> tuple[Float[Tensor, "window position neuron"], Float[Tensor, "window position d_model"]]:
    """Run the model without its unembedding.

    Returns the activations of the last MLP's neurons and the residual stream after the last block.
    """
    kept: dict[str, Tensor] = {}
    block = model.blocks[-1]
    handles = (
        find(block, model.layout.mlp_out).register_forward_pre_hook(lambda m, args: kept.update(activation=args[0])),
        block.register_forward_hook(lambda m, args, output: kept.update(residual=stream_of(output))),
    )
    try:
        with torch.inference_mode():
            model.network.base_model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return by_position(kept["activation"], ids.shape[1]), kept["residual"]


def by_position(x: Tensor, positions: int) -> Float[Tensor, "window position width"]:
    """The input of a matrix by window and position, which some MLPs (OPT) put into one axis."""
    return x if x.ndim == 3 else x.reshape(-1, positions, x.shape[-1])


def stream_of(output: Any) -> Tensor:
    """The residual stream in what a block returns."""
    stream: Tensor = output[0] if isinstance(output, tuple) else output
    return stream

"""The same ablation through transformer-lens, whose hooks and attention are independent of the package's own code."""

import copy
import logging
from typing import Any

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from raretok.model.loaded import LoadedModel
from raretok.model.trace import SKIP

logger = logging.getLogger(__name__)


def bridge_of(model: LoadedModel) -> Any:
    """A ``TransformerBridge`` of a copy of the model, or None if transformer-lens cannot represent the model.

    transformer-lens replaces parts of the model that it wraps, so the copy keeps the measured model unchanged.
    """
    from transformer_lens.model_bridge import TransformerBridge

    readout = model.readout
    try:
        return TransformerBridge.boot_transformers(
            model.network.config._name_or_path or model.entry.name,
            hf_model=copy.deepcopy(model.network),
            tokenizer=model.tokenizer,
            dtype=readout.w_out.dtype,
            device=model.device,
        )
    except Exception as error:  # transformer-lens reports an unsupported model by various exceptions.
        logger.warning("transformer-lens cannot represent %s (%r)", model.entry.name, error)
        return None


def bridge_effects(
    bridge: Any,
    tokens: Int[ndarray, "window position"],
    neuron: int,
    replacement: Float[Tensor, ""] | Float[Tensor, "window position"],
) -> Float[Tensor, "window used"]:
    """Δ in nats at every used position when one neuron of the last MLP is replaced; see ``ablation.reference``."""
    ids = torch.from_numpy(tokens.astype("int64")).to(bridge.cfg.device)

    def replace(activation: Tensor, hook: object) -> Tensor:
        activation = activation.clone()
        activation[..., neuron] = replacement
        return activation

    def losses(logits: Tensor) -> Tensor:
        kept = logits[:, SKIP:-1].transpose(1, 2)
        return torch.nn.functional.cross_entropy(kept, ids[:, SKIP + 1 :], reduction="none")

    name = f"blocks.{int(bridge.cfg.n_layers) - 1}.mlp.hook_post"
    with torch.inference_mode():
        return losses(bridge.run_with_hooks(ids, fwd_hooks=[(name, replace)])) - losses(bridge(ids))

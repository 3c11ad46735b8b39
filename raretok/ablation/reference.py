"""Ablation the slow and obvious way: a forward pass of the whole model with a hook on the last MLP."""

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from raretok.model.load import LoadedModel
from raretok.model.trace import SKIP


def hooked_effects(
    model: LoadedModel,
    tokens: Int[ndarray, "window position"],
    neuron: int,
    replacement: Float[Tensor, ""] | Float[Tensor, "window position"],
) -> Float[Tensor, "window used"]:
    """Δ in nats at every used position of some windows when one neuron's activation is replaced.

    The neuron is replaced at all positions at once: nothing after the last MLP mixes positions, so the loss at a
    position changes only by its own replacement. In the model's own dtype; two forward passes.
    """
    ids = torch.from_numpy(tokens.astype("int64")).to(model.device)

    def replace_activation(activation: Tensor, hook: object) -> Tensor:
        activation = activation.clone()
        activation[..., neuron] = replacement
        return activation

    name = f"blocks.{model.layer}.mlp.hook_post"
    with torch.inference_mode():
        before = _losses(model.bridge(ids), ids)
        after = _losses(model.bridge.run_with_hooks(ids, fwd_hooks=[(name, replace_activation)]), ids)
    return after - before


def _losses(logits: Tensor, ids: Tensor) -> Tensor:
    kept, target = logits[:, SKIP:-1], ids[:, SKIP + 1 :]
    losses = torch.nn.functional.cross_entropy(kept.flatten(0, 1), target.flatten(), reduction="none")
    return losses.reshape(target.shape)

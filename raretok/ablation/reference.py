"""Reference implementation of ablation, slow but simple: a forward pass of the model with hooks on the last MLP."""

from collections.abc import Sequence
from typing import Any

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
    position depends only on the replacement there. This takes two forward passes in the model's own dtype.
    """
    return hooked_group_effects(model, tokens, [neuron], replacement[..., None])


def hooked_group_effects(
    model: LoadedModel,
    tokens: Int[ndarray, "window position"],
    members: Sequence[int],
    replacement: Float[Tensor, "*position member"],
    freeze_scale: bool = False,
) -> Float[Tensor, "window used"]:
    """Δ in nats when the activations of some neurons are replaced together.

    With ``freeze_scale``, the final norm divides by its unablated scale (the direct effect of Stolfo et al. 2024).
    """
    ids = torch.from_numpy(tokens.astype("int64")).to(model.device)
    kept: dict[str, Tensor] = {}

    def replace_activation(activation: Tensor, hook: object) -> Tensor:
        activation = activation.clone()
        activation[..., list(members)] = replacement
        return activation

    def keep_residual(residual: Tensor, hook: object) -> None:
        kept["residual"] = residual

    name, after_block = f"blocks.{model.layer}.mlp.hook_post", f"blocks.{model.layer}.hook_resid_post"
    with torch.inference_mode():
        before = model.bridge.run_with_hooks(ids, fwd_hooks=[(after_block, keep_residual)])
        unmoved = kept["residual"]
        after = model.bridge.run_with_hooks(ids, fwd_hooks=[(name, replace_activation), (after_block, keep_residual)])
        if freeze_scale:
            # norm(r) = gain · C r / σ + bias with the unablated σ is the model's own norm of the ablated residual
            # stream, rescaled by the ratio of the scales.
            norm, head = _norm_and_head(model)
            bias = model.readout.bias
            ratio = _scale(model, kept["residual"]) / _scale(model, unmoved)
            after = head((norm(kept["residual"]) - bias) * ratio[..., None] + bias)
        return _losses(after, ids) - _losses(before, ids)


def _norm_and_head(model: LoadedModel) -> tuple[Any, Any]:
    whole = model.bridge.original_model
    head = whole.get_output_embeddings()
    norms = [m for n, m in whole.named_modules() if n.endswith(("ln_f", "final_layer_norm", "model.norm"))]
    return norms[-1], head


def _scale(model: LoadedModel, residual: Tensor) -> Tensor:
    return model.readout.scale(residual.flatten(0, 1)).reshape(residual.shape[:2])


def _losses(logits: Tensor, ids: Tensor) -> Tensor:
    kept, target = logits[:, SKIP:-1], ids[:, SKIP + 1 :]
    losses = torch.nn.functional.cross_entropy(kept.flatten(0, 1), target.flatten(), reduction="none")
    return losses.reshape(target.shape)

"""Reference implementation of ablation, slow but simple: a forward pass of the plain transformers model, with a hook
on the last MLP.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from raretok.model.architecture import find
from raretok.model.loaded import LoadedModel, by_position, stream_of
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
    block = model.blocks[-1]
    matrix = find(block, model.layout.mlp_out)

    def replace_activation(module: Any, args: Any) -> tuple[Tensor, ...]:
        activation = by_position(args[0], ids.shape[1]).clone()
        activation[..., torch.tensor(members).to(activation.device)] = replacement
        return (activation.reshape(args[0].shape), *args[1:])

    after_block = block.register_forward_hook(lambda m, args, output: kept.update(residual=stream_of(output)))
    try:
        with torch.inference_mode():
            before = model.network(ids, use_cache=False).logits
            unmoved = kept["residual"]
            with matrix.register_forward_pre_hook(replace_activation):
                after = model.network(ids, use_cache=False).logits
            if freeze_scale:
                # norm(r) = gain · C r / σ + bias with the unablated σ is the model's own norm of the ablated residual
                # stream, rescaled by the ratio of the scales.
                ratio = (_scale(model, kept["residual"]) / _scale(model, unmoved))[..., None]

                def rescale(module: Any, args: Any, normed: Tensor) -> Tensor:
                    bias = getattr(module, "bias", None)
                    return normed * ratio if bias is None else (normed - bias) * ratio + bias

                norm = find(model.network, model.layout.final_norm)
                with matrix.register_forward_pre_hook(replace_activation), norm.register_forward_hook(rescale):
                    after = model.network(ids, use_cache=False).logits
            return _losses(after, ids) - _losses(before, ids)
    finally:
        after_block.remove()


def _scale(model: LoadedModel, residual: Tensor) -> Tensor:
    return model.readout.scale(residual.flatten(0, 1)).reshape(residual.shape[:2])


def _losses(logits: Tensor, ids: Tensor) -> Tensor:
    kept, target = logits[:, SKIP:-1], ids[:, SKIP + 1 :]
    losses = torch.nn.functional.cross_entropy(kept.flatten(0, 1), target.flatten(), reduction="none")
    return losses.reshape(target.shape)

"""Checks of a loaded model by trying: its readout and the form of its last block are compared with its own passes."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raretok.errors import RaretokError
from raretok.model.architecture import find
from raretok.model.loaded import LoadedModel, forward
from raretok.model.readout import check_readout

PATH_LIMIT = 1e-4
"""Largest difference of a moved residual stream from r + δ·w, relative to the size of the stream, in float32."""


def self_check(model: LoadedModel) -> float:
    """Compare the readout and the form of the last block with the plain model; returns the error of the readout.

    Raises:
        RaretokError: one of them is not as the engine needs it.
    """
    ids = probe_ids(model)
    with torch.inference_mode():
        logits = model.network(ids, use_cache=False).logits
    activation, residual = forward(model, ids)
    error = check_readout(model.readout, residual.flatten(0, 1), logits.flatten(0, 1), model.entry.name)
    _check_path(model, ids, activation, residual)
    return error


def probe_ids(model: LoadedModel) -> Int[Tensor, "window position"]:
    """Some token ids that the model can read."""
    known = min(model.readout.vocab, model.embedded, len(model.tokenizer))
    return torch.arange(64, device=model.device).reshape(2, 32) * 7 % known


def _check_path(
    model: LoadedModel,
    ids: Int[Tensor, "window position"],
    activation: Float[Tensor, "window position neuron"],
    residual: Float[Tensor, "window position d_model"],
) -> None:
    """Check that a change δ of a neuron's activation moves the residual stream by δ·w and does nothing else."""
    generator = torch.Generator().manual_seed(0)
    neuron = torch.randint(0, model.readout.neurons, ids.shape, generator=generator).to(ids.device)
    readout = model.readout
    mlp = readout.mlp_output(activation.flatten(0, 1))
    reference = residual if mlp is None else mlp.reshape(residual.shape)
    size = reference.norm(dim=-1) / readout.w_out.norm(dim=1)[neuron].clamp_min(1e-30)
    delta = torch.zeros_like(activation).scatter_(-1, neuron[..., None], 0.3 * size[..., None])
    _, moved = _with(model, model.layout.mlp_out, lambda x: x + delta.reshape(x.shape), ids)
    step = readout.step(mlp, (delta @ readout.w_out).flatten(0, 1))
    expected = residual + step.reshape(residual.shape)
    error = float((moved - expected).norm(dim=-1).max() / residual.norm(dim=-1).max())
    if not error <= PATH_LIMIT:
        raise RaretokError(
            f"{model.entry.name}: an activation of its last MLP does not reach the residual stream as activation times "
            f"weight (error {error:.1e} of the stream): its last block is not of the supported form"
        )


def blocks_are_parallel(model: LoadedModel) -> bool:
    """Whether the last MLP does not read what the attention of its own block writes."""
    ids = probe_ids(model)
    if find(model.blocks[-1], model.layout.attention_out) is None:
        return False
    before, _ = forward(model, ids)
    after, _ = _with(model, model.layout.attention_out, lambda x: x + x.abs().mean(), ids)
    return bool(torch.equal(before, after))


def _with(
    model: LoadedModel, path: str, change: Callable[[Tensor], Tensor], ids: Int[Tensor, "window position"]
) -> tuple[Tensor, Tensor]:
    """``forward`` with the input of one of the last block's matrices changed."""

    def hook(module: Any, args: Any) -> tuple[Tensor, ...]:
        return (change(args[0]), *args[1:])

    handle = find(model.blocks[-1], path).register_forward_pre_hook(hook)
    try:
        return forward(model, ids)
    finally:
        handle.remove()

"""Forward passes that can be resumed: the inputs of every block are kept, so that an ablation in block ℓ recomputes
only the blocks from ℓ on.

Activations are replaced from position ``SKIP`` on: earlier positions act as attention sinks, and replacing them would
be a different experiment.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from raretok.errors import NotApplicable, RaretokError
from raretok.model.load import LoadedModel
from raretok.model.trace import SKIP

BATCH_TOKENS = 1024
"""Approximate number of tokens in the windows that are processed at a time."""


@dataclass(frozen=True)
class Pass:
    """A forward pass over some windows.

    It holds the ``inputs`` of each block and the ``options`` it was called with, the inputs of each attention's output
    matrix (``heads``) and of each MLP's output matrix (``neurons``), and the residual stream after the last block.
    """

    inputs: list[Float[Tensor, "window position d_model"]]
    options: list[dict[str, Any]]
    heads: list[Float[Tensor, "window position width"]]
    neurons: list[Float[Tensor, "window position neuron"]]
    residual: Float[Tensor, "window position d_model"]


def layers_reaching(model: LoadedModel) -> int:
    """Number of layers whose heads reach the last MLP: all of them in serial blocks, all but the last in parallel ones.

    Raises:
        NotApplicable: if there is no such layer.
    """
    layers = model.layer + (0 if _parallel(model) else 1)
    if not layers:
        raise NotApplicable(
            f"no attention head of {model.entry.name} can reach its last MLP: it has one layer, and its blocks are "
            "parallel"
        )
    return layers


def _parallel(model: LoadedModel) -> bool:
    return bool(getattr(model.bridge.cfg, "parallel_attn_mlp", False))


def run_pass(model: LoadedModel, tokens: Int[ndarray, "window position"], graph: bool = False) -> Pass:
    """Run one forward pass; with ``graph``, gradients can be taken with respect to ``heads`` and ``neurons``."""
    ids = torch.from_numpy(tokens.astype(np.int64)).to(model.device)
    count = model.layer + 1
    inputs: list[Any] = [None] * count
    options: list[Any] = [None] * count
    heads: list[Any] = [None] * count
    neurons: list[Any] = [None] * count
    after: list[Tensor] = []

    def enter(k: int) -> Callable[..., Any]:
        def hook(module: Any, args: Any, kwargs: Any) -> Any:
            x = args[0].detach().requires_grad_() if graph and k == 0 else args[0]
            inputs[k], options[k] = x, kwargs
            return (x, *args[1:]), kwargs

        return hook

    def keep(into: list[Any], k: int) -> Callable[..., None]:
        return lambda module, args, output: into.__setitem__(k, output)

    handles = []
    for k, block in enumerate(model.bridge.blocks):
        handles += [
            block.register_forward_pre_hook(enter(k), with_kwargs=True),
            block.attn.o.hook_in.register_forward_hook(keep(heads, k)),
            block.mlp.out.hook_in.register_forward_hook(keep(neurons, k)),
        ]
    handles.append(model.bridge.blocks[-1].register_forward_hook(lambda m, a, out: after.append(_stream(out))))
    try:
        with torch.enable_grad() if graph else torch.inference_mode():
            model.bridge(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return Pass(inputs, options, heads, neurons, after[0])


def _stream(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def _replaced(point: Any, columns: slice | Sequence[int], value: Tensor) -> Iterator[None]:
    """Within this context, some columns of the tensor at a hook point are replaced from position ``SKIP`` on."""

    def replace(module: Any, args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, SKIP:, columns] = value[columns]
        return output

    handle = point.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _go_on(model: LoadedModel, base: Pass, layer: int) -> tuple[Tensor, Tensor]:
    """Resume the pass at a block.

    Returns the input of the last MLP's output matrix, and the residual stream after the last block.
    """
    kept: list[Tensor] = []
    blocks = model.bridge.blocks
    handle = blocks[-1].mlp.out.hook_in.register_forward_hook(lambda m, a, out: kept.append(out))
    try:
        with torch.inference_mode():
            x = base.inputs[layer]
            for k in range(layer, len(blocks)):
                x = _stream(blocks[k](x, **base.options[k]))
    finally:
        handle.remove()
    return kept[0], x


def ablate_heads(
    model: LoadedModel, base: Pass, layer: int, heads: Sequence[int], mean: Float[Tensor, " width"]
) -> Float[Tensor, "window position neuron"]:
    """The input of the last MLP's output matrix when the outputs of some heads of a layer are replaced by their mean.

    Raises:
        RaretokError: if the layer's heads cannot reach the last MLP.
    """
    if layer >= layers_reaching(model):
        raise RaretokError(
            f"heads of layer {layer} cannot reach the last MLP of {model.entry.name}: its blocks are parallel, "
            f"choose a layer before {layer}"
        )
    width = len(mean) // int(model.bridge.cfg.n_heads)
    columns = [c for h in heads for c in range(h * width, (h + 1) * width)]
    with _replaced(model.bridge.blocks[layer].attn.o.hook_in, columns, mean):
        return _go_on(model, base, layer)[0]


def ablate_neuron(
    model: LoadedModel, base: Pass, layer: int, neuron: int, mean: Float[Tensor, " neuron"]
) -> Float[Tensor, "window position d_model"]:
    """The residual stream after the last block when a neuron of any layer is replaced by its mean."""
    with _replaced(model.bridge.blocks[layer].mlp.out.hook_in, [neuron], mean):
        return _go_on(model, base, layer)[1]


def batches(tokens: Int[ndarray, "window position"]) -> list[slice]:
    """Slices of the windows that are processed at a time."""
    step = max(1, BATCH_TOKENS // tokens.shape[1])
    return [slice(k, min(k + step, len(tokens))) for k in range(0, len(tokens), step)]


def mean_inputs(
    model: LoadedModel, tokens: Int[ndarray, "window position"], what: str
) -> list[Float[Tensor, " width"]]:
    """Mean over the used positions of the inputs of each layer's output matrix of attention or MLP.

    ``what`` selects the attention (``heads``) or the MLP (``neurons``).
    """
    sums: list[Tensor] = []
    for rows in batches(tokens):
        batch_sums = [x[:, SKIP:-1].double().sum((0, 1)) for x in getattr(run_pass(model, tokens[rows]), what)]
        sums = [a + b for a, b in zip(sums, batch_sums, strict=True)] if sums else batch_sums
    count = len(tokens) * (tokens.shape[1] - 1 - SKIP)
    return [(s / count).float() for s in sums]

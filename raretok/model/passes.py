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
from raretok.model.architecture import find
from raretok.model.loaded import LoadedModel, by_position, stream_of
from raretok.model.trace import SKIP

BATCH_TOKENS, GRAPH_TOKENS = 1024, 512
"""Approximate number of tokens that are processed at a time on the CPU, without and with gradients."""
SHARED = ("position_bias",)
"""Options of a block that all windows share, although their first axis is longer than one (MPT's heads)."""
CARD = 16
"""How many times as many a graphics card processes."""


@dataclass(frozen=True)
class Pass:
    """A forward pass over some windows.

    It holds the ``inputs`` of each block and its other arguments (``options``, positional and named), the inputs of
    each attention's output matrix (``heads``) and of each MLP's output matrix (``neurons``), and the residual stream
    after the last block.
    """

    inputs: list[Float[Tensor, "window position d_model"]]
    options: list[tuple[tuple[Any, ...], dict[str, Any]]]
    heads: list[Float[Tensor, "window position width"]]
    neurons: list[Float[Tensor, "window position neuron"]]
    residual: Float[Tensor, "window position d_model"]


def layers_reaching(model: LoadedModel) -> int:
    """Number of layers whose heads reach the last MLP: all of them in serial blocks, all but the last in parallel ones.

    Raises:
        NotApplicable: if there is no such layer.
    """
    layers = model.layer + (0 if model.parallel else 1)
    if not layers:
        raise NotApplicable(
            f"no attention head of {model.entry.name} can reach its last MLP: it has one layer, and its blocks are "
            "parallel"
        )
    return layers


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
            inputs[k], options[k] = x, (args[1:], kwargs)
            return (x, *args[1:]), kwargs

        return hook

    def keep(into: list[Any], k: int) -> Callable[..., Any]:
        def hook(module: Any, args: Any) -> tuple[Any, ...]:
            into[k] = by_position(args[0], ids.shape[1])
            # What is kept must be what the matrix reads, so that gradients reach it.
            return (into[k].reshape(args[0].shape), *args[1:])

        return hook

    handles = []
    for k, block in enumerate(model.blocks):
        handles += [
            block.register_forward_pre_hook(enter(k), with_kwargs=True),
            find(block, model.layout.attention_out).register_forward_pre_hook(keep(heads, k)),
            find(block, model.layout.mlp_out).register_forward_pre_hook(keep(neurons, k)),
        ]
    handles.append(model.blocks[-1].register_forward_hook(lambda m, a, out: after.append(stream_of(out))))
    try:
        with torch.enable_grad() if graph else torch.inference_mode():
            model.network.base_model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return Pass(inputs, options, heads, neurons, after[0])


@contextmanager
def _replaced(matrix: Any, positions: int, sets: Sequence[Sequence[int]], value: Tensor) -> Iterator[None]:
    """Within this context, some columns of a matrix's input are replaced from position ``SKIP`` on.

    The batch holds one copy of the windows for each of the ``sets`` of columns.
    """

    def replace(module: Any, args: Any) -> tuple[Tensor, ...]:
        x = by_position(args[0], positions).clone()
        for columns, part in zip(sets, x.chunk(len(sets)), strict=True):
            index = torch.tensor(columns).to(x.device)
            part[:, SKIP:, index] = value[index]
        return (x.reshape(args[0].shape), *args[1:])

    handle = matrix.register_forward_pre_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _go_on(model: LoadedModel, base: Pass, layer: int, copies: int) -> tuple[Tensor, Tensor]:
    """Resume the pass at a block, with several copies of the windows.

    Returns the input of the last MLP's output matrix, and the residual stream after the last block.
    """
    kept: list[Tensor] = []
    out = find(model.blocks[-1], model.layout.mlp_out)
    handle = out.register_forward_pre_hook(lambda m, args: kept.append(args[0]))
    windows = len(base.inputs[layer])
    try:
        with torch.inference_mode():
            x = base.inputs[layer].repeat(copies, 1, 1)
            for k in range(layer, model.layer + 1):
                rest, named = _repeated(base.options[k], windows, copies)
                x = stream_of(model.blocks[k](x, *rest, **named))
    finally:
        handle.remove()
    return by_position(kept[0], x.shape[1]), x


def _repeated(option: Any, windows: int, copies: int) -> Any:
    """An option of a block, such as its mask or positions, for several copies of the windows."""
    if isinstance(option, dict):
        return {n: x if n in SHARED else _repeated(x, windows, copies) for n, x in option.items()}
    if isinstance(option, tuple):
        return tuple(_repeated(x, windows, copies) for x in option)
    if isinstance(option, Tensor) and option.ndim > 1 and len(option) % windows == 0 and len(option) > 1:
        return option.repeat(copies, *[1] * (option.ndim - 1))
    return option


def ablate_heads(
    model: LoadedModel, base: Pass, layer: int, sets: Sequence[Sequence[int]], mean: Float[Tensor, " width"]
) -> Float[Tensor, "set window position neuron"]:
    """The input of the last MLP's output matrix when the outputs of each set of heads are replaced by their mean.

    The heads are of one layer, and all sets share one pass.

    Raises:
        RaretokError: if the layer's heads cannot reach the last MLP.
    """
    if layer >= layers_reaching(model):
        raise RaretokError(
            f"heads of layer {layer} cannot reach the last MLP of {model.entry.name}: its blocks are parallel, "
            f"choose a layer before {layer}"
        )
    width = len(mean) // model.heads
    columns = [[c for h in heads for c in range(h * width, (h + 1) * width)] for heads in sets]
    with _replaced(find(model.blocks[layer], model.layout.attention_out), base.residual.shape[1], columns, mean):
        return torch.stack(_go_on(model, base, layer, len(sets))[0].chunk(len(sets)))


def ablate_neuron(
    model: LoadedModel, base: Pass, layer: int, neuron: int, mean: Float[Tensor, " neuron"]
) -> Float[Tensor, "window position d_model"]:
    """The residual stream after the last block when a neuron of any layer is replaced by its mean."""
    with _replaced(find(model.blocks[layer], model.layout.mlp_out), base.residual.shape[1], [[neuron]], mean):
        return _go_on(model, base, layer, 1)[1]


def at_once(model: LoadedModel, graph: bool = False) -> int:
    """Approximate number of tokens to process at a time, without or with gradients."""
    return (GRAPH_TOKENS if graph else BATCH_TOKENS) * (1 if model.device.type == "cpu" else CARD)


def batches(model: LoadedModel, tokens: Int[ndarray, "window position"], graph: bool = False) -> list[slice]:
    """Slices of the windows that are processed at a time, without or with gradients."""
    step = max(1, at_once(model, graph) // tokens.shape[1])
    return [slice(k, min(k + step, len(tokens))) for k in range(0, len(tokens), step)]


@contextmanager
def summed_inputs(model: LoadedModel, length: int) -> Iterator[dict[str, list[Tensor]]]:
    """Within this context, the inputs of output matrices are summed over the used positions of every pass over windows
    of some length.

    Yields the sums by layer in float64: of the attentions' output matrices (``heads``) and of the MLPs' (``neurons``).
    A layer without such a matrix, as a hybrid model may have, keeps None.
    """
    matrices = {"heads": model.layout.attention_out, "neurons": model.layout.mlp_out}
    sums: dict[str, list[Any]] = {name: [None] * (model.layer + 1) for name in matrices}

    def add(name: str, k: int) -> Callable[..., None]:
        def hook(module: Any, args: Any) -> None:
            used = by_position(args[0], length)[:, SKIP:-1]
            total = used.sum(1, dtype=torch.promote_types(used.dtype, torch.float32)).double().sum(0)
            sums[name][k] = total if sums[name][k] is None else sums[name][k] + total

        return hook

    handles = [
        matrix.register_forward_pre_hook(add(name, k))
        for k, block in enumerate(model.blocks)
        for name, path in matrices.items()
        if (matrix := find(block, path)) is not None
    ]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()

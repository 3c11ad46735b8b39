"""What lies before the last MLP's output: heads and neurons of every layer, ablated by taking a forward pass up again, or screened by gradients.

One forward pass keeps what every block was given; an ablation in block ℓ then costs only the blocks from ℓ on. A gradient gives the first-order effect of
everything at once. Activations are replaced from position ``SKIP`` on: those before serve attention as a rest, and their replacement would be another experiment.
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
from tqdm import tqdm

from raretok.errors import RaretokError
from raretok.model.load import LoadedModel
from raretok.model.trace import SKIP


class NoHeads(RaretokError):
    """No attention head comes before the last MLP: a single layer of parallel blocks."""


BATCH_TOKENS = 1024
"""Windows that are done at a time hold about so many tokens."""
PROBES = 4
"""Random signs per window in the screen of heads."""


@dataclass(frozen=True)
class Pass:
    """A forward pass over some windows: the ``inputs`` of each block and with what ``options`` it was called, what enters each attention's
    output matrix (``heads``) and each MLP's (``neurons``), and the stream after the last block."""

    inputs: list[Float[Tensor, "window position d_model"]]
    options: list[dict[str, Any]]
    heads: list[Float[Tensor, "window position width"]]
    neurons: list[Float[Tensor, "window position neuron"]]
    residual: Float[Tensor, "window position d_model"]


def layers_reaching(model: LoadedModel) -> int:
    """How many layers have heads that reach the last MLP: all for serial blocks, all but the last where blocks are parallel.

    Raises:
        NoHeads: none.
    """
    layers = model.layer + (0 if _parallel(model) else 1)
    if not layers:
        raise NoHeads(
            f"no attention head of {model.entry.name} can reach its last MLP: it has one layer, and its blocks are parallel"
        )
    return layers


def _parallel(model: LoadedModel) -> bool:
    return bool(getattr(model.bridge.cfg, "parallel_attn_mlp", False))


def run_pass(model: LoadedModel, tokens: Int[ndarray, "window position"], graph: bool = False) -> Pass:
    """One forward pass; with ``graph``, gradients can be taken with respect to ``heads`` and ``neurons``."""
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
    """Within, some columns of what passes a hook point are replaced from ``SKIP`` on."""

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
    """Take the pass up at a block: what enters the last MLP's output matrix, and the stream after the last block."""
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
    """What enters the last MLP's output matrix when the outputs of some heads of a layer are replaced by their mean.

    Raises:
        RaretokError: the layer's heads cannot reach the last MLP.
    """
    if layer >= layers_reaching(model):
        raise RaretokError(
            f"heads of layer {layer} cannot reach the last MLP of {model.entry.name}: its blocks are parallel, choose a layer before {layer}"
        )
    width = len(mean) // int(model.bridge.cfg.n_heads)
    columns = [c for h in heads for c in range(h * width, (h + 1) * width)]
    with _replaced(model.bridge.blocks[layer].attn.o.hook_in, columns, mean):
        return _go_on(model, base, layer)[0]


def ablate_neuron(
    model: LoadedModel, base: Pass, layer: int, neuron: int, mean: Float[Tensor, " neuron"]
) -> Float[Tensor, "window position d_model"]:
    """The stream after the last block when a neuron of any layer is replaced by its mean."""
    with _replaced(model.bridge.blocks[layer].mlp.out.hook_in, [neuron], mean):
        return _go_on(model, base, layer)[1]


def batches(tokens: Int[ndarray, "window position"]) -> list[slice]:
    """Windows that are done at a time."""
    step = max(1, BATCH_TOKENS // tokens.shape[1])
    return [slice(k, min(k + step, len(tokens))) for k in range(0, len(tokens), step)]


def mean_inputs(
    model: LoadedModel, tokens: Int[ndarray, "window position"], what: str
) -> list[Float[Tensor, " width"]]:
    """Mean over the used positions of what enters each layer's attention (``heads``) or MLP (``neurons``) output matrix."""
    sums: list[Tensor] = []
    for rows in batches(tokens):
        found = [x[:, SKIP:-1].double().sum((0, 1)) for x in getattr(run_pass(model, tokens[rows]), what)]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    count = len(tokens) * (tokens.shape[1] - 1 - SKIP)
    return [(s / count).float() for s in sums]


def head_influences(
    model: LoadedModel,
    tokens: Int[ndarray, "window position"],
    weights: Float[ndarray, "band window used"],
    spread: Float[ndarray, " neuron"],
    progress: bool = True,
) -> dict[str, ndarray]:
    """Sum over each window's positions of |change of every last-layer activation / its spread| when a head, or a whole layer's heads, are mean-ablated.

    Args:
        model: to measure.
        tokens: the windows.
        weights: what each used position (from ``SKIP`` to the last but one) counts for in each band.
        spread: standard deviation of each neuron's activation.
        progress: show a bar on a terminal.

    Returns:
        ``heads`` [head, window, band, neuron], ``layers`` [layer, window, band, neuron] (float32) and ``weight`` [window, band]; heads in the order of
        layers, those that reach the last MLP.
    """
    count, layers = int(model.bridge.cfg.n_heads), layers_reaching(model)
    mean = mean_inputs(model, tokens, "heads")
    sets = [[h] for h in range(count)] + [list(range(count))]
    shape = (len(tokens), len(weights), model.readout.neurons)
    heads, whole = (np.zeros((n, *shape), dtype=np.float32) for n in (layers * count, layers))
    w = torch.from_numpy(weights).to(model.device, torch.float32)
    scale = torch.from_numpy(1 / spread).to(model.device, torch.float32)
    parts = batches(tokens)
    with tqdm(
        total=len(parts) * layers * len(sets), desc="heads", unit="ablation", disable=None if progress else True
    ) as bar:
        for rows in parts:
            base = run_pass(model, tokens[rows])
            for layer in range(layers):
                for k, chosen in enumerate(sets):
                    moved = ablate_heads(model, base, layer, chosen, mean[layer]) - base.neurons[-1]
                    found = torch.einsum("bwt,wtn->wbn", w[:, rows], (moved[:, SKIP:-1] * scale).abs()).cpu().numpy()
                    if k < count:
                        heads[layer * count + k, rows] = found
                    else:
                        whole[layer, rows] = found
                    bar.update()
    return {"heads": heads, "layers": whole, "weight": weights.sum(2).T}


def screen_heads(
    model: LoadedModel,
    tokens: Int[ndarray, "window position"],
    weights: Float[ndarray, "band window used"],
    spread: Float[ndarray, " neuron"],
    members: Int[ndarray, " member"],
    seed: int,
    probes: int = PROBES,
) -> Float[ndarray, "head window band"]:
    """First-order estimate of every head's influence on a group: the sum of squared changes of its standardised activations, of all heads from one gradient a probe.

    With ε random signs, the mean of (Σ ε·Δz)² is Σ Δz² (Hutchinson), and Σ ε·Δz ≈ δ·∂(Σ ε·z) for the δ of every head.
    """
    count, layers = int(model.bridge.cfg.n_heads), layers_reaching(model)
    mean = mean_inputs(model, tokens, "heads")
    generator = torch.Generator().manual_seed(seed)
    scale = torch.from_numpy(1 / spread[members]).to(model.device, torch.float32)
    found = np.zeros((layers * count, len(tokens), len(weights)))
    for rows in batches(tokens):
        base = run_pass(model, tokens[rows], graph=True)
        z = base.neurons[-1][:, SKIP:-1, members] * scale
        moves = [(m - x.detach())[:, SKIP:] for m, x in zip(mean[:layers], base.heads[:layers], strict=True)]
        for b, weight in enumerate(weights[:, rows]):
            w = torch.from_numpy(weight).to(model.device, torch.float32).sqrt()[..., None]
            for _ in range(probes):
                sign = (torch.randint(0, 2, z.shape, generator=generator) * 2.0 - 1).to(z)
                slopes = torch.autograd.grad((sign * w * z).sum(), base.heads[:layers], retain_graph=True)
                for layer, (slope, move) in enumerate(zip(slopes, moves, strict=True)):
                    by_head = (slope[:, SKIP:] * move).sum(1).reshape(len(move), count, -1).sum(2).T
                    found[layer * count : (layer + 1) * count, rows, b] += by_head.square().cpu().numpy() / probes
    return found


def neuron_attributions(
    model: LoadedModel,
    tokens: Int[ndarray, "window position"],
    weights: Float[ndarray, "band window used"],
    progress: bool = True,
) -> dict[str, ndarray]:
    """First-order effect of mean-ablating every neuron of every layer on each window's weighted loss of each band: Σ_t δ[t, i] · ∂(Σ w·loss)/∂a[t, i], in nats.

    Returns:
        ``net`` [layer, window, band, neuron] (float32), and the ``mean`` activations [layer, neuron].
    """
    mean = mean_inputs(model, tokens, "neurons")
    found = np.zeros((len(mean), len(tokens), len(weights), model.readout.neurons), dtype=np.float32)
    for rows in tqdm(batches(tokens), desc="gradients", unit="batch", disable=None if progress else True):
        base = run_pass(model, tokens[rows], graph=True)
        loss = losses(model, base.residual, tokens[rows])
        for b, weight in enumerate(weights[:, rows]):
            total = (torch.from_numpy(weight).to(loss) * loss).sum()
            slopes = torch.autograd.grad(total, base.neurons, retain_graph=b + 1 < len(weights))
            for layer, (slope, x) in enumerate(zip(slopes, base.neurons, strict=True)):
                move = (mean[layer] - x.detach())[:, SKIP:]
                found[layer, rows, b] = (slope[:, SKIP:] * move).sum(1).cpu().numpy()
    return {"net": found, "mean": torch.stack(mean).cpu().numpy()}


def losses(
    model: LoadedModel, residual: Float[Tensor, "window position d_model"], tokens: Int[ndarray, "window position"]
) -> Float[Tensor, "window used"]:
    """Next-token cross-entropy in nats at the used positions, from the stream after the last block."""
    used = residual[:, SKIP:-1]
    target = torch.from_numpy(tokens[:, SKIP + 1 :].astype(np.int64)).to(residual.device)
    logits = model.readout.logits(used.flatten(0, 1))
    found = torch.nn.functional.cross_entropy(logits, target.flatten(), reduction="none")
    return found.reshape(target.shape)

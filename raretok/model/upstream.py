"""Effects of the components before the last MLP's output: heads and neurons of every layer.

They are ablated by ``passes`` or screened by gradients; one gradient gives the first-order effects of all components.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor
from tqdm import tqdm

from raretok.model.loaded import LoadedModel
from raretok.model.passes import ablate_heads, at_once, batches, layers_reaching, run_pass
from raretok.model.trace import SKIP

PROBES = 1
"""Number of random sign vectors per window in the screening of heads; more windows serve as well as more vectors."""


def head_influences(
    model: LoadedModel,
    tokens: Int[ndarray, "window position"],
    weights: Float[ndarray, "band window used"],
    spread: Float[ndarray, " neuron"],
    mean: Float[ndarray, "layer width"],
    sets: Sequence[tuple[int, Sequence[int]]],
    progress: bool = True,
) -> Float[ndarray, "set window band neuron"]:
    """Influence of heads on the last layer: how much its activations change when heads are mean-ablated.

    The influence is the weighted sum over each window's positions of |change of a last-layer activation / its spread|,
    in float32.

    Args:
        model: The model to measure.
        tokens: The windows.
        weights: Weight of each used position (from ``SKIP`` to the last but one) in each band.
        spread: Standard deviation of each neuron's activation.
        mean: Mean outputs of the heads of each layer, side by side, which replace them.
        sets: The heads that are ablated together: a layer, and heads of that layer.
        progress: Show a progress bar on a terminal.
    """
    influences = np.zeros((len(sets), len(tokens), len(weights), model.readout.neurons), dtype=np.float32)
    w, scale, means = (torch.from_numpy(x).to(model.readout.w_out) for x in (weights, 1 / spread, mean))
    parts = batches(model, tokens)
    layers = np.array([layer for layer, _ in sets])
    with tqdm(total=len(parts) * len(sets), desc="heads", unit="ablation", disable=None if progress else True) as bar:
        for rows in parts:
            base = run_pass(model, tokens[rows])
            together = max(1, at_once(model) // tokens[rows].size)
            for layer in np.unique(layers).tolist():
                here = np.flatnonzero(layers == layer)
                for some in np.split(here, np.arange(together, len(here), together)):
                    moved = ablate_heads(model, base, layer, [sets[k][1] for k in some], means[layer])
                    far = ((moved - base.neurons[-1])[:, :, SKIP:-1] * scale).abs()
                    influences[some, rows] = torch.einsum("bwt,swtn->swbn", w[:, rows], far).cpu().numpy()
                    bar.update(len(some))
    return influences


def screen_heads(
    model: LoadedModel,
    tokens: Int[ndarray, "window position"],
    weights: Float[ndarray, "band window used"],
    spread: Float[ndarray, " neuron"],
    mean: Float[ndarray, "layer width"],
    members: Int[ndarray, " member"],
    seed: int,
    probes: int = PROBES,
    progress: bool = True,
) -> Float[ndarray, "head window band"]:
    """First-order estimate of every head's influence on a group of neurons.

    The influence is the weighted sum of squared changes of the group's standardised activations; one gradient per probe
    gives it for all heads. With random signs ε, the mean of (Σ ε·Δz)² is Σ Δz² (Hutchinson), and Σ ε·Δz ≈ δ·∂(Σ ε·z)
    for the δ of every head.
    """
    count, layers = model.heads, layers_reaching(model)
    generator = torch.Generator().manual_seed(seed)
    scale, means = (torch.from_numpy(x).to(model.readout.w_out) for x in (1 / spread[members], mean))
    estimates = np.zeros((layers * count, len(tokens), len(weights)))
    parts = batches(model, tokens, graph=True)
    for rows in tqdm(parts, desc="screening heads", unit="batch", disable=None if progress else True):
        base = run_pass(model, tokens[rows], graph=True)
        z = base.neurons[-1][:, SKIP:-1, members] * scale
        moves = [(m - x.detach())[:, SKIP:] for m, x in zip(means[:layers], base.heads[:layers], strict=True)]
        for b, weight in enumerate(weights[:, rows]):
            w = torch.from_numpy(weight).to(model.readout.w_out).sqrt()[..., None]
            for _ in range(probes):
                sign = (torch.randint(0, 2, z.shape, generator=generator) * 2.0 - 1).to(z)
                slopes = torch.autograd.grad((sign * w * z).sum(), base.heads[:layers], retain_graph=True)
                for layer, (slope, move) in enumerate(zip(slopes, moves, strict=True)):
                    by_head = (slope[:, SKIP:] * move).sum(1).reshape(len(move), count, -1).sum(2).T
                    estimates[layer * count : (layer + 1) * count, rows, b] += by_head.square().cpu().numpy() / probes
    return estimates


def neuron_attributions(
    model: LoadedModel,
    tokens: Int[ndarray, "window position"],
    weights: Float[ndarray, "band window used"],
    mean: Float[ndarray, "layer neuron"],
    progress: bool = True,
) -> Float[ndarray, "layer window band neuron"]:
    """First-order effect of mean-ablating every neuron of every layer on each window's weighted loss in each band.

    The effect is Σ_t δ[t, i] · ∂(Σ w·loss)/∂a[t, i], in nats and float32; ``mean`` holds the mean activations.
    """
    means = torch.from_numpy(mean).to(model.readout.w_out)
    effects = np.zeros((len(mean), len(tokens), len(weights), model.readout.neurons), dtype=np.float32)
    parts = batches(model, tokens, graph=True)
    for rows in tqdm(parts, desc="gradients", unit="batch", disable=None if progress else True):
        base = run_pass(model, tokens[rows], graph=True)
        weighed = (weights[:, rows] != 0).any(0)  # Only the loss at these positions counts.
        loss = losses(model, base.residual, tokens[rows], weighed)
        for b, weight in enumerate(weights[:, rows]):
            total = (torch.from_numpy(weight[weighed]).to(loss) * loss).sum()
            slopes = torch.autograd.grad(total, base.neurons, retain_graph=b + 1 < len(weights))
            for layer, (slope, x) in enumerate(zip(slopes, base.neurons, strict=True)):
                move = (means[layer] - x.detach())[:, SKIP:]
                effects[layer, rows, b] = (slope[:, SKIP:] * move).sum(1).cpu().numpy()
    return effects


def losses(
    model: LoadedModel,
    residual: Float[Tensor, "window position d_model"],
    tokens: Int[ndarray, "window position"],
    chosen: Bool[ndarray, "window used"],
) -> Float[Tensor, " chosen"]:
    """Next-token cross-entropy in nats at chosen ones of the used positions (from ``SKIP`` to the last but one), from
    the residual stream after the last block.
    """
    target = torch.from_numpy(tokens[:, SKIP + 1 :][chosen].astype(np.int64)).to(residual.device)
    return model.readout.losses(residual[:, SKIP:-1][torch.from_numpy(chosen).to(residual.device)], target)

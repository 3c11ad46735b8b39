"""Effects of the components before the last MLP's output: heads and neurons of every layer.

They are ablated by ``passes`` or screened by gradients; one gradient gives the first-order effects of all components.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from tqdm import tqdm

from raretok.model.load import LoadedModel
from raretok.model.passes import ablate_heads, batches, layers_reaching, mean_inputs, run_pass
from raretok.model.trace import SKIP

PROBES = 4
"""Number of random sign vectors per window in the screening of heads."""


def head_influences(
    model: LoadedModel,
    tokens: Int[ndarray, "window position"],
    weights: Float[ndarray, "band window used"],
    spread: Float[ndarray, " neuron"],
    progress: bool = True,
) -> dict[str, ndarray]:
    """Influence of heads on the last layer: how much its activations change when heads are mean-ablated.

    The influence is the weighted sum over each window's positions of |change of a last-layer activation / its spread|
    when a single head, or all heads of a layer, are mean-ablated.

    Args:
        model: The model to measure.
        tokens: The windows.
        weights: Weight of each used position (from ``SKIP`` to the last but one) in each band.
        spread: Standard deviation of each neuron's activation.
        progress: Show a progress bar on a terminal.

    Returns:
        ``heads`` [head, window, band, neuron], ``layers`` [layer, window, band, neuron] (float32) and ``weight``
        [window, band]; the heads are those that reach the last MLP, in the order of layers.
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
                    influence = (
                        torch.einsum("bwt,wtn->wbn", w[:, rows], (moved[:, SKIP:-1] * scale).abs()).cpu().numpy()
                    )
                    if k < count:
                        heads[layer * count + k, rows] = influence
                    else:
                        whole[layer, rows] = influence
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
    """First-order estimate of every head's influence on a group of neurons.

    The influence is the weighted sum of squared changes of the group's standardised activations; one gradient per probe
    gives it for all heads. With random signs ε, the mean of (Σ ε·Δz)² is Σ Δz² (Hutchinson), and Σ ε·Δz ≈ δ·∂(Σ ε·z)
    for the δ of every head.
    """
    count, layers = int(model.bridge.cfg.n_heads), layers_reaching(model)
    mean = mean_inputs(model, tokens, "heads")
    generator = torch.Generator().manual_seed(seed)
    scale = torch.from_numpy(1 / spread[members]).to(model.device, torch.float32)
    estimates = np.zeros((layers * count, len(tokens), len(weights)))
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
                    estimates[layer * count : (layer + 1) * count, rows, b] += by_head.square().cpu().numpy() / probes
    return estimates


def neuron_attributions(
    model: LoadedModel,
    tokens: Int[ndarray, "window position"],
    weights: Float[ndarray, "band window used"],
    progress: bool = True,
) -> dict[str, ndarray]:
    """First-order effect of mean-ablating every neuron of every layer on each window's weighted loss in each band.

    The effect is Σ_t δ[t, i] · ∂(Σ w·loss)/∂a[t, i], in nats.

    Returns:
        ``net`` [layer, window, band, neuron] (float32), and the ``mean`` activations [layer, neuron].
    """
    mean = mean_inputs(model, tokens, "neurons")
    effects = np.zeros((len(mean), len(tokens), len(weights), model.readout.neurons), dtype=np.float32)
    for rows in tqdm(batches(tokens), desc="gradients", unit="batch", disable=None if progress else True):
        base = run_pass(model, tokens[rows], graph=True)
        loss = losses(model, base.residual, tokens[rows])
        for b, weight in enumerate(weights[:, rows]):
            total = (torch.from_numpy(weight).to(loss) * loss).sum()
            slopes = torch.autograd.grad(total, base.neurons, retain_graph=b + 1 < len(weights))
            for layer, (slope, x) in enumerate(zip(slopes, base.neurons, strict=True)):
                move = (mean[layer] - x.detach())[:, SKIP:]
                effects[layer, rows, b] = (slope[:, SKIP:] * move).sum(1).cpu().numpy()
    return {"net": effects, "mean": torch.stack(mean).cpu().numpy()}


def losses(
    model: LoadedModel, residual: Float[Tensor, "window position d_model"], tokens: Int[ndarray, "window position"]
) -> Float[Tensor, "window used"]:
    """Next-token cross-entropy in nats at the used positions, from the residual stream after the last block."""
    used = residual[:, SKIP:-1]
    target = torch.from_numpy(tokens[:, SKIP + 1 :].astype(np.int64)).to(residual.device)
    logits = model.readout.logits(used.flatten(0, 1))
    loss = torch.nn.functional.cross_entropy(logits, target.flatten(), reduction="none")
    return loss.reshape(target.shape)

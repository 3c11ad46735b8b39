"""One forward pass over the windows, which gives the loss, activations and residual stream at every used position."""

import numpy as np
import torch
from tqdm import tqdm

from raretok.data.text import Windows
from raretok.errors import RaretokError
from raretok.model.loaded import LoadedModel, forward
from raretok.model.passes import batches
from raretok.model.trace import SKIP, Trace


def run_trace(model: LoadedModel, windows: Windows, progress: bool = True) -> Trace:
    """Run the model over all windows and keep every used position.

    Activations and residual streams are kept in float32 on the CPU and take 4 · (d_mlp + d_model) bytes per position.

    Raises:
        RaretokError: if a window is longer than the model's context or holds a token that the model cannot read, or a
            loss or an activation is not finite.
    """
    count, length = windows.tokens.shape
    if model.context is not None and length > model.context:
        raise RaretokError(
            f"windows of {length} tokens do not fit {model.entry.name}'s context of {model.context}: use shorter ones"
        )
    if (largest := int(windows.tokens.max())) >= model.embedded:
        raise RaretokError(
            f"the text holds token {largest}, but {model.entry.name} can read only {model.embedded} types: give the "
            "tokenizer that belongs to the model"
        )
    used = np.arange(SKIP, length - 1)
    readout = model.readout
    activation = torch.empty(count * len(used), readout.neurons, dtype=readout.w_out.dtype)
    residual = torch.empty(count * len(used), readout.w_out.shape[1], dtype=readout.w_out.dtype)
    loss = torch.empty(count * len(used), dtype=torch.float64)
    with tqdm(total=count, desc="forward pass", unit="window", disable=None if progress else True) as bar:
        for part in batches(model, windows.tokens):
            ids = torch.from_numpy(windows.tokens[part].astype(np.int64)).to(model.device)
            activations, stream = (x[:, SKIP:-1].flatten(0, 1) for x in forward(model, ids))
            rows = slice(part.start * len(used), part.stop * len(used))
            activation[rows], residual[rows] = activations.cpu(), stream.cpu()
            loss[rows] = readout.losses(stream.to(residual.dtype), ids[:, SKIP + 1 :].flatten()).cpu().double()
            bar.update(len(ids))
    if not (loss.isfinite().all() and activation.isfinite().all()):
        raise RaretokError(f"{model.entry.name} gives NaN or infinite losses or activations: its weights are damaged")
    window = np.repeat(np.arange(count), len(used))
    position = np.tile(used, count)
    return Trace(
        activation=activation,
        residual=residual,
        target=windows.tokens[window, position + 1],
        input=windows.tokens[window, position],
        window=window,
        document=windows.of_each(window, position + 1),
        half=windows.half[window],
        position=position,
        loss=loss.numpy(),
    )

"""One forward pass over the windows → per-position losses, and activations and residual streams where they are needed."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from raretok.data.text import Windows
from raretok.errors import RaretokError
from raretok.model.load import LoadedModel, forward

SKIP = 3
"""The first positions of a window, which are not used (method §1); nor is the last, which has no target."""
BUDGET_BYTES = 1 << 28
"""A batch of windows is as large as its logits fit in this."""


@dataclass(frozen=True)
class Trace:
    """Positions, in the order of windows and then of position, with what the last MLP did there.

    ``activation`` is what enters W_out, ``residual`` the stream after the last block, ``target`` the next token and
    ``loss`` its cross-entropy in nats; ``document`` is the index in the corpus, ``half`` 0 for A and 1 for B.
    """

    activation: Float[Tensor, "token neuron"]
    residual: Float[Tensor, "token d_model"]
    target: Int[ndarray, " token"]
    input: Int[ndarray, " token"]
    window: Int[ndarray, " token"]
    document: Int[ndarray, " token"]
    half: Int[ndarray, " token"]
    position: Int[ndarray, " token"]
    loss: Float[ndarray, " token"]

    def __len__(self) -> int:
        """Number of positions."""
        return len(self.target)

    def __getitem__(self, rows: Int[ndarray, " row"]) -> "Trace":
        """The trace of some positions."""
        index = torch.from_numpy(rows).to(self.activation.device)
        arrays = {
            name: getattr(self, name)[rows]
            for name in ("target", "input", "window", "document", "half", "position", "loss")
        }
        return Trace(self.activation[index], self.residual[index], **arrays)


def run_trace(model: LoadedModel, windows: Windows, progress: bool = True) -> Trace:
    """Run the model over all windows and keep every used position.

    Activations and residual streams are kept in float32 on the CPU: 4 · (d_mlp + d_model) bytes a position.

    Raises:
        RaretokError: a window is longer than the model's context, or a loss is not finite.
    """
    from tqdm import tqdm

    count, length = windows.tokens.shape
    context = int(model.bridge.cfg.n_ctx)
    if length > context:
        raise RaretokError(
            f"windows of {length} tokens do not fit {model.entry.name}'s context of {context}: use shorter ones"
        )
    used = np.arange(SKIP, length - 1)
    readout = model.readout
    batch = max(1, BUDGET_BYTES // (4 * length * readout.vocab))
    activation = torch.empty(count * len(used), readout.neurons, dtype=readout.w_out.dtype)
    residual = torch.empty(count * len(used), readout.w_out.shape[1], dtype=readout.w_out.dtype)
    loss = torch.empty(count * len(used), dtype=torch.float64)
    with tqdm(total=count, desc="forward pass", unit="window", disable=None if progress else True) as bar:
        for start in range(0, count, batch):
            ids = torch.from_numpy(windows.tokens[start : start + batch].astype(np.int64)).to(model.device)
            logits, cache = forward(model, ids)
            rows = slice(start * len(used), (start + len(ids)) * len(used))
            activation[rows] = cache[f"blocks.{model.layer}.mlp.hook_post"][:, SKIP:-1].flatten(0, 1).cpu()
            residual[rows] = cache[f"blocks.{model.layer}.hook_resid_post"][:, SKIP:-1].flatten(0, 1).cpu()
            kept = logits[:, SKIP:-1].flatten(0, 1)
            target = ids[:, SKIP + 1 :].flatten()
            loss[rows] = torch.nn.functional.cross_entropy(kept, target, reduction="none").cpu().double()
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
        document=windows.document[window],
        half=windows.half[window],
        position=position,
        loss=loss.numpy(),
    )

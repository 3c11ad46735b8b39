"""Positions of windows of text, with the activations of the last MLP and related quantities."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

SKIP = 3
"""Number of positions at the start of a window that are not used (method §1); nor is the last, which has no target."""


@dataclass(frozen=True)
class Trace:
    """Positions in the order of windows and then of position, with the quantities recorded there.

    ``activation`` is the input of W_out, ``residual`` the residual stream after the last block, ``input`` the token at
    the position, ``target`` the next token and ``loss`` its cross-entropy in nats; ``document`` is the index in the
    corpus, and ``half`` is 0 for A and 1 for B.
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
        """The trace restricted to some positions."""
        index = torch.from_numpy(rows).to(self.activation.device)
        arrays = {
            name: getattr(self, name)[rows]
            for name in ("target", "input", "window", "document", "half", "position", "loss")
        }
        return Trace(self.activation[index], self.residual[index], **arrays)

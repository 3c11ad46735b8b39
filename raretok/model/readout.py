"""The readout: the five tensors between the last MLP's neurons and the logits, extracted from a model and checked.

A model whose final layers are not of the supported form is rejected by name; a model that only appears to be of that
form fails the self-check.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from raretok.errors import RaretokError
from raretok.model.architecture import find, layout_of, rows_of

LOGIT_BYTES = 1 << 26
"""Size to which the logits held at a time are limited."""


@dataclass(frozen=True)
class Readout:
    """How a residual stream becomes logits: final norm (``gain``, ``bias``, ``eps``, centring) and unembedding.

    ``logits = norm(r) @ unembed + unembed_bias`` with ``norm(r) = gain · C r / √(|C r|²/d_model + eps) + bias``; C is
    centring for LayerNorm and the identity for RMSNorm. ``w_out[i]`` is what neuron i adds to the residual stream.
    """

    w_out: Float[Tensor, "neuron d_model"]
    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    eps: float
    centred: bool
    unembed: Float[Tensor, "d_model vocab"]
    unembed_bias: Float[Tensor, " vocab"]

    @property
    def neurons(self) -> int:
        """Width of the last MLP layer, d_mlp."""
        return self.w_out.shape[0]

    @property
    def vocab(self) -> int:
        """Number of token types, padded ones included where the model's own logits include them."""
        return self.unembed.shape[1]

    def to(self, *args: Any) -> "Readout":
        """The same readout on another device or in another dtype."""
        fields = ("w_out", "gain", "bias", "unembed", "unembed_bias")
        return replace(self, **{name: getattr(self, name).to(*args) for name in fields})

    def centre(self, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        """C x, which is x minus its mean over d_model for LayerNorm, and x itself for RMSNorm."""
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def scale(self, residual: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """The scale σ by which the final norm divides."""
        return (self.centre(residual).square().mean(-1) + self.eps).sqrt()

    @property
    def constant(self) -> Float[Tensor, " vocab"]:
        """The part b of the logits that does not depend on the residual stream."""
        return self.bias @ self.unembed + self.unembed_bias

    def logits(self, residual: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """The model's logits, computed from the residual stream after its last block."""
        normed = self.centre(residual) / self.scale(residual)[:, None] * self.gain
        return normed @ self.unembed + self.constant

    def losses(self, residual: Float[Tensor, "row d_model"], target: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """Cross-entropy of the targets in nats, a few rows at a time."""
        few = max(1, LOGIT_BYTES // (self.vocab * residual.element_size()))
        parts = zip(torch.split(residual, few), torch.split(target, few), strict=True)
        return torch.cat([nn.functional.cross_entropy(self.logits(r), t, reduction="none") for r, t in parts])


def extract_readout(model: nn.Module) -> Readout:
    """Extract the readout from a Hugging Face causal language model.

    Raises:
        RaretokError: if the architecture is not of the supported form, or a weight is NaN or infinite.
    """
    config = model.config
    name = type(model).__name__
    _refuse_unsupported(name, config)
    layout = layout_of(model)
    if layout is None:
        raise RaretokError(f"{name} is not supported: its blocks are not where GPT-2, GPT-NeoX or LLaMA keep them")
    block, norm = find(model, layout.blocks)[-1], find(model, layout.final_norm)
    head = model.get_output_embeddings()  # type: ignore[operator]
    out = find(block, layout.mlp_out)
    if out is None:
        raise RaretokError(f"{name} is not supported: its last block has no {layout.mlp_out} (mixture of experts?)")
    for extra in ("post_feedforward_layernorm", "post_mlp_layernorm"):
        if hasattr(block, extra):
            raise RaretokError(f"{name} is not supported: its MLP is followed by a norm ({extra})")
    if norm is None or head is None:
        raise RaretokError(f"{name} is not supported: it has no final norm or no unembedding")
    rms = "RMS" in type(norm).__name__
    w_out = rows_of(out).T
    d_model = w_out.shape[1]
    gain = getattr(norm, "weight", None)  # A norm without weights (OLMo) has gain 1.
    bias = getattr(norm, "bias", None)
    eps = next((float(getattr(norm, n)) for n in ("variance_epsilon", "eps") if hasattr(norm, n)), None)
    if eps is None and type(norm).__name__ == "OlmoLayerNorm":
        eps = 1e-5  # OLMo hard-codes this constant in its forward pass.
    if eps is None:
        raise RaretokError(f"{name} is not supported: its final norm, {type(norm).__name__}, has no epsilon")
    head_bias = getattr(head, "bias", None)
    readout = Readout(
        w_out=w_out.detach().contiguous(),
        gain=(torch.ones(d_model) if gain is None else gain.detach()).to(w_out),
        bias=(torch.zeros(d_model) if bias is None else bias.detach()).to(w_out),
        eps=eps,
        centred=not rms,
        unembed=head.weight.detach().T,
        unembed_bias=(torch.zeros(head.weight.shape[0]) if head_bias is None else head_bias.detach()).to(w_out),
    )
    for field in ("w_out", "gain", "bias", "unembed", "unembed_bias"):
        if not getattr(readout, field).isfinite().all():
            raise RaretokError(
                f"{name} has NaN or infinite values in {field}: the checkpoint is damaged, fetch it again"
            )
    return readout


def _refuse_unsupported(name: str, config: Any) -> None:
    reasons = {
        "an encoder–decoder": getattr(config, "is_encoder_decoder", False),
        "a model with a soft cap on its logits": getattr(config, "final_logit_softcapping", None),
        "a mixture of experts": getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None),
        "a model that scales its logits": getattr(config, "logits_scaling", 1.0) != 1.0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise RaretokError(f"{name} is not supported: it is {reason}, and its readout is not of the form needed")


def check_readout(
    readout: Readout, residual: Float[Tensor, "row d_model"], logits: Float[Tensor, "row vocab"], name: str
) -> float:
    """Largest error of the readout's logits against the model's own, relative to their standard deviation.

    Raises:
        RaretokError: if the error exceeds what rounding explains (1e-4 in float32, 1e-9 in float64).
    """
    spread = float(logits.std())
    error = float((readout.logits(residual) - logits).abs().max()) / max(spread, 1e-30)
    limit = 1e-9 if logits.dtype == torch.float64 else 1e-4
    if not error <= limit:
        raise RaretokError(
            f"{name}: the readout misses the model's logits by {error:.1e} of their spread (allowed {limit:.0e}): "
            "its final layers are not of the supported form"
        )
    return error

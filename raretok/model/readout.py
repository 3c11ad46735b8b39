"""The readout: the five tensors between the last MLP's neurons and the logits, extracted from a model and checked.

A model whose final layers are not of the supported form is rejected by name; a model that only appears to be of that
form fails the self-check.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from raretok.errors import RaretokError
from raretok.model.architecture import (
    AFTER_MLP,
    BLOCK_TIMES,
    CAPS,
    LAYOUTS,
    OVER,
    TIMES,
    Layout,
    find,
    layout_of,
    rows_of,
    setting,
)

LOGIT_BYTES = 1 << 26
"""Size to which the logits held at a time are limited."""


class Norm(NamedTuple):
    """A LayerNorm or RMSNorm: ``gain · C r / √(|C r|²/d_model + eps) + bias``, where C centres or does nothing."""

    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    eps: float
    centred: bool

    def centre(self, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """C x."""
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def scale(self, centred: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row"]:
        """What the norm divides by, from C x."""
        return (centred.square().mean(-1) + self.eps).sqrt()

    def normed(self, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """The norm of x, in the dtype of x."""
        centred = self.centre(x)
        return centred / self.scale(centred)[..., None] * self.gain.to(x) + self.bias.to(x)


@dataclass(frozen=True)
class Readout:
    """How a residual stream becomes logits: final norm (``gain``, ``bias``, ``eps``, centring) and unembedding.

    ``logits = norm(r) @ unembed + unembed_bias`` with ``norm(r) = gain · C r / √(|C r|²/d_model + eps) + bias``; C is
    centring for LayerNorm and the identity for RMSNorm. ``w_out[i]`` is what neuron i adds to the MLP's output, which
    the residual stream takes up; in some families a norm comes between, ``after`` (Gemma-2/3, OLMo-2/3), which also
    sees the bias of the output matrix, ``out_bias``. With a soft cap, the logits are ``cap · tanh(logits / cap)``.
    """

    w_out: Float[Tensor, "neuron d_model"]
    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    eps: float
    centred: bool
    unembed: Float[Tensor, "d_model vocab"]
    unembed_bias: Float[Tensor, " vocab"]
    after: Norm | None = None
    out_bias: Float[Tensor, " d_model"] | None = None
    cap: float | None = None

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
        fields = ("w_out", "gain", "bias", "unembed", "unembed_bias", "out_bias")
        moved = {name: getattr(self, name).to(*args) for name in fields if getattr(self, name) is not None}
        after = self.after and self.after._replace(gain=self.after.gain.to(*args), bias=self.after.bias.to(*args))
        return replace(self, **moved, after=after)

    @property
    def direction(self) -> Float[Tensor, "neuron d_model"]:
        """Along what each neuron moves the residual stream: its row of ``w_out``, as the norm after the MLP, if there
        is one, stretches it.
        """
        return self.w_out if self.after is None else self.after.gain * self.after.centre(self.w_out)

    def mlp_output(self, activation: Float[Tensor, "row neuron"]) -> Float[Tensor, "row d_model"] | None:
        """The output of the last MLP, where a norm follows it; None otherwise, because nothing depends on it then.

        It is summed in float64, so that no error bound has to allow for it, and returned in the activations' dtype.
        """
        if self.after is None:
            return None
        out = activation.double() @ self.w_out.double()
        return (out if self.out_bias is None else out + self.out_bias.double()).to(activation.dtype)

    def step(
        self, mlp: Float[Tensor, "row d_model"] | None, change: Float[Tensor, "row d_model"]
    ) -> Float[Tensor, "row d_model"]:
        """How the residual stream moves when the MLP's output moves by ``change``; ``mlp``: see ``mlp_output``."""
        if self.after is None or mlp is None:
            return change
        before, moved = self.after.centre(mlp), self.after.centre(change)
        scale, new_scale = (self.after.scale(x)[:, None] for x in (before, before + moved))
        grown = (moved * (2 * before + moved)).mean(1, keepdim=True)
        shrunk = -grown / (scale * new_scale * (scale + new_scale))
        return self.after.gain * (shrunk * before + moved / new_scale)

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
        return self.capped(normed @ self.unembed + self.constant)

    def capped(self, logits: Float[Tensor, "row vocab"]) -> Float[Tensor, "row vocab"]:
        """The logits under the soft cap, if there is one."""
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def losses(self, residual: Float[Tensor, "row d_model"], target: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """Cross-entropy of the targets in nats, a few rows at a time."""
        few = max(1, LOGIT_BYTES // (self.vocab * residual.element_size()))
        parts = zip(torch.split(residual, few), torch.split(target, few), strict=True)
        return torch.cat([nn.functional.cross_entropy(self.logits(r), t, reduction="none") for r, t in parts])


def extract_readout(model: nn.Module) -> Readout:
    """Extract the readout from a Hugging Face causal language model.

    Multipliers of the logits become a part of the final norm.

    Raises:
        RaretokError: if the architecture is not of the supported form, or a weight is NaN or infinite.
    """
    config, name = model.config, type(model).__name__
    layout = layout_of(model)
    if reason := _why_not(model, layout):
        raise RaretokError(f"{name} is not supported: {reason}")
    assert layout
    block = find(model, layout.blocks)[-1]
    head, out = model.get_output_embeddings(), find(block, layout.mlp_out)  # type: ignore[operator]
    w_out = rows_of(out).T.detach().contiguous()
    block_times = float(setting(config, *BLOCK_TIMES) or 1.0) * float(getattr(block, "layer_scalar", 1.0))
    final = _norm_of(name, "its final norm", find(model, layout.final_norm), w_out)
    norms = (find(block, path) for path in AFTER_MLP)
    between = next((norm for norm in norms if norm is not None and not isinstance(norm, nn.Identity)), None)
    after = None if between is None else _norm_of(name, "the norm after its MLP", between, w_out)
    times = float(setting(config, *TIMES) or 1.0) / float(setting(config, *OVER) or 1.0)
    bias, out_bias = getattr(head, "bias", None), getattr(out, "bias", None)
    readout = Readout(
        w_out=w_out * block_times if after is None else w_out,
        gain=final.gain * times,
        bias=final.bias * times,
        eps=final.eps,
        centred=final.centred,
        unembed=head.weight.detach().T,
        unembed_bias=(torch.zeros(head.weight.shape[0]) if bias is None else bias.detach()).to(w_out),
        after=after and after._replace(gain=after.gain * block_times),
        out_bias=None if after is None or out_bias is None else out_bias.detach(),
        cap=setting(config, *CAPS),
    )
    _refuse_damaged(name, **{n: getattr(readout, n) for n in ("w_out", "gain", "bias", "unembed", "unembed_bias")})
    return readout


def _misfit(model: nn.Module, last: nn.Module) -> str:
    """Why a model fits no layout; ``last`` is its last block."""
    if "mamba" in type(last).__name__.lower():
        return "its blocks are state-space models without an MLP layer"
    for layout in LAYOUTS:
        blocks = find(model, layout.blocks)
        if blocks and find(blocks[-1], layout.mlp_out) is not None:
            return f"it has no {layout.final_norm}, the norm between its last block and the unembedding"
    parts = ", ".join(name for name, _ in last.named_children()) or "(no parts)"
    return (
        "its parts are not where any of the families in raretok.model.architecture.LAYOUTS keeps them; its last block "
        f"has {parts}"
    )


def _norm_of(name: str, what: str, module: nn.Module, like: Float[Tensor, "neuron d_model"]) -> Norm:
    _refuse_damaged(name, gain=getattr(module, "weight", None))
    norm = read_norm(module, like)
    if norm is None:
        kind = type(module).__name__
        raise RaretokError(f"{name} is not supported: {what}, {kind}, is neither a LayerNorm nor an RMSNorm")
    return norm


def _refuse_damaged(name: str, **tensors: Any) -> None:
    for field, tensor in tensors.items():
        if isinstance(tensor, Tensor) and not tensor.isfinite().all():
            raise RaretokError(
                f"{name} has NaN or infinite values in {field}: the checkpoint is damaged, fetch it again"
            )


def _why_not(model: nn.Module, layout: Layout | None) -> str | None:
    """The reason why a model's final layers are not of the form needed; None if they may be."""
    config = model.config
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder–decoder, and its last layer also reads the encoder"
    blocks = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len, default=nn.ModuleList())
    last = blocks[-1] if len(blocks) else model
    names = [name.rpartition(".")[2] for name, _ in last.named_modules()]
    if any(name in ("experts", "router") or "moe" in name for name in names):
        return "its last block is a mixture of experts, so that the neurons of a token depend on a router"
    if layout is None:
        return _misfit(model, last)
    if getattr(last, "per_layer_input_gate", None) is not None:
        return "its last block adds a second embedding of the token after the MLP, through a gate that the MLP moves"
    if model.get_output_embeddings() is None:  # type: ignore[operator]
        return "it has no unembedding"
    return None


def read_norm(module: nn.Module, like: Float[Tensor, "neuron d_model"]) -> Norm | None:
    """Find out by trying which norm a module is; None if it is neither a LayerNorm nor an RMSNorm.

    Families differ in whether a gain is stored as such or less 1, where the epsilon is, and whether there is a bias.
    """
    width = like.shape[1]
    generator = torch.Generator().manual_seed(0)
    # The epsilon shows in the small rows.
    x = torch.randn(6, width, generator=generator) * torch.tensor([3.0, 1.0, 0.3, 0.03, 0.01, 0.003])[:, None] + 0.01
    x = x.to(like)
    try:
        with torch.inference_mode():
            expected = module(x).double()
    except (RuntimeError, TypeError):
        return None
    weight, bias = (getattr(module, n, None) for n in ("weight", "bias"))
    shift = torch.zeros(width).to(like) if bias is None else bias.detach()
    gains = [torch.ones(width).to(like)] if weight is None else [weight.detach(), 1 + weight.detach()]
    named = [
        float(getattr(module, n)) for n in ("variance_epsilon", "eps", "epsilon", "norm_eps") if hasattr(module, n)
    ]
    found: list[tuple[float, Norm]] = []
    for gain, eps, centred in product(gains, named or (1e-5, 1e-6), (True, False)):
        norm = Norm(gain, shift, eps, centred)
        found.append((float((norm.normed(x.double()) - expected).abs().max() / expected.abs().max()), norm))
    error, best = min(found, key=lambda pair: pair[0])
    return best if error < 1e-5 else None


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

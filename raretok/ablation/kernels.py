"""The three inner loops of the ablation passes, compiled where a compiler is at hand and the work is worth it.

Each is plain torch code; compiled and uncompiled they give the same numbers up to rounding. ``pair_sums`` is the exact pass,
one exponential for every (token, neuron, type); the others are what the second-order pass does between matrix products.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

logger = logging.getLogger(__name__)

WORTH_COMPILING = 10**11
"""Pairs × types from which on half a minute of compiling is paid back."""
REACH = 8.0
"""|X − μ| up to which ``pair_sums`` may use its short exponential."""
VOCAB_BLOCK = 4096
"""Types summed at a time: blocks stay in cache, and short sums round less."""
TYPE_BYTES = 1 << 26
"""Size of the largest temporary of an uncompiled block of pairs."""


@cache
def can_compile(device: str) -> bool:
    """Whether torch can compile for a device here – a C++ compiler and headers are there – found out by trying once."""
    try:
        return bool((_compiled(_short_sum)(*_example(device)) == 0).all())
    except Exception as error:
        logger.warning("ablation runs uncompiled, several times slower (%s)", str(error).strip().partition("\n")[0])
        return False


def _example(device: str) -> tuple[Tensor, ...]:
    rows, pairs = torch.zeros(3, 32, device=device), torch.zeros(5, device=device)
    return rows, rows, rows, pairs.long(), pairs.long(), pairs, pairs, pairs


@cache
def has_bf16(device: str) -> bool:
    """Whether bfloat16 matrix products are done in hardware."""
    if device == "cpu":
        return any(getattr(torch.cpu, f"_is_{unit}_supported", bool)() for unit in ("avx512_bf16", "amx_tile"))
    return device == "cuda" and torch.cuda.is_bf16_supported()


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    # Contraction to fused multiply–add: fewer roundings, and a third less time. Row indices are ours, and valid.
    options: dict[str, Any] = {"cpp.enable_floating_point_contract_flag": "fast", "assert_indirect_indexing": False}
    return torch.compile(function, dynamic=True, options=options)


def _run(function: Callable[..., Any], compiled: bool, *arguments: Tensor) -> Any:
    return (_compiled(function) if compiled else function)(*arguments)


def softmax_stats(
    compiled: bool,
    lam: Float[Tensor, "token vocab"],
    sigma: Float[Tensor, " token"],
    constant: Float[Tensor, " vocab"],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """p = softmax(λ/σ + b); then λ − E[λ], p·(λ − E[λ]), and of the centred λ its variance, largest and smallest value."""
    return _run(_softmax_stats, compiled, lam, sigma, constant)


# no_type_check: run-time checkers wrap functions in what cannot be compiled.
@no_type_check
def _softmax_stats(lam: Tensor, sigma: Tensor, constant: Tensor) -> tuple[Tensor, ...]:
    logits = lam / sigma[:, None] + constant
    e = torch.exp(logits - logits.amax(1, keepdim=True))
    p = e / e.sum(1, keepdim=True)
    centred = lam - (p * lam).sum(1, keepdim=True)
    weighted = p * centred
    return p, centred, weighted, (weighted * centred).sum(1), centred.amax(1), centred.amin(1)


def bracket(compiled: bool, *arguments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bracket of method §3: log E[e^X] − μ to second order, and the two ends between which it is proven to be.

    Arguments, all broadcast over token × neuron: variance of X and by how much its rounded value may be off, and how far X
    may lie above and below its mean.
    """
    return _run(_bracket, compiled, *arguments)


@no_type_check
def _bracket(variance: Tensor, off: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    upper = torch.log1p((variance + off).clamp_min(0.0) * psi(up.clamp_min(0.0)))
    lower = torch.log1p((variance - off).clamp_min(0.0) * psi(-down.clamp_min(0.0)))
    middle = torch.minimum(torch.maximum(variance / 2, lower), upper)
    return middle, lower, upper


@no_type_check
def psi(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """(e^y − 1 − y) / y², increasing, ½ at 0; by its series where the subtraction would lose digits."""
    series = 0.5 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120 + y / 720)))
    return torch.where(y.abs() < 0.05, series, (torch.expm1(y) - y) / y.square().clamp_min(1e-30))


def pair_sums(
    compiled: bool,
    p: Float[Tensor, "token vocab"],
    lam: Float[Tensor, "token vocab"],
    u: Float[Tensor, "neuron vocab"],
    token: Int[Tensor, " pair"],
    neuron: Int[Tensor, " pair"],
    alpha: Float[Tensor, " pair"],
    kappa: Float[Tensor, " pair"],
    mean: Float[Tensor, " pair"],
) -> Float[Tensor, " pair"]:
    """Σ_v p_v · expm1(α λ_v + κ u_v − mean) of each pair, by blocks of types; fastest with the pairs in order of neuron.

    Compiled, |α λ + κ u − mean| must stay below ``REACH``.
    """
    total = torch.zeros_like(alpha)
    pairs = len(alpha) if compiled else max(1, TYPE_BYTES // (VOCAB_BLOCK * alpha.element_size()))
    for start in range(0, len(alpha), max(pairs, 1)):
        k = slice(start, start + pairs)
        for v in range(0, p.shape[1], VOCAB_BLOCK):
            w = slice(v, v + VOCAB_BLOCK)
            rows = (p[:, w], lam[:, w], u[:, w], token[k], neuron[k], alpha[k], kappa[k], mean[k])
            total[k] += _run(_short_sum if compiled else _plain_sum, compiled, *rows)
    return total


def _plain_sum(
    p: Tensor, lam: Tensor, u: Tensor, token: Tensor, neuron: Tensor, alpha: Tensor, kappa: Tensor, mean: Tensor
) -> Tensor:
    y = u[neuron].mul_(kappa[:, None]).addcmul_(lam[token], alpha[:, None]).sub_(mean[:, None])
    return (y.expm1_() * p[token]).sum(1)


@no_type_check
def _short_sum(
    p: Tensor, lam: Tensor, u: Tensor, token: Tensor, neuron: Tensor, alpha: Tensor, kappa: Tensor, mean: Tensor
) -> Tensor:
    # expm1 by Taylor's series of y/16 and four times expm1(2z) = q(2 + q): no branch and no integer, all fused.
    z = (alpha[:, None] * lam[token] + kappa[:, None] * u[neuron] - mean[:, None]) / 16
    q = z * (1 + z * (1 / 2 + z * (1 / 6 + z * (1 / 24 + z * (1 / 120 + z * (1 / 720 + z / 5040))))))
    q = q * (2 + q)
    q = q * (2 + q)
    q = q * (2 + q)
    q = q * (2 + q)
    return (p[token] * q).sum(1)

"""The three inner loops of the ablation passes, compiled where a compiler is at hand and the work is worth it.

Each is plain torch code; compiled and uncompiled they give the same numbers up to rounding. ``pair_sums`` is the exact pass,
one exponential for every (token, neuron, type); the others are what the second-order pass does between matrix products.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

logger = logging.getLogger(__name__)

WORTH_COMPILING = 10**11
"""Pairs × types from which on half a minute of compiling is paid back."""
REACHES = ((1.0, 1), (2.0, 2), (8.0, 4))
"""|X − μ| up to which a short exponential with so many doublings is good to float32."""
BF16 = (1 + 2**-8) ** 3 - 1 + 2**-9
"""Relative error of a sum of positive products in bfloat16: two rounded factors, a rounded result, the sum's own roundings."""
VOCAB_BLOCK = 4096
"""Types summed at a time: short sums round less."""
PAIR_BLOCK = 1024
"""Types of which the rows of a whole tile stay in cache."""
TYPE_BYTES = 1 << 26
"""Size of the largest temporary of an uncompiled block of pairs."""


@cache
def can_compile(device: str) -> bool:
    """Whether torch can compile for a device here – a C++ compiler and headers are there – found out by trying once."""
    try:
        return bool((_compiled(_pair_sums)(1, *_example(device)) == 0).all())
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


def _run(function: Callable[..., Any], compiled: bool, *arguments: Any) -> Any:
    return (_compiled(function) if compiled else function)(*arguments)


def softmax_stats(
    compiled: bool,
    lam: Float[Tensor, "token vocab"],
    sigma: Float[Tensor, " token"],
    constant: Float[Tensor, " vocab"],
    cut: int,
    low: torch.dtype,
) -> tuple[Tensor, ...]:
    """p = softmax(λ/σ + b); λ − E[λ]; p and p·(λ − E[λ]) in the dtype ``low``; then, of the types before ``cut`` and of the
    others, the sums of p, p·λ and p·λ² and the largest and smallest λ, λ centred."""
    return _run(_softmax_stats, compiled, lam, sigma, constant, cut, low)


# no_type_check: run-time checkers wrap functions in what cannot be compiled.
@no_type_check
def _softmax_stats(lam: Tensor, sigma: Tensor, constant: Tensor, cut: int, low: torch.dtype) -> tuple[Tensor, ...]:
    logits = lam / sigma[:, None] + constant
    e = torch.exp(logits - logits.amax(1, keepdim=True))
    p = e / e.sum(1, keepdim=True)
    centred = lam - (p * lam).sum(1, keepdim=True)
    weighted = p * centred
    sums = []
    for q, x, w in (
        (p[:, :cut], centred[:, :cut], weighted[:, :cut]),
        (p[:, cut:], centred[:, cut:], weighted[:, cut:]),
    ):
        sums += [q.sum(1), w.sum(1), (w * x).sum(1), x.amax(1), x.amin(1)]
    return p, centred, p.to(low), weighted.to(low), *sums


def part_square(compiled: bool, low_precision: bool, *arguments: Tensor) -> tuple[Tensor, Tensor]:
    """Σ p·Y² over a part of the vocabulary, Y = αλ + κu − mean, and by how much its rounded value may be off.

    Arguments, all broadcast over token × neuron: α, κ, mean; the part's sums of p, p·λ, p·λ², p·u, p·λ·u, p·u², the last in low
    precision or not; and by how much the sum of p·λ·u may be off.
    """
    return _run(_part_square, compiled, low_precision, *arguments)


@no_type_check
def _part_square(low_precision, alpha, kappa, mean, mass, lam, lam_square, u, lam_u, u_square, lam_u_off):
    cross, own = 2 * alpha * kappa, kappa * kappa * u_square
    linear = mean * (2 * (alpha * lam + kappa * u) - mean * mass)
    square = alpha * alpha * lam_square + cross * lam_u + own - linear
    rounded = 16 * torch.finfo(alpha.dtype).eps * (linear.abs() + own)
    off = rounded + cross.abs() * lam_u_off + (BF16 * own if low_precision else 0.0)
    return square.clamp_min(0.0), off


def bracket(compiled: bool, *arguments: Tensor) -> tuple[Tensor, Tensor]:
    """Between what Σ p·(e^Y − 1 − Y) over a part of the vocabulary is proven to be (method §3).

    Arguments, all broadcast over token × neuron: Σ p·Y² and by how much its rounded value may be off, and how far Y may lie above
    and below 0.
    """
    return _run(_bracket, compiled, *arguments)


@no_type_check
def _bracket(square: Tensor, off: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    return (square - off).clamp_min(0.0) * psi(-down), (square + off) * psi(up)


@no_type_check
def psi(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """(e^y − 1 − y) / y², increasing, ½ at 0; by its series where the subtraction would lose digits."""
    series = 0.5 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120 + y / 720)))
    return torch.where(y.abs() < 0.05, series, (torch.expm1(y) - y) / y.square().clamp_min(1e-30))


def doublings_for(far: Float[Tensor, "..."], compiled: bool) -> Int[Tensor, "..."]:
    """Which of the short exponentials of ``REACHES`` is good for |Y| up to ``far``; 0, the library's own, for any."""
    doublings = torch.zeros_like(far, dtype=torch.long)
    for limit, count in reversed(REACHES if compiled and far.dtype == torch.float32 else ()):
        doublings[far < limit] = count
    return doublings


def pair_sums(
    compiled: bool,
    doublings: int,
    p: Float[Tensor, "token type"],
    lam: Float[Tensor, "token type"],
    u: Float[Tensor, "neuron type"],
    token: Int[Tensor, " pair"],
    neuron: Int[Tensor, " pair"],
    alpha: Float[Tensor, " pair"],
    kappa: Float[Tensor, " pair"],
    mean: Float[Tensor, " pair"],
) -> Float[Tensor, " pair"]:
    """Σ_v p_v · expm1(α λ_v + κ u_v − mean) of each pair, by blocks of types; fastest with the pairs in order of neuron.

    ``doublings`` is that of ``REACHES`` for the largest |α λ + κ u − mean|; 0 is for any.
    """
    total = torch.zeros_like(alpha)
    for k, w in _blocks(compiled, alpha, p.shape[1]):
        rows = (p[:, w], lam[:, w], u[:, w])
        total[k] += _run(_pair_sums, compiled, doublings, *rows, token[k], neuron[k], alpha[k], kappa[k], mean[k])
    return total


def _blocks(compiled: bool, pairs: Tensor, types: int) -> Iterator[tuple[slice, slice]]:
    """Pairs × types in pieces that fit the cache (compiled) or a temporary (not compiled)."""
    block = PAIR_BLOCK if compiled else VOCAB_BLOCK
    step = len(pairs) if compiled else max(1, TYPE_BYTES // (VOCAB_BLOCK * pairs.element_size()))
    for start in range(0, len(pairs), max(step, 1)):
        for v in range(0, types, block):
            yield slice(start, start + step), slice(v, v + block)


@no_type_check
def _pair_sums(doublings, p, lam, u, token, neuron, alpha, kappa, mean):
    y = alpha[:, None] * lam[token] + (kappa[:, None] * u[neuron] - mean[:, None])
    return (p[token] * _expm1(y, doublings)).sum(1)


def output_sums(compiled: bool, doublings: int, *arguments: Tensor) -> Float[Tensor, "sum pair"]:
    """Σ p·expm1(Y)·f for f = 1, Y, log p, log q, and Σ p·expm1(Z), Y = αλ + κu − mean, Z = Y − along·direction + along_mean.

    Arguments: p, λ [token, type], u [neuron, type], log p [token, type], log q, direction [type]; then of every pair its token and
    neuron, α, κ, mean, along, along_mean. ``doublings`` as of ``pair_sums``, for the larger of |Y| and |Z|.
    """
    p, lam, u, log_p, log_q, direction, token, neuron, *of_pair = arguments
    total = p.new_zeros(5, len(token))
    for k, w in _blocks(compiled, of_pair[0], p.shape[1]):
        rows = (p[:, w], lam[:, w], u[:, w], log_p[:, w], log_q[w], direction[w], token[k], neuron[k])
        total[:, k] += torch.stack(_run(_output_sums, compiled, doublings, *rows, *(x[k] for x in of_pair)))
    return total


@no_type_check
def _output_sums(doublings, p, lam, u, log_p, log_q, direction, token, neuron, alpha, kappa, mean, along, along_mean):
    y = alpha[:, None] * lam[token] + (kappa[:, None] * u[neuron] - mean[:, None])
    w = p[token] * _expm1(y, doublings)
    frozen = p[token] * _expm1(y - along[:, None] * direction + along_mean[:, None], doublings)
    return w.sum(1), (w * y).sum(1), (w * log_p[token]).sum(1), (w * log_q).sum(1), frozen.sum(1)


@no_type_check
def _expm1(y, doublings):
    # Taylor's series of expm1(z), |z| ≤ 1/2, then expm1(2z) = q(2 + q): no branch and no integer, all fused.
    if not doublings:
        return torch.expm1(y)
    z = y / 2**doublings
    square = z * z
    tail = 1 / 24 + z * (1 / 120) + square * (1 / 720 + z * (1 / 5040))
    q = z + square * (1 / 2 + z * (1 / 6) + square * tail)
    for _ in range(doublings):
        q = q * (2 + q)
    return q

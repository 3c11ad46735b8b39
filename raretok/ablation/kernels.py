"""The inner loops of the ablation passes, compiled where a compiler is available and the amount of work justifies it.

Each is plain torch code that gives the same numbers up to rounding, compiled or not. ``pair_sums`` and ``output_sums``
are exact passes, with one or two exponentials for every (token, neuron, type); the others are the operations of the
second-order pass between matrix products.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

logger = logging.getLogger(__name__)

WORTH_COMPILING = 10**11
"""Number of pairs × types above which compilation, which takes half a minute, saves time."""
REACHES = ((1.0, 1), (2.0, 2), (8.0, 4))
"""Bounds on |X − μ|, each with the number of doublings for which a short exponential has float32 precision there."""
BF16 = (1 + 2**-8) ** 3 - 1 + 2**-9
"""Relative error of a sum of positive products in bfloat16.

It covers two rounded factors, the rounded result, and the rounding of the sum itself.
"""
VOCAB_BLOCK = 4096
"""Number of types summed at a time; short sums have smaller rounding errors."""
PAIR_BLOCK = 1024
"""Number of types for which the rows of a whole tile fit in the cache."""
TYPE_BYTES = 1 << 26
"""Size in bytes of the largest temporary array of an uncompiled block of pairs."""


@cache
def can_compile(device: str) -> bool:
    """Whether torch can compile for a device on this machine, which needs a C++ compiler and headers; tried once."""
    if os.environ.get("TORCH_COMPILE_DISABLE", "0") not in ("", "0"):
        return False
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
    """Whether the hardware supports bfloat16 matrix products."""
    if device == "cpu":
        return any(getattr(torch.cpu, f"_is_{unit}_supported", bool)() for unit in ("avx512_bf16", "amx_tile"))
    return device == "cuda" and torch.cuda.is_bf16_supported()


@contextmanager
def float32_sums(device: str) -> Iterator[None]:
    """Within this context, products of bfloat16 matrices are summed in float32 on a graphics card, too, as the bound of
    their rounding assumes (``BF16``)."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_bf16_reduced_precision_reduction if device == "cuda" else None
    if before:
        matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        if before:
            matmul.allow_bf16_reduced_precision_reduction = before


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    # Contraction to fused multiply–add rounds less and saves a third of the time. Row indices need no check: they are
    # computed by this package.
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
    cap: float | None = None,
) -> tuple[Tensor, ...]:
    """Statistics of p = softmax(λ/σ + b), whose logits may have a soft cap.

    Returns p; λ − E[λ]; p and p·(λ − E[λ]) in the dtype ``low``; then, first for the types before ``cut`` and second
    for the others, the sums of p, p·λ and p·λ² and the largest and smallest λ, where λ is centred.
    """
    return _run(_softmax_stats, compiled, lam, sigma, constant, cut, low, cap)


# no_type_check is needed because run-time type checkers wrap functions in code that cannot be compiled.
@no_type_check
def _softmax_stats(
    lam: Tensor, sigma: Tensor, constant: Tensor, cut: int, low: torch.dtype, cap: float | None
) -> tuple[Tensor, ...]:
    logits = lam / sigma[:, None] + constant
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
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
    """Σ p·Y² over a part of the vocabulary, with Y = αλ + κu − mean, and a bound of its rounding error.

    The arguments are broadcast over token × neuron: α, κ, mean; the part's sums of p, p·λ, p·λ², p·u, p·λ·u and p·u²,
    the last in low precision or not; and a bound of the error of the sum of p·λ·u.
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
    """Proven lower and upper bounds of Σ p·(e^Y − 1 − Y) over a part of the vocabulary (method §3).

    The arguments are broadcast over token × neuron: Σ p·Y², a bound of its rounding error, and bounds of how far Y lies
    above and below 0.
    """
    return _run(_bracket, compiled, *arguments)


@no_type_check
def _bracket(square: Tensor, off: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    return (square - off).clamp_min(0.0) * psi(-down), (square + off) * psi(up)


@no_type_check
def psi(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The increasing function (e^y − 1 − y) / y², ½ at 0; its series is used where cancellation would lose digits."""
    series = 0.5 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120 + y / 720)))
    return torch.where(y.abs() < 0.05, series, (torch.expm1(y) - y) / y.square().clamp_min(1e-30))


def doublings_for(far: Float[Tensor, "..."], compiled: bool) -> Int[Tensor, "..."]:
    """Number of doublings of the short exponential of ``REACHES`` that is precise for |Y| up to ``far``.

    The value 0 stands for the library's own exponential, which has no limit.
    """
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
    beta: Float[Tensor, " pair"] | None = None,
    mu: Float[Tensor, "token type"] | None = None,
) -> Float[Tensor, " pair"]:
    """Σ_v p_v · expm1(α λ_v + β μ_v + κ u_v − mean) of each pair, summed in blocks of types; β is 0 if it is not given.

    It is fastest if the pairs are sorted by neuron. ``doublings`` is the value of ``doublings_for`` for the largest
    exponent.
    """
    total = torch.zeros_like(alpha)
    for k, w in _blocks(compiled, alpha, p.shape[1]):
        rows = (p[:, w], lam[:, w], u[:, w])
        third = () if beta is None or mu is None else (beta[k], mu[:, w])
        of_pair = (token[k], neuron[k], alpha[k], kappa[k], mean[k])
        total[k] += _run(_pair_sums, compiled, doublings, *rows, *of_pair, *third)
    return total


def capped_sums(
    compiled: bool,
    doublings: int,
    cap: float,
    p: Float[Tensor, "token type"],
    squashed: Float[Tensor, "token type"],
    lam: Float[Tensor, "token type"],
    u: Float[Tensor, "neuron type"],
    token: Int[Tensor, " pair"],
    neuron: Int[Tensor, " pair"],
    alpha: Float[Tensor, " pair"],
    kappa: Float[Tensor, " pair"],
    offset: Float[Tensor, " pair"],
    beta: Float[Tensor, " pair"] | None = None,
    mu: Float[Tensor, "token type"] | None = None,
) -> Float[Tensor, "sum pair"]:
    """Σ_v p_v · expm1(Y_v) and Σ_v p_v · Y_v of each pair for logits with a soft cap.

    X = α λ + β μ + κ u + offset moves the logits before the cap, Y those after it; ``squashed`` is tanh(logits/cap).
    ``doublings`` is as in ``pair_sums``, for the larger of |X| and |2X/cap|.
    """
    total = alpha.new_zeros(2, len(alpha))
    for k, w in _blocks(compiled, alpha, p.shape[1]):
        rows = (p[:, w], squashed[:, w], lam[:, w], u[:, w])
        third = () if beta is None or mu is None else (beta[k], mu[:, w])
        of_pair = (token[k], neuron[k], alpha[k], kappa[k], offset[k])
        total[:, k] += torch.stack(_run(_capped_sums, compiled, doublings, cap, *rows, *of_pair, *third))
    return total


@no_type_check
def _capped_sums(doublings, cap, p, squashed, lam, u, token, neuron, alpha, kappa, offset, beta=None, mu=None):
    x = alpha[:, None] * lam[token] + (kappa[:, None] * u[neuron] + offset[:, None])
    if beta is not None:
        x = x + beta[:, None] * mu[token]
    y = under_cap(cap, squashed[token], x, doublings)
    return (p[token] * _expm1(y, doublings)).sum(1), (p[token] * y).sum(1)


@no_type_check
def under_cap(cap, squashed, x, doublings=0):
    """How far a logit moves under a soft cap if it moves by x before it.

    The form cap · tanh(x/cap) · (1 − s²) / (1 + s · tanh(x/cap)) with s = tanh(logit/cap) does not cancel.
    """
    # Compiled, torch.tanh and torch.expm1 have no relative precision for small arguments.
    e = _expm1((2 * x / cap).clamp(-60, 60), doublings)
    moved = e / (e + 2)
    return cap * moved * (1 - squashed * squashed) / (1 + squashed * moved)


def _blocks(compiled: bool, pairs: Tensor, types: int) -> Iterator[tuple[slice, slice]]:
    """Split pairs × types into blocks that fit the cache (compiled) or the largest temporary array (not compiled)."""
    block = PAIR_BLOCK if compiled else VOCAB_BLOCK
    step = len(pairs) if compiled else max(1, TYPE_BYTES // (VOCAB_BLOCK * pairs.element_size()))
    for start in range(0, len(pairs), max(step, 1)):
        for v in range(0, types, block):
            yield slice(start, start + step), slice(v, v + block)


@no_type_check
def _pair_sums(doublings, p, lam, u, token, neuron, alpha, kappa, mean, beta=None, mu=None):
    y = alpha[:, None] * lam[token] + (kappa[:, None] * u[neuron] - mean[:, None])
    if beta is not None:
        y = y + beta[:, None] * mu[token]
    return (p[token] * _expm1(y, doublings)).sum(1)


def output_sums(compiled: bool, doublings: int, *arguments: Tensor) -> Float[Tensor, "sum pair"]:
    """Σ p·expm1(Y)·f for f = 1, Y, log p, log q, and Σ p·expm1(Z).

    Here Y = αλ + βμ + κu − mean and Z = Y − along·direction + along_mean. The arguments are p and λ [token, type],
    u [neuron, type], log p [token, type], log q and direction [type]; then, for every pair, its token and neuron, along
    and along_mean, α, κ, mean and, if it is not 0, β, with μ [token, type] as the last argument. ``doublings`` is as in
    ``pair_sums``, for the larger of |Y| and |Z|.
    """
    p, lam, u, log_p, log_q, direction, token, neuron, *of_pair = arguments
    mu = of_pair.pop() if len(of_pair) > 5 else None
    total = p.new_zeros(5, len(token))
    for k, w in _blocks(compiled, of_pair[0], p.shape[1]):
        rows = (p[:, w], lam[:, w], u[:, w], log_p[:, w], log_q[w], direction[w], token[k], neuron[k])
        third = () if mu is None else (mu[:, w],)
        total[:, k] += torch.stack(_run(_output_sums, compiled, doublings, *rows, *(x[k] for x in of_pair), *third))
    return total


@no_type_check
def _output_sums(
    doublings,
    p,
    lam,
    u,
    log_p,
    log_q,
    direction,
    token,
    neuron,
    along,
    along_mean,
    alpha,
    kappa,
    mean,
    beta=None,
    mu=None,
):
    y = alpha[:, None] * lam[token] + (kappa[:, None] * u[neuron] - mean[:, None])
    if beta is not None:
        y = y + beta[:, None] * mu[token]
    w = p[token] * _expm1(y, doublings)
    frozen = p[token] * _expm1(y - along[:, None] * direction + along_mean[:, None], doublings)
    return w.sum(1), (w * y).sum(1), (w * log_p[token]).sum(1), (w * log_q).sum(1), frozen.sum(1)


@no_type_check
def _expm1(y, doublings):
    # The Taylor series of expm1(z), |z| ≤ 1/2, is followed by doublings expm1(2z) = q(2 + q). Without branches and
    # integers, everything can be fused.
    if not doublings:
        return torch.expm1(y)
    z = y / 2**doublings
    square = z * z
    tail = 1 / 24 + z * (1 / 120) + square * (1 / 720 + z * (1 / 5040))
    q = z + square * (1 / 2 + z * (1 / 6) + square * tail)
    for _ in range(doublings):
        q = q * (2 + q)
    return q

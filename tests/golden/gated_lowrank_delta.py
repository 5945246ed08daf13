"""gated_lowrank_delta.flow -- one gate, then the low-rank delta rule (after ParallelFlow, arXiv 2504.00492)

Made by flowc 0.1.0 from the spec gated_lowrank_delta (sha256 8002a7d16d5c7840); options: chunk_size = None, aggregation = auto, schedule = auto, backend = auto, save = states.
This file is yours: flowc claims nothing in what it emits. It needs torch and nothing else.

The recurrence:

    # gated_lowrank_delta.flow -- one gate, then the low-rank delta rule (after ParallelFlow, arXiv 2504.00492)
    flow gated_lowrank_delta(K, V, R)

    input q : K
    input A, B : K x R
    input W : V x R
    input g : scalar <= 0
    state S : K x V

    S[t] = exp(g) * S[t-1]
    S[t] = (I + B @ A.T) @ S[t] + B @ W.T
    o[t] = S[t].T @ q

In normal form, per token:

    recurrence gated_lowrank_delta: class D, reads of the state on the key side
      gate  exp(g) on rows
      write (B) (W + S^T (A) at point 0.1)^T summed over rank in R
      read0 = S^T (q) at point 0.2
      o = read0

In chunks of C tokens, S_0 the state before the chunk:

    N[m, m'] = y_m . l_m' exp(gr_m - gl_m')   where row m' is written before row m reads
    Z = V + (Y * exp(gr)) S_0
    U = (I - N)^-1 Z
    P[t, m] = q_t . l_m exp(gq_t - gl_m)   where row m is written before the output
    O = (Q * exp(gq)) S_0 + P U
    S_C = exp(g_C) * S_0 + (L * exp(g_C - gl))^T U

B batch, T tokens, H value heads, C tokens of a chunk; S [B, H, K, V] the state.
a row is one write of one token; q queries, l left factors, y reads over K; v right sides, u solved ones over V.
g cumulative log gates within a chunk: gr where a row reads, gl where it writes, gq where an output reads.
Per-token tensors are [B, T, H, *], chunked ones [T / C, B H, rows, *].

In the code:

    log_gates  log gates by rows
    sums       their sums within a chunk, a 0 first
    g_read     gr
    g_write    gl
    g_query    gq
    g_last     g_C
    decay      exp of differences of gate sums where a row is seen, else 0
    inverse    (I - N)^-1; by `signature`, N with those of I - N's diagonal blocks of 16 rows
    y_decayed  Y * exp(gr)
    l_decayed  L * exp(g_C - gl)
    x_bar      the gradient of x
    x_rows     x by rows
    exp_x      exp(x); of two, exp of their difference
    x_y        otherwise, a product of x and y
"""

from __future__ import annotations

import inspect
import math
import operator
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache, reduce, wraps
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode
from torch.utils.weak import WeakTensorKeyDictionary

__flowc_version__ = "0.1.0"
__spec_hash__ = "8002a7d16d5c7840018af09ad5112b9adbde5de77a1557987534b1882e02118c"
__options__ = {
    "chunk_size": None,
    "aggregation": "auto",
    "schedule": "auto",
    "backend": "auto",
    "save": "states",
}

_LOG_FLOOR = {
    torch.float32: -104.0,
    torch.float64: -746.0,
}  # exp of it is 0, and its multiples are finite
_LEAST = {
    torch.float32: 2.0**-56,
    torch.float64: 2.0**-500,
}  # decays below are 0: see _decays
_NAME = "gated_lowrank_delta"
_VALUE = "W"
_TENSORS = ("q", "A", "B", "W", "g", "initial_state")
_OUTPUTS = 1
_STATES = 1
_RESULTS = _OUTPUTS + _STATES
_STATE_NAMES = ("S",)
_STATE_SHAPES = (", H, K, V]",)
_FILLS = (0.0,)
_TIMED = (True, True, True, True, True)
_CHUNK_SIZES = (
    (1, 64),
    (2, 32),
    (None, 16),
)  # (rows per token up to, tokens)
_FORWARD_CHUNK_SIZES = (
    (1, 32),
    (None, 16),
)  # where no gradient is asked for
_AGGREGATIONS = (
    (128, "wy"),
    (None, "signature"),
)  # (rows per chunk up to, how)
_OPERATOR = "gated_lowrank_delta_5176410c98bc816f"  # in torch.ops.flowc, where it means this text: change it with the code

# -- support: what this module uses of the chunk program's primitives -----------------------------------------------------


def _uncast(device: torch.device) -> Any:
    """Autocast off where it is on: inputs come in the types they have, and what products are taken in is the op's rule."""
    cast = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(
        device.type
    )
    return torch.autocast(device.type, enabled=False) if cast else nullcontext()


def _cached(make: Any) -> Any:
    """What `make` builds, kept for later calls; not under a dispatch mode, whose tensors may be fakes that end with it."""
    kept = lru_cache(maxsize=64)(make)

    @wraps(make)
    def found(*arguments: Any) -> Any:
        return (make if is_in_torch_dispatch_mode() else kept)(*arguments)

    return found


def _per_value_head(x: Tensor, heads: int) -> Tensor:
    """An input [B, T, H', *] with fewer heads as [B, T, H, *]: value head h has head h // (H / H')."""
    return x if x.shape[2] == heads else x.repeat_interleave(heads // x.shape[2], 2)


def _to_rows(values: Tensor, tokens: int, by: Tensor | None = None) -> Tensor:
    """Per-token rows [B, T, H, J, *] as chunks [T / C, B H, C J, *], times a number per row (`by`) where there is one.

    The last chunk is filled up with zeros. The result is contiguous: products of rows that lie apart take twice as long.
    """
    batch, length, heads, rows, *rest = values.shape
    chunks = -(-length // tokens)
    if chunks * tokens != length:
        values = F.pad(values, (0, 0) * (len(rest) + 2) + (0, chunks * tokens - length))
    values = values.reshape(batch, chunks, tokens, heads, rows, *rest)
    values = values.permute(1, 0, 3, 2, 4, *range(5, values.dim()))
    values = values.reshape(chunks, batch * heads, tokens * rows, *rest)
    return (
        values.contiguous()
        if by is None
        else torch.mul(values, by[..., None], out=by.new_empty(values.shape))
    )


def _from_rows(
    values: Tensor, batch: int, length: int, heads: int, tokens: int
) -> Tensor:
    """Chunks [T / C, B H, C J, *] as per-token rows [B, T, H, J, *]: the inverse of `_to_rows`."""
    chunks, _, rows, *rest = values.shape
    values = values.reshape(chunks, batch, heads, tokens, rows // tokens, *rest)
    values = values.permute(1, 0, 3, 2, 4, *range(5, values.dim()))
    return values.reshape(batch, chunks * tokens, heads, rows // tokens, *rest)[
        :, :length
    ]


def _put(out: Tensor, values: Tensor) -> None:
    """Per-token values [B, T, H, *] into [B, T, H', *], summed over the value heads that share one of H'."""
    if out.shape[2] != values.shape[2]:
        first, *others = values.unflatten(
            2, (out.shape[2], values.shape[2] // out.shape[2])
        ).unbind(3)
        values = reduce(
            torch.add, others, first
        )  # `sum` promises no order that is the same for every length
    out.copy_(values)


def _put_rows(out: Tensor, values: Tensor, heads: int, tokens: int) -> None:
    """One row a token, [T / C, B H, C, *], into [B, T, H', *] without a copy in between where the chunks are full."""
    chunks, _, _, *rest = values.shape
    batch, length = out.shape[:2]
    values = values.reshape(chunks, batch, heads, tokens, *rest)
    values = values.permute(1, 0, 3, 2, *range(4, values.dim()))
    if out.shape[2] == heads and length == chunks * tokens:
        out.unflatten(1, (chunks, tokens)).copy_(values)
    else:
        _put(out, values.reshape(batch, chunks * tokens, heads, *rest)[:, :length])


def _product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """left @ right of every head into `out`, made in the operands' type."""
    return (
        torch.bmm(left, right, out=out)
        if left.dtype == out.dtype
        else out.copy_(torch.bmm(left, right))
    )


def _sum_product(
    total: Tensor, left: Tensor, right: Tensor, out: Tensor | None = None
) -> Tensor:
    """total + left @ right of every head."""
    if left.dtype == total.dtype:
        return torch.baddbmm(total, left, right, out=out)
    return torch.add(total, torch.bmm(left, right), out=out)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """total + left @ right of every head, or chunk and head, in the memory of `total`, which nothing else holds."""
    if total.dim() == 4:
        _add_product(
            total.view(-1, *total.shape[2:]), left.flatten(0, 1), right.flatten(0, 1)
        )
    elif left.dtype == total.dtype:
        total.baddbmm_(left, right)
    else:
        total.add_(torch.bmm(left, right))
    return total


def _points(positions: tuple[int, ...], gates: tuple[int, ...]) -> tuple[int, ...]:
    """How many of a step's gates come before each position."""
    return tuple(sum(g < p for g in gates) for p in positions)


@_cached
def _rows_index(
    points: tuple[int, ...], gates: int, tokens: int, device: torch.device
) -> Tensor:
    """The gate sum that each row of a chunk takes: entry t G + point."""
    steps = torch.arange(tokens, device=device)[:, None] * gates
    return (steps + torch.tensor(points, device=device)).reshape(tokens * len(points))


def _gate_sums(log_gates: Tensor) -> Tensor:
    """Cumulative sums over a chunk's log gates [N, B H, C G, *], a 0 first: [N, B H, C G + 1, *].

    In float64: differences of float32 sums lose up to 6e-5 where strong and mild gates mix in one chunk.
    """
    sums = log_gates.new_zeros(
        (*log_gates.shape[:2], log_gates.shape[2] + 1, *log_gates.shape[3:]),
        dtype=torch.float64,
    )
    torch.cumsum(log_gates, 2, dtype=torch.float64, out=sums[:, :, 1:])
    return sums


def _gate_sums_adjoint(sums_bar: Tensor, dtype: torch.dtype) -> Tensor:
    """Gradients of log gates from those of their sums: every later sum holds the gate."""
    return sums_bar[:, :, 1:].flip(2).cumsum(2, dtype=torch.float64).flip(2).to(dtype)


def _at(sums: Tensor, points: tuple[int, ...], gates: int, tokens: int) -> Tensor:
    """The gate sum at the point of each row: [N, B H, C G + 1, *] to [N, B H, C J, *]; a view where a step has one row."""
    if len(points) == 1:
        return sums[:, :, points[0] : points[0] + (tokens - 1) * gates + 1 : gates]
    return sums.index_select(2, _rows_index(points, gates, tokens, sums.device))


def _at_adjoint(
    rows_bar: Tensor, points: tuple[int, ...], gates: int, tokens: int
) -> Tensor:
    """The adjoint of `_at`: gradients of the gate sums from those of rows."""
    sums_bar = rows_bar.new_zeros(
        (*rows_bar.shape[:2], tokens * gates + 1, *rows_bar.shape[3:])
    )
    if len(points) == 1:
        sums_bar[:, :, points[0] : points[0] + (tokens - 1) * gates + 1 : gates] = (
            rows_bar
        )
        return sums_bar
    return sums_bar.index_add_(
        2, _rows_index(points, gates, tokens, rows_bar.device), rows_bar
    )


def _last_adjoint(last_bar: Tensor, entries: int) -> Tensor:
    """The adjoint of taking the last gate sum."""
    sums_bar = last_bar.new_zeros((*last_bar.shape[:2], entries, *last_bar.shape[2:]))
    sums_bar[:, :, -1] = last_bar
    return sums_bar


@_cached
def _mask(
    reads: tuple[int, ...], writes: tuple[int, ...], tokens: int, device: torch.device
) -> Tensor:
    """Whether row (t', j') is written before row (t, j) reads: an earlier token, or the same one and earlier in the step."""
    t = torch.arange(tokens, device=device)
    within = torch.tensor(
        [[w < r for w in writes] for r in reads], device=device, dtype=torch.bool
    )
    before = t[:, None, None, None] > t[:, None]
    same = (t[:, None, None, None] == t[:, None]) & within[:, None]
    return (before | same).reshape(tokens * len(reads), tokens * len(writes))


def _decays(log: Tensor) -> Tensor:
    """exp(log) in the memory of `log`, and exactly 0 where it is below _LEAST: a trace of 1 that no result shows.

    Two decays multiplied are still no denormal number, with which exponentials and products take many times as long.
    """
    least = _LEAST[log.dtype]
    log.clamp_(min=math.log(least) - 1)
    odd = (
        math.prod(log.shape[2:]) % 32
    )  # no whole vectors: exp of what is left rounds differently
    return F.threshold_(
        log.copy_(log.double().exp_()) if odd else log.exp_(), least, 0.0
    )


@_cached
def _highest(
    reads: tuple[int, ...],
    writes: tuple[int, ...],
    tokens: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """The largest logarithm of a decay between two rows: -inf where the mask does not hold, else any."""
    seen = _mask(reads, writes, tokens, device)
    return torch.where(seen, torch.inf, -torch.inf).to(dtype)


def _decay_matrix(rows: Tensor, columns: Tensor, highest: Tensor) -> Tensor:
    """exp(rows[m] - columns[m']), and 0 where row m' is not seen; masked before exp, so that nothing overflows."""
    log = highest.new_empty(*rows.shape, columns.shape[-1])
    torch.sub(rows[..., :, None], columns[..., None, :], out=log)
    return _decays(torch.minimum(log, highest, out=log))


def _wide_product(left: Tensor, right: Tensor | None = None) -> Tensor:
    """left @ right in float64; without `right`, left by its transpose."""
    wide = left.double()
    return wide @ (wide.mT if right is None else right.double())


@_cached
def _identity(rows: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The identity matrix."""
    return torch.eye(rows, device=device, dtype=dtype)


def _inverse_wy(matrix: Tensor) -> Tensor:
    """(I - matrix)^{-1} of strictly lower triangular matrices by forward substitution, the UT transform of the WY form."""
    eye = _identity(matrix.shape[-1], matrix.device, matrix.dtype)
    return torch.linalg.solve_triangular(
        eye - matrix, eye.expand_as(matrix), upper=False, unitriangular=True
    )


def _inverse_tensorinv(matrix: Tensor) -> Tensor:
    """(I - matrix)^{-1} by recursive block inversion: [[A, 0], [B, D]]^{-1} = [[A', 0], [-D' B A', D']]."""
    rows = matrix.shape[-1]
    size = 1 << max(rows - 1, 0).bit_length()
    least = _LEAST[matrix.dtype]
    matrix = F.hardshrink(F.pad(matrix, (0, size - rows, 0, size - rows)), least)
    out = torch.eye(size, dtype=matrix.dtype, device=matrix.device).repeat(
        *matrix.shape[:-2], 1, 1
    )
    half = 1
    while half < size:
        tiles = [
            x.unflatten(-1, (-1, 2 * half)).unflatten(-3, (-1, 2 * half))
            for x in (matrix, out)
        ]
        below, done = (x.diagonal(0, -4, -2).movedim(-1, -3) for x in tiles)
        first, last = done[..., :half, :half], done[..., half:, half:]
        done[..., half:, :half] = F.hardshrink(
            last @ below[..., half:, :half] @ first, least
        )
        half *= 2
    return out[..., :rows, :rows]


def _inverse_signature(matrix: Tensor) -> Tensor:
    """The inverses of I - matrix's diagonal blocks of 16 rows, by forward substitution; beside them, matrix as it is."""
    rows = matrix.shape[-1]
    missing = -rows % 16
    out = F.pad(matrix, (0, missing, 0, missing))
    blocks = (
        out.unflatten(-1, (-1, 16))
        .unflatten(-3, (-1, 16))
        .diagonal(0, -4, -2)
        .movedim(-1, -3)
    )
    eye = torch.eye(16, dtype=matrix.dtype, device=matrix.device)
    blocks.copy_(
        torch.linalg.solve_triangular(
            eye - blocks, eye.expand_as(blocks), upper=False, unitriangular=True
        )
    )
    return out[..., :rows, :rows]


_INVERSES = {
    "wy": _inverse_wy,
    "tensorinv": _inverse_tensorinv,
    "signature": _inverse_signature,
}


def _solve(
    inverse: Tensor,
    right: Tensor,
    aggregation: str,
    transposed: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """(I - N)^{-1} right, or with N transposed, of every head, by what `_INVERSES` formed of N, in float64."""
    if aggregation == "signature":
        solved = _substituted(inverse, right.to(torch.float64, copy=True), transposed)
    else:
        solved = (inverse.mT if transposed else inverse) @ right.double()
    return solved.to(right.dtype) if out is None else out.copy_(solved)


def _substituted(inverse: Tensor, out: Tensor, transposed: bool) -> Tensor:
    """Substitution in place, 16 rows at a time: they are solved for, then taken out of all rows that are left."""
    inverse = inverse.mT if transposed else inverse
    starts = range(0, out.shape[1], 16)
    for start in reversed(starts) if transposed else starts:
        here, left = (
            slice(start, start + 16),
            slice(0, start) if transposed else slice(start + 16, None),
        )
        solved = out[:, here]
        solved.copy_(inverse[:, here, here] @ solved)
        out[:, left].baddbmm_(inverse[:, left, here], solved)
    return out


# -- step by step ---------------------------------------------------------------------------------------------------------


def _advance(
    q: Tensor, A: Tensor, B: Tensor, W: Tensor, g: Tensor, S: Tensor, dtype: torch.dtype
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """One token: outputs and new states, from inputs [B, H, *] and states [B, H, *] of type `dtype`."""
    batch, heads = W.shape[:2]
    device = W.device
    K = q.shape[2]
    V = W.shape[2]
    # S[t] = exp(g) * S[t-1]
    S = torch.exp(g)[..., None, None] * S
    # S[t] = (I + B @ A.T) @ S[t] + B @ W.T
    S = (torch.eye(K, device=device, dtype=dtype) + B @ A.mT) @ S + B @ W.mT
    # o[t] = S[t].T @ q
    o = (S.mT @ q[..., :, None])[..., 0]
    return (o.expand(batch, heads, V),), (S.expand(batch, heads, K, V),)


# -- in chunks ------------------------------------------------------------------------------------------------------------


def _forward_rows(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
    S: Tensor,
    tokens: int,
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """Numbers per row, [T / C, B H, rows], for all chunks at once: those of a segment are few."""
    batch, length, heads = W.shape[:3]
    R = A.shape[4]
    g = _per_value_head(g, heads).to(dtype)
    row_reads = (1,) * R
    gate_positions = (0,)
    row_read_points = _points(row_reads, gate_positions)
    row_writes = (1,) * R
    row_write_points = _points(row_writes, gate_positions)
    query_reads = (2,)
    query_read_points = _points(query_reads, gate_positions)
    # S[t] = exp(g) * S[t-1]
    log_gates = _to_rows(torch.clamp(g, min=_LOG_FLOOR[dtype]).unsqueeze(3), tokens)
    sums = _gate_sums(log_gates)
    g_read = _at(sums, row_read_points, 1, tokens)
    g_write = _at(sums, row_write_points, 1, tokens)
    exp_g_read = _decays(g_read.to(dtype, copy=True))
    g_query = _at(sums, query_read_points, 1, tokens)
    exp_g_query = _decays(g_query.to(dtype, copy=True))
    g_last = sums[:, :, -1]
    exp_g_last = _decays(g_last.to(dtype, copy=True))
    exp_g_last_g_write = _decays((g_last[..., None] - g_write).to(dtype, copy=True))
    return (
        g_read,
        g_write,
        exp_g_read,
        g_query,
        exp_g_query,
        exp_g_last,
        exp_g_last_g_write,
    )


def _forward(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
    S: Tensor,
    rows: Sequence[Tensor],
    tokens: int,
    aggregation: str,
    dtype: torch.dtype,
    narrow: torch.dtype,
    keep: bool,
    outs: list[Tensor],
) -> tuple[Tensor, ...]:
    """Write outputs to `outs` and what comes after the state to `S`; with `keep`, what to save."""
    batch, length, heads = W.shape[:3]
    device = W.device
    K = q.shape[3]
    V = W.shape[3]
    R = A.shape[4]
    q = _per_value_head(q, heads).to(dtype)
    A = _per_value_head(A, heads).to(dtype)
    B = _per_value_head(B, heads).to(dtype)
    W = _per_value_head(W, heads).to(dtype)
    chunks = -(-length // tokens)
    programs = batch * heads
    S = S.view(programs, K, V)
    (
        g_read,
        g_write,
        exp_g_read,
        g_query,
        exp_g_query,
        exp_g_last,
        exp_g_last_g_write,
    ) = rows
    row_reads = (1,) * R
    row_writes = (1,) * R
    query_reads = (2,)
    # S[t] = (I + B @ A.T) @ S[t] + B @ W.T
    l = _to_rows(B.transpose(-2, -1), tokens)
    v = _to_rows(W.transpose(-2, -1), tokens)
    y = _to_rows(A.transpose(-2, -1), tokens)
    N = _wide_product(y, l.mT).mul_(
        _decay_matrix(
            g_read, g_write, _highest(row_reads, row_writes, tokens, device, dtype)
        )
    )
    y_decayed = exp_g_read[..., None] * y
    inverse = F.hardshrink(_INVERSES[aggregation](N), _LEAST[dtype])
    # o[t] = S[t].T @ q
    q_ = _to_rows(q.unsqueeze(3), tokens)
    q_narrow = q_.to(narrow)
    l_narrow = l.to(narrow)
    P = _decay_matrix(
        g_query, g_write, _highest(query_reads, row_writes, tokens, device, dtype)
    ).mul_((q_narrow @ l_narrow.mT).to(dtype))
    l_decayed = exp_g_last_g_write[..., None] * l
    U = S.new_empty(chunks, programs, tokens * R, V)
    q_S = S.new_empty(chunks, programs, tokens, V)
    S_ = S.new_empty(chunks if keep else 0, programs, K, V)
    y_decayed_narrow = y_decayed.to(narrow)
    l_decayed_narrow = l_decayed.to(narrow)
    for c in range(chunks):
        if keep:
            S_[c] = S
        S_narrow = S.to(narrow)
        _solve(
            inverse[c],
            _sum_product(v[c], y_decayed_narrow[c], S_narrow),
            aggregation,
            out=U[c],
        )
        _product(q_narrow[c], S_narrow, q_S[c])
        U_narrow = U[c].to(narrow)
        S.mul_(exp_g_last[c][..., None, None])
        _add_product(S, l_decayed_narrow[c].mT, U_narrow)
    P_narrow = P.to(narrow)
    U_narrow_ = U.to(narrow)
    _put_rows(
        outs[0],
        _add_product(q_S.mul_(exp_g_query[..., None]), P_narrow, U_narrow_),
        heads,
        tokens,
    )
    return (
        (
            S_,
            N.to(dtype),
            inverse,
            U,
            P,
        )
        if keep
        else ()
    )


def _outputs(q: Tensor, A: Tensor, B: Tensor, W: Tensor, g: Tensor) -> list[Tensor]:
    """Memory for the outputs of whole sequences, in the type of the value input."""
    batch, length, heads = W.shape[:3]
    V = W.shape[3]
    return [W.new_empty(batch, length, heads, V)]


def _kept(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
    tokens: int,
    dtype: torch.dtype,
) -> list[tuple[torch.dtype, list[int]]]:
    """The types and sizes of what is kept for the backward pass, for one chunk and head."""
    K = q.shape[3]
    V = W.shape[3]
    R = A.shape[4]
    return [
        (dtype, [K, V]),
        (dtype, [tokens * R, tokens * R]),
        (torch.float64, [tokens * R, tokens * R]),
        (dtype, [tokens * R, V]),
        (dtype, [tokens, tokens * R]),
    ]


def _backward_rows(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
    S: Tensor,
    tokens: int,
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """Numbers per row, [T / C, B H, rows], for all chunks at once: those of a segment are few."""
    batch, length, heads = W.shape[:3]
    R = A.shape[4]
    g = _per_value_head(g, heads).to(dtype)
    row_reads = (1,) * R
    gate_positions = (0,)
    row_read_points = _points(row_reads, gate_positions)
    row_writes = (1,) * R
    row_write_points = _points(row_writes, gate_positions)
    query_reads = (2,)
    query_read_points = _points(query_reads, gate_positions)
    # S[t] = exp(g) * S[t-1]
    log_gates = _to_rows(torch.clamp(g, min=_LOG_FLOOR[dtype]).unsqueeze(3), tokens)
    sums = _gate_sums(log_gates)
    g_read = _at(sums, row_read_points, 1, tokens)
    g_write = _at(sums, row_write_points, 1, tokens)
    exp_g_read = _decays(g_read.to(dtype, copy=True))
    g_query = _at(sums, query_read_points, 1, tokens)
    exp_g_query = _decays(g_query.to(dtype, copy=True))
    g_last = sums[:, :, -1]
    exp_g_last = _decays(g_last.to(dtype, copy=True))
    exp_g_last_g_write = _decays((g_last[..., None] - g_write).to(dtype, copy=True))
    return (
        g_read,
        g_write,
        exp_g_read,
        g_query,
        exp_g_query,
        exp_g_last,
        exp_g_last_g_write,
    )


def _backward(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
    S_bar: Tensor,
    rows: Sequence[Tensor],
    saved: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    tokens: int,
    aggregation: str,
    dtype: torch.dtype,
    narrow: torch.dtype,
    need: frozenset[str],
    grads: list[Tensor | None],
) -> None:
    """Write the gradients named in `need` to `grads`, adding up those of params, and that of the state before to `S_bar`."""
    batch, length, heads = W.shape[:3]
    device = W.device
    K = q.shape[3]
    V = W.shape[3]
    R = A.shape[4]
    q = _per_value_head(q, heads).to(dtype)
    A = _per_value_head(A, heads).to(dtype)
    B = _per_value_head(B, heads).to(dtype)
    g = _per_value_head(g, heads).to(dtype)
    chunks = -(-length // tokens)
    programs = batch * heads
    S_bar = S_bar.view(programs, K, V)
    (
        g_read,
        g_write,
        exp_g_read,
        g_query,
        exp_g_query,
        exp_g_last,
        exp_g_last_g_write,
    ) = rows
    row_reads = (1,) * R
    row_writes = (1,) * R
    query_reads = (2,)
    gate_positions = (0,)
    query_read_points = _points(query_reads, gate_positions)
    row_write_points = _points(row_writes, gate_positions)
    row_read_points = _points(row_reads, gate_positions)
    (o_bar,) = cotangents
    o_bar = (
        S_bar.new_zeros(batch, length, heads, V) if o_bar is None else o_bar.to(dtype)
    )
    (
        S,
        N,
        inverse,
        U,
        P,
    ) = saved
    # S[t] = (I + B @ A.T) @ S[t] + B @ W.T
    l = _to_rows(B.transpose(-2, -1), tokens)
    y = _to_rows(A.transpose(-2, -1), tokens)
    if need & {"A", "B"}:
        decay = _decay_matrix(
            g_read, g_write, _highest(row_reads, row_writes, tokens, device, dtype)
        )
    y_decayed = exp_g_read[..., None] * y
    # o[t] = S[t].T @ q
    q_ = _to_rows(q.unsqueeze(3), tokens)
    q_narrow = q_.to(narrow)
    if need & {"q", "A", "g"}:
        S_narrow = S.to(narrow)
    l_decayed = exp_g_last_g_write[..., None] * l
    O_bar = _to_rows(o_bar.unsqueeze(3), tokens)
    O_bar_narrow = O_bar.to(narrow)
    if need & {"q", "A", "B", "g"}:
        U_narrow = U.to(narrow)
    if need & {"q", "B", "g"}:
        P_bar = (O_bar_narrow @ U_narrow.mT).to(dtype)
    P_narrow = P.to(narrow)
    P_O_bar = (P_narrow.mT @ O_bar_narrow).to(dtype)
    if need & {"g"}:
        P_bar_P = P_bar * P
    if need & {"q", "B"}:
        decay_P_bar = _decay_matrix(
            g_query, g_write, _highest(query_reads, row_writes, tokens, device, dtype)
        ).mul_(P_bar)
    if need & {"g"}:
        minus_P_bar_P_sum = -P_bar_P.sum(-2, dtype=torch.float64)
    if need & {"q", "B"}:
        decay_P_bar_narrow = decay_P_bar.to(narrow)
    l_narrow = l.to(narrow)
    if need & {"B"}:
        decay_P_bar_q = (decay_P_bar_narrow.mT @ q_narrow).to(dtype)
    exp_g_query_O_bar = exp_g_query[..., None] * O_bar
    exp_g_query_O_bar_narrow = exp_g_query_O_bar.to(narrow)
    if need & {"g"}:
        t = _at_adjoint(
            (
                (q_narrow @ S_narrow).to(dtype).mul_(O_bar).sum(-1, dtype=torch.float64)
                * exp_g_query
            ).add_(P_bar_P.sum(-1, dtype=torch.float64)),
            query_read_points,
            1,
            tokens,
        )
        above_floor_g = (g > _LOG_FLOOR[dtype]).to(dtype)
    if need & {"B", "g"}:
        l_decayed_bar = S_bar.new_empty(chunks, programs, tokens * R, K)
    if need & {"g"}:
        S_S_bar_sum = S_bar.new_empty(
            chunks,
            programs,
        )
    Z_bar = S_bar.new_empty(chunks, programs, tokens * R, V)
    l_decayed_narrow = l_decayed.to(narrow)
    y_decayed_narrow = y_decayed.to(narrow)
    for c in reversed(range(chunks)):
        S_bar_narrow = S_bar.to(narrow)
        if need & {"B", "g"}:
            _product(U_narrow[c], S_bar_narrow.mT, l_decayed_bar[c])
        if need & {"g"}:
            S_S_bar_sum[c] = (S[c] * S_bar).sum((-2, -1))
        _solve(
            inverse[c],
            _sum_product(P_O_bar[c], l_decayed_narrow[c], S_bar_narrow),
            aggregation,
            transposed=True,
            out=Z_bar[c],
        )
        Z_bar_narrow = Z_bar[c].to(narrow)
        S_bar.mul_(exp_g_last[c][..., None, None])
        _add_product(S_bar, q_narrow[c].mT, exp_g_query_O_bar_narrow[c])
        _add_product(S_bar, y_decayed_narrow[c].mT, Z_bar_narrow)
    if need & {"g"}:
        t_ = (l * l_decayed_bar).sum(-1, dtype=torch.float64) * exp_g_last_g_write
    Z_bar_narrow_ = Z_bar.to(narrow)
    if need & {"A", "B", "g"}:
        N_bar = (Z_bar_narrow_ @ U_narrow.mT).to(dtype)
    if need & {"A", "g"}:
        y_decayed_bar = (Z_bar_narrow_ @ S_narrow.mT).to(dtype)
    if need & {"g"}:
        N_bar_N = N_bar * N
    if need & {"A", "B"}:
        decay_N_bar = decay * N_bar
        decay_N_bar_narrow = decay_N_bar.to(narrow)
    y_narrow = y.to(narrow)
    if need & {"g"}:
        log_gates_bar = _gate_sums_adjoint(
            _last_adjoint(t_.sum(-1) + S_S_bar_sum * exp_g_last, tokens + 1)
            + t
            + _at_adjoint(
                (-t_)
                .add_(minus_P_bar_P_sum)
                .add_(-N_bar_N.sum(-2, dtype=torch.float64)),
                row_write_points,
                1,
                tokens,
            )
            + _at_adjoint(
                ((y * y_decayed_bar).sum(-1, dtype=torch.float64) * exp_g_read).add_(
                    N_bar_N.sum(-1, dtype=torch.float64)
                ),
                row_read_points,
                1,
                tokens,
            ),
            dtype,
        )
        g_bar = (
            above_floor_g
            * _from_rows(log_gates_bar, batch, length, heads, tokens)[:, :, :, 0]
        )
    if "q" in need:
        _put_rows(
            grads[0],
            _add_product(
                (decay_P_bar_narrow @ l_narrow).to(dtype),
                exp_g_query_O_bar_narrow,
                S_narrow.mT,
            ),
            heads,
            tokens,
        )
    if "A" in need:
        _put(
            grads[1],
            _from_rows(
                _add_product(
                    exp_g_read[..., None] * y_decayed_bar, decay_N_bar_narrow, l_narrow
                ),
                batch,
                length,
                heads,
                tokens,
            ).transpose(-2, -1),
        )
    if "B" in need:
        _put(
            grads[2],
            _from_rows(
                (exp_g_last_g_write[..., None] * l_decayed_bar).add_(
                    (decay_N_bar_narrow.mT @ y_narrow).to(dtype).add_(decay_P_bar_q)
                ),
                batch,
                length,
                heads,
                tokens,
            ).transpose(-2, -1),
        )
    if "W" in need:
        _put(
            grads[3], _from_rows(Z_bar, batch, length, heads, tokens).transpose(-2, -1)
        )
    if "g" in need:
        _put(grads[4], g_bar)


class _Run(NamedTuple):
    """What runs apart: its rows of the state, its tokens in segments, the tokens of a chunk, how systems are solved."""

    own: slice
    segments: list[slice]
    tokens: int
    aggregation: str


def _runs(
    like: Tensor,
    cu_seqlens: Tensor | None,
    tokens: int,
    rows: int,
    aggregation: str | None,
    keep: bool,
) -> list[_Run]:
    """The whole batch as one, or each of the sequences that are packed, as it would run alone.

    Whole chunks one after another pass through the caches together: fewer where some of what they make is kept. Chunks
    have no more tokens than the sequence needs, `rows` for each.
    """
    runs = []
    for own, whole in _sequences(like, cu_seqlens):
        length = whole.stop - whole.start
        size = min(tokens, 1 << (max(length, 1) - 1).bit_length())
        chunks = min(32 if keep else 64, 2048 // size)
        step = size * max(1, chunks // max(like.shape[0] * like.shape[2], 1))
        starts = range(whole.start, max(whole.stop, whole.start + 1), step)
        how = (
            _choose(_AGGREGATIONS, size * rows)
            if aggregation in (None, "auto")
            else aggregation
        )
        runs.append(
            _Run(
                own, [slice(at, min(at + step, whole.stop)) for at in starts], size, how
            )
        )
    return runs


def _part(tensors: Sequence[Tensor | None], segment: slice) -> list[Any]:
    """The inputs or gradients of a segment: tokens are cut, params are not."""
    return [
        x[:, segment] if timed and x is not None else x
        for x, timed in zip(tensors, _TIMED, strict=True)
    ]


def _chunks(
    rows: Sequence[Tensor], segment: slice, whole: slice, tokens: int
) -> list[Tensor]:
    """What was made for all chunks of a whole sequence, of those in a segment."""
    first, last = (
        (segment.start - whole.start) // tokens,
        -(-(segment.stop - whole.start) // tokens),
    )
    return [x[first:last] for x in rows]


def _own(state: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy to be overwritten, chunk after chunk."""
    return state.to(dtype, copy=True, memory_format=torch.contiguous_format)


class _InChunks:
    """A call in torch operators: the chunk program, segment after segment; its adjoint, not autograd through it."""

    def __init__(
        self,
        cu_seqlens: Tensor | None,
        tokens: int,
        rows: int,
        aggregation: str | None,
        dtype: torch.dtype,
        narrow: torch.dtype,
        keep: bool,
    ) -> None:
        """Sequences, the tokens of a chunk, rows for each, how systems are solved, types, whether gradients may follow.

        `dtype` is what all is computed in but products, whose operands are of type `narrow`.
        """
        self.cu_seqlens, self.tokens, self.rows, self.aggregation = (
            cu_seqlens,
            tokens,
            rows,
            aggregation,
        )
        self.dtype, self.narrow, self.keep = dtype, narrow, keep
        self.runs: list[_Run] | None = None

    def planned(self, like: Tensor) -> list[_Run]:
        """What runs apart."""
        if self.runs is None:
            self.runs = _runs(
                like,
                self.cu_seqlens,
                self.tokens,
                self.rows,
                self.aggregation,
                self.keep,
            )
        return self.runs

    def forward(
        self,
        tensors: Sequence[Tensor],
        places: Sequence[Tensor] | None = None,
        last: bool = True,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Outputs, final states, asked for or not, and what a backward pass uses again, in `places` if there are any."""
        inputs, starts = tensors[:-_STATES], tensors[-_STATES:]
        outputs, saved, finals = (
            _outputs(*inputs),
            [],
            [_own(x, self.dtype) for x in starts],
        )
        left = iter(places or ())
        for own, segments, size, how in self.planned(inputs[3]):
            whole, states = (
                slice(segments[0].start, segments[-1].stop),
                [x[own] for x in finals],
            )
            once = _forward_rows(*_part(inputs, whole), *states, size, self.dtype)
            for segment in segments:
                part, outs = _part(inputs, segment), [o[:, segment] for o in outputs]
                chunks = _chunks(once, segment, whole, size)
                kept = _forward(
                    *part,
                    *states,
                    chunks,
                    size,
                    how,
                    self.dtype,
                    self.narrow,
                    self.keep,
                    outs,
                )
                saved += kept if places is None else [next(left).copy_(x) for x in kept]
        return outputs, finals, saved

    def backward(
        self,
        tensors: Sequence[Tensor],
        saved: Sequence[Tensor],
        cotangents: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients that are wanted, segment after segment from the end."""
        inputs, starts = tensors[:-_STATES], tensors[-_STATES:]
        bars, finals = cotangents[:_OUTPUTS], cotangents[_OUTPUTS:]
        runs = self.planned(inputs[3])
        kept = len(saved) // max(sum(len(run.segments) for run in runs), 1)
        need = frozenset(
            n for n, needed in zip(_TENSORS, wanted, strict=True) if needed
        ) | {"initial_state"}
        grads = [
            torch.zeros_like(x, memory_format=torch.contiguous_format)
            if n in need
            else None
            for n, x in zip(_TENSORS, inputs)
        ]
        pairs, at = zip(starts, finals, strict=True), len(saved)
        start_bars = [
            _own(torch.zeros_like(x) if bar is None else bar, self.dtype)
            for x, bar in pairs
        ]
        for own, segments, size, how in reversed(runs):
            whole, state_bars = (
                slice(segments[0].start, segments[-1].stop),
                [x[own] for x in start_bars],
            )
            once = _backward_rows(*_part(inputs, whole), *state_bars, size, self.dtype)
            for segment in reversed(segments):
                cut, at = (
                    [None if bar is None else bar[:, segment] for bar in bars],
                    at - kept,
                )
                _backward(
                    *_part(inputs, segment),
                    *state_bars,
                    _chunks(once, segment, whole, size),
                    saved[at : at + kept],
                    cut,
                    size,
                    how,
                    self.dtype,
                    self.narrow,
                    need,
                    _part(grads, segment),
                )
        asked = zip(starts, start_bars, wanted[-_STATES:], strict=True)
        return [
            *grads,
            *(bar.to(x.dtype) if needed else None for x, bar, needed in asked),
        ]

    def memory(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Memory for what is kept, as operators hold it: one tensor of each type, as large as follows from sizes alone."""
        inputs, starts = tensors[:-_STATES], tensors[-_STATES:]
        batch, length, heads = inputs[3].shape[:3]
        packed = (
            0 if self.cu_seqlens is None else self.cu_seqlens.shape[0] - 1
        )  # each may begin one chunk more
        chunks = length // self.tokens + packed if packed else -(-length // self.tokens)
        numbers: dict[torch.dtype, int] = {}
        for kind, sizes in _kept(*inputs, self.tokens, self.dtype):
            numbers[kind] = numbers.get(kind, 0) + math.prod(sizes)
        return [
            starts[0].new_empty(chunks * batch * heads * n, dtype=kind)
            for kind, n in numbers.items()
        ]

    def places(
        self, tensors: Sequence[Tensor], memory: Sequence[Tensor]
    ) -> list[Tensor]:
        """The parts of that memory, as `forward` fills them and `backward` takes them."""
        inputs = tensors[:-_STATES]
        programs, places = inputs[3].shape[0] * inputs[3].shape[2], []
        rest = {x.dtype: x for x in memory}
        for _, segments, size, _ in self.planned(inputs[3]):
            for segment in segments:
                chunks = -(-(segment.stop - segment.start) // size)
                for kind, sizes in _kept(*inputs, size, self.dtype):
                    shape = (chunks, programs, *sizes)
                    place, rest[kind] = rest[kind].tensor_split((math.prod(shape),))
                    places.append(place.view(shape))
        return places


# -- Triton kernels: the same chunk form on a GPU -----------------------------------------------------------------------------

try:
    import triton
    import triton.language as tl
except ImportError:  # the rest of this module works without
    triton = None

_INTERPRETED = triton is not None and triton.knobs.runtime.interpret


def _jit(function: Any) -> Any:
    """A kernel; calls of other lengths and numbers of heads share its compilation."""
    return (
        None
        if triton is None
        else triton.jit(
            function,
            do_not_specialize=(
                "length",
                "heads",
                "programs",
                "levels",
                "parts",
                "blocks",
                "A_heads",
                "B_heads",
                "q_heads",
                "q_b",
                "q_t",
                "q_h",
                "q_group",
                "A_b",
                "A_t",
                "A_h",
                "A_group",
                "B_b",
                "B_t",
                "B_h",
                "B_group",
                "W_b",
                "W_t",
                "W_h",
                "W_group",
                "g_b",
                "g_t",
                "g_h",
                "g_group",
            ),
        )
    )


@_jit
def _tl_floor_log(x):
    """A log gate, at least -104: exp of it is 0 in float32, and its multiples are finite. NaN stays."""
    return tl.where(x < -104.0, -104.0, x)


@_jit
def _tl_split(log_gates):
    """Natural logs in base 2, as whole numbers, whose sums are exact, and what is left of each, at most a half."""
    logs = log_gates * 1.4426950408889634
    whole = tl.floor(logs + 0.5)
    return whole, logs - whole


@_jit
def _tl_per_token(x, ROWS: tl.constexpr, PADDED: tl.constexpr):
    """Sums over every token's rows, [ROWS * PADDED] or [ROWS * PADDED, K]."""
    if len(x.shape) == 1:
        return tl.sum(tl.reshape(x, (ROWS, PADDED)), 1)
    else:
        return tl.sum(tl.reshape(x, (ROWS, PADDED, x.shape[1])), 1)


@_jit
def _tl_product(left, right, PRECISION: tl.constexpr):
    """A product whose left operand is computed, in blocks of 16 rows.

    A product of 64 rows would be a warp group's, and ptxas can corrupt one whose left operand comes from registers.
    """
    M: tl.constexpr = left.shape[0]
    if M < 64:
        return tl.dot(left, right, input_precision=PRECISION, out_dtype=tl.float32)
    else:
        N: tl.constexpr = right.shape[1]
        K: tl.constexpr = right.shape[0]
        rows = tl.reshape(left, (M // 16, 16, K))
        made = tl.dot(
            rows,
            tl.broadcast_to(right[None], (M // 16, K, N)),
            input_precision=PRECISION,
            out_dtype=tl.float32,
        )
        return tl.reshape(made, (M, N))


@_jit
def _tl_dot(left, right, acc, PRECISION: tl.constexpr):
    """A product whose left operand is as memory holds it, added to `acc`; what is changed on the way is computed.

    That is another type than products are made in, and float32, which is multiplied in parts.
    """
    if left.dtype == right.dtype and left.dtype != tl.float32:
        return tl.dot(
            left, right, acc=acc, input_precision=PRECISION, out_dtype=tl.float32
        )
    elif acc is None:
        return _tl_product(left.to(right.dtype), right, PRECISION)
    else:
        return acc + _tl_product(left.to(right.dtype), right, PRECISION)


@_jit
def _tl_matrices(left, right):
    """A product of matrices in float32; where an axis is short, as a rank is, without matrix units.

    Triton makes a product in tf32 of a plain sum of products; not of one that selects.
    """
    M: tl.constexpr = left.shape[0]
    K: tl.constexpr = left.shape[1]
    N: tl.constexpr = right.shape[1]
    if M < 16 or K < 16 or N < 16:
        there = tl.arange(0, K) < K
        return tl.sum(
            tl.where(there[None, :, None], left[:, :, None] * right[None, :, :], 0.0), 1
        )
    else:
        return tl.dot(left, right, input_precision="ieee")


@_jit
def _tl_diagonal(matrix, N: tl.constexpr, SIZE: tl.constexpr):
    """The blocks on the diagonal of a matrix [N, N], as [N // SIZE, SIZE, SIZE]."""
    block = tl.arange(0, N // SIZE)
    own = (block[:, None] == block[None, :])[:, None, :, None]
    return tl.sum(
        tl.where(own, tl.reshape(matrix, (N // SIZE, SIZE, N // SIZE, SIZE)), 0.0), 2
    )


@_jit
def _tl_substitution(blocks):
    """(I - block)^{-1} of strictly lower triangular blocks [*, 16, 16], row by row, all blocks at once."""
    row, column = tl.arange(0, 16)[None, :, None], tl.arange(0, 16)[None, None, :]
    out = tl.where(row == column, 1.0, 0.0) + tl.zeros_like(blocks)
    for i in range(1, 16):
        weights = tl.sum(tl.where(row == i, blocks, 0.0), 1)
        made = tl.sum(weights[:, :, None] * out, 1)
        out += tl.where(row == i, made[:, None, :], 0.0)
    return out


@_jit
def _tl_merged(
    matrix, out, N: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr
):
    """Inverses of twice as large blocks on the diagonal: [[A, 0], [-B, D]]^{-1} = [[A', 0], [D' B A', D']]."""
    PAIRS: tl.constexpr = N // (2 * SIZE)
    half = tl.arange(0, 2)
    below = half[:, None] > half[None, :]
    blocks = tl.reshape(_tl_diagonal(matrix, N, 2 * SIZE), (PAIRS, 2, SIZE, 2, SIZE))
    mixed = tl.sum(tl.sum(tl.where(below[None, :, None, :, None], blocks, 0.0), 3), 1)
    halves = tl.reshape(out, (PAIRS, 2, SIZE, SIZE))
    upper = (half == 0)[None, :, None, None]
    a, d = (
        tl.sum(tl.where(upper, halves, 0.0), 1),
        tl.sum(tl.where(upper, 0.0, halves), 1),
    )
    if SIZE < 16:
        made = tl.sum(mixed[:, :, :, None] * a[:, None, :, :], 2)
        made = tl.sum(d[:, :, :, None] * made[:, None, :, :], 2)
    else:
        made = tl.dot(mixed, a, input_precision=PRECISION, out_dtype=tl.float32)
        made = tl.dot(d, made, input_precision=PRECISION, out_dtype=tl.float32)
    same = (half[:, None] == half[None, :])[None, :, None, :, None]
    made = tl.where(below[None, :, None, :, None], made[:, None, :, None, :], 0.0)
    return tl.reshape(
        tl.where(same, halves[:, :, :, None, :], made), (PAIRS, 2 * SIZE, 2 * SIZE)
    )


@_jit
def _tl_inverse_wy(matrix, N: tl.constexpr, PRECISION: tl.constexpr):
    """(I - matrix)^{-1}: rows by forward substitution in diagonal blocks of 16, all at once, then blocks merged in pairs."""
    out = _tl_substitution(_tl_diagonal(matrix, N, 16))
    if N > 16:
        out = _tl_merged(matrix, out, N, 16, PRECISION)
    if N > 32:
        out = _tl_merged(matrix, out, N, 32, PRECISION)
    if N > 64:
        out = _tl_merged(matrix, out, N, 64, PRECISION)
    if N > 128:
        out = _tl_merged(matrix, out, N, 128, PRECISION)
    return tl.reshape(out, (N, N))


@_jit
def _tl_inverse_tensorinv(matrix, N: tl.constexpr, PRECISION: tl.constexpr):
    """(I - matrix)^{-1} by recursive block inversion, from single rows on."""
    out = _tl_merged(matrix, tl.full((N, 1, 1), 1.0, tl.float32), N, 1, PRECISION)
    out = _tl_merged(matrix, out, N, 2, PRECISION)
    out = _tl_merged(matrix, out, N, 4, PRECISION)
    out = _tl_merged(matrix, out, N, 8, PRECISION)
    if N > 16:
        out = _tl_merged(matrix, out, N, 16, PRECISION)
    if N > 32:
        out = _tl_merged(matrix, out, N, 32, PRECISION)
    if N > 64:
        out = _tl_merged(matrix, out, N, 64, PRECISION)
    if N > 128:
        out = _tl_merged(matrix, out, N, 128, PRECISION)
    return tl.reshape(out, (N, N))


@_jit
def _tl_inverse_signature(matrix, N: tl.constexpr):
    """The inverses of I - matrix's diagonal blocks of 16 rows, by forward substitution; beside them, matrix as it is."""
    folded: tl.constexpr = (N // 16, 16, N // 16, 16)
    own = tl.arange(0, N)[:, None] // 16 == tl.arange(0, N)[None, :] // 16
    out = _tl_substitution(_tl_diagonal(matrix, N, 16))
    placed = tl.reshape(tl.broadcast_to(out[:, :, None, :], folded), matrix.shape)
    return tl.where(own, placed, matrix)


@_jit
def _tl_inverse(
    matrix, N: tl.constexpr, AGGREGATION: tl.constexpr, PRECISION: tl.constexpr
):
    """What is formed of a strictly lower triangular matrix for `_tl_solve`, in float32."""
    if AGGREGATION == "wy":
        return _tl_inverse_wy(matrix, N, PRECISION)
    elif AGGREGATION == "tensorinv":
        return _tl_inverse_tensorinv(matrix, N, PRECISION)
    else:
        return _tl_inverse_signature(matrix, N)


@_jit
def _tl_substituted(
    inverse,
    tokens,
    right,
    TOKENS: tl.constexpr,
    RANK: tl.constexpr,
    PADDED: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Substitution: 16 rows are solved for, then taken out of all rows that are left; see `_tl_solve`.

    In float32: what is rounded here is multiplied by all that is solved for after it.
    """
    BLOCKS: tl.constexpr = right.shape[0] // 16
    block, near = tl.arange(0, BLOCKS)[:, None, None], tl.arange(0, 16)
    row = block * 16 + near[None, :, None]
    out = tl.reshape(right, (BLOCKS, 16, right.shape[1]))
    for step in tl.static_range(0, BLOCKS):
        this = BLOCKS - 1 - step if TRANSPOSED else step
        column = this * 16 + near[None, None, :]
        after, before = (column, row) if TRANSPOSED else (row, column)
        there = (
            (after // PADDED * RANK + after % PADDED) * (TOKENS * RANK)
            + before // PADDED * RANK
            + before % PADDED
        )
        seen = (
            (after // PADDED < tokens)
            & (after % PADDED < RANK)
            & (before // PADDED < tokens)
            & (before % PADDED < RANK)
        )
        left = block < this if TRANSPOSED else block > this
        factor = tl.load(inverse + there, mask=seen & left, other=0.0)
        own = tl.sum(
            tl.load(inverse + there, mask=seen & (block == this), other=0.0), 0
        )
        mine = tl.sum(tl.where(block == this, out, 0.0), 0)
        solved = tl.dot(own, mine, input_precision=PRECISION, out_dtype=tl.float32)
        all_solved = tl.broadcast_to(solved[None, :, :], out.shape)
        out = tl.where(block == this, all_solved, out)
        out = tl.dot(
            factor, all_solved, acc=out, input_precision=PRECISION, out_dtype=tl.float32
        )
    return tl.reshape(out, right.shape)


@_jit
def _tl_solve(
    inverse,
    tokens,
    right,
    TOKENS: tl.constexpr,
    RANK: tl.constexpr,
    PADDED: tl.constexpr,
    AGGREGATION: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """(I - N)^{-1} right, or with N transposed, by what `_tl_inverse` formed of N.

    inverse: where a chunk's lies, RANK rows for every token, of which PADDED in `right`; tokens: how many there are.
    """
    if AGGREGATION == "signature":
        return _tl_substituted(
            inverse, tokens, right, TOKENS, RANK, PADDED, TRANSPOSED, PRECISION
        )
    else:
        row = tl.arange(0, right.shape[0])
        at = row if RANK == PADDED else row // PADDED * RANK + row % PADDED
        held = (
            row < TOKENS * RANK
            if RANK == PADDED
            else (row // PADDED < TOKENS) & (row % PADDED < RANK)
        )
        place, lower = (
            at[:, None] * (TOKENS * RANK) + at[None, :],
            row[:, None] >= (row // 16 * 16)[None, :],
        )
        mask = (
            held[:, None] & held[None, :] & lower
        )  # what lies above is 0, and not in memory
        whole = tl.load(inverse + place, mask=mask, other=0.0)
        if TRANSPOSED:
            whole = tl.trans(whole)
        return _tl_dot(whole.to(DOT), right.to(DOT), None, PRECISION)


@_jit
def _matrices(
    A_ptr,
    B_ptr,
    q_ptr,
    g_ptr,
    inverse_ptr,
    P_ptr,
    A_heads,
    B_heads,
    q_heads,
    RANK1: tl.constexpr,
    PADDED1: tl.constexpr,
    R_size: tl.constexpr,
    K_size: tl.constexpr,
    table_ptr,
    length,
    heads,
    programs,
    levels,
    parts,
    blocks,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    VALUE_TILE: tl.constexpr,
    DOT: tl.constexpr,
    AGGREGATION: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Matrices over a chunk's rows that the walk and later kernels use.

    One program per chunk, sequence and head.
    """
    chunk = tl.program_id(0).to(tl.int64)
    head = chunk % heads
    if table_ptr is None:
        before = chunk // programs * TOKENS
        token, left = (
            chunk % programs // heads * length + before,
            tl.minimum(length - before, TOKENS),
        )
    else:  # packed sequences: the first token of each chunk, how many there are
        entry = table_ptr + chunk // heads * 2
        token, left = tl.load(entry).to(tl.int64), tl.load(entry + 1)
    row = tl.arange(0, ROWS)
    live = row < left
    ROWS1: tl.constexpr = ROWS * PADDED1
    row1 = tl.arange(0, ROWS1)
    at1, sub1 = row1 // PADDED1, row1 % PADDED1
    A_head = head // (heads // A_heads)
    B_head = head // (heads // B_heads)
    q_head = head // (heads // q_heads)
    place0 = row1 if RANK1 == PADDED1 else at1 * RANK1 + sub1
    held0 = (
        row1 < TOKENS * RANK1 if RANK1 == PADDED1 else (sub1 < RANK1) & (at1 < TOKENS)
    )
    live1 = (sub1 < RANK1) & (at1 < left)
    total = tl.zeros((ROWS1, ROWS1), tl.float32)
    total_ = tl.zeros((ROWS, ROWS1), tl.float32)
    for part in range(0, parts):
        key = part * KEY_TILE + tl.arange(0, KEY_TILE)
        key_live = key < KEYS
        A = tl.load(
            A_ptr
            + (token * A_heads + A_head) * (K_size * R_size)
            + at1[:, None] * (A_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        B = tl.load(
            B_ptr
            + (token * B_heads + B_head) * (K_size * R_size)
            + at1[:, None] * (B_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        q = tl.load(
            q_ptr
            + (token * q_heads + q_head) * KEYS
            + row[:, None] * (q_heads * KEYS)
            + key[None, :],
            mask=live[:, None] & key_live[None, :],
            other=0.0,
        )
        total = _tl_dot(A, tl.trans(B.to(DOT)), total, PRECISION)
        total_ = _tl_dot(q, tl.trans(B.to(DOT)), total_, PRECISION)
    g = tl.load(g_ptr + token * heads + head + at1 * (heads), mask=live1, other=0.0)
    g_ = _tl_floor_log(g.to(tl.float32))
    log_gate = tl.where(live1, g_, 0.0)
    gate_whole, gate_rest = _tl_split(log_gate)
    sums_whole, sums_rest = (
        tl.cumsum(tl.where(sub1 == 0, gate_whole, 0.0), 0),
        tl.cumsum(tl.where(sub1 == 0, gate_rest, 0.0), 0),
    )
    decay = tl.where(
        at1[:, None] > at1[None, :],
        tl.exp2(
            tl.where(
                at1[:, None] > at1[None, :],
                (sums_whole[:, None] - sums_whole[None, :])
                + (sums_rest[:, None] - sums_rest[None, :]),
                0.0,
            )
        ),
        0.0,
    )
    N = decay * total
    g_2 = tl.load(g_ptr + token * heads + head + row * (heads), mask=live, other=0.0)
    g_3 = _tl_floor_log(g_2.to(tl.float32))
    log_gate_ = tl.where(live, g_3, 0.0)
    gate_whole_, gate_rest_ = _tl_split(log_gate_)
    sums_whole_, sums_rest_ = tl.cumsum(gate_whole_, 0), tl.cumsum(gate_rest_, 0)
    decay_ = tl.where(
        row[:, None] >= at1[None, :],
        tl.exp2(
            tl.where(
                row[:, None] >= at1[None, :],
                (sums_whole_[:, None] - sums_whole[None, :])
                + (sums_rest_[:, None] - sums_rest[None, :]),
                0.0,
            )
        ),
        0.0,
    )
    P = decay_ * total_
    inverse = _tl_inverse(N, ROWS1, AGGREGATION, PRECISION)
    tl.store(
        inverse_ptr
        + chunk * (TOKENS * RANK1) * (TOKENS * RANK1)
        + place0[:, None] * (TOKENS * RANK1)
        + place0[None, :],
        tl.where(live1[:, None] & live1[None, :], inverse, 0.0).to(
            inverse_ptr.dtype.element_ty
        ),
        mask=(held0)[:, None]
        & (held0)[None, :]
        & (at1[:, None] >= (row1 // 16 * 16 // PADDED1)[None, :]),
    )
    tl.store(
        P_ptr
        + chunk * TOKENS * (TOKENS * RANK1)
        + row[:, None] * (TOKENS * RANK1)
        + place0[None, :],
        tl.where(live[:, None] & live1[None, :], P, 0.0).to(P_ptr.dtype.element_ty),
        mask=(row < TOKENS)[:, None]
        & (held0)[None, :]
        & (row[:, None] >= (row1 // 16 * 16 // PADDED1)[None, :]),
    )


@_jit
def _walk(
    S_ptr,
    g_ptr,
    B_ptr,
    W_ptr,
    A_ptr,
    inverse_ptr,
    U_ptr,
    B_heads,
    A_heads,
    RANK1: tl.constexpr,
    PADDED1: tl.constexpr,
    R_size: tl.constexpr,
    K_size: tl.constexpr,
    V_size: tl.constexpr,
    start_ptr,
    final_ptr,
    table_ptr,
    length,
    heads,
    programs,
    levels,
    parts,
    blocks,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    VALUE_TILE: tl.constexpr,
    DOT: tl.constexpr,
    AGGREGATION: tl.constexpr,
    PRECISION: tl.constexpr,
    START: tl.constexpr,
):
    """The walk: the state at every chunk's start, and what only it can make.

    One program per sequence, head and block of the state's columns; it carries the state from chunk to chunk.
    START is 0 where one number is all of the first state, else 1; the last is stored where there is memory for it.
    """
    block = tl.program_id(0) % blocks
    program = (tl.program_id(0) // blocks).to(tl.int64)
    head = program % heads
    if table_ptr is None:
        tokens, place, apart = length, program, programs
        begin = program // heads * length
    else:  # packed sequences: the first token, how many there are, the first chunk
        entry = table_ptr + program // heads * 3
        tokens, place, apart = (
            tl.load(entry + 1),
            tl.load(entry + 2).to(tl.int64) * heads + head,
            heads,
        )
        begin = tl.load(entry).to(tl.int64)
    key = tl.arange(0, KEY_TILE)
    row = tl.arange(0, ROWS)
    value = block * VALUE_TILE + tl.arange(0, VALUE_TILE)
    key_live, value_live = key < KEYS, value < VALUES
    state_at = program * (KEYS * VALUES) + key[:, None] * VALUES + value[None, :]
    state_live = key_live[:, None] & value_live[None, :]
    ROWS1: tl.constexpr = ROWS * PADDED1
    row1 = tl.arange(0, ROWS1)
    at1, sub1 = row1 // PADDED1, row1 % PADDED1
    B_head = head // (heads // B_heads)
    A_head = head // (heads // A_heads)
    S = tl.load(start_ptr + state_at * START, mask=state_live, other=0.0)
    chunks = tl.cdiv(tokens, TOKENS)
    for step in range(0, chunks):
        c = step
        chunk = place + c * apart
        token = begin + c * TOKENS
        left = tl.minimum(tokens - c * TOKENS, TOKENS)
        live = row < left
        live1 = (sub1 < RANK1) & (at1 < left)
        tl.store(
            S_ptr + chunk * KEYS * VALUES + key[:, None] * VALUES + value[None, :],
            S.to(S_ptr.dtype.element_ty),
            mask=key_live[:, None] & value_live[None, :],
        )
        g = tl.load(g_ptr + token * heads + head + row * (heads), mask=live, other=0.0)
        g_ = _tl_floor_log(g.to(tl.float32))
        log_gate = tl.where(live, g_, 0.0)
        gate_whole, gate_rest = _tl_split(log_gate)
        g_last_whole, g_last_rest = tl.sum(gate_whole, 0), tl.sum(gate_rest, 0)
        g_2 = tl.load(
            g_ptr + token * heads + head + at1 * (heads), mask=live1, other=0.0
        )
        g_3 = _tl_floor_log(g_2.to(tl.float32))
        log_gate_ = tl.where(live1, g_3, 0.0)
        gate_whole_, gate_rest_ = _tl_split(log_gate_)
        sums_whole, sums_rest = (
            tl.cumsum(tl.where(sub1 == 0, gate_whole_, 0.0), 0),
            tl.cumsum(tl.where(sub1 == 0, gate_rest_, 0.0), 0),
        )
        B = tl.load(
            B_ptr
            + (token * B_heads + B_head) * (K_size * R_size)
            + at1[:, None] * (B_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        W = tl.load(
            W_ptr
            + (token * heads + head) * (R_size * V_size)
            + at1[:, None] * (heads * (R_size * V_size))
            + value[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & value_live[None, :],
            other=0.0,
        )
        A = tl.load(
            A_ptr
            + (token * A_heads + A_head) * (K_size * R_size)
            + at1[:, None] * (A_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        t = _tl_dot(A, S.to(DOT), None, PRECISION)
        Z = W.to(tl.float32) + tl.exp2(sums_whole + sums_rest)[:, None] * t
        U = _tl_solve(
            inverse_ptr + chunk * (TOKENS * RANK1) * (TOKENS * RANK1),
            left,
            Z,
            TOKENS,
            RANK1,
            PADDED1,
            AGGREGATION,
            False,
            DOT,
            PRECISION,
        )
        S_next = _tl_dot(
            tl.trans(B),
            (
                tl.exp2((g_last_whole - sums_whole) + (g_last_rest - sums_rest))[
                    :, None
                ]
                * U
            ).to(DOT),
            tl.exp2(g_last_whole + g_last_rest) * S,
            PRECISION,
        )
        tl.store(
            U_ptr
            + chunk * (TOKENS * RANK1) * VALUES
            + (at1[:, None] * RANK1 + sub1[:, None]) * VALUES
            + value[None, :],
            U.to(U_ptr.dtype.element_ty),
            mask=live1[:, None] & value_live[None, :],
        )
        S = S_next
    if final_ptr is not None:
        tl.store(final_ptr + state_at, S, mask=state_live)


@_jit
def _columns(
    q_ptr,
    S_ptr,
    g_ptr,
    P_ptr,
    U_ptr,
    o_ptr,
    q_heads,
    RANK1: tl.constexpr,
    PADDED1: tl.constexpr,
    table_ptr,
    length,
    heads,
    programs,
    levels,
    parts,
    blocks,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    VALUE_TILE: tl.constexpr,
    DOT: tl.constexpr,
    AGGREGATION: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Results of a chunk over the state's columns.

    One program per chunk, sequence, head and block of the state's columns.
    """
    block = tl.program_id(0) % blocks
    chunk = (tl.program_id(0) // blocks).to(tl.int64)
    value = block * VALUE_TILE + tl.arange(0, VALUE_TILE)
    value_live = value < VALUES
    head = chunk % heads
    if table_ptr is None:
        before = chunk // programs * TOKENS
        token, left = (
            chunk % programs // heads * length + before,
            tl.minimum(length - before, TOKENS),
        )
    else:  # packed sequences: the first token of each chunk, how many there are
        entry = table_ptr + chunk // heads * 2
        token, left = tl.load(entry).to(tl.int64), tl.load(entry + 1)
    row = tl.arange(0, ROWS)
    live = row < left
    q_head = head // (heads // q_heads)
    ROWS1: tl.constexpr = ROWS * PADDED1
    row1 = tl.arange(0, ROWS1)
    at1, sub1 = row1 // PADDED1, row1 % PADDED1
    place0 = row1 if RANK1 == PADDED1 else at1 * RANK1 + sub1
    held0 = (
        row1 < TOKENS * RANK1 if RANK1 == PADDED1 else (sub1 < RANK1) & (at1 < TOKENS)
    )
    live1 = (sub1 < RANK1) & (at1 < left)
    total = tl.zeros((ROWS, VALUE_TILE), tl.float32)
    for part in range(0, parts):
        key = part * KEY_TILE + tl.arange(0, KEY_TILE)
        key_live = key < KEYS
        q = tl.load(
            q_ptr
            + (token * q_heads + q_head) * KEYS
            + row[:, None] * (q_heads * KEYS)
            + key[None, :],
            mask=live[:, None] & key_live[None, :],
            other=0.0,
        )
        S_ = tl.load(
            S_ptr + chunk * KEYS * VALUES + key[:, None] * VALUES + value[None, :],
            mask=key_live[:, None] & value_live[None, :],
            other=0.0,
        )
        total = _tl_dot(q, S_.to(DOT), total, PRECISION)
    g = tl.load(g_ptr + token * heads + head + row * (heads), mask=live, other=0.0)
    g_ = _tl_floor_log(g.to(tl.float32))
    log_gate = tl.where(live, g_, 0.0)
    gate_whole, gate_rest = _tl_split(log_gate)
    sums_whole, sums_rest = tl.cumsum(gate_whole, 0), tl.cumsum(gate_rest, 0)
    P = tl.load(
        P_ptr
        + chunk * TOKENS * (TOKENS * RANK1)
        + row[:, None] * (TOKENS * RANK1)
        + place0[None, :],
        mask=(row < TOKENS)[:, None]
        & (held0)[None, :]
        & (row[:, None] >= (row1 // 16 * 16 // PADDED1)[None, :]),
        other=0.0,
    )
    U = tl.load(
        U_ptr
        + chunk * (TOKENS * RANK1) * VALUES
        + (at1[:, None] * RANK1 + sub1[:, None]) * VALUES
        + value[None, :],
        mask=live1[:, None] & value_live[None, :],
        other=0.0,
    )
    O = _tl_dot(
        P, U.to(DOT), tl.exp2(sums_whole + sums_rest)[:, None] * total, PRECISION
    )
    tl.store(
        o_ptr
        + (token * heads + head) * VALUES
        + row[:, None] * (heads * VALUES)
        + value[None, :],
        O.to(o_ptr.dtype.element_ty),
        mask=live[:, None] & value_live[None, :],
    )


@_jit
def _ends(
    g_ptr,
    B_ptr,
    W_ptr,
    A_ptr,
    inverse_ptr,
    B_heads,
    A_heads,
    RANK1: tl.constexpr,
    PADDED1: tl.constexpr,
    R_size: tl.constexpr,
    K_size: tl.constexpr,
    V_size: tl.constexpr,
    start_ptr,
    final_ptr,
    table_ptr,
    length,
    heads,
    programs,
    levels,
    parts,
    blocks,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    VALUE_TILE: tl.constexpr,
    DOT: tl.constexpr,
    AGGREGATION: tl.constexpr,
    PRECISION: tl.constexpr,
    START: tl.constexpr,
):
    """The walk without what it stores: the state with which a segment ends.

    One program per sequence, head and block of the state's columns; it carries the state from chunk to chunk.
    START is 0 where one number is all of the first state, else 1; the last is stored where there is memory for it.
    """
    block = tl.program_id(0) % blocks
    program = (tl.program_id(0) // blocks).to(tl.int64)
    head = program % heads
    if table_ptr is None:
        tokens, place, apart = length, program, programs
        begin = program // heads * length
    else:  # packed sequences: the first token, how many there are, the first chunk
        entry = table_ptr + program // heads * 3
        tokens, place, apart = (
            tl.load(entry + 1),
            tl.load(entry + 2).to(tl.int64) * heads + head,
            heads,
        )
        begin = tl.load(entry).to(tl.int64)
    key = tl.arange(0, KEY_TILE)
    row = tl.arange(0, ROWS)
    value = block * VALUE_TILE + tl.arange(0, VALUE_TILE)
    key_live, value_live = key < KEYS, value < VALUES
    state_at = program * (KEYS * VALUES) + key[:, None] * VALUES + value[None, :]
    state_live = key_live[:, None] & value_live[None, :]
    ROWS1: tl.constexpr = ROWS * PADDED1
    row1 = tl.arange(0, ROWS1)
    at1, sub1 = row1 // PADDED1, row1 % PADDED1
    B_head = head // (heads // B_heads)
    A_head = head // (heads // A_heads)
    S = tl.load(start_ptr + state_at * START, mask=state_live, other=0.0)
    chunks = tl.cdiv(tokens, TOKENS)
    for step in range(0, chunks):
        c = step
        chunk = place + c * apart
        token = begin + c * TOKENS
        left = tl.minimum(tokens - c * TOKENS, TOKENS)
        live = row < left
        live1 = (sub1 < RANK1) & (at1 < left)
        g = tl.load(g_ptr + token * heads + head + row * (heads), mask=live, other=0.0)
        g_ = _tl_floor_log(g.to(tl.float32))
        log_gate = tl.where(live, g_, 0.0)
        gate_whole, gate_rest = _tl_split(log_gate)
        g_last_whole, g_last_rest = tl.sum(gate_whole, 0), tl.sum(gate_rest, 0)
        g_2 = tl.load(
            g_ptr + token * heads + head + at1 * (heads), mask=live1, other=0.0
        )
        g_3 = _tl_floor_log(g_2.to(tl.float32))
        log_gate_ = tl.where(live1, g_3, 0.0)
        gate_whole_, gate_rest_ = _tl_split(log_gate_)
        sums_whole, sums_rest = (
            tl.cumsum(tl.where(sub1 == 0, gate_whole_, 0.0), 0),
            tl.cumsum(tl.where(sub1 == 0, gate_rest_, 0.0), 0),
        )
        B = tl.load(
            B_ptr
            + (token * B_heads + B_head) * (K_size * R_size)
            + at1[:, None] * (B_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        W = tl.load(
            W_ptr
            + (token * heads + head) * (R_size * V_size)
            + at1[:, None] * (heads * (R_size * V_size))
            + value[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & value_live[None, :],
            other=0.0,
        )
        A = tl.load(
            A_ptr
            + (token * A_heads + A_head) * (K_size * R_size)
            + at1[:, None] * (A_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        t = _tl_dot(A, S.to(DOT), None, PRECISION)
        Z = W.to(tl.float32) + tl.exp2(sums_whole + sums_rest)[:, None] * t
        U = _tl_solve(
            inverse_ptr + chunk * (TOKENS * RANK1) * (TOKENS * RANK1),
            left,
            Z,
            TOKENS,
            RANK1,
            PADDED1,
            AGGREGATION,
            False,
            DOT,
            PRECISION,
        )
        S_next = _tl_dot(
            tl.trans(B),
            (
                tl.exp2((g_last_whole - sums_whole) + (g_last_rest - sums_rest))[
                    :, None
                ]
                * U
            ).to(DOT),
            tl.exp2(g_last_whole + g_last_rest) * S,
            PRECISION,
        )
        S = S_next
    if final_ptr is not None:
        tl.store(final_ptr + state_at, S, mask=state_live)


@_jit
def _flow(
    g_ptr,
    A_ptr,
    B_ptr,
    inverse_ptr,
    A_heads,
    B_heads,
    RANK1: tl.constexpr,
    PADDED1: tl.constexpr,
    R_size: tl.constexpr,
    K_size: tl.constexpr,
    start_ptr,
    final_ptr,
    table_ptr,
    length,
    heads,
    programs,
    levels,
    parts,
    blocks,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    VALUE_TILE: tl.constexpr,
    DOT: tl.constexpr,
    AGGREGATION: tl.constexpr,
    PRECISION: tl.constexpr,
    START: tl.constexpr,
):
    """The walk back without cotangents of outputs: what the transpose of a segment's flow makes of a state.

    One program per sequence, head and block of the state's columns; it carries the state from chunk to chunk, from the last to the first.
    START is 0 where one number is all of the first state, else 1; the last is stored where there is memory for it.
    """
    block = tl.program_id(0) % blocks
    program = (tl.program_id(0) // blocks).to(tl.int64)
    head = program % heads
    if table_ptr is None:
        tokens, place, apart = length, program, programs
        begin = program // heads * length
    else:  # packed sequences: the first token, how many there are, the first chunk
        entry = table_ptr + program // heads * 3
        tokens, place, apart = (
            tl.load(entry + 1),
            tl.load(entry + 2).to(tl.int64) * heads + head,
            heads,
        )
        begin = tl.load(entry).to(tl.int64)
    key = tl.arange(0, KEY_TILE)
    row = tl.arange(0, ROWS)
    value = block * VALUE_TILE + tl.arange(0, VALUE_TILE)
    key_live, value_live = key < KEYS, value < VALUES
    state_at = program * (KEYS * VALUES) + key[:, None] * VALUES + value[None, :]
    state_live = key_live[:, None] & value_live[None, :]
    ROWS1: tl.constexpr = ROWS * PADDED1
    row1 = tl.arange(0, ROWS1)
    at1, sub1 = row1 // PADDED1, row1 % PADDED1
    A_head = head // (heads // A_heads)
    B_head = head // (heads // B_heads)
    S = tl.load(start_ptr + state_at * START, mask=state_live, other=0.0)
    chunks = tl.cdiv(tokens, TOKENS)
    for step in range(0, chunks):
        c = chunks - 1 - step
        chunk = place + c * apart
        token = begin + c * TOKENS
        left = tl.minimum(tokens - c * TOKENS, TOKENS)
        live = row < left
        live1 = (sub1 < RANK1) & (at1 < left)
        g = tl.load(g_ptr + token * heads + head + row * (heads), mask=live, other=0.0)
        g_ = _tl_floor_log(g.to(tl.float32))
        log_gate = tl.where(live, g_, 0.0)
        gate_whole, gate_rest = _tl_split(log_gate)
        g_last_whole, g_last_rest = tl.sum(gate_whole, 0), tl.sum(gate_rest, 0)
        g_2 = tl.load(
            g_ptr + token * heads + head + at1 * (heads), mask=live1, other=0.0
        )
        g_3 = _tl_floor_log(g_2.to(tl.float32))
        log_gate_ = tl.where(live1, g_3, 0.0)
        gate_whole_, gate_rest_ = _tl_split(log_gate_)
        sums_whole, sums_rest = (
            tl.cumsum(tl.where(sub1 == 0, gate_whole_, 0.0), 0),
            tl.cumsum(tl.where(sub1 == 0, gate_rest_, 0.0), 0),
        )
        A = tl.load(
            A_ptr
            + (token * A_heads + A_head) * (K_size * R_size)
            + at1[:, None] * (A_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        B = tl.load(
            B_ptr
            + (token * B_heads + B_head) * (K_size * R_size)
            + at1[:, None] * (B_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        t = _tl_dot(B, S.to(DOT), None, PRECISION)
        Z_bar = _tl_solve(
            inverse_ptr + chunk * (TOKENS * RANK1) * (TOKENS * RANK1),
            left,
            tl.exp2((g_last_whole - sums_whole) + (g_last_rest - sums_rest))[:, None]
            * t,
            TOKENS,
            RANK1,
            PADDED1,
            AGGREGATION,
            True,
            DOT,
            PRECISION,
        )
        S_bar_next = _tl_dot(
            tl.trans(A),
            (tl.exp2(sums_whole + sums_rest)[:, None] * Z_bar).to(DOT),
            tl.exp2(g_last_whole + g_last_rest) * S,
            PRECISION,
        )
        S = S_bar_next
    if final_ptr is not None:
        tl.store(final_ptr + state_at, S, mask=state_live)


@_jit
def _fused(
    S_ptr,
    g_ptr,
    B_ptr,
    W_ptr,
    A_ptr,
    inverse_ptr,
    q_ptr,
    P_ptr,
    U_ptr,
    o_ptr,
    B_heads,
    A_heads,
    q_heads,
    RANK1: tl.constexpr,
    PADDED1: tl.constexpr,
    R_size: tl.constexpr,
    K_size: tl.constexpr,
    V_size: tl.constexpr,
    start_ptr,
    final_ptr,
    table_ptr,
    length,
    heads,
    programs,
    levels,
    parts,
    blocks,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    VALUE_TILE: tl.constexpr,
    DOT: tl.constexpr,
    AGGREGATION: tl.constexpr,
    PRECISION: tl.constexpr,
    START: tl.constexpr,
):
    """The walk with the outputs; states and what only it can make are stored where memory is given.

    One program per sequence, head and block of the state's columns; it carries the state from chunk to chunk.
    START is 0 where one number is all of the first state, else 1; the last is stored where there is memory for it.
    """
    block = tl.program_id(0) % blocks
    program = (tl.program_id(0) // blocks).to(tl.int64)
    head = program % heads
    if table_ptr is None:
        tokens, place, apart = length, program, programs
        begin = program // heads * length
    else:  # packed sequences: the first token, how many there are, the first chunk
        entry = table_ptr + program // heads * 3
        tokens, place, apart = (
            tl.load(entry + 1),
            tl.load(entry + 2).to(tl.int64) * heads + head,
            heads,
        )
        begin = tl.load(entry).to(tl.int64)
    key = tl.arange(0, KEY_TILE)
    row = tl.arange(0, ROWS)
    value = block * VALUE_TILE + tl.arange(0, VALUE_TILE)
    key_live, value_live = key < KEYS, value < VALUES
    state_at = program * (KEYS * VALUES) + key[:, None] * VALUES + value[None, :]
    state_live = key_live[:, None] & value_live[None, :]
    ROWS1: tl.constexpr = ROWS * PADDED1
    row1 = tl.arange(0, ROWS1)
    at1, sub1 = row1 // PADDED1, row1 % PADDED1
    B_head = head // (heads // B_heads)
    A_head = head // (heads // A_heads)
    q_head = head // (heads // q_heads)
    place0 = row1 if RANK1 == PADDED1 else at1 * RANK1 + sub1
    held0 = (
        row1 < TOKENS * RANK1 if RANK1 == PADDED1 else (sub1 < RANK1) & (at1 < TOKENS)
    )
    S = tl.load(start_ptr + state_at * START, mask=state_live, other=0.0)
    chunks = tl.cdiv(tokens, TOKENS)
    for step in tl.range(0, chunks, disable_licm=True):
        c = step
        chunk = place + c * apart
        token = begin + c * TOKENS
        left = tl.minimum(tokens - c * TOKENS, TOKENS)
        live = row < left
        live1 = (sub1 < RANK1) & (at1 < left)
        if S_ptr is not None:
            tl.store(
                S_ptr + chunk * KEYS * VALUES + key[:, None] * VALUES + value[None, :],
                S.to(S_ptr.dtype.element_ty),
                mask=key_live[:, None] & value_live[None, :],
            )
        g = tl.load(g_ptr + token * heads + head + row * (heads), mask=live, other=0.0)
        g_ = _tl_floor_log(g.to(tl.float32))
        log_gate = tl.where(live, g_, 0.0)
        gate_whole, gate_rest = _tl_split(log_gate)
        g_last_whole, g_last_rest = tl.sum(gate_whole, 0), tl.sum(gate_rest, 0)
        g_2 = tl.load(
            g_ptr + token * heads + head + at1 * (heads), mask=live1, other=0.0
        )
        g_3 = _tl_floor_log(g_2.to(tl.float32))
        log_gate_ = tl.where(live1, g_3, 0.0)
        gate_whole_, gate_rest_ = _tl_split(log_gate_)
        sums_whole, sums_rest = (
            tl.cumsum(tl.where(sub1 == 0, gate_whole_, 0.0), 0),
            tl.cumsum(tl.where(sub1 == 0, gate_rest_, 0.0), 0),
        )
        B = tl.load(
            B_ptr
            + (token * B_heads + B_head) * (K_size * R_size)
            + at1[:, None] * (B_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        W = tl.load(
            W_ptr
            + (token * heads + head) * (R_size * V_size)
            + at1[:, None] * (heads * (R_size * V_size))
            + value[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & value_live[None, :],
            other=0.0,
        )
        A = tl.load(
            A_ptr
            + (token * A_heads + A_head) * (K_size * R_size)
            + at1[:, None] * (A_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        t = _tl_dot(A, S.to(DOT), None, PRECISION)
        Z = W.to(tl.float32) + tl.exp2(sums_whole + sums_rest)[:, None] * t
        U = _tl_solve(
            inverse_ptr + chunk * (TOKENS * RANK1) * (TOKENS * RANK1),
            left,
            Z,
            TOKENS,
            RANK1,
            PADDED1,
            AGGREGATION,
            False,
            DOT,
            PRECISION,
        )
        S_next = _tl_dot(
            tl.trans(B),
            (
                tl.exp2((g_last_whole - sums_whole) + (g_last_rest - sums_rest))[
                    :, None
                ]
                * U
            ).to(DOT),
            tl.exp2(g_last_whole + g_last_rest) * S,
            PRECISION,
        )
        sums_whole_, sums_rest_ = tl.cumsum(gate_whole, 0), tl.cumsum(gate_rest, 0)
        q = tl.load(
            q_ptr
            + (token * q_heads + q_head) * KEYS
            + row[:, None] * (q_heads * KEYS)
            + key[None, :],
            mask=live[:, None] & key_live[None, :],
            other=0.0,
        )
        t_ = _tl_dot(q, S.to(DOT), None, PRECISION)
        P = tl.load(
            P_ptr
            + chunk * TOKENS * (TOKENS * RANK1)
            + row[:, None] * (TOKENS * RANK1)
            + place0[None, :],
            mask=(row < TOKENS)[:, None]
            & (held0)[None, :]
            & (row[:, None] >= (row1 // 16 * 16 // PADDED1)[None, :]),
            other=0.0,
        )
        O = _tl_dot(
            P, U.to(DOT), tl.exp2(sums_whole_ + sums_rest_)[:, None] * t_, PRECISION
        )
        if U_ptr is not None:
            tl.store(
                U_ptr
                + chunk * (TOKENS * RANK1) * VALUES
                + (at1[:, None] * RANK1 + sub1[:, None]) * VALUES
                + value[None, :],
                U.to(U_ptr.dtype.element_ty),
                mask=live1[:, None] & value_live[None, :],
            )
        tl.store(
            o_ptr
            + (token * heads + head) * VALUES
            + row[:, None] * (heads * VALUES)
            + value[None, :],
            O.to(o_ptr.dtype.element_ty),
            mask=live[:, None] & value_live[None, :],
        )
        S = S_next
    if final_ptr is not None:
        tl.store(final_ptr + state_at, S, mask=state_live)


@_jit
def _walk_backward(
    S_bar_ptr,
    g_ptr,
    q_ptr,
    o_bar_ptr,
    A_ptr,
    B_ptr,
    P_ptr,
    inverse_ptr,
    Z_bar_ptr,
    q_heads,
    A_heads,
    B_heads,
    RANK1: tl.constexpr,
    PADDED1: tl.constexpr,
    R_size: tl.constexpr,
    K_size: tl.constexpr,
    start_ptr,
    final_ptr,
    table_ptr,
    length,
    heads,
    programs,
    levels,
    parts,
    blocks,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    VALUE_TILE: tl.constexpr,
    DOT: tl.constexpr,
    AGGREGATION: tl.constexpr,
    PRECISION: tl.constexpr,
    START: tl.constexpr,
):
    """The walk: the state at every chunk's start, and what only it can make.

    One program per sequence, head and block of the state's columns; it carries the state from chunk to chunk, from the last to the first.
    START is 0 where one number is all of the first state, else 1; the last is stored where there is memory for it.
    """
    block = tl.program_id(0) % blocks
    program = (tl.program_id(0) // blocks).to(tl.int64)
    head = program % heads
    if table_ptr is None:
        tokens, place, apart = length, program, programs
        begin = program // heads * length
    else:  # packed sequences: the first token, how many there are, the first chunk
        entry = table_ptr + program // heads * 3
        tokens, place, apart = (
            tl.load(entry + 1),
            tl.load(entry + 2).to(tl.int64) * heads + head,
            heads,
        )
        begin = tl.load(entry).to(tl.int64)
    key = tl.arange(0, KEY_TILE)
    row = tl.arange(0, ROWS)
    value = block * VALUE_TILE + tl.arange(0, VALUE_TILE)
    key_live, value_live = key < KEYS, value < VALUES
    state_at = program * (KEYS * VALUES) + key[:, None] * VALUES + value[None, :]
    state_live = key_live[:, None] & value_live[None, :]
    q_head = head // (heads // q_heads)
    ROWS1: tl.constexpr = ROWS * PADDED1
    row1 = tl.arange(0, ROWS1)
    at1, sub1 = row1 // PADDED1, row1 % PADDED1
    A_head = head // (heads // A_heads)
    B_head = head // (heads // B_heads)
    place0 = row1 if RANK1 == PADDED1 else at1 * RANK1 + sub1
    held0 = (
        row1 < TOKENS * RANK1 if RANK1 == PADDED1 else (sub1 < RANK1) & (at1 < TOKENS)
    )
    S = tl.load(start_ptr + state_at * START, mask=state_live, other=0.0)
    chunks = tl.cdiv(tokens, TOKENS)
    for step in range(0, chunks):
        c = chunks - 1 - step
        chunk = place + c * apart
        token = begin + c * TOKENS
        left = tl.minimum(tokens - c * TOKENS, TOKENS)
        live = row < left
        live1 = (sub1 < RANK1) & (at1 < left)
        tl.store(
            S_bar_ptr + chunk * KEYS * VALUES + key[:, None] * VALUES + value[None, :],
            S.to(S_bar_ptr.dtype.element_ty),
            mask=key_live[:, None] & value_live[None, :],
        )
        g = tl.load(g_ptr + token * heads + head + row * (heads), mask=live, other=0.0)
        g_ = _tl_floor_log(g.to(tl.float32))
        log_gate = tl.where(live, g_, 0.0)
        gate_whole, gate_rest = _tl_split(log_gate)
        g_last_whole, g_last_rest = tl.sum(gate_whole, 0), tl.sum(gate_rest, 0)
        q = tl.load(
            q_ptr
            + (token * q_heads + q_head) * KEYS
            + row[:, None] * (q_heads * KEYS)
            + key[None, :],
            mask=live[:, None] & key_live[None, :],
            other=0.0,
        )
        sums_whole, sums_rest = tl.cumsum(gate_whole, 0), tl.cumsum(gate_rest, 0)
        o = tl.load(
            o_bar_ptr
            + (token * heads + head) * VALUES
            + row[:, None] * (heads * VALUES)
            + value[None, :],
            mask=live[:, None] & value_live[None, :],
            other=0.0,
        )
        t = _tl_dot(
            tl.trans(q),
            (tl.exp2(sums_whole + sums_rest)[:, None] * o.to(tl.float32)).to(DOT),
            tl.exp2(g_last_whole + g_last_rest) * S,
            PRECISION,
        )
        g_2 = tl.load(
            g_ptr + token * heads + head + at1 * (heads), mask=live1, other=0.0
        )
        g_3 = _tl_floor_log(g_2.to(tl.float32))
        log_gate_ = tl.where(live1, g_3, 0.0)
        gate_whole_, gate_rest_ = _tl_split(log_gate_)
        sums_whole_, sums_rest_ = (
            tl.cumsum(tl.where(sub1 == 0, gate_whole_, 0.0), 0),
            tl.cumsum(tl.where(sub1 == 0, gate_rest_, 0.0), 0),
        )
        A = tl.load(
            A_ptr
            + (token * A_heads + A_head) * (K_size * R_size)
            + at1[:, None] * (A_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        B = tl.load(
            B_ptr
            + (token * B_heads + B_head) * (K_size * R_size)
            + at1[:, None] * (B_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        t_ = _tl_dot(B, S.to(DOT), None, PRECISION)
        P = tl.load(
            P_ptr
            + chunk * TOKENS * (TOKENS * RANK1)
            + row[:, None] * (TOKENS * RANK1)
            + place0[None, :],
            mask=(row < TOKENS)[:, None]
            & (held0)[None, :]
            & (row[:, None] >= (row1 // 16 * 16 // PADDED1)[None, :]),
            other=0.0,
        )
        t_2 = _tl_dot(tl.trans(P), o.to(DOT), None, PRECISION)
        U_bar = (
            tl.exp2((g_last_whole - sums_whole_) + (g_last_rest - sums_rest_))[:, None]
            * t_
            + t_2
        )
        Z_bar = _tl_solve(
            inverse_ptr + chunk * (TOKENS * RANK1) * (TOKENS * RANK1),
            left,
            U_bar,
            TOKENS,
            RANK1,
            PADDED1,
            AGGREGATION,
            True,
            DOT,
            PRECISION,
        )
        S_bar_next = _tl_dot(
            tl.trans(A),
            (tl.exp2(sums_whole_ + sums_rest_)[:, None] * Z_bar).to(DOT),
            t,
            PRECISION,
        )
        tl.store(
            Z_bar_ptr
            + chunk * (TOKENS * RANK1) * VALUES
            + (at1[:, None] * RANK1 + sub1[:, None]) * VALUES
            + value[None, :],
            Z_bar.to(Z_bar_ptr.dtype.element_ty),
            mask=live1[:, None] & value_live[None, :],
        )
        S = S_bar_next
    if final_ptr is not None:
        tl.store(final_ptr + state_at, S, mask=state_live)


@_jit
def _gradients_backward(
    U_ptr,
    o_bar_ptr,
    Z_bar_ptr,
    W_bar_ptr,
    B_ptr,
    q_ptr,
    A_ptr,
    g_ptr,
    S_bar_ptr,
    S_ptr,
    B_bar_ptr,
    A_bar_ptr,
    q_bar_ptr,
    g_bar_ptr,
    B_heads,
    q_heads,
    A_heads,
    RANK1: tl.constexpr,
    PADDED1: tl.constexpr,
    R_size: tl.constexpr,
    V_size: tl.constexpr,
    K_size: tl.constexpr,
    table_ptr,
    length,
    heads,
    programs,
    levels,
    parts,
    blocks,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    VALUE_TILE: tl.constexpr,
    DOT: tl.constexpr,
    AGGREGATION: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of a chunk's inputs.

    One program per chunk, sequence and head.
    """
    chunk = tl.program_id(0).to(tl.int64)
    head = chunk % heads
    if table_ptr is None:
        before = chunk // programs * TOKENS
        token, left = (
            chunk % programs // heads * length + before,
            tl.minimum(length - before, TOKENS),
        )
    else:  # packed sequences: the first token of each chunk, how many there are
        entry = table_ptr + chunk // heads * 2
        token, left = tl.load(entry).to(tl.int64), tl.load(entry + 1)
    row = tl.arange(0, ROWS)
    live = row < left
    ROWS1: tl.constexpr = ROWS * PADDED1
    row1 = tl.arange(0, ROWS1)
    at1, sub1 = row1 // PADDED1, row1 % PADDED1
    B_head = head // (heads // B_heads)
    q_head = head // (heads // q_heads)
    A_head = head // (heads // A_heads)
    live1 = (sub1 < RANK1) & (at1 < left)
    P_bar = tl.zeros((ROWS, ROWS1), tl.float32)
    N_bar = tl.zeros((ROWS1, ROWS1), tl.float32)
    for block in range(0, blocks):
        value = block * VALUE_TILE + tl.arange(0, VALUE_TILE)
        value_live = value < VALUES
        U = tl.load(
            U_ptr
            + chunk * (TOKENS * RANK1) * VALUES
            + (at1[:, None] * RANK1 + sub1[:, None]) * VALUES
            + value[None, :],
            mask=live1[:, None] & value_live[None, :],
            other=0.0,
        )
        o = tl.load(
            o_bar_ptr
            + (token * heads + head) * VALUES
            + row[:, None] * (heads * VALUES)
            + value[None, :],
            mask=live[:, None] & value_live[None, :],
            other=0.0,
        )
        Z_bar = tl.load(
            Z_bar_ptr
            + chunk * (TOKENS * RANK1) * VALUES
            + (at1[:, None] * RANK1 + sub1[:, None]) * VALUES
            + value[None, :],
            mask=live1[:, None] & value_live[None, :],
            other=0.0,
        )
        P_bar = _tl_dot(o, tl.trans(U.to(DOT)), P_bar, PRECISION)
        N_bar = _tl_dot(Z_bar, tl.trans(U.to(DOT)), N_bar, PRECISION)
    for block in range(0, blocks):
        value = block * VALUE_TILE + tl.arange(0, VALUE_TILE)
        value_live = value < VALUES
        Z_bar = tl.load(
            Z_bar_ptr
            + chunk * (TOKENS * RANK1) * VALUES
            + (at1[:, None] * RANK1 + sub1[:, None]) * VALUES
            + value[None, :],
            mask=live1[:, None] & value_live[None, :],
            other=0.0,
        )
        tl.store(
            W_bar_ptr
            + (token * heads + head) * (R_size * V_size)
            + at1[:, None] * (heads * (R_size * V_size))
            + value[None, :] * R_size
            + sub1[:, None],
            Z_bar.to(tl.float32).to(W_bar_ptr.dtype.element_ty),
            mask=live1[:, None] & value_live[None, :],
        )
    total = tl.zeros((ROWS, ROWS1), tl.float32)
    total_ = tl.zeros((ROWS1, ROWS1), tl.float32)
    for part in range(0, parts):
        key = part * KEY_TILE + tl.arange(0, KEY_TILE)
        key_live = key < KEYS
        B = tl.load(
            B_ptr
            + (token * B_heads + B_head) * (K_size * R_size)
            + at1[:, None] * (B_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        q = tl.load(
            q_ptr
            + (token * q_heads + q_head) * KEYS
            + row[:, None] * (q_heads * KEYS)
            + key[None, :],
            mask=live[:, None] & key_live[None, :],
            other=0.0,
        )
        A = tl.load(
            A_ptr
            + (token * A_heads + A_head) * (K_size * R_size)
            + at1[:, None] * (A_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        total = _tl_dot(q, tl.trans(B.to(DOT)), total, PRECISION)
        total_ = _tl_dot(A, tl.trans(B.to(DOT)), total_, PRECISION)
    g = tl.load(g_ptr + token * heads + head + row * (heads), mask=live, other=0.0)
    g_ = _tl_floor_log(g.to(tl.float32))
    log_gate = tl.where(live, g_, 0.0)
    gate_whole, gate_rest = _tl_split(log_gate)
    g_2 = tl.load(g_ptr + token * heads + head + at1 * (heads), mask=live1, other=0.0)
    g_3 = _tl_floor_log(g_2.to(tl.float32))
    log_gate_ = tl.where(live1, g_3, 0.0)
    gate_whole_, gate_rest_ = _tl_split(log_gate_)
    sums_whole, sums_rest = (
        tl.cumsum(tl.where(sub1 == 0, gate_whole_, 0.0), 0),
        tl.cumsum(tl.where(sub1 == 0, gate_rest_, 0.0), 0),
    )
    sums_whole_, sums_rest_ = tl.cumsum(gate_whole, 0), tl.cumsum(gate_rest, 0)
    decay = tl.where(
        row[:, None] >= at1[None, :],
        tl.exp2(
            tl.where(
                row[:, None] >= at1[None, :],
                (sums_whole_[:, None] - sums_whole[None, :])
                + (sums_rest_[:, None] - sums_rest[None, :]),
                0.0,
            )
        ),
        0.0,
    )
    P = decay * total
    t = P_bar * P
    t_ = tl.sum(t, 1)
    t_2 = tl.sum(t, 0)
    decay_ = tl.where(
        at1[:, None] > at1[None, :],
        tl.exp2(
            tl.where(
                at1[:, None] > at1[None, :],
                (sums_whole[:, None] - sums_whole[None, :])
                + (sums_rest[:, None] - sums_rest[None, :]),
                0.0,
            )
        ),
        0.0,
    )
    N = decay_ * total_
    t_3 = N_bar * N
    t_4 = tl.sum(t_3, 0)
    t_5 = tl.sum(t_3, 1)
    t_6 = decay * P_bar
    t_7 = decay_ * N_bar
    g_last_whole, g_last_rest = tl.sum(gate_whole, 0), tl.sum(gate_rest, 0)
    t_8 = tl.exp2((g_last_whole - sums_whole) + (g_last_rest - sums_rest))
    t_9 = tl.exp2(sums_whole_ + sums_rest_)
    t_10 = tl.exp2(sums_whole + sums_rest)
    total_2 = tl.zeros((ROWS1,), tl.float32)
    total_3 = 0.0
    total_4 = tl.zeros((ROWS,), tl.float32)
    total_5 = tl.zeros((ROWS1,), tl.float32)
    for part in tl.range(0, parts, disable_licm=True):
        key = part * KEY_TILE + tl.arange(0, KEY_TILE)
        key_live = key < KEYS
        l_decayed_bar = tl.zeros((ROWS1, KEY_TILE), tl.float32)
        total_6 = tl.zeros((KEY_TILE,), tl.float32)
        total_7 = tl.zeros((ROWS, KEY_TILE), tl.float32)
        y_decayed_bar = tl.zeros((ROWS1, KEY_TILE), tl.float32)
        for block in range(0, blocks):
            value = block * VALUE_TILE + tl.arange(0, VALUE_TILE)
            value_live = value < VALUES
            U = tl.load(
                U_ptr
                + chunk * (TOKENS * RANK1) * VALUES
                + (at1[:, None] * RANK1 + sub1[:, None]) * VALUES
                + value[None, :],
                mask=live1[:, None] & value_live[None, :],
                other=0.0,
            )
            S_bar = tl.load(
                S_bar_ptr
                + chunk * KEYS * VALUES
                + key[:, None] * VALUES
                + value[None, :],
                mask=key_live[:, None] & value_live[None, :],
                other=0.0,
            )
            S_ = tl.load(
                S_ptr + chunk * KEYS * VALUES + key[:, None] * VALUES + value[None, :],
                mask=key_live[:, None] & value_live[None, :],
                other=0.0,
            )
            o = tl.load(
                o_bar_ptr
                + (token * heads + head) * VALUES
                + row[:, None] * (heads * VALUES)
                + value[None, :],
                mask=live[:, None] & value_live[None, :],
                other=0.0,
            )
            Z_bar = tl.load(
                Z_bar_ptr
                + chunk * (TOKENS * RANK1) * VALUES
                + (at1[:, None] * RANK1 + sub1[:, None]) * VALUES
                + value[None, :],
                mask=live1[:, None] & value_live[None, :],
                other=0.0,
            )
            l_decayed_bar = _tl_dot(
                U, tl.trans(S_bar.to(DOT)), l_decayed_bar, PRECISION
            )
            total_6 = total_6 + tl.sum(
                tl.where(
                    value_live[None, :], S_.to(tl.float32) * S_bar.to(tl.float32), 0.0
                ),
                1,
            )
            total_7 = _tl_dot(o, tl.trans(S_.to(DOT)), total_7, PRECISION)
            y_decayed_bar = _tl_dot(
                Z_bar, tl.trans(S_.to(DOT)), y_decayed_bar, PRECISION
            )
        q = tl.load(
            q_ptr
            + (token * q_heads + q_head) * KEYS
            + row[:, None] * (q_heads * KEYS)
            + key[None, :],
            mask=live[:, None] & key_live[None, :],
            other=0.0,
        )
        A = tl.load(
            A_ptr
            + (token * A_heads + A_head) * (K_size * R_size)
            + at1[:, None] * (A_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        t_11 = tl.trans(_tl_dot(tl.trans(q), t_6.to(DOT), None, PRECISION))
        t_12 = tl.trans(_tl_dot(tl.trans(A), t_7.to(DOT), None, PRECISION))
        l_bar = t_8[:, None] * l_decayed_bar + t_11 + t_12
        tl.store(
            B_bar_ptr
            + (token * heads + head) * (K_size * R_size)
            + at1[:, None] * (heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            l_bar.to(B_bar_ptr.dtype.element_ty),
            mask=live1[:, None] & key_live[None, :],
        )
        B = tl.load(
            B_ptr
            + (token * B_heads + B_head) * (K_size * R_size)
            + at1[:, None] * (B_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        t_13 = tl.trans(_tl_dot(tl.trans(B), tl.trans(t_7.to(DOT)), None, PRECISION))
        y_bar = t_10[:, None] * y_decayed_bar + t_13
        tl.store(
            A_bar_ptr
            + (token * heads + head) * (K_size * R_size)
            + at1[:, None] * (heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            y_bar.to(A_bar_ptr.dtype.element_ty),
            mask=live1[:, None] & key_live[None, :],
        )
        t_14 = tl.trans(_tl_dot(tl.trans(B), tl.trans(t_6.to(DOT)), None, PRECISION))
        q_bar = t_14 + t_9[:, None] * total_7
        tl.store(
            q_bar_ptr
            + (token * heads + head) * KEYS
            + row[:, None] * (heads * KEYS)
            + key[None, :],
            q_bar.to(q_bar_ptr.dtype.element_ty),
            mask=live[:, None] & key_live[None, :],
        )
        total_2 = total_2 + tl.sum(
            tl.where(key_live[None, :], B.to(tl.float32) * l_decayed_bar, 0.0), 1
        )
        total_3 = total_3 + tl.sum(tl.where(key_live, total_6, 0.0), 0)
        total_4 = total_4 + tl.sum(
            tl.where(key_live[None, :], q.to(tl.float32) * total_7, 0.0), 1
        )
        total_5 = total_5 + tl.sum(
            tl.where(key_live[None, :], A.to(tl.float32) * y_decayed_bar, 0.0), 1
        )
    t_15 = total_2 * t_8
    t_16 = tl.sum(t_15, 0)
    g_last_bar = t_16 + total_3 * tl.exp2(g_last_whole + g_last_rest)
    g_query_bar = t_ + total_4 * t_9
    g_write_bar = -t_15 + -t_2 + -t_4
    t_17 = _tl_per_token(g_write_bar, ROWS, PADDED1)
    g_read_bar = total_5 * t_10 + t_5
    t_18 = _tl_per_token(g_read_bar, ROWS, PADDED1)
    g_bar = tl.cumsum(g_query_bar + t_17 + t_18, 0, reverse=True) + g_last_bar
    g_bar_ = tl.where((g.to(tl.float32)) > -104.0, 1.0, 0.0) * g_bar
    tl.store(
        g_bar_ptr + token * heads + head + row * (heads),
        g_bar_.to(g_bar_ptr.dtype.element_ty),
        mask=live,
    )


@_jit
def _begins(
    g_ptr,
    q_ptr,
    o_bar_ptr,
    A_ptr,
    B_ptr,
    P_ptr,
    inverse_ptr,
    q_heads,
    A_heads,
    B_heads,
    RANK1: tl.constexpr,
    PADDED1: tl.constexpr,
    R_size: tl.constexpr,
    K_size: tl.constexpr,
    start_ptr,
    final_ptr,
    table_ptr,
    length,
    heads,
    programs,
    levels,
    parts,
    blocks,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    VALUE_TILE: tl.constexpr,
    DOT: tl.constexpr,
    AGGREGATION: tl.constexpr,
    PRECISION: tl.constexpr,
    START: tl.constexpr,
):
    """The walk back without what it stores: the cotangent of the state that a segment begins with.

    One program per sequence, head and block of the state's columns; it carries the state from chunk to chunk, from the last to the first.
    START is 0 where one number is all of the first state, else 1; the last is stored where there is memory for it.
    """
    block = tl.program_id(0) % blocks
    program = (tl.program_id(0) // blocks).to(tl.int64)
    head = program % heads
    if table_ptr is None:
        tokens, place, apart = length, program, programs
        begin = program // heads * length
    else:  # packed sequences: the first token, how many there are, the first chunk
        entry = table_ptr + program // heads * 3
        tokens, place, apart = (
            tl.load(entry + 1),
            tl.load(entry + 2).to(tl.int64) * heads + head,
            heads,
        )
        begin = tl.load(entry).to(tl.int64)
    key = tl.arange(0, KEY_TILE)
    row = tl.arange(0, ROWS)
    value = block * VALUE_TILE + tl.arange(0, VALUE_TILE)
    key_live, value_live = key < KEYS, value < VALUES
    state_at = program * (KEYS * VALUES) + key[:, None] * VALUES + value[None, :]
    state_live = key_live[:, None] & value_live[None, :]
    q_head = head // (heads // q_heads)
    ROWS1: tl.constexpr = ROWS * PADDED1
    row1 = tl.arange(0, ROWS1)
    at1, sub1 = row1 // PADDED1, row1 % PADDED1
    A_head = head // (heads // A_heads)
    B_head = head // (heads // B_heads)
    place0 = row1 if RANK1 == PADDED1 else at1 * RANK1 + sub1
    held0 = (
        row1 < TOKENS * RANK1 if RANK1 == PADDED1 else (sub1 < RANK1) & (at1 < TOKENS)
    )
    S = tl.load(start_ptr + state_at * START, mask=state_live, other=0.0)
    chunks = tl.cdiv(tokens, TOKENS)
    for step in range(0, chunks):
        c = chunks - 1 - step
        chunk = place + c * apart
        token = begin + c * TOKENS
        left = tl.minimum(tokens - c * TOKENS, TOKENS)
        live = row < left
        live1 = (sub1 < RANK1) & (at1 < left)
        g = tl.load(g_ptr + token * heads + head + row * (heads), mask=live, other=0.0)
        g_ = _tl_floor_log(g.to(tl.float32))
        log_gate = tl.where(live, g_, 0.0)
        gate_whole, gate_rest = _tl_split(log_gate)
        g_last_whole, g_last_rest = tl.sum(gate_whole, 0), tl.sum(gate_rest, 0)
        q = tl.load(
            q_ptr
            + (token * q_heads + q_head) * KEYS
            + row[:, None] * (q_heads * KEYS)
            + key[None, :],
            mask=live[:, None] & key_live[None, :],
            other=0.0,
        )
        sums_whole, sums_rest = tl.cumsum(gate_whole, 0), tl.cumsum(gate_rest, 0)
        o = tl.load(
            o_bar_ptr
            + (token * heads + head) * VALUES
            + row[:, None] * (heads * VALUES)
            + value[None, :],
            mask=live[:, None] & value_live[None, :],
            other=0.0,
        )
        t = _tl_dot(
            tl.trans(q),
            (tl.exp2(sums_whole + sums_rest)[:, None] * o.to(tl.float32)).to(DOT),
            tl.exp2(g_last_whole + g_last_rest) * S,
            PRECISION,
        )
        g_2 = tl.load(
            g_ptr + token * heads + head + at1 * (heads), mask=live1, other=0.0
        )
        g_3 = _tl_floor_log(g_2.to(tl.float32))
        log_gate_ = tl.where(live1, g_3, 0.0)
        gate_whole_, gate_rest_ = _tl_split(log_gate_)
        sums_whole_, sums_rest_ = (
            tl.cumsum(tl.where(sub1 == 0, gate_whole_, 0.0), 0),
            tl.cumsum(tl.where(sub1 == 0, gate_rest_, 0.0), 0),
        )
        A = tl.load(
            A_ptr
            + (token * A_heads + A_head) * (K_size * R_size)
            + at1[:, None] * (A_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        B = tl.load(
            B_ptr
            + (token * B_heads + B_head) * (K_size * R_size)
            + at1[:, None] * (B_heads * (K_size * R_size))
            + key[None, :] * R_size
            + sub1[:, None],
            mask=live1[:, None] & key_live[None, :],
            other=0.0,
        )
        t_ = _tl_dot(B, S.to(DOT), None, PRECISION)
        P = tl.load(
            P_ptr
            + chunk * TOKENS * (TOKENS * RANK1)
            + row[:, None] * (TOKENS * RANK1)
            + place0[None, :],
            mask=(row < TOKENS)[:, None]
            & (held0)[None, :]
            & (row[:, None] >= (row1 // 16 * 16 // PADDED1)[None, :]),
            other=0.0,
        )
        t_2 = _tl_dot(tl.trans(P), o.to(DOT), None, PRECISION)
        U_bar = (
            tl.exp2((g_last_whole - sums_whole_) + (g_last_rest - sums_rest_))[:, None]
            * t_
            + t_2
        )
        Z_bar = _tl_solve(
            inverse_ptr + chunk * (TOKENS * RANK1) * (TOKENS * RANK1),
            left,
            U_bar,
            TOKENS,
            RANK1,
            PADDED1,
            AGGREGATION,
            True,
            DOT,
            PRECISION,
        )
        S_bar_next = _tl_dot(
            tl.trans(A),
            (tl.exp2(sums_whole_ + sums_rest_)[:, None] * Z_bar).to(DOT),
            t,
            PRECISION,
        )
        S = S_bar_next
    if final_ptr is not None:
        tl.store(final_ptr + state_at, S, mask=state_live)


@_jit
def _step(
    q_ptr,
    q_b,
    q_t,
    q_h,
    q_0,
    q_group,
    A_ptr,
    A_b,
    A_t,
    A_h,
    A_0,
    A_1,
    A_group,
    B_ptr,
    B_b,
    B_t,
    B_h,
    B_0,
    B_1,
    B_group,
    W_ptr,
    W_b,
    W_t,
    W_h,
    W_0,
    W_1,
    W_group,
    g_ptr,
    g_b,
    g_t,
    g_h,
    g_group,
    slots_ptr,
    start0_ptr,
    start0_b,
    start0_h,
    start0_0,
    start0_1,
    final0_ptr,
    o_out_ptr,
    bounds_ptr,
    length,
    heads,
    blocks,
    S0: tl.constexpr,
    S1: tl.constexpr,
    S2: tl.constexpr,
    T0: tl.constexpr,
    T1: tl.constexpr,
    T2: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """The outputs and the next states of one token.

    One program per sequence and head and block of the states; it ends with its only token.
    """
    block = tl.program_id(0) % blocks
    program = (tl.program_id(0) // blocks).to(tl.int64)
    sequence, head = program // heads, program % heads
    if slots_ptr is None:
        slot, live = sequence, sequence >= 0
    else:  # of a pool: a sequence that has none reads and writes no state
        slot = tl.load(slots_ptr + sequence)
        live = slot > 0
        slot = tl.maximum(slot, 0)
    batch, t, token = sequence, 0, program
    i0 = tl.arange(0, T0)
    column = block * BLOCK + tl.arange(0, BLOCK)
    i2 = tl.arange(0, T2)
    S = tl.load(
        start0_ptr
        + slot * start0_b
        + head * start0_h
        + i0[:, None] * start0_0
        + column[None, :] * start0_1,
        mask=(i0 < S0)[:, None] & (column < S1)[None, :] & live,
        other=0.0,
    ).to(tl.float32)
    g_ = tl.load(g_ptr + batch * g_b + t * g_t + head // g_group * g_h).to(tl.float32)
    t_ = tl.exp(g_)
    x = t_ * S
    B_ = tl.load(
        B_ptr
        + batch * B_b
        + t * B_t
        + head // B_group * B_h
        + i2[:, None] * B_1
        + i0[None, :] * B_0,
        mask=(i2 < S2)[:, None] & (i0 < S0)[None, :],
        other=0.0,
    ).to(tl.float32)
    W_ = tl.load(
        W_ptr
        + batch * W_b
        + t * W_t
        + head // W_group * W_h
        + i2[:, None] * W_1
        + column[None, :] * W_0,
        mask=(i2 < S2)[:, None] & (column < S1)[None, :],
        other=0.0,
    ).to(tl.float32)
    t_2 = _tl_matrices(
        tl.trans(tl.where((i2 < S2)[:, None] & (i0 < S0)[None, :], B_, 0.0)),
        tl.where((i2 < S2)[:, None] & (column < S1)[None, :], W_, 0.0),
    )
    t_3 = x + t_2
    A_ = tl.load(
        A_ptr
        + batch * A_b
        + t * A_t
        + head // A_group * A_h
        + i0[:, None] * A_0
        + i2[None, :] * A_1,
        mask=(i0 < S0)[:, None] & (i2 < S2)[None, :],
        other=0.0,
    ).to(tl.float32)
    t_4 = _tl_matrices(
        tl.trans(tl.where((i0 < S0)[:, None] & (i2 < S2)[None, :], A_, 0.0)),
        tl.where((i0 < S0)[:, None] & (column < S1)[None, :], x, 0.0),
    )
    t_5 = _tl_matrices(
        tl.trans(tl.where((i2 < S2)[:, None] & (i0 < S0)[None, :], B_, 0.0)),
        tl.where((i2 < S2)[:, None] & (column < S1)[None, :], t_4, 0.0),
    )
    S_next = t_3 + t_5
    q_ = tl.load(
        q_ptr + batch * q_b + t * q_t + head // q_group * q_h + i0 * q_0,
        mask=(i0 < S0),
        other=0.0,
    ).to(tl.float32)
    o = tl.sum(
        tl.where(
            (i0 < S0)[:, None] & (column < S1)[None, :], S_next * q_[:, None], 0.0
        ),
        0,
    )
    tl.store(o_out_ptr + token * (S1) + column * 1, o, mask=(column < S1))
    after = S_next
    S = after
    if final0_ptr is None:
        tl.store(
            start0_ptr
            + slot * start0_b
            + head * start0_h
            + i0[:, None] * start0_0
            + column[None, :] * start0_1,
            S,
            mask=(i0 < S0)[:, None] & (column < S1)[None, :] & live,
        )
    else:
        tl.store(
            final0_ptr + program * (S0 * S1) + i0[:, None] * S1 + column[None, :] * 1,
            S,
            mask=(i0 < S0)[:, None] & (column < S1)[None, :],
        )


def _on_triton(
    backend: str, tensors: tuple[Tensor, ...], keys: int, dtype: torch.dtype
) -> bool:
    """Whether a call runs on the Triton kernels; an error that says why where backend='triton' cannot."""
    device = tensors[3].device
    reason = None
    if backend == "torch" or (backend == "auto" and device.type != "cuda"):
        return False
    if triton is None:
        reason = "Triton is not installed"
    elif dtype == torch.float64:
        reason = "float64 has no kernels"
    elif keys > 256:
        reason = f"the state has {keys} rows, and the kernels hold at most 256"
    elif device.type == "cpu" and not _INTERPRETED:
        reason = "the arguments are on the CPU; TRITON_INTERPRET=1, set before this module is imported, interprets kernels there"
    elif device.type == "cpu" and any(x.dtype == torch.bfloat16 for x in tensors):
        reason = "Triton's interpreter computes wrong numbers in bfloat16"
    elif device.type not in ("cpu", "cuda"):
        reason = f"the arguments are on {device}"
    if reason is not None and (backend == "triton" or dtype == torch.float64):
        raise ValueError(f"{_NAME}: backend={backend!r}: {reason}; use backend='torch'")
    return reason is None


class _Table(NamedTuple):
    """Where packed sequences and their chunks are, for kernels.

    sequences: [N, 3] their first token, their tokens and their first chunk; chunks: [*, 2] their first token, their tokens.
    Where sequences are cut into segments these are the `sequences`; segments: [N, 2] of each sequence the first and how many.
    """

    sequences: Tensor
    chunks: Tensor
    segments: Tensor | None = None

    def ends(self, states: Tensor, first: bool = False) -> Tensor:
        """Of the states of segments those of the last, or the `first`, of every sequence."""
        if self.segments is None:
            return states
        begin, count = self.segments.unbind(1)
        return states[begin if first else begin + count - 1]


def _parts(offsets: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What lies between offsets, in parts of `size` tokens: the first part of each, and of parts tokens as in `_Table`."""
    lengths = offsets.diff()
    counts = (lengths + size - 1) // size
    before = counts.cumsum(0) - counts
    own = torch.repeat_interleave(counts)
    first = (torch.arange(len(own), device="cpu") - before[own]) * size
    return before, torch.stack(
        (offsets[own] + first, (lengths[own] - first).clamp(max=size)), 1
    )


def _table(cu_seqlens: Tensor, length: int, size: int) -> _Table:
    """The table of sequences in chunks of `size` tokens, made once."""
    packing = _packing(cu_seqlens, length)
    if size not in packing.tables:
        offsets = torch.tensor(packing.offsets, device="cpu")
        before, chunks = _parts(offsets, size)
        sequences = torch.stack((offsets[:-1], offsets.diff(), before), 1)
        packing.tables[size] = _Table(
            *(x.to(torch.int32).to(cu_seqlens.device) for x in (sequences, chunks))
        )
    return packing.tables[size]


def _segments(like: Tensor, cu_seqlens: Tensor | None, size: int, count: int) -> _Table:
    """The table of sequences cut into about `count` segments of whole chunks each, made once.

    Of a batch its entries are the sequences, one after another.
    """
    if cu_seqlens is None:
        return _batch_segments(*like.shape[:2], size, count, like.device)
    packing = _packing(cu_seqlens, like.shape[1])
    if (size, count) not in packing.tables:
        packing.tables[size, count] = _in_segments(
            torch.tensor(packing.offsets, device="cpu"), size, count, like.device
        )
    return packing.tables[size, count]


@lru_cache(64)
def _batch_segments(
    batch: int, length: int, size: int, count: int, device: torch.device
) -> _Table:
    """The same of a batch."""
    return _in_segments(
        torch.arange(batch + 1, device="cpu") * length, size, count, device
    )


def _in_segments(
    offsets: Tensor, size: int, count: int, device: torch.device
) -> _Table:
    """The same by the offsets of sequences."""
    tokens = _segment_tokens(int(offsets[-1]), len(offsets) - 1, size, count)
    begins = [
        range(a, max(b, a + 1), tokens) for a, b in pairwise(offsets.tolist())
    ]  # one of no tokens has one segment
    counts = torch.tensor([len(own) for own in begins], device="cpu")
    cuts = torch.tensor(
        [begin for own in begins for begin in own] + [int(offsets[-1])], device="cpu"
    )
    before, chunks = _parts(cuts, size)
    sequences, segments = (
        torch.stack((cuts[:-1], cuts.diff(), before), 1),
        torch.stack((counts.cumsum(0) - counts, counts), 1),
    )
    return _Table(
        *(x.to(torch.int32).to(device) for x in (sequences, chunks, segments))
    )


def _segment_tokens(tokens: int, sequences: int, size: int, count: int) -> int:
    """The tokens of a segment: whole chunks of `size`, so that the average sequence has about `count` segments."""
    chunks = -(-tokens // (max(sequences, 1) * size))
    return max(1, -(-chunks // count)) * size


def _flow_columns(keys: int, values: int) -> int:
    """How many columns a segment's flow has in memory: the matrix that it multiplies states with, or its factors."""
    return keys


@_jit
def _compose(
    flows_ptr,
    ends_ptr,
    start_ptr,
    made_ptr,
    segments_ptr,
    heads,
    blocks,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    COLUMNS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    VALUE_TILE: tl.constexpr,
    PART: tl.constexpr,
    TURNED: tl.constexpr,
    DENSE: tl.constexpr,
    BACK: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What every segment's walk begins with, by what each segment does to a state and what it ends with from 0.

    One program per sequence, head and block of the state's columns. Flows are the transposed ones, as `_flow` makes them;
    BACK goes from the last segment to the first, with the cotangents of states. States are held transposed: their few
    columns are then rows of the products.
    """
    program, block = (
        (tl.program_id(0) // blocks).to(tl.int64),
        tl.program_id(0) % blocks,
    )
    head, entry = program % heads, segments_ptr + program // heads * 2
    first, count = tl.load(entry).to(tl.int64), tl.load(entry + 1)
    key, value = tl.arange(0, KEY_TILE), block * VALUE_TILE + tl.arange(0, VALUE_TILE)
    along, across = (1, KEYS) if TURNED else (VALUES, 1)
    down, beside = (1, KEYS) if TURNED else (COLUMNS, 1)
    at = key[None, :] * along + value[:, None] * across
    live = (key < KEYS)[None, :] & (value < VALUES)[:, None]
    S = tl.load(
        start_ptr + (program * (KEYS * VALUES) + at) * START, mask=live, other=0.0
    )
    for step in range(0, count):
        place = (first + (count - 1 - step if BACK else step)) * heads + head
        state, flow = place * (KEYS * VALUES), flows_ptr + place * (KEYS * COLUMNS)
        tl.store(made_ptr + state + at, S, mask=live)
        ends = tl.load(ends_ptr + state + at, mask=live, other=0.0)
        if DENSE:
            tl.debug_barrier()  # parts of the state are read as other threads have just stored them
            S = ends
            for begin in range(0, KEYS, PART):
                part = begin + tl.arange(0, PART)
                s = tl.load(
                    made_ptr + state + part[None, :] * along + value[:, None] * across,
                    mask=(part < KEYS)[None, :] & (value < VALUES)[:, None],
                    other=0.0,
                )
                if BACK:
                    where = flow + key[None, :] * down + part[:, None] * beside
                else:
                    where = flow + part[:, None] * down + key[None, :] * beside
                m = tl.load(
                    where,
                    mask=(part < KEYS)[:, None] & (key < KEYS)[None, :],
                    other=0.0,
                )
                S = tl.dot(s, m, acc=S, input_precision=PRECISION, out_dtype=tl.float32)
        elif COLUMNS == 1:
            S = S * tl.load(flow + key, mask=key < KEYS, other=0.0)[None, :] + ends
        else:
            S = S * tl.load(flow + at, mask=live, other=0.0) + ends


class _Kernels:
    """What the launches of one call share: sizes, types, and memory between kernels."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        state: tuple[int, int],
        sequences: int,
        table: _Table | None,
        tokens: int,
        how: str,
        schedule: str = "split",
        keep: bool = True,
        last: bool = True,
    ) -> None:
        """Sizes as the kernels take them, a state's as they see it; memory holds `chunks` times `programs` values.

        `keep`: a backward pass may follow; `last`: what walks end with is asked for.
        """
        like = inputs[3]
        self.like, self.tokens, self.table = like, tokens, table
        self.batch, self.length, self.heads = like.shape[:3]
        self.keys, self.values = map(int, state)
        self.walks = (sequences if table is None else len(table.sequences)) * self.heads
        self.programs = self.walks if table is None else self.heads
        self.chunks = -(-self.length // tokens) if table is None else len(table.chunks)
        self.dot = _product_type(inputs)
        rows = _tile(tokens)
        self.sizes = {
            "length": self.length,
            "heads": self.heads,
            "programs": self.programs,
            "KEYS": self.keys,
            "VALUES": self.values,
            "TOKENS": tokens,
            "ROWS": rows,
            "levels": rows.bit_length() - 1,
            "AGGREGATION": how,
            "DOT": _of_triton(self.dot),
            "PRECISION": "tf32x3"
            if like.is_cuda and torch.version.hip is None
            else "ieee",
        }
        self.keep, self.last, self.fused = (
            keep,
            last,
            schedule == "fused" and _tile(self.keys) <= 128,
        )

    def memory(self, *sizes: int, zeros: bool = False, system: bool = False) -> Tensor:
        """Memory for a value of every chunk: matrices in the type of products, the rest in float32; `zeros` for torch.

        A `system` that is solved by substitution is in float32.
        """
        exact = len(sizes) == 1 or (system and self.sizes["AGGREGATION"] == "signature")
        dtype = torch.float32 if exact else self.dot
        make = self.like.new_zeros if zeros else self.like.new_empty
        return make((self.chunks, self.programs, *sizes), dtype=dtype)

    @property
    def segments(self) -> Tensor | None:
        """Where the segments of sequences are, if they are cut into such."""
        return None if self.table is None else self.table.segments

    def given(self, lanes: tuple[int, ...], *values: Tensor) -> list[Tensor]:
        """Values of every chunk that torch operators made, as `memory` holds them."""
        out = []
        for count, x in zip(lanes, values, strict=True):
            x = x.expand(self.chunks, self.programs, *x.shape[x.dim() - count :])
            out.append(x.to(self.dot if count > 1 else torch.float32).contiguous())
        return out

    def run(
        self,
        kernel: Any,
        role: str,
        blocked: bool,
        split: bool,
        columns: int | None = None,
        **arguments: Any,
    ) -> None:
        """One launch: of a program for each block of the state's columns, or one that goes through parts of its rows.

        A walk that can be `split` has programs of a block of rows each; `columns`, if not those of the state.
        """
        walks = role.startswith(("walk", "fused"))
        values = self.values if columns is None else columns
        tiles = _tiles(
            role,
            split,
            self.dot.itemsize,
            _family(self.like.device),
            self.keys,
            values,
            self.tokens,
        )
        programs = self.walks if walks else self.chunks * self.programs
        grid = (
            programs
            * (tiles["blocks"] if blocked else 1)
            * (tiles["parts"] if walks and split else 1),
        )
        table = (
            None
            if self.table is None
            else self.table.sequences
            if walks
            else self.table.chunks
        )
        if walks:
            arguments["START"] = int(any(arguments["start_ptr"].stride()))
        arguments |= self.sizes
        arguments |= tiles
        arguments["VALUES"] = values
        self.launch(kernel, grid, table_ptr=table, **arguments)

    def launch(self, kernel: Any, grid: tuple[int], **arguments: Any) -> None:
        """One launch, on the device of the arguments."""
        if (
            not self.like.is_cuda
            or self.like.device.index == torch.cuda.current_device()
        ):
            kernel[grid](enable_fp_fusion=True, **arguments)
        else:
            with torch.cuda.device(self.like.device):
                kernel[grid](enable_fp_fusion=True, **arguments)


class _InSegments(_Kernels):
    """The same of a call whose sequences are cut into segments, which run beside one another.

    What each segment does to a state is made first, then what each begins with, which the other kernels start from.
    """

    def opened(self, saved: Sequence[Tensor] | None) -> Sequence[Tensor] | None:
        """What is saved, or the places for it, without the flows of segments, which come last."""
        count, self.columns = (
            len(self.table.sequences),
            _flow_columns(self.keys, self.values),
        )
        self.ends = self.like.new_empty(
            (count, self.heads, self.keys, self.values), dtype=torch.float32
        )
        if saved is None:
            self.flows = self.like.new_empty(
                (count, self.heads, self.keys, self.columns), dtype=torch.float32
            )
            return None
        *saved, self.flows = saved
        return saved

    @property
    def nothing(self) -> Tensor:
        """The state 0."""
        return self.like.new_zeros((), dtype=torch.float32).expand(1)

    @property
    def unit(self) -> Tensor:
        """What flows are made of: the unit matrix for every segment and head."""
        unit = torch.eye(self.keys, dtype=torch.float32, device=self.like.device)
        return unit.expand(*self.flows.shape).contiguous()

    def composed(self, given: Tensor, back: bool) -> Tensor:
        """The states that segments begin with, of those that sequences do; `back`: cotangents, by what they end with."""
        made = given.new_empty((len(self.ends), *given.shape[1:]))
        tile, block = _tile(self.keys), 16
        blocks = -(-self.values // block)
        self.launch(
            _compose,
            (len(self.segments) * self.heads * blocks,),
            flows_ptr=self.flows,
            ends_ptr=self.ends,
            start_ptr=given,
            made_ptr=made,
            segments_ptr=self.segments,
            heads=self.heads,
            blocks=blocks,
            KEYS=self.keys,
            VALUES=self.values,
            COLUMNS=self.columns,
            KEY_TILE=tile,
            VALUE_TILE=block,
            PART=min(32, tile),
            TURNED=False,
            DENSE=True,
            BACK=back,
            START=int(any(given.stride())),
            PRECISION=self.sizes["PRECISION"],
            num_warps=4,
            num_stages=1,
        )
        return made


@lru_cache
def _of_triton(dtype: torch.dtype) -> Any:
    """Triton's name for a type."""
    return getattr(tl, str(dtype).removeprefix("torch."))


@lru_cache
def _tiles(
    role: str, split: bool, width: int, family: str, keys: int, values: int, tokens: int
) -> dict[str, int]:
    """The tiles of a kernel, into how many parts and blocks it cuts the state's rows and columns, its warps and stages.

    `split`: a program goes through parts of the rows, or, of a walk, has one of them.
    """
    block, part, warps, stages = _tiling(role, width, family, keys, tokens)
    part = min(part, _tile(keys)) if split else _tile(keys)
    block = min(block, _tile(values))
    return {
        "parts": -(-keys // part),
        "blocks": -(-values // block),
        "KEY_TILE": part,
        "VALUE_TILE": block,
        "num_warps": warps,
        "num_stages": stages,
    }


def _as_state(x: Tensor) -> Tensor:
    """A state as kernels take it: in float32, and contiguous where it is not one number expanded."""
    return (
        x
        if x.dtype == torch.float32 and not any(x.stride())
        else x.to(torch.float32).contiguous()
    )


def _tile(size: int) -> int:
    """The length of a tile that holds `size` entries: a power of two that a product can sum over."""
    return max(16, 1 << (size - 1).bit_length())


def _padded(rows: int) -> int:
    """The rows that a token takes in a tile: a power of two."""
    return 1 << (rows - 1).bit_length()


@lru_cache
def _family(device: torch.device) -> str:
    """What a device's kernels are configured for."""
    if device.type != "cuda":
        return "any"
    if torch.version.hip is not None:
        return "amd"
    major, _ = torch.cuda.get_device_capability(device)
    return "ampere" if major < 9 else "any" if major == 9 else "blackwell"


@lru_cache
def _processors(device: torch.device) -> int:
    """How many programs a device runs beside one another, at least."""
    return (
        torch.cuda.get_device_properties(device).multi_processor_count
        if device.type == "cuda"
        else 1
    )


@lru_cache
def _tiling(
    role: str, width: int, family: str, keys: int, tokens: int
) -> tuple[int, int, int, int]:
    """How many of the state's columns and rows a program holds at once, its warps and stages."""
    own = (
        row
        for row in _TILINGS
        if row[0] in (family, "any") and row[1:3] == (role, width)
    )
    columns, rows, warps, stages = next(
        row[5:] for row in own if min(keys, 256) <= row[3] and tokens <= row[4]
    )
    return (
        columns,
        rows,
        warps // 2 if family == "amd" else warps,
        stages,
    )  # a wavefront is two warps


_TILINGS = (  # family of devices, role, bytes of an operand's number, most rows of the state, most tokens of a chunk:
    # columns, rows, warps, stages
    ("ampere", "walk", 2, 64, 256, 32, 128, 4, 2),
    ("ampere", "walk", 2, 128, 256, 32, 128, 4, 1),
    ("ampere", "walk", 2, 256, 256, 16, 128, 4, 1),
    ("ampere", "walk_backward", 2, 256, 256, 16, 128, 4, 1),
    ("ampere", "gradients_backward", 2, 256, 256, 32, 32, 8, 1),
    ("ampere", "fused", 2, 64, 256, 32, 64, 4, 1),
    ("ampere", "fused", 2, 256, 256, 16, 64, 8, 1),
    ("blackwell", "matrices", 2, 256, 256, 32, 16, 8, 1),
    ("blackwell", "walk", 2, 128, 256, 32, 128, 4, 1),
    ("blackwell", "walk", 2, 256, 256, 16, 128, 4, 2),
    ("blackwell", "walk_backward", 2, 256, 256, 32, 128, 4, 1),
    ("blackwell", "gradients_backward", 2, 256, 256, 32, 32, 8, 1),
    ("amd", "columns", 2, 256, 256, 64, 64, 8, 1),
    ("amd", "gradients_backward", 2, 256, 256, 32, 32, 8, 1),
    ("amd", "fused", 2, 128, 256, 64, 64, 8, 1),
    ("amd", "fused", 2, 256, 256, 16, 64, 8, 1),
    ("any", "matrices", 2, 256, 256, 32, 32, 8, 1),
    ("any", "walk", 2, 128, 256, 32, 128, 4, 2),
    ("any", "walk", 2, 256, 256, 16, 128, 4, 2),
    ("any", "columns", 2, 256, 256, 64, 64, 4, 2),
    ("any", "walk_backward", 2, 256, 256, 32, 128, 8, 1),
    ("any", "gradients_backward", 2, 256, 256, 32, 64, 8, 1),
    ("any", "fused", 2, 128, 256, 64, 64, 8, 2),
    ("any", "fused", 2, 256, 256, 16, 64, 8, 1),
    ("any", "matrices", 4, 256, 256, 16, 32, 8, 1),
    ("any", "walk", 4, 256, 256, 16, 128, 8, 1),
    ("any", "columns", 4, 256, 256, 16, 16, 4, 1),
    ("any", "walk_backward", 4, 256, 256, 16, 128, 8, 1),
    ("any", "gradients_backward", 4, 256, 256, 16, 16, 4, 1),
    ("any", "fused", 4, 256, 256, 16, 32, 8, 1),
)


def _product_type(inputs: Sequence[Tensor]) -> torch.dtype:
    """What operands of products are rounded to: the type of the inputs that they are made of, float32 if those differ."""
    kind = inputs[0].dtype
    return (
        kind
        if inputs[1].dtype == inputs[2].dtype == inputs[3].dtype == kind
        else torch.float32
    )


_FUSED = {  # family of devices, whether a backward pass follows: rows of a chunk, from how many programs for
    # 8 processors on, up to how many chunks with any
    ("amd", False): (64, 3, 6),
    ("amd", True): (64, 4, 4),
    ("blackwell", False): (64, 1, 64),
    ("blackwell", True): (64, 1, 64),
    ("ampere", False): (64, None, 64),
    ("ampere", True): (64, None, 64),
    ("any", False): (64, 1, 41),
    ("any", True): (64, 3, 8),
}


def _kernel_choice(
    schedule: str,
    chunk_size: int | None,
    inputs: Sequence[Tensor],
    starts: Sequence[Tensor],
    rows: int,
    keys: int,
    keep: bool,
) -> tuple[str, int, int]:
    """The schedule and the tokens of a chunk, where the caller leaves them open (auto, None); segments of a sequence.

    About 64 rows, fewer where a state of over 128 rows takes registers too; in float32 16. Walks make the outputs where
    they have room for that and programs enough: from `_FUSED` on, that is predicted to be faster.
    """
    dot, like, padded = _product_type(inputs), inputs[3], _padded(max(rows, 1))
    most = 16 if dot.itemsize == 4 else 64 if keys <= 128 else 32
    family = _family(like.device)
    nothing, keys = (None, None, 0), int(keys)
    room, least, short = (
        _FUSED.get((family, keep), nothing) if _tile(keys) <= 128 else nothing
    )
    fits = (
        room is not None
        and dot.itemsize == 2
        and (chunk_size is None or _tile(chunk_size) * padded <= room)
    )
    tokens = (
        max(1, (room if fits else most) // padded) if chunk_size is None else chunk_size
    )
    count = _segment_count(
        schedule, "fused" if fits else "walk", tokens, inputs, starts, keys, keep
    )
    if count > 1:
        return "fused" if fits else "split", tokens, count
    schedule = "auto" if schedule == "two-level" else schedule
    if schedule == "auto" and (
        room is None or (chunk_size is not None and _tile(chunk_size) * padded > room)
    ):
        schedule = "split"
    if (
        schedule == "auto" and like.is_cuda
    ):  # products in three parts leave no registers for outputs
        tokens = max(1, room // padded)
        block, *_ = _tiling("fused", dot.itemsize, family, keys, tokens)
        programs = (
            starts[0].shape[0]
            * like.shape[2]
            * -(-(starts[0].shape[2], starts[0].shape[3])[1] // block)
        )
        enough = least is not None and 8 * programs >= least * _processors(like.device)
        enough = enough or like.shape[1] <= short * tokens
        schedule = "fused" if enough and dot.itemsize == 2 else "split"
    elif schedule == "auto":
        schedule = "fused"
    if schedule == "fused" and room is not None and dot.itemsize == 2:
        most = room
    return schedule, max(1, most // padded) if chunk_size is None else chunk_size, 1


_SEGMENTED = {  # family of devices, whether a backward pass follows: from so many segments of a sequence on as fill the
    # device, from how many chunks on walking all beside one another is faster
    ("amd", False): ((6, 215), (8, 108), (12, 76)),
    ("amd", True): ((6, 91), (8, 54), (12, 45)),
    ("blackwell", False): ((6, 215), (8, 108), (12, 91)),
    ("blackwell", True): ((6, 64), (8, 54), (12, 45)),
    ("ampere", False): ((4, 76), (6, 45)),
    ("ampere", True): ((3, 91), (4, 38), (6, 32)),
    ("any", False): ((6, 304), (8, 108), (12, 91)),
    ("any", True): ((6, 91), (8, 54), (12, 45)),
}


def _segment_count(
    schedule: str,
    role: str,
    tokens: int,
    inputs: Sequence[Tensor],
    starts: Sequence[Tensor],
    keys: int,
    keep: bool,
) -> int:
    """Into how many segments sequences are cut, which then run beside one another: as many as fill the device, or 1."""
    like, family = inputs[3], _family(inputs[3].device)
    width = _product_type(inputs).itemsize
    if schedule not in ("auto", "two-level") or (
        schedule == "auto" and not (like.is_cuda and width == 2)
    ):
        return 1
    block, *_ = _tiling(role, width, family, keys, tokens)
    sequences = max(starts[0].shape[0], 1)
    programs = max(sequences * like.shape[2], 1) * -(
        -(starts[0].shape[2], starts[0].shape[3])[1] // block
    )
    chunks = -(-like.shape[0] * like.shape[1] // (sequences * tokens))
    count = min(max(2, _processors(like.device) // programs), chunks)
    least = [n for most, n in _SEGMENTED.get((family, keep), ()) if count >= most]
    if schedule == "auto" and (not least or chunks < least[-1]):
        return 1
    return count


def _in_tiles(tokens: int, rows: int, counted: str = "") -> int:
    """The tokens of a chunk, if tiles hold its rows: a power of two of tokens, 16 at least, and of rows for each."""
    padded, shown = _padded(max(rows, 1)), f"{counted}{rows} rows per token"
    if 16 * padded > 256:
        raise ValueError(
            f"{_NAME}: {shown}, and Triton kernels hold at most 16; backend='torch' runs it"
        )
    if _tile(tokens) * padded > 256:
        raise ValueError(
            f"{_NAME}: chunk_size = {tokens} with {shown} makes {_tile(tokens) * padded} rows a chunk in the tiles of Triton"
            f" kernels, at most 256; their largest legal chunk_size is {256 // padded}"
        )
    return tokens


def _shared(gradient: Tensor, x: Tensor) -> Tensor:
    """A gradient for every value head, summed over those that share one head of `x`, in the type of `x`."""
    if gradient.shape[2] != x.shape[2]:
        first, *others = gradient.unflatten(2, (x.shape[2], -1)).unbind(3)
        gradient = reduce(
            torch.add, others, first
        )  # `sum` promises no order that is the same for every length
    return gradient.to(x.dtype)


def _saved_memory(call: _Kernels, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Memory for what the backward pass uses again."""
    return [
        call.memory(
            call.tokens * inputs[1].shape[4],
            call.tokens * inputs[1].shape[4],
            system=True,
        ),
        call.memory(call.tokens, call.tokens * inputs[1].shape[4]),
        call.memory(call.tokens * inputs[1].shape[4], call.values),
        call.memory(call.keys, call.values),
    ]


def _forward_kernels(
    call: _Kernels,
    inputs: tuple[Tensor, ...],
    start: Tensor,
    outputs: Sequence[Tensor],
    places: Sequence[Tensor] | None,
) -> tuple[Tensor | None, list[Tensor]]:
    """Run the forward kernels: `outputs` are written, the final state and what the backward pass uses again."""
    (
        q,
        A,
        B,
        W,
        g,
    ) = inputs
    start = _as_state(start)
    final = start.new_empty(start.shape) if call.last else None
    inverse = (
        call.memory(
            call.tokens * inputs[1].shape[4],
            call.tokens * inputs[1].shape[4],
            system=True,
        )
        if places is None
        else places[0]
    )
    P = (
        call.memory(call.tokens, call.tokens * inputs[1].shape[4])
        if places is None
        else places[1]
    )
    U = (
        (
            call.memory(call.tokens * inputs[1].shape[4], call.values)
            if places is None
            else places[2]
        )
        if call.keep or not call.fused
        else None
    )
    S = (
        (call.memory(call.keys, call.values) if places is None else places[3])
        if call.keep or not call.fused
        else None
    )
    call.run(
        _matrices,
        "matrices",
        False,
        True,
        A_ptr=inputs[1],
        B_ptr=inputs[2],
        q_ptr=inputs[0],
        g_ptr=inputs[4],
        inverse_ptr=inverse,
        P_ptr=P,
        A_heads=inputs[1].shape[2],
        B_heads=inputs[2].shape[2],
        q_heads=inputs[0].shape[2],
        RANK1=inputs[1].shape[4],
        PADDED1=_padded(inputs[1].shape[4]),
        R_size=inputs[1].shape[4],
        K_size=inputs[0].shape[3],
    )
    if call.segments is not None:
        call.run(
            _ends,
            "walk",
            True,
            False,
            g_ptr=inputs[4],
            B_ptr=inputs[2],
            W_ptr=inputs[3],
            A_ptr=inputs[1],
            inverse_ptr=inverse,
            B_heads=inputs[2].shape[2],
            A_heads=inputs[1].shape[2],
            RANK1=inputs[1].shape[4],
            PADDED1=_padded(inputs[1].shape[4]),
            R_size=inputs[1].shape[4],
            K_size=inputs[0].shape[3],
            V_size=inputs[3].shape[3],
            start_ptr=call.nothing,
            final_ptr=call.ends,
        )
        call.run(
            _flow,
            "walk_backward",
            True,
            False,
            columns=call.columns,
            g_ptr=inputs[4],
            A_ptr=inputs[1],
            B_ptr=inputs[2],
            inverse_ptr=inverse,
            A_heads=inputs[1].shape[2],
            B_heads=inputs[2].shape[2],
            RANK1=inputs[1].shape[4],
            PADDED1=_padded(inputs[1].shape[4]),
            R_size=inputs[1].shape[4],
            K_size=inputs[0].shape[3],
            start_ptr=call.unit,
            final_ptr=call.flows,
        )
        start = call.composed(start, False)
        final = torch.empty_like(start) if call.last else None
    if call.fused:
        call.run(
            _fused,
            "fused",
            True,
            False,
            S_ptr=S,
            g_ptr=inputs[4],
            B_ptr=inputs[2],
            W_ptr=inputs[3],
            A_ptr=inputs[1],
            inverse_ptr=inverse,
            q_ptr=inputs[0],
            P_ptr=P,
            U_ptr=U,
            o_ptr=outputs[0],
            B_heads=inputs[2].shape[2],
            A_heads=inputs[1].shape[2],
            q_heads=inputs[0].shape[2],
            RANK1=inputs[1].shape[4],
            PADDED1=_padded(inputs[1].shape[4]),
            R_size=inputs[1].shape[4],
            K_size=inputs[0].shape[3],
            V_size=inputs[3].shape[3],
            start_ptr=start,
            final_ptr=final,
        )
    else:
        call.run(
            _walk,
            "walk",
            True,
            False,
            S_ptr=S,
            g_ptr=inputs[4],
            B_ptr=inputs[2],
            W_ptr=inputs[3],
            A_ptr=inputs[1],
            inverse_ptr=inverse,
            U_ptr=U,
            B_heads=inputs[2].shape[2],
            A_heads=inputs[1].shape[2],
            RANK1=inputs[1].shape[4],
            PADDED1=_padded(inputs[1].shape[4]),
            R_size=inputs[1].shape[4],
            K_size=inputs[0].shape[3],
            V_size=inputs[3].shape[3],
            start_ptr=start,
            final_ptr=final,
        )
        call.run(
            _columns,
            "columns",
            True,
            True,
            q_ptr=inputs[0],
            S_ptr=S,
            g_ptr=inputs[4],
            P_ptr=P,
            U_ptr=U,
            o_ptr=outputs[0],
            q_heads=inputs[0].shape[2],
            RANK1=inputs[1].shape[4],
            PADDED1=_padded(inputs[1].shape[4]),
        )
    saved = (
        [
            inverse,
            P,
            U,
            S,
        ]
        if call.keep
        else []
    )
    return final, saved if places is None else [
        p if x is p else p.copy_(x) for x, p in zip(saved, places, strict=True)
    ]


def _backward_kernels(
    call: _Kernels,
    inputs: tuple[Tensor, ...],
    start: Tensor,
    saved: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    final: Tensor,
) -> tuple[list[Tensor], Tensor | None]:
    """Run the backward kernels: the gradients of inputs and of the state; `final` is the final state's."""
    (
        q,
        A,
        B,
        W,
        g,
    ) = inputs
    (
        inverse,
        P,
        U,
        S,
    ) = saved
    begin = final.new_empty(final.shape) if call.last else None
    grads = [
        q.new_empty(
            (call.batch, call.length, call.heads, inputs[0].shape[3]),
            dtype=q.dtype if q.shape[2] == call.heads else torch.float32,
        ),
        A.new_empty(
            (
                call.batch,
                call.length,
                call.heads,
                inputs[0].shape[3],
                inputs[1].shape[4],
            ),
            dtype=A.dtype if A.shape[2] == call.heads else torch.float32,
        ),
        B.new_empty(
            (
                call.batch,
                call.length,
                call.heads,
                inputs[0].shape[3],
                inputs[1].shape[4],
            ),
            dtype=B.dtype if B.shape[2] == call.heads else torch.float32,
        ),
        W.new_empty(
            (
                call.batch,
                call.length,
                call.heads,
                inputs[3].shape[3],
                inputs[1].shape[4],
            ),
            dtype=W.dtype if W.shape[2] == call.heads else torch.float32,
        ),
        g.new_empty(
            (call.batch, call.length, call.heads),
            dtype=g.dtype if g.shape[2] == call.heads else torch.float32,
        ),
    ]
    Z_bar = call.memory(call.tokens * inputs[1].shape[4], call.values)
    S_bar = call.memory(call.keys, call.values)
    if call.segments is not None:
        call.run(
            _begins,
            "walk_backward",
            True,
            False,
            g_ptr=inputs[4],
            q_ptr=inputs[0],
            o_bar_ptr=cotangents[0],
            A_ptr=inputs[1],
            B_ptr=inputs[2],
            P_ptr=P,
            inverse_ptr=inverse,
            q_heads=inputs[0].shape[2],
            A_heads=inputs[1].shape[2],
            B_heads=inputs[2].shape[2],
            RANK1=inputs[1].shape[4],
            PADDED1=_padded(inputs[1].shape[4]),
            R_size=inputs[1].shape[4],
            K_size=inputs[0].shape[3],
            start_ptr=call.nothing,
            final_ptr=call.ends,
        )
        final = call.composed(final, True)
        begin = torch.empty_like(final) if call.last else None
    call.run(
        _walk_backward,
        "walk_backward",
        True,
        False,
        S_bar_ptr=S_bar,
        g_ptr=inputs[4],
        q_ptr=inputs[0],
        o_bar_ptr=cotangents[0],
        A_ptr=inputs[1],
        B_ptr=inputs[2],
        P_ptr=P,
        inverse_ptr=inverse,
        Z_bar_ptr=Z_bar,
        q_heads=inputs[0].shape[2],
        A_heads=inputs[1].shape[2],
        B_heads=inputs[2].shape[2],
        RANK1=inputs[1].shape[4],
        PADDED1=_padded(inputs[1].shape[4]),
        R_size=inputs[1].shape[4],
        K_size=inputs[0].shape[3],
        start_ptr=final,
        final_ptr=begin,
    )
    call.run(
        _gradients_backward,
        "gradients_backward",
        False,
        True,
        U_ptr=U,
        o_bar_ptr=cotangents[0],
        Z_bar_ptr=Z_bar,
        W_bar_ptr=grads[3],
        B_ptr=inputs[2],
        q_ptr=inputs[0],
        A_ptr=inputs[1],
        g_ptr=inputs[4],
        S_bar_ptr=S_bar,
        S_ptr=S,
        B_bar_ptr=grads[2],
        A_bar_ptr=grads[1],
        q_bar_ptr=grads[0],
        g_bar_ptr=grads[4],
        B_heads=inputs[2].shape[2],
        q_heads=inputs[0].shape[2],
        A_heads=inputs[1].shape[2],
        RANK1=inputs[1].shape[4],
        PADDED1=_padded(inputs[1].shape[4]),
        R_size=inputs[1].shape[4],
        V_size=inputs[3].shape[3],
        K_size=inputs[0].shape[3],
    )
    return [
        _shared(grads[0], q),
        _shared(grads[1], A),
        _shared(grads[2], B),
        grads[3],
        _shared(grads[4], g),
    ], begin


def _calls(
    inputs: Sequence[Tensor],
    starts: Sequence[Tensor],
    table: _Table | None,
    tokens: int,
    how: str,
    schedule: str = "split",
    keep: bool = True,
    last: bool = True,
) -> list[_Kernels]:
    """What the launches of each state share."""
    return [
        (_Kernels if table is None or table.segments is None else _InSegments)(
            inputs,
            (starts[0].shape[2], starts[0].shape[3]),
            len(starts[0]),
            table,
            tokens,
            how,
            schedule,
            keep,
            last,
        ),
    ]


def _saved(calls: Sequence[_Kernels], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Memory for what the backward pass uses again."""
    return [*_saved_memory(calls[0], inputs)]


def _forward_triton(
    inputs: tuple[Tensor, ...],
    starts: Sequence[Tensor],
    table: _Table | None,
    tokens: int,
    how: str,
    schedule: str,
    keep: bool,
    last: bool,
    places: Sequence[Tensor] | None,
) -> tuple[list[Tensor], list[Tensor | None], list[Tensor]]:
    """Run the forward kernels: outputs, final states if asked for (`last`), and what the backward pass uses, in `places` if given."""
    (
        q,
        A,
        B,
        W,
        g,
    ) = inputs = tuple(x.contiguous() for x in inputs)
    calls = _calls(inputs, starts, table, tokens, how, schedule, keep, last)
    outputs, finals = _outputs(*inputs), list(starts)
    (call,), (start,) = calls, starts
    if call.segments is not None:
        places = call.opened(places)
    final, saved = _forward_kernels(call, inputs, start, outputs, places)
    if call.segments is not None:
        final, saved = (
            None if final is None else table.ends(final),
            [*saved, call.flows],
        )
    finals = [final]
    return outputs, finals, saved


def _backward_triton(
    inputs: tuple[Tensor, ...],
    starts: Sequence[Tensor],
    saved: Sequence[Tensor],
    cotangents: tuple[Tensor, ...],
    finals: Sequence[Tensor],
    table: _Table | None,
    tokens: int,
    how: str,
    last: bool,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Run the backward kernels: the gradients of inputs, and those of states if asked for; `finals` are the final states'."""
    (
        q,
        A,
        B,
        W,
        g,
    ) = inputs = tuple(x.contiguous() for x in inputs)
    calls = _calls(inputs, starts, table, tokens, how, last=last)
    begins = list(finals)
    (call,), (start,), (final,) = calls, starts, finals
    if call.segments is not None:
        saved = call.opened(saved)
    grads, begin = _backward_kernels(call, inputs, start, saved, cotangents, final)
    begins = [begin if begin is None or table is None else table.ends(begin, True)]
    return grads, begins


_BLOCK = 16  # columns of the states in a program: with more, states and cotangents leave the registers
_STATE_AXES = ((0, -1),)  # of the sizes, -1 for one that programs have a block of
_TILE_AXES = (
    (-1, 0),
    (-1, 2),
)  # of all tiles that are matrices, -2 for their tokens
_SPLIT = 1  # that one
_OUTPUT_PARTS = (
    (False, False),
)  # whether every block has a part of a sum; whether zeros stay


def _token_sizes(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
) -> tuple[int, ...]:
    """The sizes that kernels run over."""
    K = q.shape[3]
    V = W.shape[3]
    R = A.shape[4]
    return (
        K,
        V,
        R,
    )


class _Tokens:
    """What the launches of one call share: a program for every sequence, head and block."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        sequences: int,
        cu_seqlens: Tensor | None,
        tokens: int,
    ) -> None:
        """Sizes, tiles and the grid."""
        like = inputs[3]
        self.inputs, self.like, self.cu_seqlens, self.tokens = (
            inputs,
            like,
            cu_seqlens,
            tokens,
        )
        self.batch, self.length, self.heads = like.shape[:3]
        self.sizes = _token_sizes(*inputs)
        self.tiles = [max(1, 1 << (size - 1).bit_length()) for size in self.sizes]
        self.block = 1 if _SPLIT is None else min(self.tiles[_SPLIT], _BLOCK)
        self.blocks = 1 if _SPLIT is None else -(-self.sizes[_SPLIT] // self.block)
        self.sequences, self.grid = sequences, sequences * self.heads * self.blocks
        self.chunks = (
            self.batch * self.length // tokens + sequences
        )  # every sequence may begin one more

    def entries(self, tiles: Sequence[tuple[int, ...]]) -> list[int]:
        """How many a program's tiles have, -1 an axis of which it has a block, -2 that of tokens."""
        return [
            math.prod(
                [
                    {-2: self.tokens, -1: self.block}[a] if a < 0 else self.tiles[a]
                    for a in axes
                ]
            )
            for axes in tiles
        ]

    def kept(self) -> list[Tensor]:
        """Memory for the states at every chunk's start."""
        sizes = [
            [self.sizes[_SPLIT if a < 0 else a] for a in axes] for axes in _STATE_AXES
        ]
        return [
            self.like.new_empty(self.chunks * self.heads, *own, dtype=torch.float32)
            for own in sizes
        ]

    def strided(self) -> list[Any]:
        """The inputs with their strides, and how many value heads share one of theirs."""
        found: list[Any] = []
        for x, timed in zip(self.inputs, _TIMED):
            found += [
                x,
                *x.stride(),
                *((self.heads // max(x.shape[2], 1),) if timed else ()),
            ]
        return found

    def run(self, kernel: Any, *arguments: Any, share: int = 256) -> None:
        """One launch; a warp has a `share` of the largest tile's entries."""
        warps = min(
            16,
            1
            << max(
                0, (max(self.entries(_TILE_AXES), default=0) // share).bit_length() - 1
            ),
        )
        with (
            torch.cuda.device(self.like.device) if self.like.is_cuda else nullcontext()
        ):
            kernel[(self.grid,)](
                *self.strided(),
                *arguments,
                self.cu_seqlens,
                self.length,
                self.heads,
                self.blocks,
                *self.sizes,
                *self.tiles,
                self.block,
                self.tokens,
                num_warps=warps,
                num_stages=1,
            )

    def memory(self, x: Tensor, axis: int, parts: bool, zeros: bool) -> Tensor:
        """Memory for a result like `x`, of every value head along `axis`, or every block's part of it."""
        lanes = self.blocks if parts else 1
        shape = list(x.shape)
        shape[axis] = self.heads * lanes
        dtype = x.dtype if lanes == 1 and self.heads == x.shape[axis] else torch.float32
        return (x.new_zeros if zeros else x.new_empty)(shape, dtype=dtype)


def _added(x: Tensor, made: Tensor, axis: int) -> Tensor:
    """A result with as many heads as `x`: what blocks and value heads that share one have, in order, added up."""
    if made.shape[axis] != x.shape[axis]:
        first, *others = made.unflatten(axis, (x.shape[axis], -1)).unbind(axis + 1)
        made = reduce(
            torch.add, others, first
        )  # `sum` promises no order that is the same for every length
    return made.to(x.dtype)


def _stepped(
    kernel: Any,
    call: _Tokens,
    starts: Sequence[Tensor],
    slots: Tensor | None,
    *more: None,
) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs and the next states of one token, in one launch.

    With `slots` the states are those of pools, and stay there.
    """
    outputs, finals = _outputs(*call.inputs), []
    for x, axes in zip(starts, _STATE_AXES):
        here = slots is not None
        finals.append(
            None
            if here
            else x.new_empty((call.sequences, *x.shape[1:]), dtype=torch.float32)
        )
    made = [call.memory(x, 2, *row) for x, row in zip(outputs, _OUTPUT_PARTS)]
    call.run(
        kernel,
        slots,
        *(part for x in starts for part in (x, *x.stride())),
        *finals,
        *more,
        *made,
    )
    outputs = [_added(x, own, 2) for x, own in zip(outputs, made)]
    if slots is None:
        return outputs, finals
    return outputs, list(starts)


def _one_token(
    inputs: tuple[Tensor, ...],
    starts: Sequence[Tensor],
    backend: str | None,
    slots: Tensor | None = None,
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The outputs and the next states of one token, in one kernel where no gradient is asked for and tiles are small."""
    traced = torch.compiler.is_compiling() or (
        torch.is_grad_enabled() and any(x.requires_grad for x in (*inputs, *starts))
    )
    if not traced and not _is_empty(inputs, starts):
        call = _Tokens(inputs, inputs[3].shape[0], None, 1)
        if sum(call.entries(_STATE_AXES)) <= 16384:
            return _stepped(_step, call, starts, slots)
    if slots is not None:
        outputs, finals = _one_token(inputs, _gathered(starts, slots), backend)
        return outputs, _scattered(starts, slots, finals)
    made = _called([*inputs, *starts], None, None, None, None, backend, None)
    return made[:_OUTPUTS], made[_OUTPUTS:]


def _is_empty(inputs: Sequence[Tensor], starts: Sequence[Tensor]) -> bool:
    """Whether there is nothing to launch for: no token, no head or a state without entries."""
    return inputs[3].numel() == 0 or any([x.numel() == 0 for x in starts])


def _joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    """The parts of what was launched apart."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), axis)


class _Launch(NamedTuple):
    """What is launched together: its rows of the state and its tokens, None for all, and the table of packed sequences."""

    own: slice | None
    tokens: slice | None
    table: _Table | None

    def states(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The states that are its own."""
        return list(states) if self.own is None else [x[self.own] for x in states]

    def inputs(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Its tokens."""
        if self.flat:
            return tuple(
                x.flatten(0, 1)[None] if timed else x
                for x, timed in zip(inputs, _TIMED, strict=True)
            )
        return tuple(inputs if self.tokens is None else _part(inputs, self.tokens))

    @property
    def flat(self) -> bool:
        """Whether the entries of a batch are launched one after another, as segments are."""
        return self.table is not None and self.table.segments is not None


def _launches(
    like: Tensor, cu_seqlens: Tensor | None, size: int, segments: int
) -> list[_Launch]:
    """The launches of a call with chunks of `size` tokens."""
    if segments > 1:
        return [_Launch(None, None, _segments(like, cu_seqlens, size, segments))]
    return [
        _Launch(
            None,
            None,
            None if cu_seqlens is None else _table(cu_seqlens, like.shape[1], size),
        )
    ]


class _OnTriton:
    """A call in Triton kernels: those of the chunk program, and its adjoint's."""

    def __init__(
        self,
        cu_seqlens: Tensor | None,
        tokens: int,
        how: str,
        schedule: str,
        keep: bool,
        segments: int,
    ) -> None:
        """Sequences, the tokens of a chunk, how systems are solved, the schedule, whether a backward pass may follow.

        Sequences are cut into `segments` where there is more than one.
        """
        self.cu_seqlens, self.tokens, self.how, self.dtype = (
            cu_seqlens,
            tokens,
            how,
            torch.float32,
        )
        self.schedule, self.keep, self.segments = (
            schedule,
            keep or segments > 1,
            segments,
        )
        self.launches: list[_Launch] | None = None

    def planned(self, like: Tensor) -> list[_Launch]:
        """What is launched together; the backward pass goes by what the forward pass found."""
        if self.launches is None:
            self.launches = _launches(like, self.cu_seqlens, self.tokens, self.segments)
        return self.launches

    def forward(
        self,
        tensors: Sequence[Tensor],
        places: Sequence[Tensor] | None = None,
        last: bool = True,
    ) -> tuple[list[Tensor], list[Tensor | None], list[Tensor]]:
        """Outputs, final states if asked for (`last`), and what a backward pass uses again, in `places` if there are any."""
        inputs, starts = tensors[:-_STATES], tensors[-_STATES:]
        launches = self.planned(inputs[3])
        if len(launches) == 1:
            outputs, finals, saved = self.launched(
                launches[0], inputs, starts, places, last
            )
            return outputs, finals if last else [None] * _STATES, saved
        made, saved, each = [], [], len(places or ()) // len(launches)
        for launch in launches:
            where = None if places is None else places[len(saved) : len(saved) + each]
            *results, kept = self.launched(launch, inputs, starts, where, last)
            made.append(results)
            saved += kept
        outputs = [
            _joined(parts, 1)
            for parts in zip(*(outputs for outputs, _ in made), strict=True)
        ]
        finals = [
            _joined(parts, 0) if last else None
            for parts in zip(*(finals for _, finals in made), strict=True)
        ]
        return outputs, finals, saved

    def launched(
        self,
        launch: _Launch,
        inputs: Sequence[Tensor],
        starts: Sequence[Tensor],
        places: Sequence[Tensor] | None,
        last: bool,
    ) -> tuple[list[Tensor], list[Tensor | None], list[Tensor]]:
        """The same of what is launched together."""
        given, begins = launch.inputs(inputs), launch.states(starts)
        if not _is_empty(given, begins):
            options = self.tokens, self.how, self.schedule, self.keep, last
            outputs, finals, kept = _forward_triton(
                given, begins, launch.table, *options, places
            )
            if launch.flat:
                outputs = [x.view(*inputs[3].shape[:2], *x.shape[2:]) for x in outputs]
            return outputs, finals, kept
        kept = _saved(_calls(given, begins, None, self.tokens, self.how), given)
        return (
            [x.zero_() for x in _outputs(*given)],
            [x.to(torch.float32, copy=True) for x in begins],
            kept,
        )

    def backward(
        self,
        tensors: Sequence[Tensor],
        saved: Sequence[Tensor],
        cotangents: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients that are wanted."""
        inputs, starts = tensors[:-_STATES], tensors[-_STATES:]
        bars, ends = cotangents[:_OUTPUTS], cotangents[_OUTPUTS:]
        shapes = [x.shape for x in _outputs(*inputs)]
        like = inputs[3]
        bars = tuple(
            like.new_zeros(s) if x is None else x.contiguous()
            for x, s in zip(bars, shapes, strict=True)
        )
        finals = [
            _filled(x.shape, 0.0, torch.float32, x.device) if end is None else end
            for x, end in zip(starts, ends, strict=True)
        ]
        last = any(wanted[-_STATES:])
        launches = self.planned(like)
        made, each = [], len(saved) // len(launches)
        for at, launch in enumerate(launches):
            given, begins, final = (
                launch.inputs(inputs),
                launch.states(starts),
                [_as_state(x) for x in launch.states(finals)],
            )
            cut = (
                bars
                if launch.tokens is None
                else tuple(x[:, launch.tokens].contiguous() for x in bars)
            )
            cut = tuple(x.flatten(0, 1)[None] for x in cut) if launch.flat else cut
            if _is_empty(given, begins):
                made.append(
                    ([torch.zeros_like(x) for x in given], [x.clone() for x in final])
                )
            else:
                kept = saved[at * each : (at + 1) * each]
                made.append(
                    _backward_triton(
                        given,
                        begins,
                        kept,
                        cut,
                        final,
                        launch.table,
                        self.tokens,
                        self.how,
                        last,
                    )
                )
        apart = zip(
            zip(*(grads for grads, _ in made), strict=True), _TIMED, strict=True
        )
        grads = [
            _joined(parts, 1) if timed else _joined([x[None] for x in parts], 0).sum(0)
            for parts, timed in apart
        ]
        grads = [
            x.view(*like.shape[:2], *x.shape[2:]) if timed else x
            for x, timed in zip(grads, _TIMED, strict=True)
        ]
        parts = zip(
            starts, zip(*(begins for _, begins in made), strict=True), strict=True
        )
        begins = [_joined(own, 0).to(x.dtype) if last else None for x, own in parts]
        return [
            x if n else None for x, n in zip((*grads, *begins), wanted, strict=True)
        ]

    def memory(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Memory for what is kept, as operators hold it: as large as follows from sizes alone."""
        inputs, starts = tensors[:-_STATES], tensors[-_STATES:]
        calls = _calls(inputs, starts, None, self.tokens, self.how)
        for call in calls:
            if self.cu_seqlens is not None:  # each sequence may begin one chunk more
                call.chunks, call.programs = (
                    call.length // self.tokens + starts[0].shape[0],
                    call.heads,
                )
            call.chunks, call.programs = (
                1,
                call.chunks * call.programs,
            )  # a single chunk is no size of its own to a compiler
        if self.segments > 1:
            (call,), sequences = calls, starts[0].shape[0]
            tokens = call.batch * call.length
            count = (
                tokens // _segment_tokens(tokens, sequences, self.tokens, self.segments)
                + sequences
            )
            shape = (
                1,
                count * call.heads,
                call.keys,
                _flow_columns(call.keys, call.values),
            )
            return [
                *_saved(calls, inputs),
                call.like.new_empty(shape, dtype=torch.float32),
            ]
        return _saved(calls, inputs)

    def places(
        self, tensors: Sequence[Tensor], memory: Sequence[Tensor]
    ) -> list[Tensor]:
        """The parts of that memory that launches fill."""
        inputs, starts = tensors[:-_STATES], tensors[-_STATES:]
        places, at = [], 0
        for launch in self.planned(inputs[3]):
            call, *_ = _calls(
                launch.inputs(inputs),
                launch.states(starts),
                launch.table,
                self.tokens,
                self.how,
            )
            first, at = at, at + call.chunks * call.programs
            if launch.flat:
                *memory, flows = memory
                count = len(launch.table.sequences)
                own = flows[0, : count * call.heads].unflatten(0, (count, call.heads))
                return [
                    *(
                        x[0, first:at].unflatten(0, (call.chunks, call.programs))
                        for x in memory
                    ),
                    own,
                ]
            places += [
                x[0, first:at].unflatten(0, (call.chunks, call.programs))
                for x in memory
            ]
        return places


# -- what a user calls ----------------------------------------------------------------------------------------------------


_FLOATING = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))


_AGREED: dict[
    Any, Any
] = {}  # what the checks of arguments found, by all that they go by


def _traits(tensors: tuple[Any, ...], timed: bool) -> Any:
    """Shapes, types and devices, all that the checks go by; None where an argument is another thing, or is traced."""
    if torch.compiler.is_compiling():
        return None
    found: list[Any] = [timed]
    for x in tensors:
        if (
            type(x) is not Tensor and type(x) is not torch.nn.Parameter
        ) or x.layout is not torch.strided:
            return None
        found += x.shape, x.dtype, x.device
    return tuple(found)


def _note(traits: Any, found: Any) -> None:
    """Keep what the checks found."""
    if traits is not None:
        if len(_AGREED) >= 256:
            _AGREED.clear()
        _AGREED[traits] = found


def _fits(shape: torch.Size, sizes: tuple[int | None, ...]) -> bool:
    """Whether a shape is of the expected sizes, None any."""
    if None not in sizes or len(shape) != len(sizes):
        return shape == sizes
    for actual, expected in zip(shape, sizes):
        if expected is not None and actual != expected:
            return False
    return True


def _tensor(
    name: str,
    value: object,
    shape: str,
    sizes: tuple[int | None, ...],
    like: Tensor | None,
    known: str = "",
) -> Tensor:
    """An argument that is a floating tensor of the expected sizes (None: any) on the device of `like`.

    `known` tells what its own sizes are known from.
    """
    if (
        isinstance(value, Tensor)
        and value.dtype in _FLOATING
        and value.layout is torch.strided
    ):
        if (like is None or value.device == like.device) and _fits(value.shape, sizes):
            return value  # as at almost every call; what follows says why not
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{_NAME}: `{name}` is {type(value).__name__}; expected a tensor {shape}"
        )
    if not value.is_floating_point():
        raise TypeError(
            f"{_NAME}: `{name}` has dtype {value.dtype}; expected a floating one"
        )
    if value.dtype.itemsize < 2:
        raise TypeError(
            f"{_NAME}: `{name}` has dtype {value.dtype}; expected float16, bfloat16, float32 or float64"
        )
    if value.layout is not torch.strided:
        raise TypeError(
            f"{_NAME}: `{name}` has layout {value.layout}; expected a dense tensor {shape}"
        )
    actual = tuple(value.shape)
    if len(actual) != len(sizes) or any(
        e is not None and e != a for e, a in zip(sizes, actual, strict=True)
    ):
        wanted = ", ".join("*" if s is None else str(s) for s in sizes)
        wanted = (
            f", {len(sizes)} dimensions"
            if all(s is None for s in sizes)
            else f" = [{wanted}]"
        )
        names = shape[1:-1].split(", ")
        lead = names[: names.index("H")] or [
            "H"
        ]  # those that all inputs, or all params, have in common
        if (
            like is not None
            and len(actual) == len(sizes)
            and None not in sizes[: len(lead)]
        ):
            if actual[: len(lead)] != sizes[: len(lead)]:
                wanted += f", {' and '.join(lead)} as of `{_VALUE}`"
            elif known:
                wanted += f", {known}"
        raise ValueError(
            f"{_NAME}: `{name}` has shape {list(actual)}; expected {shape}{wanted}"
        )
    if like is not None and value.device != like.device:
        raise ValueError(
            f"{_NAME}: `{name}` is on {value.device}; expected {like.device}, where `{_VALUE}` is"
        )
    return value


def _sized(**sizes: int) -> None:
    """Refuse sizes of 0."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{_NAME}: {name} is {size}; expected a size from 1")


@_cached
def _expanded(
    sizes: tuple[int, ...], number: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """One number as a tensor, there before this returns: copies from the host are waited for."""
    with torch.inference_mode(False):  # what autograd may save
        return (
            torch.full((), number, dtype=dtype, device="cpu").to(device).expand(sizes)
        )


def _filled(
    sizes: tuple[int, ...], number: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """A state of one number: one in memory, expanded, so that no launch fills it; not where a call is traced or recorded."""
    recorded = (
        torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )
    if recorded or (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        return torch.full(sizes, number, dtype=dtype, device=device)
    return _expanded(sizes, number, dtype, device)


def _start(
    given: Any,
    timed: bool,
    cu_seqlens: Any,
    sizes: Sequence[tuple[int, ...]],
    like: Tensor,
    dtype: torch.dtype,
) -> list[Tensor]:
    """The states to start from, in the order of the spec: one is given bare, several in a tuple."""
    if given is None:
        return [
            _filled(s, fill, dtype, like.device)
            for s, fill in zip(sizes, _FILLS, strict=True)
        ]
    name, first = (
        "initial_state" if timed else "state",
        "[B" if cu_seqlens is None else "[N",
    )
    if len(sizes) == 1:
        return [_tensor(name, given, first + _STATE_SHAPES[0], sizes[0], like)]
    if not isinstance(given, (tuple, list)) or len(given) != len(sizes):
        found = (
            f"a tuple of {len(given)}"
            if isinstance(given, (tuple, list))
            else type(given).__name__
        )
        raise TypeError(
            f"{_NAME}: `{name}` is {found}; expected a tuple of the states ({', '.join(_STATE_NAMES)})"
        )
    each = zip(_STATE_NAMES, given, _STATE_SHAPES, sizes, strict=True)
    return [
        _tensor(f"{name}.{own}", x, first + shape, size, like)
        for own, x, shape, size in each
    ]


def _shared_heads(
    name: str, value: object, lead: int, trailing: int, heads: int
) -> int:
    """The heads of an argument that value heads may share: a divisor of their number."""
    fits = isinstance(value, Tensor) and value.dim() == lead + trailing
    found = value.shape[lead - 1] if fits else heads
    if found < 1 or heads % found:
        if heads == found:
            return found
        raise ValueError(
            f"{_NAME}: `{name}` has {found} heads; expected a divisor of {heads}, the heads of `{_VALUE}`"
        )
    return found


def _states(cu_seqlens: object, like: Tensor) -> int:
    """How many states a call has: one for every sequence that `cu_seqlens` packs along T, else for every batch entry."""
    if cu_seqlens is None:
        return like.shape[0]
    if not isinstance(cu_seqlens, Tensor):
        raise TypeError(
            f"{_NAME}: `cu_seqlens` is {type(cu_seqlens).__name__}; expected a tensor [N + 1]"
        )
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise TypeError(
            f"{_NAME}: `cu_seqlens` has dtype {cu_seqlens.dtype}; expected torch.int32 or torch.int64"
        )
    if cu_seqlens.dim() != 1 or len(cu_seqlens) < 1:
        raise ValueError(
            f"{_NAME}: `cu_seqlens` has shape {list(cu_seqlens.shape)}; expected [N + 1]"
        )
    if cu_seqlens.device != like.device:
        raise ValueError(
            f"{_NAME}: `cu_seqlens` is on {cu_seqlens.device}; expected {like.device}, where `{_VALUE}` is"
        )
    if like.shape[0] != 1:
        raise ValueError(
            f"{_NAME}: `{_VALUE}` has batch size {like.shape[0]}; expected 1, as `cu_seqlens` packs along T"
        )
    return len(cu_seqlens) - 1


def _option(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """An option's value at a call."""
    if value is not None and value not in allowed:
        raise ValueError(
            f"{_NAME}: {name} is {value!r}; expected one of {', '.join(map(repr, allowed))}"
        )


def _choose(table: tuple[tuple[int | None, Any], ...], size: int) -> Any:
    """The choice for `size` from a table of (largest size, choice)."""
    return next(choice for limit, choice in table if limit is None or size <= limit)


def _in_range(name: str, value: Tensor, test: Tensor, declared: str) -> None:
    """`check=True`: every entry within the range that the spec declares."""
    if not bool(test.all()):
        worst = value[~test].flatten()[0].item()
        raise ValueError(
            f"{_NAME}: `{name}` holds {worst}; the spec declares it {declared}"
        )


_SPELLED = {}  # names of the spec that Python code here cannot use


def _named(function: Any) -> Any:
    """Take arguments by the names that the spec gives them, and name one that there is none of."""
    own = tuple(inspect.signature(function).parameters)
    shown = [
        next((name for name, spelled in _SPELLED.items() if spelled == n), n)
        for n in own
    ]
    known = frozenset((*own, *shown))

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not known.issuperset(kwargs):
            name = min(kwargs.keys() - known)
            raise TypeError(
                f"{_NAME}: there is no argument `{name}`; there are {', '.join(shown)}"
            )
        if _SPELLED:
            kwargs = {_SPELLED.get(name, name): value for name, value in kwargs.items()}
        return function(*args, **kwargs)

    return called


class _Packing:
    """Sequences packed along T: where each begins and the last ends, and what kernels have of that in memory."""

    def __init__(self, cu_seqlens: Tensor) -> None:
        """Read the offsets, which waits for the device that they are on."""
        self.offsets: list[int] = cu_seqlens.tolist()
        self.tables: dict[Any, Any] = {}
        at = next(
            (n for n, (a, b) in enumerate(pairwise(self.offsets), 1) if b < a), None
        )
        if self.offsets[0] != 0:
            raise ValueError(
                f"{_NAME}: `cu_seqlens` begins with {self.offsets[0]}; expected 0"
            )
        if at is not None:
            found = f"{self.offsets[at]} follows {self.offsets[at - 1]} at index {at}"
            raise ValueError(
                f"{_NAME}: `cu_seqlens` falls: {found}; expected offsets that never do"
            )


_PACKINGS = (
    WeakTensorKeyDictionary()
)  # by tensor: its version, and what was read from it


def _packing(cu_seqlens: Tensor, length: int) -> _Packing:
    """What `cu_seqlens` says: read once per tensor and version, so that only the first of many layers waits for a device."""
    if cu_seqlens.is_inference():  # has no version
        found = _Packing(cu_seqlens)
    else:
        version, found = _PACKINGS.get(cu_seqlens, (None, None))
        if version != cu_seqlens._version:
            found = _Packing(cu_seqlens)
            _PACKINGS[cu_seqlens] = cu_seqlens._version, found
    if found.offsets[-1] != length:
        raise ValueError(
            f"{_NAME}: `cu_seqlens` ends with {found.offsets[-1]}; expected {length}, the tokens of `{_VALUE}`"
        )
    return found


def _sequences(like: Tensor, cu_seqlens: Tensor | None) -> list[tuple[slice, slice]]:
    """What runs apart: its rows of the state and its tokens. The whole batch does not, where nothing is packed."""
    if cu_seqlens is None:
        return [(slice(None), slice(0, like.shape[1]))]
    ends = pairwise(_packing(cu_seqlens, like.shape[1]).offsets)
    return [(slice(n, n + 1), slice(*tokens)) for n, tokens in enumerate(ends)]


def _pools(
    given: Any, slots: object, sizes: Sequence[tuple[int, ...]], like: Tensor
) -> list[Tensor]:
    """The pools of states that a step updates in place, each [slots, H, *]; `sizes` are those of the states."""
    if not isinstance(slots, Tensor) or slots.dtype not in (torch.int32, torch.int64):
        shown = (
            f"has dtype {slots.dtype}"
            if isinstance(slots, Tensor)
            else f"is {type(slots).__name__}"
        )
        raise TypeError(
            f"{_NAME}: `state_indices` {shown}; expected an int64 or int32 tensor [B]"
        )
    if slots.shape != like.shape[:1]:
        raise ValueError(
            f"{_NAME}: `state_indices` has shape {list(slots.shape)}; expected [B] = [{like.shape[0]}]"
        )
    if slots.device != like.device:
        raise ValueError(
            f"{_NAME}: `state_indices` is on {slots.device}; expected {like.device}, where `{_VALUE}` is"
        )
    pools = list(given) if isinstance(given, (tuple, list)) else [given]
    if given is None or len(pools) != len(sizes):
        raise ValueError(
            f"{_NAME}: `state_indices` goes with a `state` of pools, [slots, H, *], of {', '.join(_STATE_NAMES)}"
        )
    for name, x, own in zip(_STATE_NAMES, pools, sizes, strict=True):
        called = "state" if len(sizes) == 1 else f"state {name}"
        _tensor(called, x, "[slots, H, *]", (None, *own[1:]), like)
        if any(size > 1 and step == 0 for size, step in zip(x.shape, x.stride())):
            raise ValueError(
                f"{_NAME}: `{called}` is expanded; a pool has memory for every state"
            )
        if torch.is_grad_enabled() and x.requires_grad:
            raise ValueError(
                f"{_NAME}: `{called}` requires a gradient; a pool is updated in place, under no_grad"
            )
    counts = [x.shape[0] for x in pools]
    if len(set(counts)) > 1 or (not counts[0] and slots.numel()):
        shown = ", ".join(
            f"`{name}` {count}"
            for name, count in zip(_STATE_NAMES, counts, strict=True)
        )
        raise ValueError(
            f"{_NAME}: pools have as many slots each, one at least; slots of {shown}"
        )
    # Where a look makes nobody wait; tensors of other classes, such as fake ones, may have nothing to look at.
    if (
        type(slots) is Tensor
        and slots.device.type == "cpu"
        and not torch.compiler.is_compiling()
    ):
        _own_slots(slots.tolist(), counts[0])
    return pools


def _own_slots(slots: list[int], count: int) -> None:
    """Refuse a slot that the pools do not have, and one that two sequences have."""
    seen: dict[int, int] = {}
    for at, slot in enumerate(slots):
        if slot >= count:
            raise ValueError(
                f"{_NAME}: `state_indices`[{at}] is {slot}; expected less than {count}, the slots of `state`"
            )
        if slot > 0 and seen.setdefault(slot, at) != at:
            raise ValueError(
                f"{_NAME}: `state_indices`[{seen[slot]}] and [{at}] are both {slot}; expected a slot for each"
            )


def _gathered(pools: Sequence[Tensor], slots: Tensor) -> list[Tensor]:
    """The states of all sequences; of one that is skipped 0, as in kernels."""
    index, live = slots.clamp(min=0), slots > 0
    return [
        x.index_select(0, index).where(live.view(-1, *(1,) * (x.dim() - 1)), 0)
        for x in pools
    ]


def _scattered(
    pools: Sequence[Tensor], slots: Tensor, finals: Sequence[Tensor]
) -> list[Tensor]:
    """The pools, with what comes after the token where a sequence has a slot."""
    index, live = slots.clamp(min=0), slots > 0
    for x, final in zip(pools, finals, strict=True):
        kept = live.view(-1, *(1,) * (x.dim() - 1))
        x.index_copy_(
            0, index, torch.where(kept, final.to(x.dtype), x.index_select(0, index))
        )
    return list(pools)


def _agreed(
    q: Tensor, A: Tensor, B: Tensor, W: Tensor, g: Tensor, timed: bool
) -> tuple[torch.dtype, int, tuple[tuple[int, ...], ...]]:
    """Check shapes, types and devices: the type to compute in, the value heads, each state's own sizes."""
    lead = 3 if timed else 2
    _tensor(
        "W",
        W,
        "[B, T, H, V, R]" if timed else "[B, H, V, R]",
        (None,) * lead
        + (
            None,
            None,
        ),
        None,
    )
    V = W.shape[lead]
    R = W.shape[lead + 1]
    batch, heads, time = W.shape[0], W.shape[lead - 1], W.shape[1 : lead - 1]
    _tensor(
        "q",
        q,
        "[B, T, H, K]" if timed else "[B, H, K]",
        (batch, *time, _shared_heads("q", q, lead, 1, heads)) + (None,),
        W,
    )
    K = q.shape[lead]
    _tensor(
        "A",
        A,
        "[B, T, H, K, R]" if timed else "[B, H, K, R]",
        (batch, *time, _shared_heads("A", A, lead, 2, heads))
        + (
            K,
            R,
        ),
        W,
        "K as of `q` and R as of `W`",
    )
    _tensor(
        "B",
        B,
        "[B, T, H, K, R]" if timed else "[B, H, K, R]",
        (batch, *time, _shared_heads("B", B, lead, 2, heads))
        + (
            K,
            R,
        ),
        W,
        "K as of `q` and R as of `W`",
    )
    _tensor("g", g, "[B, T, H]" if timed else "[B, H]", (batch, *time, heads), W)
    _sized(K=K, V=V, R=R)
    dtype = (
        torch.float64
        if q.dtype == torch.float64
        or A.dtype == torch.float64
        or B.dtype == torch.float64
        or W.dtype == torch.float64
        or g.dtype == torch.float64
        else torch.float32
    )
    return (
        dtype,
        heads,
        (
            (
                K,
                V,
            ),
        ),
    )


def _checked(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
    initial_state: Any,
    cu_seqlens: Tensor | None,
    timed: bool,
    slots: Any = None,
) -> tuple[list[Tensor], torch.dtype]:
    """Check every argument; the states to start from, with `slots` pools, and the type to compute in."""
    traits = _traits(
        (
            q,
            A,
            B,
            W,
            g,
        ),
        timed,
    )
    found = None if traits is None else _AGREED.get(traits)
    if found is None:
        found = _agreed(q, A, B, W, g, timed)
        _note(traits, found)
    dtype, heads, states = found
    lead = _states(cu_seqlens, W), heads
    sizes = tuple([lead + own for own in states])
    if slots is not None:
        return _pools(initial_state, slots, sizes, W), dtype
    return _start(initial_state, timed, cu_seqlens, sizes, W, dtype), dtype


def _tokens(chunk_size: Any, rows: int, counted: str = "", keep: bool = True) -> int:
    """The tokens of a chunk: as asked, else by the table.

    `rows` are those of a token, in the spec's words `counted`; `keep` says that a backward pass may follow.
    """
    if chunk_size is None:
        table = _CHUNK_SIZES if keep else _FORWARD_CHUNK_SIZES
        chunk_size = min(_choose(table, rows), max(256 // max(rows, 1), 1))
    try:
        size = 0 if isinstance(chunk_size, bool) else operator.index(chunk_size)
    except TypeError:
        size = 0
    if size < 1:
        raise ValueError(
            f"{_NAME}: chunk_size is {chunk_size!r}; expected an integer from 1"
        )
    if rows > 256:
        raise ValueError(
            f"{_NAME}: {counted}{rows} rows per token, and a chunk holds at most 256 rows"
        )
    if size * rows > 256:
        per_token = (
            f" with {counted}{rows} rows per token" if counted or rows > 1 else ""
        )
        raise ValueError(
            f"{_NAME}: chunk_size = {size}{per_token} makes {size * rows} rows a chunk, at most 256;"
            f" the largest legal chunk_size is {256 // rows}"
        )
    return size


def _chosen(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
    start: Tensor,
    cu_seqlens: Tensor | None,
    chunk_size: int | None,
    aggregation: str | None,
    schedule: str | None,
    backend: str | None,
    save: str | None,
    keep: bool,
) -> Any:
    """What a call runs on, with the choices that it leaves open; `keep`: a backward pass may follow."""
    R = A.shape[4]
    dtype = (
        torch.float64
        if q.dtype == torch.float64
        or A.dtype == torch.float64
        or B.dtype == torch.float64
        or W.dtype == torch.float64
        or g.dtype == torch.float64
        else torch.float32
    )
    if keep and (save or __options__["save"]) == "recompute":
        return _Recomputed(
            dtype, cu_seqlens, chunk_size, aggregation, schedule, backend
        )
    chunk_size = __options__["chunk_size"] if chunk_size is None else chunk_size
    keys = (start.shape[2], start.shape[3])[0]
    if _on_triton(
        backend or __options__["backend"],
        (
            q,
            A,
            B,
            W,
            g,
        ),
        keys,
        dtype,
    ):
        chunk_size = None if chunk_size is None else _tokens(chunk_size, R, "R = ")
        schedule = schedule or __options__["schedule"]
        schedule, chunk_size, segments = _kernel_choice(
            schedule,
            chunk_size,
            (
                q,
                A,
                B,
                W,
                g,
            ),
            (start,),
            R,
            keys,
            keep,
        )
        how = aggregation or __options__["aggregation"]
        how = "wy" if how == "auto" else how
        tokens = _in_tiles(chunk_size, R, "R = ")
        return _OnTriton(cu_seqlens, tokens, how, schedule, keep, segments)
    return _InChunks(
        cu_seqlens,
        _tokens(chunk_size, R, "R = ", keep=keep),
        R,
        aggregation,
        dtype,
        dtype,
        keep,
    )


_UNCOMPILED: dict[
    Any, Any
] = {}  # passes, as torch.compile leaves them alone: it would unroll the loop over chunks


def _run(function: Any, call: Any, tensors: Sequence[Tensor], *arguments: Any) -> Any:
    """One pass of a call: no compiler within, where a transform has kept it from the operators, and no autocast."""
    if "torch._dynamo" in sys.modules:
        if function not in _UNCOMPILED:
            _UNCOMPILED[function] = torch.compiler.disable(function)
        function = _UNCOMPILED[function]
    if not torch._C._is_any_autocast_enabled():
        return function(call, tensors, *arguments)
    with _uncast(tensors[0].device):
        return function(call, tensors, *arguments)


def _run_forward(
    call: Any,
    tensors: Sequence[Tensor],
    places: Sequence[Tensor] | None = None,
    last: bool = True,
) -> Any:
    """The outputs, the final states, which may be None unless asked for (`last`), and what a backward pass uses again."""
    return _run(type(call).forward, call, tensors, places, last)


def _run_backward(
    call: Any,
    tensors: Sequence[Tensor],
    saved: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of `tensors`, None where none is wanted."""
    return _run(type(call).backward, call, tensors, saved, cotangents, wanted)


class _Recomputed:
    """A call that keeps nothing: its backward pass begins with a forward pass, which keeps what it uses."""

    def __init__(self, dtype: torch.dtype, *options: Any) -> None:
        """The type of final states; sequences and options but `save`."""
        self.dtype, self.options = dtype, options

    def forward(
        self,
        tensors: Sequence[Tensor],
        places: Sequence[Tensor] | None = None,
        last: bool = True,
    ) -> Any:
        """Outputs and final states, as of a call without a backward pass, and nothing that is kept."""
        outputs, finals, _ = _chosen(*tensors, *self.options, None, False).forward(
            tensors, None, last
        )
        return outputs, finals, []

    def backward(
        self,
        tensors: Sequence[Tensor],
        saved: Sequence[Tensor],
        cotangents: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients that are wanted."""
        call = _chosen(*tensors, *self.options, "states", True)
        *_, kept = call.forward(tensors, None, False)
        grads: list[Tensor | None] = call.backward(tensors, kept, cotangents, wanted)
        return grads

    def memory(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """None."""
        return []

    def places(
        self, tensors: Sequence[Tensor], memory: Sequence[Tensor]
    ) -> list[Tensor]:
        """None."""
        return []


# -- autograd -------------------------------------------------------------------------------------------------------------


def _twice(*_: Any) -> Any:
    raise RuntimeError(
        f"{_NAME}: the backward pass cannot be differentiated again (double backward)"
    )


def _forward_mode(*_: Any) -> Any:
    raise RuntimeError(
        f"{_NAME}: forward-mode differentiation (jvp) is not supported; backward passes are"
    )


def _mapped(*_: Any) -> Any:
    raise RuntimeError(
        f"{_NAME}: torch.vmap does not map over an op; give what it maps over as a part of B"
    )


class _Op(torch.autograd.Function):
    """A call: forward and backward passes are what `call` has, not autograd through them."""

    @staticmethod
    def forward(
        ctx: Any, call: Any, keep: bool, last: bool, *tensors: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The outputs, then the final states if asked for (`last`); nothing is kept for a backward pass unless `keep`."""
        outputs, finals, saved = _run_forward(call, tensors, None, last)
        if keep:
            ctx.save_for_backward(*tensors, *saved)
            ctx.call = call
            ctx.set_materialize_grads(False)
        return *outputs, *finals

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of the tensors that need one."""
        return (
            None,
            None,
            None,
            *_Gradient.apply(
                ctx.call, ctx.needs_input_grad[3:], *ctx.saved_tensors, *cotangents
            ),
        )

    jvp = staticmethod(_forward_mode)


class _Gradient(torch.autograd.Function):
    """The backward pass; it has none of its own."""

    @staticmethod
    def forward(ctx: Any, call: Any, wanted: Sequence[bool], *tensors: Any) -> Any:
        """The gradients that are wanted, from tensors, what was kept, and cotangents."""
        own, saved, cotangents = (
            tensors[: len(wanted)],
            tensors[len(wanted) : -_RESULTS],
            tensors[-_RESULTS:],
        )
        return tuple(_run_backward(call, own, saved, cotangents, wanted))

    backward = staticmethod(_twice)
    jvp = staticmethod(_forward_mode)


class _TransformedOp(torch.autograd.Function):
    """The same under torch.func, whose transforms want the context set up apart: what is kept is an output more."""

    @staticmethod
    def forward(call: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs, the final states, and what the backward pass uses again."""
        outputs, finals, saved = _run_forward(call, tensors)
        return *outputs, *finals, *saved

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]
    ) -> None:
        """Keep what the backward pass uses."""
        ctx.call, *tensors = inputs
        saved = output[_RESULTS:]
        ctx.mark_non_differentiable(*saved)
        ctx.save_for_backward(*tensors, *saved)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of the tensors that need one."""
        cotangents = cotangents[:_RESULTS]
        return None, *_TransformedGradient.apply(
            ctx.call, ctx.needs_input_grad[1:], *ctx.saved_tensors, *cotangents
        )

    jvp = staticmethod(_forward_mode)
    vmap = staticmethod(_mapped)


class _TransformedGradient(torch.autograd.Function):
    """The backward pass under torch.func."""

    @staticmethod
    def forward(call: Any, wanted: Sequence[bool], *tensors: Any) -> Any:
        """The gradients that are wanted."""
        return _Gradient.forward(None, call, wanted, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept."""

    backward = staticmethod(_twice)
    jvp = staticmethod(_forward_mode)
    vmap = staticmethod(_mapped)


# -- operators: what torch.compile and torch.export see of a call -----------------------------------------------------------


def _operator(
    tensors: list[Tensor],
    cu_seqlens: Tensor | None,
    chunk_size: int | None,
    aggregation: str | None,
    schedule: str | None,
    backend: str | None,
    save: str | None,
    keep: bool,
) -> list[Tensor]:
    """The outputs, the final states and, with `keep`, the memory that holds what the backward pass uses again."""
    call = _chosen(
        *tensors, cu_seqlens, chunk_size, aggregation, schedule, backend, save, keep
    )
    memory = call.memory(tensors) if keep else []
    outputs, finals, _ = _run_forward(
        call, tensors, call.places(tensors, memory) if keep else None
    )
    return [*outputs, *finals, *memory]


def _operator_backward(
    tensors: list[Tensor],
    memory: list[Tensor],
    cotangents: list[Tensor | None],
    wanted: list[bool],
    cu_seqlens: Tensor | None,
    chunk_size: int | None,
    aggregation: str | None,
    schedule: str | None,
    backend: str | None,
    save: str | None,
) -> list[Tensor]:
    """The gradients that are wanted."""
    call = _chosen(
        *tensors, cu_seqlens, chunk_size, aggregation, schedule, backend, save, True
    )
    grads = _run_backward(
        call, tensors, call.places(tensors, memory), cotangents, wanted
    )
    return [x.contiguous() for x in grads if x is not None]


def _operator_fake(
    tensors: list[Tensor],
    cu_seqlens: Tensor | None,
    chunk_size: int | None,
    aggregation: str | None,
    schedule: str | None,
    backend: str | None,
    save: str | None,
    keep: bool,
) -> list[Tensor]:
    """What `_operator` returns, without values."""
    call = _chosen(
        *tensors, cu_seqlens, chunk_size, aggregation, schedule, backend, save, keep
    )
    inputs, starts = tensors[:-_STATES], tensors[-_STATES:]
    finals = [x.new_empty(x.shape, dtype=call.dtype) for x in starts]
    return [*_outputs(*inputs), *finals, *(call.memory(tensors) if keep else [])]


def _operator_backward_fake(
    tensors: list[Tensor],
    memory: list[Tensor],
    cotangents: list[Tensor | None],
    wanted: list[bool],
    *_: Any,
) -> list[Tensor]:
    """What `_operator_backward` returns, without values."""
    return [
        x.new_empty(x.shape)
        for x, needed in zip(tensors, wanted, strict=True)
        if needed
    ]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    """Keep what the operator's backward pass uses."""
    tensors, cu_seqlens, *ctx.options, _ = inputs
    ctx.save_for_backward(*tensors, cu_seqlens, *output[_RESULTS:])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    """The gradients of the operator's arguments."""
    wanted, count = ctx.needs_input_grad[0], len(_TENSORS)
    tensors, cu_seqlens, memory = (
        ctx.saved_tensors[:count],
        ctx.saved_tensors[count],
        ctx.saved_tensors[count + 1 :],
    )
    bars = cotangents[:_RESULTS]
    found = iter(
        _BACKWARD(
            list(tensors),
            list(memory),
            list(bars),
            list(wanted),
            cu_seqlens,
            *ctx.options,
        )
    )
    return [next(found) if needed else None for needed in wanted], *[None] * 7


def _operators() -> tuple[Any, Any]:
    """The operators, registered. Names are the process's: another import of this text finds those of the first."""
    options = "Tensor? cu_seqlens, int? chunk_size, str? aggregation, str? schedule, str? backend, str? save"
    passes = "", "_backward"
    if not hasattr(torch.ops.flowc, f"{_OPERATOR}_backward"):
        schemas = (
            f"(Tensor[] tensors, {options}, bool keep) -> Tensor[]",
            f"(Tensor[] tensors, Tensor[] memory, Tensor?[] cotangents, bool[] wanted, {options}) -> Tensor[]",
        )
        functions = (
            (_operator, _operator_fake),
            (_operator_backward, _operator_backward_fake),
        )
        rules = (_gradients, _keep), (_twice, lambda ctx, inputs, output: None)
        for name, schema, (run, fake), (backward, keep) in zip(
            passes, schemas, functions, rules, strict=True
        ):
            made = torch.library.custom_op(
                f"flowc::{_OPERATOR}{name}", run, mutates_args=(), schema=schema
            )
            made.register_fake(fake)
            made.register_autograd(backward, setup_context=keep)
    first, second = (
        getattr(torch.ops.flowc, f"{_OPERATOR}{name}").default for name in passes
    )
    return first, second


_FORWARD, _BACKWARD = _operators()


def _called(
    tensors: list[Tensor],
    cu_seqlens: Tensor | None,
    chunk_size: int | None,
    aggregation: str | None,
    schedule: str | None,
    backend: str | None,
    save: str | None,
    last: bool = True,
) -> Sequence[Tensor]:
    """The outputs and the final states of a call, which may be None unless asked for (`last`).

    torch.compile and torch.export get an operator, torch.func what its transforms know, all others plain autograd.
    """
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    transformed = isinstance(
        torch._C._functorch.peek_interpreter_stack(), torch._C._functorch.CInterpreter
    )
    if torch.compiler.is_compiling():
        if (
            torch.autograd.forward_ad._current_level >= 0
        ):  # where an operator's tangents would be 0
            _forward_mode()
        if not transformed:
            return _FORWARD(
                tensors,
                cu_seqlens,
                chunk_size,
                aggregation,
                schedule,
                backend,
                save,
                keep,
            )[:_RESULTS]
        torch._dynamo.graph_break()  # a transform within what is compiled: it runs uncompiled
    call = _chosen(
        *tensors,
        cu_seqlens,
        chunk_size,
        aggregation,
        schedule,
        backend,
        save,
        keep or transformed,
    )
    if transformed:
        return _TransformedOp.apply(call, *tensors)[:_RESULTS]
    if keep or torch.autograd.forward_ad._current_level >= 0:
        return _Op.apply(call, keep, last, *tensors)
    outputs, finals, _ = _run_forward(
        call, tensors, None, last
    )  # nothing for autograd to see
    return [*outputs, *finals]


@_named
def gated_lowrank_delta(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
    *,
    initial_state: Any = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    chunk_size: int | None = None,
    aggregation: str | None = None,
    schedule: str | None = None,
    backend: str | None = None,
    save: str | None = None,
    check: bool = False,
) -> Any:
    """gated_lowrank_delta.flow -- one gate, then the low-rank delta rule (after ParallelFlow, arXiv 2504.00492)

    Args:
        q: input [B, T, H, K].
        A: input [B, T, H, K, R].
        B: input [B, T, H, K, R].
        W: input [B, T, H, V, R].
        g: input [B, T, H], in (-inf, 0].
        initial_state: the state before the first token, [B, H, K, V]; None: 0.0.
        output_final_state: whether to return (outputs, final state).
        cu_seqlens: offsets of N sequences packed along T, int32 or int64 [N + 1]; B is 1, states [N, H, *].
            They are read once for a tensor, which waits for its device, and again after a change in place.
        chunk_size, aggregation, schedule, backend, save: options; None takes what the op was compiled with.
        check: enforce the ranges that the spec declares.

    Returns:
        o [B, T, H, V] in the dtype of W.

    Raises:
        TypeError: an argument that is no floating tensor.
        ValueError: a shape, device, option or (check) value that does not fit.
    """
    starts, _ = _checked(q, A, B, W, g, initial_state, cu_seqlens, True)
    _option("aggregation", aggregation, ("auto", "wy", "tensorinv", "signature"))
    _option("schedule", schedule, ("auto", "split", "fused", "two-level"))
    _option("backend", backend, ("auto", "torch", "triton"))
    _option("save", save, ("states", "recompute"))
    if check:
        _in_range("g", g, (g <= 0.0), "in (-inf, 0]")
    options = chunk_size, aggregation, schedule, backend, save
    made = _called([q, A, B, W, g, *starts], cu_seqlens, *options, output_final_state)
    result = made[0]
    return (result, made[_OUTPUTS:][0]) if output_final_state else result


@_named
def step(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
    *,
    state: Any = None,
    state_indices: Any = None,
    backend: str | None = None,
) -> Any:
    """One token, for generation: the arguments of the op without T.

    Args:
        q: [B, H, K].
        A: [B, H, K, R].
        B: [B, H, K, R].
        W: [B, H, V, R].
        g: [B, H].
        state: the state before the token, [B, H, K, V]; None: 0.0.
        state_indices: the slot of each sequence, int64 or int32 [B], in pools [slots, H, *] that `state` is
            then, of any floating type and layout: they are updated in place, without gradients, and
            returned. A sequence whose slot is 0 or less is skipped: it changes no state, its output is that
            of a state of 0. No two sequences have one slot, and none one beyond the pool: on a CPU both are
            refused; on a GPU, which would have to wait, and by torch.compile they are not looked for.
        backend: as the op has it.

    Returns:
        (output, the next state): a pair.
    """
    starts, dtype = _checked(q, A, B, W, g, state, None, False, state_indices)
    slots = (
        None if state_indices is None else state_indices.to(torch.int64).contiguous()
    )
    _option("backend", backend, ("auto", "torch", "triton"))
    if (
        slots is not None
    ):  # a pool takes no gradients, and would pass them on to later steps
        (
            q,
            A,
            B,
            W,
            g,
        ) = (
            x.detach()
            for x in (
                q,
                A,
                B,
                W,
                g,
            )
        )
    (start,) = starts
    if _on_triton(
        backend or __options__["backend"],
        (
            q,
            A,
            B,
            W,
            g,
            *starts,
        ),
        (start.shape[2], start.shape[3])[0],
        dtype,
    ):
        outputs, finals = _one_token(
            (
                q[:, None],
                A[:, None],
                B[:, None],
                W[:, None],
                g[:, None],
            ),
            starts,
            backend,
            slots,
        )
        return outputs[0][:, 0], finals[0]
    heads = W.shape[1]
    before = starts if slots is None else _gathered(starts, slots)
    with _uncast(W.device):
        outputs, finals = _advance(
            _per_value_head(q[:, None], heads)[:, 0].to(dtype),
            _per_value_head(A[:, None], heads)[:, 0].to(dtype),
            _per_value_head(B[:, None], heads)[:, 0].to(dtype),
            _per_value_head(W[:, None], heads)[:, 0].to(dtype),
            _per_value_head(g[:, None], heads)[:, 0].to(dtype),
            *(x.to(dtype) for x in before),
            dtype,
        )
    if slots is not None:
        finals = _scattered(starts, slots, finals)
    return outputs[0].to(W.dtype), finals[0]


@_named
def reference(
    q: Tensor,
    A: Tensor,
    B: Tensor,
    W: Tensor,
    g: Tensor,
    *,
    initial_state: Any = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Any:
    """The op step by step, as the spec has it; slow, differentiable by autograd."""
    starts, dtype = _checked(q, A, B, W, g, initial_state, cu_seqlens, True)
    batch, length, heads = W.shape[:3]
    out_dtype = W.dtype
    V = W.shape[3]
    q = _per_value_head(q, heads).to(dtype)
    A = _per_value_head(A, heads).to(dtype)
    B = _per_value_head(B, heads).to(dtype)
    W = _per_value_head(W, heads).to(dtype)
    g = _per_value_head(g, heads).to(dtype)
    states: list[tuple[Tensor, ...]] = []
    steps: list[tuple[Tensor, ...]] = []
    with _uncast(W.device):
        for own, tokens in _sequences(W, cu_seqlens):
            state = tuple(x[own].to(dtype) for x in starts)
            for t in range(tokens.start, tokens.stop):
                outputs, state = _advance(
                    q[:, t], A[:, t], B[:, t], W[:, t], g[:, t], *state, dtype
                )
                steps.append(outputs)
            states.append(state)
    columns = (
        [torch.stack(c, 1) for c in zip(*steps)]
        if steps
        else [W.new_zeros(batch, 0, heads, V, dtype=dtype)]
    )
    results = [c.to(out_dtype) for c in columns]
    (result,) = results
    states.append(tuple(x[:0].to(dtype) for x in starts))
    finals = [torch.cat(parts) for parts in zip(*states, strict=True)]
    return (result, finals[0]) if output_final_state else result

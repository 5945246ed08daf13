"""The ways to solve (I - N) U = Z, in exact arithmetic: the algorithms of `chunk.aggregation`.

In: N strictly lower triangular, entries modulo p, and Z. Out: U. `signature` takes blocks of BLOCK rows here, so that
small systems have several. Refuses, with ValueError, a matrix that is not strictly lower triangular.
"""

from __future__ import annotations

import numpy as np

from flowc.certify.field import Entries, P

BLOCK = 2


def solve(aggregation: str, matrix: Entries, right: Entries, transposed: bool) -> Entries:
    """U for one system."""
    if np.any(np.triu(matrix)):
        raise ValueError("the system of a chunk is not strictly lower triangular")
    match aggregation:
        case "wy":
            inverse = _rows(matrix)
        case "tensorinv":
            inverse = _halves(matrix)
        case "signature":
            return _blocks(matrix, right, transposed)
        case _:
            raise ValueError(f"no aggregation {aggregation!r}")
    used = inverse.T if transposed else inverse
    return np.asarray(used @ right % P, dtype=object)


def _eye(n: int) -> Entries:
    return np.eye(n, dtype=int).astype(object)


def _rows(matrix: Entries) -> Entries:
    """Row by row by forward substitution."""
    found = _eye(len(matrix))
    for row in range(1, len(matrix)):
        found[row] = (found[row] + matrix[row, :row] @ found[:row]) % P
    return found


def _halves(matrix: Entries) -> Entries:
    """Inverses of both halves, merged."""
    n = len(matrix)
    if n <= 1:
        return _eye(n)
    at = n // 2
    first, second = _halves(matrix[:at, :at]), _halves(matrix[at:, at:])
    found = _eye(n)
    found[:at, :at], found[at:, at:] = first, second
    found[at:, :at] = second @ matrix[at:, :at] % P @ first % P
    return found


def _blocks(matrix: Entries, right: Entries, transposed: bool) -> Entries:
    """Block by block: solved for, then added to all rows that are left."""
    n, out = len(matrix), right.copy()
    starts = list(range(0, n, BLOCK))
    for start in reversed(starts) if transposed else starts:
        here, left = slice(start, start + BLOCK), slice(0, start) if transposed else slice(start + BLOCK, n)
        own = _rows(matrix[here, here])
        turned = matrix.T if transposed else matrix
        out[here] = (own.T if transposed else own) @ out[here] % P
        out[left] = (out[left] + turned[left, here] @ out[here]) % P
    return out

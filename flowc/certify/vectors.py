"""The functions of the language on vectors and matrices, traced.

In: `Traced` values `[rows, cols]`, a vector being a column or a row. Out: `VECTORS`, by name, on a tape. Refuses what
the values refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from flowc.certify.field import Entries
from flowc.certify.number import Number, Oracles
from flowc.certify.tape import Tape, Traced


def constant(tape: Tape, oracles: Oracles, value: Fraction | int) -> Traced:
    """A constant, `[1, 1]`."""
    return tape.leaf(Number.fraction(oracles, value, (1, 1)))


def _like(tape: Tape, a: Traced, value: Fraction | int) -> Traced:
    return constant(tape, a.number.oracles, value)


def _diag(tape: Tape, a: Traced) -> Traced:
    shape = a.number.shape
    ones = tape.leaf(Number.whole(a.number.oracles, np.eye(a.number.value.size)))
    column = tape.moved(a, lambda x: x.reshape(-1, 1), lambda bar: bar.reshape(shape))
    return tape.apply("mul", column, ones)


def _outer(tape: Tape, a: Traced, b: Traced) -> Traced:
    return tape.matmul(a, tape.moved(b, np.transpose, np.transpose))


def _kron(tape: Tape, a: Traced, b: Traced) -> Traced:
    product = _outer(tape, a, b)
    shape = product.number.shape
    return tape.moved(product, lambda x: x.reshape(-1, 1), lambda bar: bar.reshape(shape))


def _concat(tape: Tape, a: Traced, b: Traced) -> Traced:
    rows = a.number.shape[0], b.number.shape[0]
    first, second = _padded(tape, a, (0, rows[1])), _padded(tape, b, (rows[0], 0))
    return tape.apply("add", first, second)


def _padded(tape: Tape, a: Traced, around: tuple[int, int]) -> Traced:
    rows = a.number.shape[0]

    def move(x: Any) -> Any:
        full = np.zeros((sum(around) + rows, 1), dtype=x.dtype)
        full[around[0] : around[0] + rows] = x
        return full

    def back(bar: Entries) -> Entries:
        return bar[around[0] : around[0] + rows]

    return tape.moved(a, move, back)


def _square_sum(tape: Tape, a: Traced) -> Traced:
    return tape.total(tape.apply("mul", a, a))


def _norm(tape: Tape, a: Traced) -> Traced:
    return tape.apply("sqrt", _square_sum(tape, a))


def _softmax(tape: Tape, a: Traced) -> Traced:
    e = tape.apply("exp", a)
    return tape.apply("div", e, tape.total(e))


def _l2norm(tape: Tape, a: Traced, eps: Traced) -> Traced:
    return tape.apply("mul", a, tape.apply("rsqrt", tape.apply("add", _square_sum(tape, a), eps)))


def _rmsnorm(tape: Tape, a: Traced, eps: Traced) -> Traced:
    count = _like(tape, a, a.number.value.size)
    mean = tape.apply("div", _square_sum(tape, a), count)
    return tape.apply("mul", a, tape.apply("rsqrt", tape.apply("add", mean, eps)))


def _clamp(tape: Tape, a: Traced, low: Traced, high: Traced) -> Traced:
    return tape.apply("min", tape.apply("max", a, low), high)


VECTORS: dict[str, Callable[..., Traced]] = {
    "diag": _diag,
    "outer": _outer,
    "kron": _kron,
    "concat": _concat,
    "sum": lambda tape, a: tape.total(a),
    "norm": _norm,
    "softmax": _softmax,
    "l2norm": _l2norm,
    "rmsnorm": _rmsnorm,
    "clamp": _clamp,
}

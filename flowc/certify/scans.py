"""Scans over the tokens, on a certificate's numbers: one token after another.

In: an operation and its operands, [T, H, *] or [1, H, *] for what a segment begins or ends with. Out: its value.
Refuses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from flowc.certify import functions
from flowc.certify.number import Number
from flowc.certify.rows import joined
from flowc.chunk import ir

if TYPE_CHECKING:
    from flowc.certify.chunked import Setting

Op = ir.Scan | ir.Earlier | ir.Final | ir.Later | ir.First


def scanned(op: Op, given: list[Number], setting: Setting) -> Number:
    """The value of an operation; tokens are not cut into segments."""
    length = setting.sizes.length
    first, *others = given

    def at(number: Number, t: int) -> Number:
        return number.moved(lambda x: x[t : t + 1] if x.shape[0] > 1 else x)

    match op:
        case ir.Scan(kind, reverse=reverse):
            value, state = others
            found: list[Number] = []
            for t in reversed(range(length)) if reverse else range(length):
                state = _joined(kind, at(first, t), at(state, 0), at(value, t))
                found.append(state)
            return joined(found[::-1] if reverse else found, 0)
        case ir.Earlier():
            return joined([at(others[0], 0), *(at(first, t) for t in range(length - 1))], 0)
        case ir.Final():
            return at(first, length - 1)
        case ir.Later():
            return joined([*(at(first, t) for t in range(1, length)), at(others[0], 0)], 0)
        case ir.First():
            return at(first, 0)
        case _:
            assert_never(op)


def _joined(kind: str, gate: Number, before: Number, value: Number) -> Number:
    """One step of a scan."""
    if kind == "linear":
        return gate * before + value
    if kind == "max":
        return functions.value("max", gate + before, value)
    return functions.log(functions.exp(gate + before) + functions.exp(value))

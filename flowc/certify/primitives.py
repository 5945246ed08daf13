"""The primitives of chunk programs over a certificate's numbers: gate sums, decays, systems.

In: an operation and the values that it reads, per chunk [.., H, *axes]. Out: its value. Refuses, as `Uncertified`, a
float that stands for no constant of the spec.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from flowc.certify import functions, places
from flowc.certify.field import ORDER, Entries, P
from flowc.certify.number import Number, Oracles, Uncertified
from flowc.certify.systems import solve
from flowc.chunk import ir
from flowc.chunk.ir import Op
from flowc.chunk.values import Mask, Value

if TYPE_CHECKING:
    from flowc.certify.chunked import Setting

ROUNDED = 2**30  # an exact number of a spec has no power of two beyond this below the line
CLOSE = 1e-14
SMALL_RATIO = 1000


def _exponent(number: Number) -> Entries:
    return number.exponent


def constant_of(oracles: Oracles, exact: Fraction, shape: tuple[int, ...]) -> Number:
    """A literal. A float that was rounded is a simple fraction of a constant of the spec, or the log of one."""
    denominator = exact.denominator
    if denominator < ROUNDED or denominator & (denominator - 1):
        return Number.fraction(oracles, exact, shape)
    real = float(exact)
    for known, entry in oracles.constants.items():
        for other, value in ((known, entry), (1 / known, pow(entry, -1, P))) if known and entry else ():
            ratio = Fraction(real / other).limit_denominator(SMALL_RATIO)
            if _close(real / other, float(ratio)):
                constant = Number(oracles, np.array(value, dtype=object), np.array(other))
                found: Number = constant * Number.fraction(oracles, ratio)
                return found.moved(lambda x: np.broadcast_to(x, shape))
    power = Fraction(math.exp(min(real, math.log(SMALL_RATIO)))).limit_denominator(SMALL_RATIO)
    if power > 0 and _close(math.log(power), real):
        return functions.log(Number.fraction(oracles, power, shape))
    raise Uncertified(f"the constant {float(exact)!r} is a rounded float")


def _close(a: float, b: float) -> bool:
    return abs(a - b) < CLOSE * abs(b)


def primitive(setting: Setting, values: Mapping[Value, Number], op: Op) -> Number:
    """The value of a primitive."""
    chunk, bound = setting.sizes.chunk, setting.sizes.bound
    match op:
        case ir.MaskMatrix(mask):
            seen = places.mask(mask, chunk, bound)
            return Number.whole(setting.oracles, seen[None, None])
        case ir.GateSums(gates, _):
            logs = values[gates]
            if logs.opaque:  # a gate is what its own exponent says; products of gates add those up
                setting.read_gates.add(gates.name)
                logs = Number(logs.oracles, logs.value, logs.shadow, partial(_exponent, logs))
            return _summed(logs, lambda x: _prefix(x))
        case ir.GateSumsAdjoint(sums, _):
            return _summed(values[sums], lambda x: np.cumsum(x[:, :, :0:-1], axis=2)[:, :, ::-1])
        case ir.At(sums, gates, space, where):
            taken = places.points(space, where, gates, chunk, bound)
            return values[sums].moved(lambda x: x[:, :, taken[0]] if space is None else x[:, :, taken])
        case ir.AtAdjoint(argument, gates, space, where):
            taken = places.points(space, where, gates, chunk, bound)
            entries = gates.per_token.value(bound) * chunk + 1
            return _summed(values[argument], lambda x: _scattered(x, taken, entries, space is None))
        case ir.Decay(upper, None):
            return functions.exp(values[upper])
        case ir.Decay(upper, lower) if lower is not None:
            narrow = len(values[upper].shape) < len(values[lower].shape)
            high = values[upper].moved(lambda x: x[:, :, None]) if narrow else values[upper]
            return functions.exp(high - values[lower])
        case ir.DecayMatrix(rows, columns, mask):
            return _decay(setting, values[rows], values[columns], mask)
        case ir.DecayDot(left, right, upper, lower, mask):
            weight = _decay(setting, values[upper], values[lower], mask)
            product = _rows(values[left]) * _columns(values[right]) * weight
            return product.total((4,))
        case ir.DecayApply(weights, vectors, upper, lower, mask, transposed):
            weight = _decay(setting, values[upper], values[lower], mask)
            spread = values[weights].moved(lambda x: x[..., None]) * weight
            held = _rows(values[vectors]) if transposed else _columns(values[vectors])
            return (spread * held).total((2 if transposed else 3,))
        case ir.Inverse(matrix):
            return values[matrix]
        case ir.Solve(matrix, right, transposed):
            return _solved(setting, values[matrix], values[right], transposed)
        case _:
            raise TypeError(f"no exact form of {type(op).__name__}")


def _rows(number: Number) -> Number:
    return number.moved(lambda x: x[:, :, :, None])


def _columns(number: Number) -> Number:
    return number.moved(lambda x: x[:, :, None])


def _decay(setting: Setting, upper: Number, lower: Number, mask: Mask) -> Number:
    """exp(upper - lower) where the mask holds, else 0: [.., rows, columns, *]."""
    held = places.mask(mask, setting.sizes.chunk, setting.sizes.bound)
    held = held.reshape((1, 1, *held.shape, *(1,) * (len(upper.shape) - 3)))
    high, low = functions.exp(upper), functions.exp(-lower)
    value = np.where(held, _rows(high).value * _columns(low).value % P, 0)
    difference = np.where(held, _rows(upper).shadow - _columns(lower).shadow, -np.inf)
    return Number(setting.oracles, value, functions.exp_of_shadow(difference))


def _summed(number: Number, add: Any) -> Number:
    """A linear map with coefficients 0 and 1."""
    value, shadow = add(number.value) % P, add(number.shadow)
    return Number(number.oracles, value, shadow, lambda: add(number.exponent) % ORDER)


def _prefix(x: Any) -> Any:
    before = np.zeros((*x.shape[:2], 1, *x.shape[3:]), dtype=x.dtype)
    return np.cumsum(np.concatenate([before, x], axis=2), axis=2)


def _scattered(x: Any, taken: Any, entries: int, last: bool) -> Any:
    found = np.zeros((*x.shape[:2], entries, *x.shape[2 if last else 3 :]), dtype=x.dtype)
    for at, point in enumerate(taken):
        found[:, :, point] = found[:, :, point] + (x if last else x[:, :, at])
    return found


def _solved(setting: Setting, matrix: Number, right: Number, transposed: bool) -> Number:
    value, shadow = np.empty_like(right.value), np.empty_like(right.shadow)
    for at in np.ndindex(matrix.shape[:2]):
        ways = {a: solve(a, matrix.value[at], right.value[at], transposed) for a in setting.aggregations}
        value[at] = next(iter(ways.values()))
        off = [a for a, way in ways.items() if np.any(way != value[at])]
        if off:
            raise ValueError(f"{off[0]} solves a system otherwise than {setting.aggregations[0]}")
        system = np.eye(len(matrix.shadow[at])) - matrix.shadow[at]
        try:
            shadow[at] = np.linalg.solve(system.T if transposed else system, right.shadow[at])
        except np.linalg.LinAlgError:  # of numbers too large for floats; shadows only decide, and NaN decides nothing
            shadow[at] = np.nan
    return Number(setting.oracles, value, shadow)

"""Arithmetic modulo the prime p = 2^61 - 1, entry by entry, and logarithms in its multiplicative group.

In: integers. Out: integers in 0 .. p - 1; `logarithm` gives exponents of GENERATOR, in 0 .. p - 2. The group's order
has small factors only, so a logarithm is found factor by factor (Pohlig and Hellman). Refuses the inverse and the
logarithm of 0, with ZeroDivisionError.

Exponents stand for arguments of exp. Those of inputs and constants lie in the part of the order that is prime to
2, 3, 5 and 7 (WIDE), where one may divide by these; SMALL is the rest, which only a logarithm reaches.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import gcd, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Entries = NDArray[Any]  # of Python integers

P = 2**61 - 1
ORDER = P - 1
GENERATOR = 37
FACTORS = (2, 9, 25, 7, 11, 13, 31, 41, 61, 151, 331, 1321)  # of ORDER, prime to one another
SMALL_FACTORS = FACTORS[:4]
SMALL = prod(SMALL_FACTORS)
WIDE = ORDER // SMALL
IN_WIDE = SMALL * pow(SMALL, -1, WIDE) % ORDER  # 1 modulo WIDE, 0 modulo SMALL


def inverse(values: Entries) -> Entries:
    """1 / values."""
    if not np.all(values):
        raise ZeroDivisionError
    return each(lambda x: pow(x, -1, P), values)


def each(function: Any, *arrays: Entries) -> Entries:
    """A function of integers, entry by entry."""
    made: Entries = np.frompyfunc(function, len(arrays), 1)(*arrays)
    return made if isinstance(made, np.ndarray) else np.array(made, dtype=object)


def fraction(value: Fraction) -> int:
    """An exact number in the field."""
    return value.numerator * pow(value.denominator, -1, P) % P


def root(value: int) -> int | None:
    """The square root that is itself a square; None where there is none."""
    found = pow(value, (P + 1) // 4, P)
    return found if found * found % P == value else None


def power_of_generator(exponent: int) -> int:
    """What exp of a number with this exponent is."""
    return pow(GENERATOR, exponent, P)


@cache
def _tables() -> list[tuple[int, dict[int, int], int]]:
    tables = []
    for factor in FACTORS:
        step = pow(GENERATOR, ORDER // factor, P)
        powers = {pow(step, i, P): i for i in range(factor)}
        rest = ORDER // factor
        tables.append((factor, powers, rest * pow(rest, -1, factor) % ORDER))
    return tables


@cache
def logarithm(value: int) -> int:
    """The exponent of GENERATOR that gives `value`."""
    if value == 0:
        raise ZeroDivisionError
    return sum(weight * powers[pow(value, ORDER // f, P)] for f, powers, weight in _tables()) % ORDER


def constant_exponent(value: Fraction) -> int | None:
    """The exponent of exp of an exact number; None where WIDE has no inverse of its denominator."""
    if gcd(value.denominator, WIDE) != 1:
        return None
    return value.numerator * pow(value.denominator, -1, WIDE) * IN_WIDE % ORDER


def inverse_exponent(exponent: int) -> int | None:
    """1 / exponent in WIDE; None where there is none."""
    return pow(exponent, -1, WIDE) * IN_WIDE % ORDER if gcd(exponent, WIDE) == 1 else None


def scaled_exponent(exponent: int, factor: Fraction) -> int | None:
    """An exponent times an exact number; None where the power that this stands for has no value in the field."""
    if factor.denominator == 1:
        return exponent * factor.numerator % ORDER
    total = constant_exponent(factor)
    if total is None:
        return None
    total = total * exponent % ORDER
    for m in SMALL_FACTORS:
        part = exponent % m
        if part and gcd(factor.denominator, m) != 1:
            return None
        if part:
            rest = ORDER // m
            own = part * factor.numerator * pow(factor.denominator, -1, m) % m
            total += own * rest * pow(rest, -1, m)
    return total % ORDER

"""The numbers that a certificate computes with: arrays of (value in the field, exponent of exp, float shadow).

In: what `draw` draws, exact constants. Out: `Number` with the ring operations. A value and its exponent are evaluations
of one expression at two independent points: the value modulo p, the exponent modulo p - 1, where sums add and products
multiply. `exp` is the generator to the exponent. Only decisions (max, where) look at the shadow. Functions that neither
ring has are oracles: a random value per function and argument, the same wherever it is asked for. Refuses: `Redraw`
where a draw has no value (a root of a non-square, a division by 0, a tie), `Uncertified` where none has.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowc.certify import field as fp
from flowc.certify.field import ORDER, Entries, P

Shadow = NDArray[np.float64]
Exponent = Entries | Callable[[], Entries] | None


class Redraw(Exception):
    """This draw has no value; another may. `of` is what the value was to be computed of, where a tape knows it."""

    of: tuple[object, ...] = ()


class Uncertified(Exception):
    """What cannot be certified, and why."""


@dataclass
class Oracles:
    """Random values of functions by (function, argument), constants by their floats, logarithms of exponentials."""

    seed: int
    values: dict[tuple[str, int], int] = field(default_factory=dict)
    constants: dict[float, int] = field(default_factory=dict)
    logarithms: dict[int, int] = field(default_factory=lambda: {1: 0})

    def __post_init__(self) -> None:
        """Seed the draw."""
        self._rng = random.Random(self.seed)

    def ask(self, function: str, argument: int, modulus: int = P) -> int:
        """The value of a function at an argument."""
        key = (function, argument)
        if key not in self.values:
            self.values[key] = self._rng.randrange(1, modulus)
        return self.values[key]


class Number:
    """An array of numbers. `exact` holds the fractions that a constant's entries are.

    `opaque` numbers depend on what was read from a state. Their exponents are oracles of their whole value, since those
    of gates' exponentials, which a state is a sum of products of, multiply at one point only.
    """

    __slots__ = ("_exponent", "exact", "opaque", "oracles", "shadow", "value")

    def __init__(
        self,
        oracles: Oracles,
        value: Entries,
        shadow: Shadow,
        exponent: Exponent = None,
        exact: Entries | None = None,
        opaque: bool = False,
    ) -> None:
        """An `exponent` of None is an oracle's; a function gives it where it is asked for."""
        self.oracles, self.value, self.shadow, self.exact, self.opaque = oracles, value, shadow, exact, opaque
        self._exponent = None if opaque else exponent

    @staticmethod
    def constant(oracles: Oracles, exact: Entries) -> Number:
        """Exact fractions."""
        shadow = exact.astype(np.float64)
        return Number(oracles, fp.each(fp.fraction, exact), shadow, lambda: _constant_exponents(exact), exact)

    @staticmethod
    def fraction(oracles: Oracles, value: Fraction | int, shape: tuple[int, ...] = ()) -> Number:
        """One exact fraction everywhere."""
        return Number.constant(oracles, _full(shape, Fraction(value)))

    @staticmethod
    def whole(oracles: Oracles, values: NDArray[Any]) -> Number:
        """Whole numbers of any type, or booleans."""
        return Number.constant(oracles, fp.each(lambda x: Fraction(int(x)), values.astype(object)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.value.shape

    @property
    def exponent(self) -> Entries:
        """The second evaluation, modulo p - 1."""
        if self._exponent is None:
            self._exponent = fp.each(self._asked, self.value)
        elif callable(self._exponent):
            self._exponent = self._exponent()
        return self._exponent

    def _asked(self, x: int) -> int:
        """An oracle's exponent, odd as exp(-x) is 1 / exp(x)."""
        drawn = self.oracles.ask("exponent", min(x, P - x), fp.WIDE) * fp.IN_WIDE
        return (drawn if 2 * x < P else -drawn) % ORDER

    def hidden(self) -> Number:
        """The same, opaque."""
        return Number(self.oracles, self.value, self.shadow, opaque=True)

    def moved(self, move: Callable[[Any], Any]) -> Number:
        """The same numbers in another arrangement."""
        exponent = self._exponent
        lazy: Exponent = None if exponent is None else lambda: move(self.exponent)
        exact = None if self.exact is None else move(self.exact)
        return Number(self.oracles, move(self.value), move(self.shadow), lazy, exact, self.opaque)

    def __add__(self, other: Number) -> Number:
        """The sum; constants stay exact."""
        if self.exact is not None and other.exact is not None:
            return Number.constant(self.oracles, array(self.exact + other.exact))
        exponent = lambda: array((self.exponent + other.exponent) % ORDER)  # noqa: E731
        value, shadow = array((self.value + other.value) % P), self.shadow + other.shadow
        return Number(self.oracles, value, shadow, exponent, opaque=self.opaque or other.opaque)

    def __neg__(self) -> Number:
        """The negative."""
        if self.exact is not None:
            return Number.constant(self.oracles, array(-self.exact))
        exponent = lambda: array(-self.exponent % ORDER)  # noqa: E731
        return Number(self.oracles, array(-self.value % P), -self.shadow, exponent, opaque=self.opaque)

    def __sub__(self, other: Number) -> Number:
        """The difference."""
        return self + -other

    def __mul__(self, other: Number) -> Number:
        """The product; a constant factor keeps logarithms what they are."""
        if self.exact is not None and other.exact is not None:
            return Number.constant(self.oracles, array(self.exact * other.exact))
        value, shadow = array(self.value * other.value % P), self.shadow * other.shadow
        opaque = self.opaque or other.opaque
        return Number(self.oracles, value, shadow, lambda: _product_exponent(self, other), opaque=opaque)

    def inverse(self) -> Number:
        """1 / self."""
        if self.exact is not None and np.all(self.exact):
            return Number.constant(self.oracles, array(1 / self.exact))
        try:
            value = fp.inverse(self.value)
        except ZeroDivisionError:
            raise Redraw("a division by 0") from None
        with np.errstate(all="ignore"):
            return Number(self.oracles, value, np.asarray(1 / self.shadow), self._inverse_exponent, opaque=self.opaque)

    def _inverse_exponent(self) -> Entries:
        found = fp.each(fp.inverse_exponent, self.exponent)
        if any(e is None for e in found.flat):
            raise Redraw("an exponent without an inverse")
        return found

    def total(self, axes: tuple[int, ...], keepdims: bool = False) -> Number:
        """The sum over axes."""

        def add(x: Any) -> Any:
            return np.asarray(x.sum(axis=axes, keepdims=keepdims), dtype=x.dtype)

        shadow = add(self.shadow)
        exponent = lambda: array(add(self.exponent) % ORDER)  # noqa: E731
        return Number(self.oracles, array(add(self.value) % P), shadow, exponent, opaque=self.opaque)

    def __matmul__(self, other: Number) -> Number:
        """The matrix product over the last two axes."""
        return Number(
            self.oracles,
            matmul(self.value, other.value) % P,
            self.shadow @ other.shadow,
            lambda: matmul(self.exponent, other.exponent) * fp.IN_WIDE % ORDER,
            opaque=self.opaque or other.opaque,
        )


def matmul(left: Entries, right: Entries) -> Entries:
    """A product of matrices of integers, not reduced."""
    return array(np.matmul(left, right))


def _full(shape: tuple[int, ...], value: Any) -> Entries:
    made = np.empty(shape, dtype=object)
    made[...] = value
    return made


def array(value: Any) -> Entries:
    """An array, where NumPy has made a plain number of one without axes."""
    return value if isinstance(value, np.ndarray) else _full((), value)


def _constant_exponents(exact: Entries) -> Entries:
    found = fp.each(fp.constant_exponent, exact)
    if any(e is None for e in found.flat):
        raise Uncertified("exp of a fraction whose denominator divides p - 1")
    return found


def _product_exponent(left: Number, right: Number) -> Entries:
    for constant, other in ((left.exact, right), (right.exact, left)):
        if constant is not None:
            found = fp.each(fp.scaled_exponent, other.exponent, constant)
            if any(e is None for e in found.flat):
                raise Redraw("a power that the field does not have")
            return found
    return array(left.exponent * right.exponent * fp.IN_WIDE % ORDER)

"""Reverse mode over one head's step-by-step run, on its own: no derivative comes from the compiler's tables.

In: numbers `[rows, cols]` and operations on `Traced`. Out: `gradients`, exact in the field. Ties of max split evenly,
relu'(0) = abs'(0) = 0, as the language says. Refuses what the values refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from flowc.certify import functions
from flowc.certify.field import Entries, P
from flowc.certify.number import Number, Redraw, matmul

CHANCY = frozenset({"sqrt", "rsqrt", "pow", "abs"})

Pull = Callable[[Entries], Entries]


@dataclass(eq=False)
class Traced:
    """A number, and how a cotangent of it reaches what it was made of."""

    number: Number
    parents: tuple[tuple[Traced, Pull], ...] = ()
    bar: Entries | None = None


@dataclass
class Tape:
    """What one head computes, in order."""

    made: list[Traced] = field(default_factory=list)
    chancy: list[Traced] = field(default_factory=list)  # arguments of functions that some draws have no value of

    def leaf(self, number: Number) -> Traced:
        """An input, or a constant."""
        traced = Traced(number)
        self.made.append(traced)
        return traced

    def add(self, number: Number, *parents: tuple[Traced, Pull]) -> Traced:
        """A result."""
        traced = Traced(number, parents)
        self.made.append(traced)
        return traced

    def apply(self, name: str, *arguments: Traced) -> Traced:
        """An elementwise function; scalars `[1, 1]` broadcast."""
        numbers = [a.number for a in arguments]
        try:
            out = functions.value(name, *numbers)
            slopes = SLOPES[name](out, *numbers)
        except Redraw as redraw:
            redraw.of = arguments
            raise
        if name in CHANCY:
            self.chancy.extend(arguments)
        pairs = [(a, _elementwise(s, a)) for a, s in zip(arguments, slopes, strict=True) if s is not None]
        return self.add(out, *pairs)

    def matmul(self, a: Traced, b: Traced) -> Traced:
        """A matrix product."""
        left, right = a.number.value, b.number.value
        return self.add(
            a.number @ b.number,
            (a, lambda bar: matmul(bar, right.T) % P),
            (b, lambda bar: matmul(left.T, bar) % P),
        )

    def moved(self, a: Traced, move: Callable[[Any], Any], back: Pull) -> Traced:
        """Another arrangement."""
        return self.add(a.number.moved(move), (a, back))

    def total(self, a: Traced) -> Traced:
        """The sum of all entries, `[1, 1]`."""
        shape = a.number.shape
        return self.add(a.number.total((0, 1), keepdims=True), (a, lambda bar: np.broadcast_to(bar, shape)))

    def behind(self, values: Iterable[object]) -> set[Traced]:
        """All that some values were made of."""
        found: set[Traced] = set()
        waiting = [v for v in values if isinstance(v, Traced)]
        while waiting:
            traced = waiting.pop()
            if traced not in found:
                found.add(traced)
                waiting += [parent for parent, _ in traced.parents]
        return found

    def gradients(self, seeds: list[tuple[Traced, Entries]]) -> None:
        """Put the gradient of sum(seed . value) into every traced number's `bar`."""
        for traced, bar in seeds:
            _give(traced, bar)
        for traced in reversed(self.made):
            if traced.bar is not None:
                for parent, pull in traced.parents:
                    _give(parent, pull(traced.bar))


def _give(traced: Traced, bar: Entries) -> None:
    total = bar if traced.bar is None else traced.bar + bar
    traced.bar = np.asarray(total % P, dtype=object)


def _elementwise(slope: Number | int, argument: Traced) -> Pull:
    """Times the slope, summed over what the argument was broadcast along."""
    factor = slope if isinstance(slope, int) else slope.value
    axes = tuple(i for i, n in enumerate(argument.number.shape) if n == 1)

    def pull(bar: Entries) -> Entries:
        wide = bar * factor % P
        narrow = tuple(i for i in axes if wide.shape[i] != 1)
        return wide.sum(axis=narrow, keepdims=True) if narrow else wide

    return pull


# -- slopes: by hand, in every argument; None where it is 0 -----------------------------------------------------------


def _f(like: Number, value: Fraction | int) -> Number:
    return Number.fraction(like.oracles, value)


def _sigmoid(out: Number, a: Number) -> tuple[Number]:
    return (out * (_f(a, 1) - out),)


def _silu(out: Number, a: Number) -> tuple[Number]:
    s = functions.sigmoid(a)
    return (s + a * s * (_f(a, 1) - s),)


def _gelu(out: Number, a: Number) -> tuple[Number]:
    """The normal distribution's function plus a times its density; both roots are what their floats say."""
    two, half = _f(a, 2), _f(a, Fraction(1, 2))
    pi = a.oracles.ask("constant", 0)
    root_pi = Number(a.oracles, np.array(pi, dtype=object), np.array(np.sqrt(np.pi)))
    functions.remember(root_pi)
    root_two = functions.value("sqrt", two)
    below = half * (_f(a, 1) + functions.value("erf", a * root_two * half))
    density = functions.exp(-(half * (a * a))) * (root_two * root_pi).inverse()
    return (below + a * density,)


def _power(out: Number, a: Number, b: Number) -> tuple[Number | None, Number | None]:
    """A power that is not exact loses what it has beyond WIDE, so that it is a power again in its derivative."""
    lower = out * a.inverse() if b.exact is not None else functions.power(a, b - _f(b, 1))
    return None if a.exact is not None else b * lower, None if b.exact is not None else out * functions.log(a)


def _larger(out: Number, a: Number, b: Number) -> tuple[Number, Number]:
    half = _f(a, Fraction(1, 2))
    first = half * (functions.less(b, a) + functions.less_equal(b, a))
    return first, _f(a, 1) - first


def _smaller(out: Number, a: Number, b: Number) -> tuple[Number, Number]:
    first, second = _larger(out, a, b)
    return second, first


def _where(out: Number, condition: Number, a: Number, b: Number) -> tuple[None, Number, Number]:
    return None, condition, _f(a, 1) - condition


def _nothing(out: Number, *arguments: Number) -> tuple[None, ...]:
    return tuple(None for _ in arguments)


SLOPES: dict[str, Callable[..., tuple[Number | int | None, ...]]] = {
    "add": lambda out, a, b: (1, 1),
    "sub": lambda out, a, b: (1, -1),
    "neg": lambda out, a: (-1,),
    "mul": lambda out, a, b: (b, a),
    "div": lambda out, a, b: (b.inverse(), -(out * b.inverse())),
    "pow": _power,
    "exp": lambda out, a: (out,),
    "expm1": lambda out, a: (out + _f(a, 1),),
    "log": lambda out, a: (a.inverse(),),
    "log1p": lambda out, a: ((_f(a, 1) + a).inverse(),),
    "exprel": lambda out, a: ((functions.exp(a) - out) * a.inverse(),),
    "sigmoid": _sigmoid,
    "logsigmoid": lambda out, a: (_f(a, 1) - functions.sigmoid(a),),
    "softplus": lambda out, a: (functions.sigmoid(a),),
    "tanh": lambda out, a: (_f(a, 1) - out * out,),
    "sin": lambda out, a: (functions.value("cos", a),),
    "cos": lambda out, a: (-functions.value("sin", a),),
    "relu": lambda out, a: (functions.value("step", a),),
    "silu": _silu,
    "gelu": _gelu,
    "sqrt": lambda out, a: (_f(a, Fraction(1, 2)) * out.inverse(),),
    "rsqrt": lambda out, a: (-(_f(a, Fraction(1, 2)) * out * a.inverse()),),
    "abs": lambda out, a: (functions.sign(a),),
    "max": _larger,
    "min": _smaller,
    "where": _where,
    "lt": _nothing,
    "le": _nothing,
}

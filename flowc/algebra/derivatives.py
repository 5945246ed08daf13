"""Derivatives of elementwise functions, as Terms.

In: the name of a function of `algebra.functions` and an argument's number. Out: the partial derivative as a Term over
placeholders `Load("0")`, `Load("1")`, ... Refuses nothing that `freeze` can have produced.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import sympy as sp

from flowc.algebra.functions import build
from flowc.algebra.leaves import freeze
from flowc.algebra.term import Apply, Constant, Load, Term

_OPERATORS: dict[str, Callable[..., sp.Expr]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
    "neg": operator.neg,
    "erf": sp.erf,
}


@cache
def partial(function: str, argument: int, count: int) -> Term:
    """The derivative of `function` of `count` arguments in argument number `argument`, from 0."""
    match function, argument:
        case "rsqrt", _:  # from the value itself: one product instead of a power
            return Apply("mul", (Constant(Fraction(-1, 2)), _cube(Apply("rsqrt", (_placeholder(0),)))))
        case "div", 1:  # without a square that may overflow, or vanish
            quotient = Apply("div", (_placeholder(0), _placeholder(1)))
            return Apply("neg", (Apply("div", (quotient, _placeholder(1))),))
        case "pow", 0:  # b a**(b - 1), which at a = 0 is no quotient of zeros
            base, exponent = _placeholder(0), _placeholder(1)
            return Apply("mul", (exponent, Apply("pow", (base, Apply("sub", (exponent, Constant(Fraction(1))))))))
        case "abs", _:
            return Apply("sign", (_placeholder(0),))
        case "sign", _:
            return Constant(Fraction(0))
    x = [sp.Symbol(str(i), real=True) for i in range(count)]
    value = _OPERATORS[function](*x) if function in _OPERATORS else build(function, x)
    return freeze(value.diff(x[argument]), lambda s: _placeholder(int(s.name)), lambda e: 0)


def _placeholder(argument: int) -> Load:
    return Load(str(argument), None, (), False)


def _cube(term: Term) -> Term:
    return Apply("mul", (Apply("mul", (term, term)), term))

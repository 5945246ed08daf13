"""Derivatives of elementwise functions, as Terms.

In: the name of a function of `algebra.functions` and an argument's number. Out: the partial derivative as a Term over
placeholders `Load("0")`, `Load("1")`, ... Refuses nothing that `freeze` can have produced.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import sympy as sp

from flowc.algebra.functions import build
from flowc.algebra.leaves import freeze
from flowc.algebra.term import Apply, Constant, Load, Term

_OPERATORS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "erf": lambda a: sp.erf(a),
    "sign": lambda a: sp.sign(a),
}


@cache
def partial(function: str, argument: int, count: int) -> Term:
    """The derivative of `function` of `count` arguments in argument number `argument`, from 0."""
    x = [sp.Symbol(str(i), real=True) for i in range(count)]
    if function == "rsqrt":  # from the value itself: one product instead of a power
        return Apply("mul", (Constant(Fraction(-1, 2)), _cube(Apply("rsqrt", (Load("0", None, (), False),)))))
    if function == "pow" and argument == 0:  # b a**(b - 1), which at a = 0 is no quotient of zeros
        base, exponent = Load("0", None, (), False), Load("1", None, (), False)
        return Apply("mul", (exponent, Apply("pow", (base, Apply("sub", (exponent, Constant(Fraction(1))))))))
    if function == "abs":
        return Apply("sign", (Load("0", None, (), False),))
    if function == "sign":
        return Constant(Fraction(0))
    value = _OPERATORS[function](*x) if function in _OPERATORS else build(function, x)
    return freeze(value.diff(x[argument]), lambda s: Load(s.name, None, (), False), lambda e: 0)


def _cube(term: Term) -> Term:
    return Apply("mul", (Apply("mul", (term, term)), term))

"""The elementwise functions as SymPy knows them, with their derivatives.

In: the names of `semantics.functions`. Out: `build(name, arguments)`, a SymPy expression that `diff` differentiates by
the table PARTIALS. SymPy's own classes are used where they are exact; what it lacks, or would rewrite (max, where), is
a class here. Refuses a name that is not elementwise (KeyError).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction

import sympy as sp


class _Function(sp.Function):  # type: ignore[misc]  # SymPy ships no types
    """An elementwise function with a derivative table; real on real arguments."""

    def _eval_is_extended_real(self) -> bool:
        return True

    def _eval_is_finite(self) -> bool:
        return True

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        """The partial derivative in argument `argindex`, from 1."""
        return PARTIALS[type(self).__name__][argindex - 1](*self.args)


def _new(name: str, nargs: int) -> type[_Function]:
    return type(name, (_Function,), {"nargs": nargs})


OWN = {
    name: _new(name, nargs)
    for name, nargs in (
        ("expm1", 1), ("log1p", 1), ("exprel", 1), ("exprel_slope", 1), ("sigmoid", 1), ("logsigmoid", 1),
        ("softplus", 1), ("relu", 1), ("silu", 1), ("gelu", 1), ("step", 1), ("max", 2), ("min", 2), ("where", 3),
        ("lt", 2), ("le", 2), ("floor_log", 1), ("above_floor", 1),
        ("gate_log", 1), ("gate_log1p", 1), ("inverse_or_zero", 1), ("root", 1),
    )
}  # fmt: skip

_sigmoid, _where, _lt, _le, _step = (OWN[n] for n in ("sigmoid", "where", "lt", "le", "step"))
_HALF = sp.Rational(1, 2)


def _wins(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """1 where a > b, 1/2 where they tie, else 0."""
    return _HALF * (_lt(b, a) + _le(b, a))


PARTIALS: dict[str, tuple[Callable[..., sp.Expr], ...]] = {
    "expm1": (sp.exp,),
    "log1p": (lambda x: 1 / (1 + x),),
    "exprel": (OWN["exprel_slope"],),
    "sigmoid": (lambda x: _sigmoid(x) * (1 - _sigmoid(x)),),
    "logsigmoid": (lambda x: _sigmoid(-x),),
    "softplus": (_sigmoid,),
    "relu": (_step,),
    "silu": (lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))),),
    "gelu": (lambda x: _HALF * (1 + sp.erf(x / sp.sqrt(2))) + x * sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi),),
    "step": (lambda x: sp.S.Zero,),
    "max": (_wins, lambda a, b: _wins(b, a)),
    "min": (lambda a, b: _wins(b, a), _wins),
    "where": (lambda c, a, b: sp.S.Zero, lambda c, a, b: _where(c, 1, 0), lambda c, a, b: _where(c, 0, 1)),
    "lt": (lambda a, b: sp.S.Zero, lambda a, b: sp.S.Zero),
    "le": (lambda a, b: sp.S.Zero, lambda a, b: sp.S.Zero),
    # logarithms of gates: one that rounds to 0 has log -inf, which is floored, and slope 0, not 1 / 0
    "gate_log": (OWN["inverse_or_zero"],),
    "gate_log1p": (lambda x: OWN["inverse_or_zero"](1 + x),),
    "root": (lambda x: OWN["inverse_or_zero"](2 * OWN["root"](x)),),  # of a norm: slope 0 at 0
    "floor_log": (OWN["above_floor"],),
}

SYMPY: dict[str, Callable[..., sp.Expr]] = {
    "exp": sp.exp,
    "log": sp.log,
    "tanh": sp.tanh,
    "sin": sp.sin,
    "cos": sp.cos,
    "abs": sp.Abs,
    "sqrt": sp.sqrt,
    "rsqrt": lambda x: x**-_HALF,
    "clamp": lambda x, low, high: OWN["min"](OWN["max"](x, low), high),
    "<": _lt,
    "<=": _le,
    ">": lambda a, b: _lt(b, a),
    ">=": lambda a, b: _le(b, a),
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


_NUMERIC: dict[str, Callable[..., float]] = {
    "expm1": math.expm1,
    "log1p": math.log1p,
    "exprel": lambda x: math.expm1(x) / x if x else 1.0,
    "sigmoid": _logistic,
    "logsigmoid": lambda x: -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x)),
    "softplus": lambda x: x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x)),
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x * _logistic(x),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "max": max,
    "min": min,
    "where": lambda c, a, b: a if c else b,
    "lt": lambda a, b: float(a < b),
    "le": lambda a, b: float(a <= b),
    "root": math.sqrt,
    "gate_log": math.log,
    "gate_log1p": math.log1p,
}


def number(e: sp.Expr) -> Fraction:
    """The value of an expression without symbols: exact where it is rational, else the nearest float."""
    if e.is_Rational:
        return Fraction(int(e.p), int(e.q))
    if not e.has(_Function):
        return Fraction(float(e))
    arguments = [float(number(a)) for a in e.args]
    own = _NUMERIC.get(e.func.__name__)
    return Fraction(own(*arguments) if own is not None else float(e.func(*(sp.Float(a) for a in arguments))))


def build(name: str, arguments: Sequence[sp.Expr]) -> sp.Expr:
    """The elementwise function or operator `name` applied to `arguments`."""
    maker = SYMPY.get(name) or OWN[name]
    return maker(*arguments)

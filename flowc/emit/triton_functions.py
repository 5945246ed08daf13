"""Elementwise functions as Triton writes them, in float32.

In: a function's name and its printed arguments. Out: an expression, how tightly it binds, and the support functions it
calls. Refuses nothing; no function needs libdevice, which Triton's interpreter lacks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from flowc.emit.torch_functions import ATOM, PRODUCT, SUM, UNARY, Code

_CALLS = {
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "sqrt": "tl.sqrt({0})",
    "root": "tl.sqrt({0})",
    "rsqrt": "tl.rsqrt({0})",
    "abs": "tl.abs({0})",
    "erf": "tl.erf({0})",
    "expm1": "_tl_expm1({0})",
    "log1p": "_tl_log1p({0})",
    "exprel": "_tl_exprel({0})",
    "sigmoid": "_tl_sigmoid({0})",
    "logsigmoid": "-_tl_softplus(-({0}))",
    "softplus": "_tl_softplus({0})",
    "tanh": "_tl_tanh({0})",
    "silu": "_tl_silu({0})",
    "gelu": "_tl_gelu({0})",
    "sign": "_tl_sign({0})",
    "relu": "_tl_maximum({0}, 0.0)",
    "max": "_tl_maximum({0}, {1})",
    "min": "_tl_minimum({0}, {1})",
    "clamp": "_tl_minimum(_tl_maximum({0}, {1}), {2})",
    "where": "tl.where(({0}) != 0.0, {1}, {2})",
    "step": "tl.where(({0}) > 0.0, 1.0, 0.0)",
    "lt": "tl.where(({0}) < ({1}), 1.0, 0.0)",
    "le": "tl.where(({0}) <= ({1}), 1.0, 0.0)",
    "floor_log": "_tl_floor_log({0})",
    "gate_log": "tl.log({0})",
    "gate_log1p": "_tl_log1p({0})",
    "above_floor": "tl.where(({0}) > -104.0, 1.0, 0.0)",
    "exprel_slope": "_tl_exprel_slope({0})",
    "inverse_or_zero": "tl.where(({0}) != 0.0, 1.0 / ({0}), 0.0)",
}
_OPERATORS = {"add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "div": ("/", PRODUCT)}

# the support functions that each one calls
USES = {
    "inverse": ("inverse_wy", "inverse_tensorinv", "inverse_signature"),
    "solve": ("substituted", "dot"),
    "exprel": ("expm1",),
    "softplus": ("maximum", "log1p"),
    "tanh": ("expm1",),
    "scans": ("maximum",),
    "inverse_wy": ("substitution", "merged"),
    "inverse_tensorinv": ("merged",),
    "inverse_signature": ("substitution", "diagonal"),
    "merged": ("diagonal",),
    "dot": ("product",),
    "halves": ("product", "repeated"),
    "prefix": ("split",),
    "decay_dot": ("product",),
    "decay_apply": ("product",),
}
_SUPPORT = {
    "logsigmoid": ("softplus",),
    "relu": ("maximum",),
    "max": ("maximum",),
    "min": ("minimum",),
    "clamp": ("minimum", "maximum"),
    "gate_log1p": ("log1p",),
}
_OWN = frozenset(
    ("expm1", "log1p", "exprel", "exprel_slope", "sigmoid", "softplus", "tanh", "silu", "gelu", "sign", "floor_log")
)


def number(value: Fraction) -> Code:
    """An exact number as a float."""
    return Code(repr(float(value)), UNARY if value < 0 else ATOM, True)


def helpers(function: str) -> tuple[str, ...]:
    """The support functions that an elementwise function calls itself."""
    return (function,) if function in _OWN else _SUPPORT.get(function, ())


def call(function: str, arguments: Sequence[Code]) -> Code:
    """An elementwise function of printed arguments, of which one at least is a tensor."""
    if function in _OPERATORS:
        symbol, binding = _OPERATORS[function]
        left, right = arguments
        inner = binding + 1 if function in ("sub", "div") else binding
        return Code(f"{left.at(binding)} {symbol} {right.at(inner)}", binding)
    if function == "neg":
        return Code(f"-{arguments[0].at(UNARY)}", UNARY)
    text = _CALLS[function].format(*(a.text for a in arguments))
    return Code(text, UNARY if text.startswith("-") else ATOM)


def power(arguments: Sequence[Code], exponent: Fraction | None, positive: bool) -> tuple[Code, tuple[str, ...]]:
    """A power, and the support functions it calls: a known half or whole exponent by products, else by logarithms.

    `positive`: the base is a number that is.
    """
    if exponent is not None and (2 * exponent).denominator == 1 and abs(exponent) <= 8:
        return whole_power(arguments[0], exponent)
    if positive:
        return exact_power(*arguments), ()
    return Code(f"_tl_real_power({arguments[0].text}, {arguments[1].text})"), ("real_power",)


def whole_power(base: Code, exponent: Fraction) -> tuple[Code, tuple[str, ...]]:
    """The power of a multiple of a half, and the support functions it calls."""
    count = abs(exponent) if exponent.denominator == 1 else abs(2 * exponent)
    text = base.text if exponent.denominator == 1 else f"tl.sqrt({base.text})"
    if count == 0:
        return Code(f"{base.at(PRODUCT)} * 0.0 + 1.0", SUM), ()
    code = Code(text) if exponent.denominator != 1 else base
    used: tuple[str, ...] = ()
    if count > 1:
        code, used = Code(f"_tl_power({text}, {count})"), ("power",)
    return (code if exponent > 0 else Code(f"1.0 / {code.at(PRODUCT + 1)}", PRODUCT)), used


def exact_power(base: Code, exponent: Code) -> Code:
    """The power of a positive number."""
    if base.number and float(base.text) == 2.0:
        return Code(f"tl.exp2({exponent.text})")
    logarithm = repr(math.log2(float(base.text))) if base.number else f"tl.log2({base.text})"
    return Code(f"tl.exp2({exponent.at(PRODUCT)} * {logarithm})")

"""Elementwise functions as PyTorch writes them.

In: a function's name and its printed arguments. Out: an expression and how tightly it binds. The one table for both
the chunked and the step-by-step code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

ATOM, POWER, UNARY, PRODUCT, SUM, COMPARE = 6, 5, 4, 3, 2, 1


@dataclass(frozen=True, slots=True)
class Code:
    """A printed expression: how tightly it binds, and whether it is a Python number and no tensor."""

    text: str
    binding: int = ATOM
    number: bool = False

    def at(self, binding: int) -> str:
        """The text, in parentheses where it binds less than `binding`."""
        return self.text if self.binding >= binding else f"({self.text})"


_CALLS = {
    "exp": "torch.exp({0})",
    "log": "torch.log({0})",
    "gate_log": "torch.log({0})",
    "gate_log1p": "torch.log1p({0})",
    "inverse_or_zero": "_inverse_or_zero({0})",
    "expm1": "torch.expm1({0})",
    "log1p": "torch.log1p({0})",
    "sigmoid": "torch.sigmoid({0})",
    "logsigmoid": "F.logsigmoid({0})",
    "softplus": "F.softplus({0}, threshold=40)",
    "tanh": "torch.tanh({0})",
    "sin": "torch.sin({0})",
    "cos": "torch.cos({0})",
    "relu": "torch.relu({0})",
    "silu": "F.silu({0})",
    "gelu": "F.gelu({0})",
    "root": "torch.sqrt({0})",
    "sqrt": "torch.sqrt({0})",
    "rsqrt": "torch.rsqrt({0})",
    "abs": "torch.abs({0})",
    "sign": "torch.sign({0})",
    "erf": "torch.erf({0})",
    "exprel": "_exprel({0})",
    "exprel_slope": "_exprel_slope({0})",
    "max": "torch.maximum({0}, {1})",
    "min": "torch.minimum({0}, {1})",
    "clamp": "torch.minimum(torch.maximum({0}, {1}), {2})",
    "where": "torch.where({0} != 0, {1}, {2})",
    "step": "({0} > 0).to(dtype)",
    "lt": "({0} < {1}).to(dtype)",
    "le": "({0} <= {1}).to(dtype)",
    "floor_log": "torch.clamp({0}, min=_LOG_FLOOR[dtype])",
    "above_floor": "({0} > _LOG_FLOOR[dtype]).to(dtype)",
}
_OPERATORS = {"add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "div": ("/", PRODUCT)}
# Of Python numbers, such as sizes: plain arithmetic, which no compiler has to leave the graph for.
_NUMBERS = {
    **{name: f"math.{name}({{0}})" for name in ("exp", "log", "sqrt", "sin", "cos", "tanh", "expm1", "log1p", "erf")},
    "gate_log": "math.log({0})",
    "gate_log1p": "math.log1p({0})",
    "root": "math.sqrt({0})",
    "rsqrt": "(1 / math.sqrt({0}))",
    "sigmoid": "(math.exp(min({0}, 0)) / (1 + math.exp(-abs({0}))))",
    "logsigmoid": "(min({0}, 0) - math.log1p(math.exp(-abs({0}))))",
    "softplus": "(max({0}, 0) + math.log1p(math.exp(-abs({0}))))",
    "relu": "max({0}, 0)",
    "silu": "({0} * math.exp(min({0}, 0)) / (1 + math.exp(-abs({0}))))",
    "gelu": "({0} / 2 * math.erfc(-{0} / math.sqrt(2)))",
    "abs": "abs({0})",
    "sign": "(({0} > 0) - ({0} < 0))",
    "exprel": "(math.expm1({0}) / {0} if {0} else 1)",
    "exprel_slope": "((math.exp({0}) - math.expm1({0}) / {0}) / {0} if {0} else 0.5)",
    "inverse_or_zero": "(1 / {0} if {0} > 0 else 0)",
    "max": "max({0}, {1})",
    "min": "min({0}, {1})",
    "clamp": "min(max({0}, {1}), {2})",
    "where": "({1} if {0} else {2})",
    "step": "float({0} > 0)",
    "lt": "float({0} < {1})",
    "le": "float({0} <= {1})",
    "floor_log": "max({0}, _LOG_FLOOR[dtype])",
    "above_floor": "float({0} > _LOG_FLOOR[dtype])",
}
# What vectors and what is left of them round differently, so that an entry's last bit depends on how many there are.
INEXACT = frozenset((
    "exp", "log", "gate_log", "gate_log1p", "expm1", "log1p", "sigmoid", "logsigmoid", "softplus", "tanh", "sin", "cos",
    "silu", "gelu", "erf", "exprel", "exprel_slope", "pow",
))  # fmt: skip

HELPERS = {"inverse_or_zero": ("inverse_or_zero",), "exprel": ("exprel",), "exprel_slope": ("exprel_slope",)}


def number(value: Fraction | int) -> Code:
    """An exact number as the nearest float, whole ones without a point."""
    text = str(int(value)) if value.denominator == 1 and -(10**15) < value < 10**15 else repr(float(value))
    return Code(text, UNARY if value < 0 else ATOM, True)


def call(function: str, arguments: Sequence[Code]) -> Code:
    """An elementwise function of printed arguments."""
    plain = all(a.number for a in arguments)
    if function in _OPERATORS:
        symbol, binding = _OPERATORS[function]
        left, right = arguments
        inner = binding + 1 if function in ("sub", "div") else binding
        return Code(f"{left.at(binding)} {symbol} {right.at(inner)}", binding, plain)
    if function == "neg":
        return Code(f"-{arguments[0].at(UNARY)}", UNARY, plain)
    if function == "pow":
        return Code(f"{arguments[0].at(ATOM)} ** {arguments[1].at(UNARY)}", POWER, plain)
    if plain:
        return _of_numbers(function, arguments)
    texts = [a.text for a in arguments]
    if function in ("max", "min", "clamp"):
        texts = [f"torch.as_tensor({a.text}, dtype=dtype)" if a.number else a.text for a in arguments]
    if function == "where" and arguments[1].number and arguments[2].number:
        texts[1] = f"torch.as_tensor({arguments[1].text}, dtype=dtype)"
    if function in ("lt", "le", "step", "above_floor", "where"):
        texts[0] = arguments[0].at(SUM)
        texts[1:2] = [a.at(SUM) for a in arguments[1:2]] if function != "where" else texts[1:2]
    return Code(_CALLS[function].format(*texts))


def _of_numbers(function: str, arguments: Sequence[Code]) -> Code:
    """A function of Python numbers only, such as heads or a size."""
    return Code(_NUMBERS[function].format(*(a.at(ATOM) for a in arguments)), ATOM, True)

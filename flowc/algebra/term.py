"""Terms: tensors of one token and head that do not hold the state, as frozen trees with named axes.

In: nothing; this is the type in which algebra hands expressions on. Out: `Term`, a closed union without SymPy.
Elementwise application broadcasts by axis name. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import assert_never

from flowc.semantics.size import Size


@dataclass(frozen=True, slots=True, order=True)
class Axis:
    """A named axis and its symbolic size."""

    name: str
    size: Size


@dataclass(frozen=True, slots=True)
class Constant:
    """An exact number."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class SizeValue:
    """A size, as a number."""

    size: Size


@dataclass(frozen=True, slots=True)
class HeadValue:
    """The value head's index, or (`count`) the number of value heads."""

    count: bool


@dataclass(frozen=True, slots=True)
class IndexValue:
    """0, 1, ... along `axis`: the index of a repeat used as a number."""

    axis: Axis


@dataclass(frozen=True, slots=True)
class Load:
    """An input or param; `axes` name its trailing axes in storage order, `index` picks one of a list's elements."""

    name: str
    index: int | None
    axes: tuple[Axis, ...]
    is_param: bool


@dataclass(frozen=True, slots=True)
class ReadValue:
    """What an output's read number `index` of the state gives: a vector over the state's columns, and over a rank."""

    index: int
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class ScanValue:
    """A state that is scanned entry by entry: its value before the token (`previous`), or after it."""

    name: str
    previous: bool
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """An elementwise function or operator of `algebra.functions`."""

    function: str
    arguments: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of `argument` over `axis`."""

    argument: Term
    axis: Axis


@dataclass(frozen=True, slots=True)
class Peak:
    """The maximum of `argument` over `axis`; only for shifts that cancel (softmax), so its gradient is not needed."""

    argument: Term
    axis: Axis


@dataclass(frozen=True, slots=True)
class Concat:
    """Vectors one after another: `parts[i]` runs over `inner[i]`, the result over `axis`."""

    parts: tuple[Term, ...]
    inner: tuple[Axis, ...]
    axis: Axis


@dataclass(frozen=True, slots=True)
class Kron:
    """`left` over `inner[0]` times `right` over `inner[1]`, flattened to `axis` with the right index fastest."""

    left: Term
    right: Term
    inner: tuple[Axis, Axis]
    axis: Axis


Term = (
    Constant | SizeValue | HeadValue | IndexValue | Load | ReadValue | ScanValue | Apply | Total | Peak | Concat | Kron
)


def axes_of(term: Term) -> frozenset[Axis]:
    """The free axes of a term."""
    match term:
        case Constant() | SizeValue() | HeadValue():
            return frozenset()
        case IndexValue(axis):
            return frozenset((axis,))
        case Load(axes=axes) | ReadValue(axes=axes) | ScanValue(axes=axes):
            return frozenset(axes)
        case Apply(arguments=arguments):
            return frozenset().union(*(axes_of(a) for a in arguments))
        case Total(argument, axis) | Peak(argument, axis):
            return axes_of(argument) - {axis}
        case Concat(parts, inner, axis):
            return frozenset().union(*(axes_of(p) - {a} for p, a in zip(parts, inner, strict=True))) | {axis}
        case Kron(left, right, (a, b), axis):
            return (axes_of(left) - {a}) | (axes_of(right) - {b}) | {axis}
        case _:
            assert_never(term)


def parts(term: Term) -> tuple[Term, ...]:
    """The terms that a term is made of."""
    match term:
        case Apply(arguments=arguments):
            return arguments
        case Total(argument, _) | Peak(argument, _):
            return (argument,)
        case Concat(parts=joined):
            return joined
        case Kron(left, right, _, _):
            return (left, right)
        case _:
            return ()


def reads_state(term: Term) -> bool:
    """Whether a state that is scanned, before the token or after it, is in a term."""
    return isinstance(term, ScanValue) or any(reads_state(part) for part in parts(term))


def bound_depth(term: Term) -> int:
    """How deeply sums nest; their bound axes are named by it, so that no free axis is captured."""
    match term:
        case Apply(arguments=arguments):
            return max((bound_depth(a) for a in arguments), default=0)
        case Total(argument, _) | Peak(argument, _):
            return 1 + bound_depth(argument)
        case Concat(parts=parts):
            return 1 + max(bound_depth(p) for p in parts)
        case Kron(left, right, _, _):
            return 1 + max(bound_depth(left), bound_depth(right))
        case _:
            return 0


def rename(term: Term, names: Mapping[str, str]) -> Term:
    """`term` with its free axes renamed; bound axes keep their names."""

    def moved(axis: Axis) -> Axis:
        return Axis(names.get(axis.name, axis.name), axis.size)

    def below(bound: tuple[Axis, ...]) -> dict[str, str]:
        hidden = {a.name for a in bound}
        return {old: new for old, new in names.items() if old not in hidden}

    match term:
        case Constant() | SizeValue() | HeadValue():
            return term
        case IndexValue(axis):
            return IndexValue(moved(axis))
        case Load() | ReadValue() | ScanValue():
            return replace(term, axes=tuple(moved(a) for a in term.axes))
        case Apply(function, arguments):
            return Apply(function, tuple(rename(a, names) for a in arguments))
        case Total(argument, axis):
            return Total(rename(argument, below((axis,))), axis)
        case Peak(argument, axis):
            return Peak(rename(argument, below((axis,))), axis)
        case Concat(parts, inner, axis):
            inside = below(inner)
            return Concat(tuple(rename(p, inside) for p in parts), inner, moved(axis))
        case Kron(left, right, inner, axis):
            inside = below(inner)
            return Kron(rename(left, inside), rename(right, inside), inner, moved(axis))
        case _:
            assert_never(term)


INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}
BINDING = {"add": 1, "sub": 1, "mul": 2, "div": 2, "neg": 3, "pow": 4}


def text(term: Term, binding: int = 0) -> str:
    """`term` as a reader writes it; parenthesised where it binds less than `binding`."""
    match term:
        case Constant(value):
            shown = str(value) if value.denominator == 1 else repr(float(value))
            return f"({shown})" if value < 0 and binding > 1 else shown
        case SizeValue(size):
            return f"({size})" if len(size.terms) > 1 and binding else str(size)
        case HeadValue(count):
            return "heads" if count else "head"
        case IndexValue(axis):
            return axis.name
        case Load(name, index, _, _):
            return name if index is None else f"{name}[{index}]"
        case ReadValue(index, _):
            return f"read{index}"
        case ScanValue(name, previous, _):
            return f"{name}[t-1]" if previous else f"{name}[t]"
        case Apply(function, arguments) if function in INFIX:
            own = BINDING[function]
            left, right = (text(a, own + i) for i, a in enumerate(arguments))
            shown = f"{left} {INFIX[function]} {right}" if own < 4 else f"{left}**{right}"
            return f"({shown})" if own < binding else shown
        case Apply("neg", (argument,)):
            shown = "-" + text(argument, 3)
            return f"({shown})" if binding > 1 else shown
        case Apply(function, arguments):
            return f"{function}({', '.join(text(a) for a in arguments)})"
        case Total(Apply("mul", (left, right)), axis) if left == right:
            return f"sum_{axis.size}({text(left, 4)}**2)"
        case Total(argument, axis):
            return f"sum_{axis.size}({text(argument)})"
        case Peak(argument, axis):
            return f"max_{axis.size}({text(argument)})"
        case Concat(parts, _, _):
            return f"concat({', '.join(text(p) for p in parts)})"
        case Kron(left, right, _, _):
            return f"kron({text(left)}, {text(right)})"
        case _:
            assert_never(term)

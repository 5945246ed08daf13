"""The syntax tree: a spec as it is written, with the span of every part.

In: what `parse` builds. Out: frozen dataclasses named as the rules of `grammar/flow.lark`; names are NFKC-normalised,
numbers exact. Refuses nothing: names and shapes are `semantics.check`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from flowc.source import Span

Operator = Literal["+", "-", "*", "/", "@", "**"]
Relation = Literal["<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Name:
    """An identifier, normalised."""

    text: str
    span: Span


# -- expressions, sizes among them --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, exact."""

    value: Fraction
    span: Span


@dataclass(frozen=True, slots=True)
class Reference:
    """A name with the subscripts behind it: `q`, `S[t-1]`, `k[r]`, `k[r][t-1]`."""

    name: Name
    subscripts: tuple[Expression, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Negate:
    """`-x`."""

    argument: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Transpose:
    """`x.T`."""

    argument: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Binary:
    """`left op right`."""

    op: Operator
    left: Expression
    right: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Comparison:
    """`left op right`, the condition of a `where`."""

    op: Relation
    left: Expression
    right: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call, with its keyword if it has one."""

    keyword: Name | None
    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """`name(arguments)`."""

    name: Name
    arguments: tuple[Argument, ...]
    span: Span


Expression = Number | Reference | Negate | Transpose | Binary | Comparison | Call


# -- declarations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bound:
    """A signed number; a float only where it is infinite."""

    value: Fraction | float
    span: Span


@dataclass(frozen=True, slots=True)
class Scalar:
    """The shape `scalar`."""

    span: Span


@dataclass(frozen=True, slots=True)
class Vector:
    """The shape `K`."""

    size: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Matrix:
    """The shape `K x R`."""

    rows: Expression
    cols: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class List:
    """The shape `R of K`."""

    count: Expression
    item: Scalar | Vector | Matrix
    span: Span


Shape = Scalar | Vector | Matrix | List


@dataclass(frozen=True, slots=True)
class Range:
    """`in (0, 1]` or `<= 0`: the bounds, None where there is none, and whether each is excluded."""

    low: Bound | None
    high: Bound | None
    low_open: bool
    high_open: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Dimension:
    """A size or constant of the header."""

    name: Name
    value: Bound | None
    span: Span


@dataclass(frozen=True, slots=True)
class Input:
    """`input names : shape range`."""

    names: tuple[Name, ...]
    shape: Shape
    range: Range | None
    span: Span


@dataclass(frozen=True, slots=True)
class Param:
    """`param names : shape range`."""

    names: tuple[Name, ...]
    shape: Shape
    range: Range | None
    span: Span


@dataclass(frozen=True, slots=True)
class State:
    """`state names : shape = start`."""

    names: tuple[Name, ...]
    shape: Shape
    start: Bound | None
    span: Span


# -- statements ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Let:
    """`let name = value`."""

    name: Name
    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Assign:
    """`target = value`."""

    target: Reference
    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Repeat:
    """`repeat index in count:` and its block; the span is the head's."""

    index: Name
    count: Expression
    body: tuple[Item, ...]
    span: Span


Item = Input | Param | State | Let | Assign | Repeat


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole spec. `doc` is the comment block at its top, without the `#`."""

    name: Name
    doc: str
    dimensions: tuple[Dimension, ...]
    items: tuple[Item, ...]
    span: Span

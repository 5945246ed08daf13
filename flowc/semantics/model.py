"""The Model: one spec with every name, shape and size resolved.

In: what `semantics.check` makes of a `Spec`. Out: frozen, typed trees that `reference`, `algebra` and the emitters
read. Every expression carries its `Shape` and its `Span`; nothing in here is looked up again by a later stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from flowc.semantics.size import ONE, Size
from flowc.source import Source, Span


class Kind(Enum):
    """What an expression is: shapes alone can't tell `K x R` with R = 1 from a column."""

    SCALAR = "scalar"
    COLUMN = "column"
    ROW = "row"
    MATRIX = "matrix"


@dataclass(frozen=True, slots=True)
class Shape:
    """Mathematical shape `rows x cols`; `items` is the length of a list (`R of K`), None for a single value."""

    kind: Kind
    rows: Size = ONE
    cols: Size = ONE
    items: Size | None = None

    def __str__(self) -> str:
        """As a spec writes it; a row vector prints as `1 x K`."""
        match self.kind:
            case Kind.SCALAR:
                one = "scalar"
            case Kind.COLUMN:
                one = str(self.rows)
            case Kind.ROW:
                one = f"1 x {self.cols}"
            case Kind.MATRIX:
                one = f"{self.rows} x {self.cols}"
        return one if self.items is None else f"{self.items} of {one}"

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The trailing axes of a tensor of this shape: `(items, rows, cols)` as far as they exist."""
        lead = () if self.items is None else (self.items,)
        match self.kind:
            case Kind.SCALAR:
                return lead
            case Kind.COLUMN:
                return (*lead, self.rows)
            case Kind.ROW:
                return (*lead, self.cols)
            case Kind.MATRIX:
                return (*lead, self.rows, self.cols)


SCALAR = Shape(Kind.SCALAR)


@dataclass(frozen=True, slots=True)
class Interval:
    """A range of reals; `None` is unbounded; open ends exclude their value."""

    low: Fraction | None = None
    high: Fraction | None = None
    low_open: bool = False
    high_open: bool = False


# -- expressions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric literal or header constant used as a number, exact."""

    value: Fraction
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class SizeNumber:
    """A symbolic size used as a number in an expression."""

    size: Size
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class HeadNumber:
    """`head`, the value head's index from 0, or `heads`, their count."""

    count: bool
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class LoopNumber:
    """The index of an enclosing `repeat`, used as a number."""

    name: str
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class InputRef:
    """An input or param. `index` picks a list's element: an integer, or a repeat's index by name; None is no list.

    `previous` is `x[t-1]`: the previous token's value, zero before the first.
    """

    name: str
    index: int | str | None
    previous: bool
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class StateRef:
    """`S[t-1]` (`previous`), the state before the step, or `S[t]`, its value so far."""

    name: str
    previous: bool
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class LetRef:
    """A named value."""

    name: str
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class Negate:
    """`-x`."""

    argument: Expr
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class Transpose:
    """`x.T`; of a scalar, the scalar."""

    argument: Expr
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class Binary:
    """`left op right` with op one of `+ - * / @ ** < <= > >=`; all but `@` elementwise, a scalar broadcasting."""

    op: str
    left: Expr
    right: Expr
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """A function of `semantics.functions.FUNCTIONS`; `eps` is set for those that have one.

    The identity `I` is `Call("identity", ())` with its size in `shape`; `ones(K)` and `zeros(K)` have no arguments and
    their size in `shape` likewise. A function of one argument is elementwise unless the table says otherwise.
    """

    function: str
    arguments: tuple[Expr, ...]
    eps: Fraction | None
    shape: Shape
    span: Span


Expr = Number | SizeNumber | HeadNumber | LoopNumber | InputRef | StateRef | LetRef | Negate | Transpose | Binary | Call


# -- declarations and statements --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dimension:
    """A symbolic size of the header; `value` where the header fixes it with an integer that is used as a size."""

    name: str
    value: int | None
    span: Span


@dataclass(frozen=True, slots=True)
class Input:
    """An input (`[B, T, H, *shape]`) or a param (`[H, *shape]`), with its declared range if any."""

    name: str
    shape: Shape
    is_param: bool
    range: Interval | None
    span: Span


@dataclass(frozen=True, slots=True)
class State:
    """A state (`[B, H, *shape]`), started at `start` in every entry; float infinities are allowed.

    `range` is that of its values where it is known: of an input that it holds.
    """

    name: str
    shape: Shape
    start: float
    span: Span
    range: Interval | None = None


@dataclass(frozen=True, slots=True)
class Let:
    """`let name = value`."""

    name: str
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Update:
    """`S[t] = value`."""

    state: str
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Output:
    """`o[t] = value`."""

    name: str
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Repeat:
    """`repeat index in count:`, run for index = 0 .. count - 1 in order."""

    index: str
    count: Size
    body: tuple[Statement, ...]
    span: Span


Statement = Let | Update | Output | Repeat


@dataclass(frozen=True, slots=True)
class Model:
    """A checked recurrence. `canonical` is the one spelling of its spec; `source` is the user's own text."""

    name: str
    doc: str
    dimensions: tuple[Dimension, ...]
    inputs: tuple[Input, ...]
    states: tuple[State, ...]
    statements: tuple[Statement, ...]
    source: Source
    canonical: str

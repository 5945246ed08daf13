"""The operations of a chunk program: straight-line tensor code for one chunk of one head.

In: nothing; these are the types that `derive` and `differentiate` build. Out: `Node`, one statement, and `Op`, the
closed union of what it may do. Axes have names; elementwise application broadcasts by name. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

from flowc.algebra.term import Axis
from flowc.chunk.scan_ops import Earlier as Earlier
from flowc.chunk.scan_ops import Final as Final
from flowc.chunk.scan_ops import First as First
from flowc.chunk.scan_ops import Later as Later
from flowc.chunk.scan_ops import Loop as Loop
from flowc.chunk.scan_ops import Scan as Scan
from flowc.chunk.values import Mask, Space, Value, Where
from flowc.semantics.size import Size

# -- operations: sources ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Argument:
    """A tensor from outside: an input or param, a cotangent, or the carried state."""

    name: str
    role: str  # input | param | carry | cotangent | saved


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a list input's leading axis."""

    source: Value
    index: int


@dataclass(frozen=True, slots=True)
class Literal:
    """An exact number."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Extent:
    """A size, as a number."""

    size: Size


@dataclass(frozen=True, slots=True)
class Head:
    """The value head's index, or (`count`) the number of value heads."""

    count: bool


@dataclass(frozen=True, slots=True)
class Index:
    """0, 1, ... along an axis."""

    axis: Axis


@dataclass(frozen=True, slots=True)
class MaskMatrix:
    """1 where the mask holds, else 0."""

    mask: Mask


# -- operations: tensors ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Apply:
    """An elementwise function of `algebra.functions`, broadcasting by axis name."""

    function: str
    arguments: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """The argument repeated along axes it does not have."""

    argument: Value
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Rename:
    """The same numbers with one axis renamed."""

    argument: Value
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Relabel:
    """The same numbers with every axis renamed, stored in the order that the new names have."""

    argument: Value
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum over axes."""

    argument: Value
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class SumTokens:
    """The sum over batch and time: what a param's gradient is."""

    argument: Value


@dataclass(frozen=True, slots=True)
class Largest:
    """The maximum over an axis, taken as a constant by differentiation (see `algebra.term.Peak`)."""

    argument: Value
    axis: Axis


@dataclass(frozen=True, slots=True)
class Contract:
    """sum over `axis` of left * right; no other axis is shared."""

    left: Value
    right: Value
    axis: Axis


@dataclass(frozen=True, slots=True)
class Join:
    """Values one after another along `axis`; `inner[i]` is the axis that part i runs over."""

    parts: tuple[Value, ...]
    inner: tuple[Axis, ...]
    axis: Axis


@dataclass(frozen=True, slots=True)
class Cut:
    """The entries `start ...` of `axis`, as axis `inner`: the adjoint of Join."""

    argument: Value
    axis: Axis
    start: Size
    inner: Axis


@dataclass(frozen=True, slots=True)
class Flatten:
    """Axes `inner` as the one axis `axis`, the second fastest."""

    argument: Value
    inner: tuple[Axis, Axis]
    axis: Axis


@dataclass(frozen=True, slots=True)
class Unflatten:
    """The adjoint of Flatten."""

    argument: Value
    inner: tuple[Axis, Axis]
    axis: Axis


# -- operations: between tokens and chunks -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToRows:
    """Per-token values, one per part of `space` (None: zeros), as rows of chunks; axis `x` becomes `axis` if given."""

    parts: tuple[Value | None, ...]
    space: Space
    axis: Axis | None


@dataclass(frozen=True, slots=True)
class FromRows:
    """The rows of part `part` back as a per-token value: the adjoint of ToRows."""

    argument: Value
    space: Space
    part: int
    axis: Axis | None


# -- operations: gates, the six primitives ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GateSums:
    """One inclusive cumulative sum over the chunk's log gates in program order, a 0 before the first."""

    gates: Value
    space: Space


@dataclass(frozen=True, slots=True)
class GateSumsAdjoint:
    """Log gates' cotangents from those of the sums: a reverse cumulative sum."""

    sums: Value
    space: Space


@dataclass(frozen=True, slots=True)
class At:
    """The gate sum at the point where each row of `space` reads or writes; LAST: at the chunk's end, without rows."""

    sums: Value
    gates: Space
    space: Space | None
    where: Where


@dataclass(frozen=True, slots=True)
class AtAdjoint:
    """The adjoint of At: rows scatter-added into the gate sums' entries."""

    argument: Value
    gates: Space
    space: Space | None
    where: Where


@dataclass(frozen=True, slots=True)
class Decay:
    """exp(upper - lower), elementwise; without `lower`, exp(upper)."""

    upper: Value
    lower: Value | None


@dataclass(frozen=True, slots=True)
class DecayMatrix:
    """exp(rows[m] - columns[m']) where the mask holds, else 0; scalar gates. Masked before exp."""

    rows: Value
    columns: Value
    mask: Mask


@dataclass(frozen=True, slots=True)
class DecayDot:
    """sum_k left[m,k] right[m',k] exp(upper[m,k] - lower[m',k]) where the mask holds; gates over the state's rows."""

    left: Value
    right: Value
    upper: Value
    lower: Value
    mask: Mask


@dataclass(frozen=True, slots=True)
class DecayApply:
    """sum_m' weights[m,m'] vectors[m',k] exp(upper[m,k] - lower[m',k]) where the mask holds.

    `transposed`: sum_m weights[m,m'] vectors[m,k] exp(upper[m,k] - lower[m',k]), a result over m'.
    """

    weights: Value
    vectors: Value
    upper: Value
    lower: Value
    mask: Mask
    transposed: bool


@dataclass(frozen=True, slots=True)
class Solve:
    """(I - matrix)^{-1} right, or with the transposed matrix; `matrix` is strictly lower triangular in its rows.

    In a schedule `matrix` is an Inverse, or one that was kept.
    """

    matrix: Value
    right: Value
    transposed: bool


@dataclass(frozen=True, slots=True)
class Inverse:
    """What an aggregation forms of a matrix before the walk, for every Solve with it; a schedule puts it there.

    `wy` and `tensorinv` form (I - matrix)^{-1}. `signature` forms the inverses of I - matrix's diagonal blocks of 16
    rows, and leaves the rest of matrix beside them.
    """

    matrix: Value


Op = (
    Argument | Element | Literal | Extent | Head | Index | MaskMatrix
    | Apply | Spread | Rename | Relabel | Sum | SumTokens | Largest | Contract | Join | Cut | Flatten | Unflatten
    | ToRows | FromRows
    | GateSums | GateSumsAdjoint | At | AtAdjoint | Decay | DecayMatrix | DecayDot | DecayApply | Solve | Inverse
    | Scan | Loop | Earlier | Final | Later | First
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """One statement: `value = op`."""

    value: Value
    op: Op


def operands(op: Op) -> tuple[Value, ...]:
    """The values an operation reads, in order."""
    match op:
        case Argument() | Literal() | Extent() | Head() | Index() | MaskMatrix():
            return ()
        case Apply(_, arguments):
            return arguments
        case Join(parts=parts):
            return parts
        case ToRows(parts=parts):
            return tuple(p for p in parts if p is not None)
        case Contract(left, right, _):
            return (left, right)
        case Decay(upper, lower):
            return (upper,) if lower is None else (upper, lower)
        case DecayMatrix(rows, columns, _):
            return (rows, columns)
        case DecayDot(left, right, upper, lower, _):
            return (left, right, upper, lower)
        case DecayApply(weights, vectors, upper, lower, _, _):
            return (weights, vectors, upper, lower)
        case Solve(matrix, right, _):
            return (matrix, right)
        case Element(source, _):
            return (source,)
        case GateSums(gates, _):
            return (gates,)
        case GateSumsAdjoint(sums, _) | At(sums, _, _, _):
            return (sums,)
        case Inverse(matrix):
            return (matrix,)
        case Scan(_, gate, value, start):
            return (gate, value, start)
        case Loop(_, given, starts):
            return (*given, *starts)
        case Earlier(argument, other) | Final(argument, other) | Later(argument, other) | First(argument, other):
            return (argument, other)
        case Spread() | Rename() | Relabel() | Sum() | SumTokens() | Largest() | Cut() | Flatten() | Unflatten():
            return (op.argument,)
        case FromRows() | AtAdjoint():
            return (op.argument,)
        case _:
            assert_never(op)

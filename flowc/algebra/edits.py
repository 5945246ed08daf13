"""Edits: a step as a straight-line list of changes of the state, still with SymPy coefficients.

In: what `extract` finds. Out: `Step`, which `merge` rewrites and `normalize` freezes. Axes are named `i` (the state's
rows), `j` (its columns) and `rank` (a list or the second axis of a matrix factor).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy as sp

from flowc.algebra.forms import Point, StateRead
from flowc.algebra.side import Side
from flowc.algebra.term import Axis
from flowc.semantics.model import Shape, State
from flowc.semantics.size import Size
from flowc.source import Span


@dataclass(frozen=True, slots=True)
class GateEdit:
    """S <- (left right^T) . S; `left` over `i` or a scalar, `right` over `j` or 1."""

    left: sp.Expr
    right: sp.Expr
    span: Span


@dataclass(frozen=True, slots=True)
class RowEdit:
    """S <- S + l (v + S^T y)^T with S read at `point` (None where y is 0); summed over `rank` where there is one.

    Of a step on the value side S is the transposed state: l and y run over `j`, v over `i`.
    """

    left: sp.Expr
    free: sp.Expr
    read: sp.Expr
    point: Point | None
    rank: Axis | None
    span: Span


@dataclass(frozen=True, slots=True)
class WriteEdit:
    """Rows written together: none of them sees another."""

    rows: tuple[RowEdit, ...]


Edit = GateEdit | WriteEdit


@dataclass(slots=True)
class Segment:
    """Edits run once (`count` None) or `count` times in order."""

    count: Size | None
    edits: list[Edit] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OutputEdit:
    """An output, its reads of the state being leaves of `value`."""

    name: str
    value: sp.Expr
    shape: Shape
    span: Span


@dataclass(slots=True)
class Step:
    """The edits of a state while they are put into normal form; its rows read it on `side`, others as `reads` say."""

    state: State
    segments: list[Segment]
    reads: list[StateRead]
    side: Side = Side.KEY


@dataclass(frozen=True, slots=True)
class ScanEdit:
    """A state that is scanned entry by entry: `value` of `before`; `after` is what others know it by."""

    state: State
    before: sp.Symbol
    after: sp.Symbol
    value: sp.Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Extracted:
    """A whole step: the states that have edits, those that are scanned, what is read of the first, and outputs."""

    steps: tuple[Step, ...]
    scans: tuple[ScanEdit, ...]
    reads: tuple[StateRead, ...]
    outputs: tuple[OutputEdit, ...]

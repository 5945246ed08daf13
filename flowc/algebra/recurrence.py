"""The Recurrence: one step in normal form.

In: what `normalize` freezes. Out: frozen trees without SymPy. Axes are named `x` (of a vector: the state's rows in
`left`, `read` and queries, its columns in `free`; on the value side the other way round) and `rank`; log gates over
the state's rows or columns run over `x` as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from flowc.algebra.forms import Point
from flowc.algebra.side import Side
from flowc.algebra.term import Axis, Term, text
from flowc.semantics.model import Model, Shape
from flowc.semantics.size import Size
from flowc.source import Span


@dataclass(frozen=True, slots=True)
class Gate:
    """S <- (exp(log_row) exp(log_column)^T) . S; None: no gate there. A scalar gate is a `log_row` without `x`."""

    log_row: Term | None
    log_column: Term | None
    span: Span


@dataclass(frozen=True, slots=True)
class Row:
    """S <- S + left (free + S^T read)^T, S at `point`; summed over `rank` where there is one.

    On the value side of a recurrence: S <- S + (free + S read) left^T.
    """

    left: Term
    free: Term | None
    read: Term | None
    point: Point | None
    rank: Axis | None
    span: Span


@dataclass(frozen=True, slots=True)
class Write:
    """Rows written together: none sees another."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Edits run once (`count` None) or `count` times in order, every term then running over `rank` as well."""

    count: Size | None
    edits: tuple[Gate | Write, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """S^T query at `point`, or on the value side S query, as outputs use it."""

    query: Term
    point: Point
    rank: Axis | None
    side: Side


@dataclass(frozen=True, slots=True)
class Result:
    """An output: an elementwise expression of the reads and the inputs."""

    name: str
    value: Term
    shape: Shape
    span: Span


@dataclass(frozen=True, slots=True)
class Classification:
    """The class of design section 2, the span that decides it, the reason in words, and what to write instead."""

    name: str
    reason: str
    span: Span
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A step in normal form, its rows on `side`. `value_input` names the input whose dtype the outputs have."""

    model: Model
    row: Axis
    column: Axis
    segments: tuple[Segment, ...]
    reads: tuple[Read, ...]
    results: tuple[Result, ...]
    classification: Classification
    value_input: str
    side: Side = Side.KEY

    @property
    def normal_form(self) -> tuple[object, ...]:
        """What two spellings of one recurrence share: everything but names of outputs, spans and text."""
        return (
            self.side,
            tuple((s.count, tuple(_bare(e) for e in s.edits)) for s in self.segments),
            tuple((text(r.query), r.point, r.rank, r.side) for r in self.reads),
            tuple(text(r.value) for r in self.results),
        )

    def __str__(self) -> str:
        """The edits in order, then the outputs."""
        lines = [f"recurrence {self.model.name}: class {self.classification.name}, {self.classification.reason}"]
        for segment in self.segments:
            indent = "  "
            if segment.count is not None:
                lines.append(f"  repeat rank in {segment.count}:")
                indent = "    "
            lines += [indent + line for edit in segment.edits for line in _lines(edit, self.side)]
        for at, read in enumerate(self.reads):
            over = "" if read.rank is None else f" for rank in {read.rank.size}"
            lines.append(f"  read{at} = {read.side.read} ({text(read.query)}) at {_point(read.point)}{over}")
        lines += [f"  {r.name} = {text(r.value)}" for r in self.results]
        return "\n".join(lines)


def _bare(edit: Gate | Write) -> tuple[object, ...]:
    match edit:
        case Gate(log_row, log_column, _):
            return ("gate", log_row and text(log_row), log_column and text(log_column))
        case Write(rows):
            return tuple(
                (text(r.left), r.free and text(r.free), r.read and text(r.read), r.point, r.rank) for r in rows
            )
        case _:
            assert_never(edit)


def _point(point: Point) -> str:
    return f"point {point.segment}.{point.offset}"


def _lines(edit: Gate | Write, side: Side) -> list[str]:
    match edit:
        case Gate(log_row, log_column, _):
            sides = [f"exp({text(log_row)}) on rows"] if log_row else []
            sides += [f"exp({text(log_column)}) on columns"] if log_column else []
            return ["gate  " + ", ".join(sides)]
        case Write(rows):
            return [_row(r, side) for r in rows]
        case _:
            assert_never(edit)


def _row(r: Row, side: Side) -> str:
    parts = [text(r.free)] if r.free is not None else []
    parts += (
        [f"{side.read} ({text(r.read)}) at {_point(r.point)}"] if r.read is not None and r.point is not None else []
    )
    over = "" if r.rank is None else f" summed over rank in {r.rank.size}"
    left, right = f"({text(r.left)})", f"({' + '.join(parts)})"
    return f"write {left} {right}^T{over}" if side is Side.KEY else f"write {right} {left}^T{over}"

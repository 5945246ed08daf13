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
from flowc.semantics.model import Model, Shape, State
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
class Memory:
    """A state that is a matrix, or a vector that others contract, then of one column; the edits of a step.

    Its rows' left factors are on `side`.
    """

    state: State
    row: Axis
    column: Axis
    segments: tuple[Segment, ...]
    side: Side = Side.KEY


@dataclass(frozen=True, slots=True)
class Scan:
    """A state that is scanned entry by entry: z <- gate z + value, max(gate + z, value) or log(e^(gate + z) + e^value).

    `kind` is linear, max or logsumexp. A vector runs over `x`.
    """

    state: State
    kind: str
    gate: Term
    value: Term
    span: Span


@dataclass(frozen=True, slots=True)
class Stepped:
    """States that are taken from token to token together: `assigned` has what each becomes, in the step's order.

    Matrices run over `x` and `x2`. What one becomes is made of `ScanValue`s before the token, and of what was assigned
    before it. A state that is updated several times has names of its own for what it is in between.
    """

    states: tuple[State, ...]
    assigned: tuple[tuple[State, Term], ...]


@dataclass(frozen=True, slots=True)
class Read:
    """S^T query at `point` of memory `memory`, or on the value side S query, as others than its updates use it."""

    memory: int
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
    """A step in normal form, or `stepped`. `value_input` names the input whose dtype the outputs have."""

    model: Model
    memories: tuple[Memory, ...]
    scans: tuple[Scan, ...]
    reads: tuple[Read, ...]
    results: tuple[Result, ...]
    classification: Classification
    value_input: str
    stepped: Stepped | None = None

    @property
    def normal_form(self) -> tuple[object, ...]:
        """What two spellings of one recurrence share: everything but names of outputs, spans and text."""
        return (
            tuple((m.side, *((s.count, tuple(_bare(e) for e in s.edits)) for s in m.segments)) for m in self.memories),
            tuple((s.kind, text(s.gate), text(s.value)) for s in self.scans),
            tuple((r.memory, text(r.query), r.point, r.rank, r.side) for r in self.reads),
            tuple(text(r.value) for r in self.results),
            None if self.stepped is None else tuple(text(t) for _, t in self.stepped.assigned),
        )

    @property
    def sides(self) -> frozenset[str]:
        """The dimensions that are sides of a state."""
        return frozenset(n for s in self.model.states for size in s.shape.sizes for n in size.names)

    @property
    def edits(self) -> tuple[Gate | Write, ...]:
        """Those of all memories."""
        return tuple(e for m in self.memories for s in m.segments for e in s.edits)

    def __str__(self) -> str:
        """The edits in order, then the outputs."""
        lines = [f"recurrence {self.model.name}: class {self.classification.name}, {self.classification.reason}"]
        lines += [f"  {s.state.name} = {_scan(s)}" for s in self.scans]
        if self.stepped is not None:
            lines += [f"  {s.name} = {text(after)}   token by token" for s, after in self.stepped.assigned]
        for memory in self.memories:
            name = memory.state.name
            lines += [f"  {name}:"] if len(self.memories) > 1 else []
            for segment in memory.segments:
                indent = "  "
                if segment.count is not None:
                    lines.append(f"  repeat rank in {segment.count}:")
                    indent = "    "
                lines += [indent + line for edit in segment.edits for line in _lines(edit, memory)]
        for at, read in enumerate(self.reads):
            over = "" if read.rank is None else f" for rank in {read.rank.size}"
            state = read.side.read.replace("S", self.memories[read.memory].state.name)
            lines.append(f"  read{at} = {state} ({text(read.query)}) at {_point(read.point)}{over}")
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


def _scan(scan: Scan) -> str:
    z, gate, value = f"{scan.state.name}[t-1]", text(scan.gate, 2), text(scan.value)
    match scan.kind:
        case "linear":
            return f"{gate} * {z} + {value}"
        case "max":
            return f"max({gate} + {z}, {value})"
        case _:
            return f"log(exp({gate} + {z}) + exp({value}))"


def _lines(edit: Gate | Write, memory: Memory) -> list[str]:
    match edit:
        case Gate(log_row, log_column, _):
            sides = [f"exp({text(log_row)}) on rows"] if log_row else []
            sides += [f"exp({text(log_column)}) on columns"] if log_column else []
            return ["gate  " + ", ".join(sides)]
        case Write(rows):
            return [_row(r, memory) for r in rows]
        case _:
            assert_never(edit)


def _row(r: Row, memory: Memory) -> str:
    state, parts = memory.side.read.replace("S", memory.state.name), [text(r.free)] if r.free is not None else []
    if r.read is not None and r.point is not None:
        parts.append(f"{state} ({text(r.read)}) at {_point(r.point)}")
    over = "" if r.rank is None else f" summed over rank in {r.rank.size}"
    left, right = f"({text(r.left)})", f"({' + '.join(parts)})"
    return f"write {left} {right}^T{over}" if memory.side is Side.KEY else f"write {right} {left}^T{over}"

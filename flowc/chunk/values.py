"""Values of a chunk program, and where the rows that they run over stand in a step.

In: nothing; these are types. Out: `Value`, the result of a node, at one level: per head (params), per token (inputs,
outputs), or per chunk (rows, gate sums, states). A row is (t, j): the j-th row of token t. `Space` says what rows a
step has and where in the step each reads and writes, `Mask` which row sees which. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from flowc.algebra.term import Axis
from flowc.semantics.size import ONE, Size

GATES = ("gate", "outer_gate")  # the spaces of gates: of what rows are contracted over, and of the other side
CHUNK_LENGTH = Size.of("#C")  # tokens in a chunk; no identifier of a spec holds a '#'


def per_token(rows: Size) -> Size:
    """Rows per token, J, of a row axis of C J rows."""
    chunk = CHUNK_LENGTH.symbol
    return Size(tuple((tuple(n for n in monomial if n != chunk), c) for monomial, c in rows.terms))


class Level(IntEnum):
    """What a value is given per, beside its axes."""

    HEAD = 0
    TOKEN = 1
    CHUNK = 2


class Where(IntEnum):
    """Where a row stands among the gate sums of its chunk: where it reads, where it writes, or at the end."""

    READ = 0
    WRITE = 1
    LAST = 2


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a step something stands, counted in edits: `start + round * stride + offset`."""

    start: Size
    stride: int
    offset: int


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one origin: `count` rounds of a repeat (None outside one), each with `rank` rows at once (None: one).

    Parts of one repeat (same `segment`) interleave round by round.
    """

    segment: int
    count: Size | None
    rank: Size | None
    write: Position | None
    read: Position | None

    @property
    def several(self) -> bool:
        """Whether a token may have several rows, so that values given per row have an axis for them."""
        return self.count is not None or self.rank is not None

    @property
    def size(self) -> Size:
        """Rows per token."""
        return (self.count or ONE) * (self.rank or ONE)


@dataclass(frozen=True, slots=True)
class Space:
    """The rows that a step contributes to one row axis, and that axis."""

    name: str
    parts: tuple[Part, ...]

    @property
    def per_token(self) -> Size:
        """Rows per token, J."""
        total = Size.of(0)
        for part in self.parts:
            total = total + part.size
        return total

    @property
    def axis(self) -> Axis:
        """The row axis, C J long."""
        return Axis(self.name, CHUNK_LENGTH * self.per_token)


@dataclass(frozen=True, slots=True)
class Mask:
    """Row by row: whether a row of `columns` is written before the point where a row of `rows` reads."""

    rows: Space
    columns: Space


@dataclass(frozen=True, slots=True)
class Value:
    """The result of a node."""

    index: int
    name: str = field(compare=False)  # for readers; a node's own value has the latest
    axes: tuple[Axis, ...]
    level: Level
    sums: bool = False  # a sum of log gates: kept in a wider type until it is exponentiated

    def __hash__(self) -> int:
        """Its number: axes take longer to hash than all else that is done with a value."""
        return self.index

"""What an axis of a tile runs over, and what runs over an axis of an argument.

In: nothing; these are types. Out: `Lane`, and `View`, a lane with a changed index. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from flowc.semantics.size import ONE, Size


class Kind(IntEnum):
    """What a lane runs over, in the order in which a tile stores its lanes."""

    ROW = 0
    COLUMN = 1  # rows, as the second axis of a matrix
    KEY = 2  # the state's rows, whole
    VALUE = 3  # a block of the state's columns
    OTHER = 4  # a vector that is neither, whole


@dataclass(frozen=True, slots=True)
class Lane:
    """An axis of a tile.

    Lanes over rows are of a frame, that many rows for every token of the chunk; of another vector `frame` is the size.
    """

    kind: Kind
    frame: Size = ONE

    def __lt__(self, other: Lane) -> bool:
        """In the order in which a tile stores them."""
        return self.kind < other.kind

    @property
    def lane(self) -> Lane:
        """Itself: what a `View` of it runs over."""
        return self

    @property
    def over_rows(self) -> bool:
        """Whether it runs over the chunk's rows."""
        return self.kind in (Kind.ROW, Kind.COLUMN)


class Change(Enum):
    """What a view makes of an index i, with a size n."""

    ADD = "i + n"
    LESS = "i - n"
    OVER = "i // n"
    WITHIN = "i % n"


@dataclass(frozen=True, slots=True)
class View:
    """An axis that a lane runs over with a changed index: a part of what is joined, a factor of a Kronecker product."""

    base: Lane | View
    change: Change
    size: Size

    @property
    def lane(self) -> Lane:
        """The lane."""
        return self.base.lane


KEY, VALUE = Lane(Kind.KEY), Lane(Kind.VALUE)
SUB = None  # in a Load: the row's number within its token, no lane
Place = Lane | View | int | None
"""What runs over an axis of an argument; SUB, or that one element."""

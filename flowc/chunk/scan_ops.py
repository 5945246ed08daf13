"""Operations that scan a state entry by entry, over all tokens of a segment.

In: nothing; these are types, a part of `ir.Op`. Values are per token; what a segment begins or ends with is [H, *].
Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowc.chunk.values import Value

if TYPE_CHECKING:
    from flowc.chunk.program import Program


@dataclass(frozen=True, slots=True)
class Scan:
    """z_t = gate_t z_{t-1} + value_t (linear), max(gate_t + z_{t-1}, value_t), or logsumexp of both; z_0 = start.

    `reverse`: from the last token to the first, z_{t+1} in the place of z_{t-1}, `start` after the last.
    """

    kind: str
    gate: Value
    value: Value
    start: Value
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Loop:
    """A state after every token, number `number` of those that `body` takes from token to token together.

    The body's arguments input and param are `given`, in its own order of names given0, given1, ...; its carries are the
    states in order, `starts` before the first token, or with `reverse` after the last.
    """

    body: Program
    given: tuple[Value, ...]
    starts: tuple[Value, ...]
    number: int
    reverse: bool = False

    @property
    def together(self) -> tuple[object, ...]:
        """What the states of one loop share."""
        return self.body, self.given, self.starts, self.reverse


@dataclass(frozen=True, slots=True)
class Earlier:
    """Each token's predecessor's value; `start` before the first."""

    argument: Value
    start: Value


@dataclass(frozen=True, slots=True)
class Final:
    """The last token's value: what a scan carries on. `start` where there is no token."""

    argument: Value
    start: Value


@dataclass(frozen=True, slots=True)
class Later:
    """Each token's successor's value; `end` after the last."""

    argument: Value
    end: Value


@dataclass(frozen=True, slots=True)
class First:
    """The first token's value: what a reverse scan carries on. `end` where there is no token."""

    argument: Value
    end: Value

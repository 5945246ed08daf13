"""The two sides of a matrix state S: its rows, where keys are, and its columns, where values are.

In: nothing; this is a type. Out: `Side`. Refuses nothing. What reads the state on its value side, `S z`, is the problem
of `S^T y` for the transposed state: one derivation serves both, told which side it contracts.
"""

from __future__ import annotations

from enum import Enum


class Side(Enum):
    """A side of the state, by the name that users read."""

    KEY = "key"
    VALUE = "value"

    @property
    def other(self) -> Side:
        """The side across."""
        return Side.VALUE if self is Side.KEY else Side.KEY

    @property
    def axis(self) -> str:
        """The axis of an expression of the state that runs along this side."""
        return "i" if self is Side.KEY else "j"

    @property
    def read(self) -> str:
        """The state as a read of this side multiplies it."""
        return "S^T" if self is Side.KEY else "S"

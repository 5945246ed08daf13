"""The kernels of a recurrence without products over a chunk: one program of a token, or of several, for each pass.

In: a `Recurrence` that is `stepped`, or has scans alone. Out: `TokenPlan`; of any recurrence `StepPlan`, for one token
at a time, or None where its rounds are many, or known at the call alone. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from flowc.algebra.normalize import stepped
from flowc.algebra.recurrence import Classification, Recurrence
from flowc.chunk.derive import derive
from flowc.chunk.differentiate import cotangent, differentiate
from flowc.chunk.program import Program
from flowc.chunk.stepped import token_program
from flowc.schedule.shares import Shares, divided, undivided
from flowc.schedule.tile_cost import LEAST_TILE

SCANNED_TOKENS = 32  # of a tile
COLUMNS, SCANNED_COLUMNS = 16, 32  # of the states in a program: with more, states and cotangents leave the registers
MOST_ROUNDS = 8  # of a repeat: a step's program has each of them


@dataclass(frozen=True, slots=True)
class TokenPlan:
    """What happens at a token, and its adjoint; what a program holds of it.

    `blocks`: states are divided. `rows`: states are scanned over the tokens of a tile, else taken from one to the next.
    """

    forward: Program
    backward: Program
    forward_shares: Shares
    backward_shares: Shares
    blocks: bool
    rows: bool

    @property
    def programs(self) -> tuple[Program, ...]:
        """All of them."""
        return self.forward, self.backward

    @property
    def columns(self) -> int:
        """Of the states, in a program, at most."""
        return SCANNED_COLUMNS if self.rows else COLUMNS

    @property
    def share(self) -> int:
        """How many entries of the largest tile a warp has."""
        return 256 if self.rows else 512

    @property
    def backward_share(self) -> int:
        """The same of the backward kernel, which scans twice as many values."""
        return self.share // 2 if self.rows else self.share

    @property
    def least(self) -> int:
        """How many entries a tile has along an axis, at least; products of shorter ones would be sums in registers."""
        return LEAST_TILE

    @property
    def warps(self) -> int:
        """Of a program, at most."""
        return 8


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What happens at one token, for generation, and what a program holds of it; `blocks`: states are divided."""

    forward: Program
    forward_shares: Shares
    blocks: bool
    rows: bool = False

    @property
    def programs(self) -> tuple[Program, ...]:
        """The only one."""
        return (self.forward,)

    @property
    def columns(self) -> int:
        """Of the states, in a program, at most."""
        return COLUMNS

    @property
    def share(self) -> int:
        """How many entries of the largest tile a warp has."""
        return 256

    @property
    def least(self) -> int:
        """How many entries a tile has along an axis, at least: blocks of states are narrow, sums have room."""
        return 1

    @property
    def warps(self) -> int:
        """Of a program, at most: nothing goes from one token to the next, so that more of them cost no time."""
        return 16


@lru_cache(maxsize=16)
def step_plan(recurrence: Recurrence) -> StepPlan | None:
    """The program of one token, in blocks of the states' columns where those are independent, or else of their rows."""
    counts = [s.count.constant for m in recurrence.memories for s in m.segments if s.count is not None]
    if any(n is None or n > MOST_ROUNDS for n in counts):
        return None
    taken = stepped(recurrence.model, recurrence.classification)
    if isinstance(taken, Classification):
        return None
    forward = token_program(taken)
    for place in (1, 0):
        shares = divided(forward, cotangent, place)
        if shares is not None:
            return StepPlan(forward, shares, True)
    return StepPlan(forward, undivided(forward), False)


@lru_cache(maxsize=16)
def token_plan(recurrence: Recurrence) -> TokenPlan:
    """The kernels' programs, in blocks of the states' columns where those are independent, or else of their rows."""
    rows = recurrence.stepped is None
    forward = derive(recurrence) if rows else token_program(recurrence)
    backward = differentiate(forward)
    for place in (1, 0):
        first, second = (divided(p, cotangent, place) for p in (forward, backward))
        if first is not None and second is not None:
            return TokenPlan(forward, backward, first, second, True, rows)
    return TokenPlan(forward, backward, undivided(forward), undivided(backward), False, rows)

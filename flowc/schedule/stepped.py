"""The kernels of a recurrence without products over a chunk: one program of a token, or of several, for each pass.

In: a `Recurrence` that is `stepped`, or has scans alone. Out: `TokenPlan`. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from flowc.algebra.recurrence import Recurrence
from flowc.chunk.derive import derive
from flowc.chunk.differentiate import cotangent, differentiate
from flowc.chunk.program import Program
from flowc.chunk.stepped import token_program
from flowc.schedule.shares import Shares, divided, undivided

SCANNED_TOKENS = 32  # of a tile


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

"""The kernels of a recurrence that is taken token by token: one program of a token for each pass.

In: a `Recurrence` that is `stepped`. Out: `TokenPlan`. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from flowc.algebra.recurrence import Recurrence
from flowc.chunk.differentiate import cotangent, differentiate
from flowc.chunk.program import Program
from flowc.chunk.stepped import token_program
from flowc.schedule.shares import Shares, divided, undivided


@dataclass(frozen=True, slots=True)
class TokenPlan:
    """What happens at a token, and its adjoint; what a program holds of it. `blocks`: states are divided."""

    forward: Program
    backward: Program
    forward_shares: Shares
    backward_shares: Shares
    blocks: bool


@lru_cache(maxsize=16)
def token_plan(recurrence: Recurrence) -> TokenPlan:
    """The kernels' programs, in blocks of the states' columns where those are independent, or else of their rows."""
    forward = token_program(recurrence)
    backward = differentiate(forward)
    for place in (1, 0):
        first, second = (divided(p, cotangent, place) for p in (forward, backward))
        if first is not None and second is not None:
            return TokenPlan(forward, backward, first, second, True)
    return TokenPlan(forward, backward, undivided(forward), undivided(backward), False)

"""The ptxas that a device needs: a newer one than Triton's where that is known to go wrong and the newer is installed.

In: `Facts` of flowc.doctor. Out: a `Tool` for TRITON_PTXAS_PATH, or none. Refuses nothing; a path that the user has
chosen stays.
"""

from __future__ import annotations

from flowc.doctor import Facts, checkup
from flowc.doctor.conditions import SAFE_PTXAS
from flowc.doctor.facts import Tool, numbers, packaged_ptxas

CONDITION = "ptxas-hopper"


def better(facts: Facts) -> Tool | None:
    """What to take instead; None where nothing is wrong, or nothing better is there."""
    if facts.chosen_ptxas is not None or all(c.name != CONDITION for c in checkup(facts).found):
        return None
    return next((t for t in packaged_ptxas() if numbers(t.version or "") >= SAFE_PTXAS), None)

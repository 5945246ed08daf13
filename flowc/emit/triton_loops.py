"""The Triton section of a module whose states are taken token by token.

In: a `Plan`, the printed interface. Out: `Kernels`. Refuses nothing; what has no kernels says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jinja2 import Environment

from flowc.emit.triton_loop import LoopKernel
from flowc.schedule.plan import Plan
from flowc.schedule.stepped import loops
from flowc.schedule.tilings import MOST_KEYS


@dataclass(frozen=True, slots=True)
class LoopsView:
    """What the launcher's template gets: `kernels` are the rows of its table."""

    value: str
    most_keys: int
    held: str
    holds: str
    kernels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoopsText:
    """The kernels, their launcher, and the device functions that they call."""

    kernels: tuple[str, ...]
    launch: str
    helpers: tuple[str, ...]


def loops_text(plan: Plan, inputs: Iterable[str], environment: Environment) -> LoopsText:
    """Print the kernels of a plan's loops and what launches them."""
    made = [LoopKernel(loop, f"_tokens_{'backward' if loop.reverse else 'forward'}") for loop in loops(plan)]
    template = environment.get_template("loop_kernel.py.j2")
    kernels = tuple(template.render(kernel=m.view()) for m in made)
    value = str(list(inputs).index(plan.recurrence.value_input))
    launcher = LoopsView(value, MOST_KEYS, "a state", "rows", tuple(m.row() for m in made))
    launch = environment.get_template("loops.py.j2").render(launch=launcher)
    return LoopsText(kernels, launch, tuple(name for m in made for name in m.used))

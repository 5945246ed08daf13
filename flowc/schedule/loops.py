"""How a program that goes through all of the state's columns does so: loops over blocks of them.

In: a `TileKernel` that is not blocked. Out: its `Loop`s in order. What is summed over the columns is accumulated in a
loop; what needs such a sum before it goes through the columns again comes in a further loop, which makes again what it
needs of each block. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flowc.schedule.tile_plan import Step, Store, TileKernel
from flowc.schedule.tiles import VALUE, Product, Tile, TileOp, Total, tile_operands


@dataclass(frozen=True, slots=True)
class Loop:
    """Steps before a loop, what it sums, its body's steps and stores for every block, and the stores after it.

    Without sums and stores for a block there is no loop, but steps and the stores after them.
    """

    before: tuple[Step, ...]
    sums: tuple[Step, ...]
    body: tuple[Step, ...]
    stores: tuple[Store, ...]
    after: tuple[Store, ...]


def loops(kernel: TileKernel) -> Iterator[Loop]:
    """The loops of a kernel, in order."""
    phases = _phases(kernel.steps)
    for phase in range(max(phases.values(), default=0) + 1):
        before = [s for s in kernel.steps if phases[s.tile] == phase and not (VALUE in s.tile.lanes or _sums(s))]
        sums = [s for s in kernel.steps if _sums(s) and phases[s.tile] == phase + 1]
        ready = [s for s in kernel.stores if phases[s.tile] == phase]
        inside = [s for s in ready if VALUE in s.tile.lanes]
        wanted = {t for s in sums for t in tile_operands(s.op)} | {s.tile for s in inside}
        for step in reversed(kernel.steps):
            if step.tile in wanted and VALUE in step.tile.lanes:
                wanted.update(tile_operands(step.op))
        body = [s for s in kernel.steps if s.tile in wanted and VALUE in s.tile.lanes]
        yield Loop(tuple(before), tuple(sums), tuple(body), tuple(inside), tuple(s for s in ready if s not in inside))


def sums_columns(op: TileOp) -> bool:
    """Whether an operation sums over the state's columns."""
    return isinstance(op, Product | Total) and op.lane == VALUE


def _sums(step: Step) -> bool:
    return sums_columns(step.op)


def _phases(steps: Iterable[Step]) -> dict[Tile, int]:
    """How many loops over the state's columns a tile comes after."""
    found: dict[Tile, int] = {}
    for step in steps:
        before = max((found[t] for t in tile_operands(step.op)), default=0)
        found[step.tile] = before + _sums(step)
    return found

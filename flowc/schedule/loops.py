"""How a program goes through the state's rows and columns that it does not hold whole: loops over blocks of them.

In: a `TileKernel`. Out: its `Part`s in order. What is summed over rows or columns is accumulated in a loop; what needs
such a sum before it goes through them again comes in a further loop, which makes again what it needs of each block.
A loop over columns stands inside one over rows where its sums are per row. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from flowc.schedule.plan import Role
from flowc.schedule.tile_plan import Step, Store, TileKernel
from flowc.schedule.tiles import (
    KEY,
    VALUE,
    DecayApply,
    DecayDot,
    Exponents,
    Lane,
    Product,
    Tile,
    TileOp,
    Total,
    Within,
    tile_operands,
)


@dataclass(frozen=True, slots=True)
class Levels:
    """Gated primitives with the same gates between rows, made together level by level; see `templates/triton/support`.

    `exponents` are without what rows see of their own token, which may differ.
    """

    exponents: Exponents
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """What is done for every block along a lane; `sums` are accumulated after it."""

    lane: Lane
    sums: tuple[Step | Levels, ...]
    body: tuple[Part, ...]


Part = Step | Store | Levels | Loop


def nested(kernel: TileKernel) -> tuple[Part, ...]:
    """The parts of a kernel, in order."""
    return tuple(_parts(kernel.steps, kernel.stores, looped(kernel), frozenset()))


def looped(kernel: TileKernel) -> frozenset[Lane]:
    """The lanes along which a program of the kernel goes in blocks, one after another.

    The state's rows are held whole in a walk, and where sums over them are per column, which would go through all rows
    for every block of columns.
    """
    lanes = frozenset() if kernel.blocked or kernel.role is Role.WALK else frozenset({VALUE})
    whole = any(summed(s.op) == KEY and VALUE in s.tile.lanes for s in kernel.steps)
    return lanes if kernel.role is Role.WALK or (whole and lanes) else lanes | {KEY}


def summed(op: TileOp) -> Lane | None:
    """The lane that an operation sums over."""
    match op:
        case Product() | Total():
            return op.lane
        case DecayDot():
            return KEY
        case _:
            return None


def sums_columns(op: TileOp) -> bool:
    """Whether an operation sums over the state's columns."""
    return summed(op) == VALUE


def _parts(
    steps: tuple[Step, ...], stores: tuple[Store, ...], lanes: frozenset[Lane], within: frozenset[Lane]
) -> Iterator[Part]:
    """Steps and stores inside loops along `within`, in phases: what a loop or levels make ends one."""

    def outer(tile: Tile) -> frozenset[Lane]:
        """The lanes of loops that a tile has yet to be in."""
        return frozenset(tile.lanes) & lanes - within

    def over(step: Step) -> Lane | None:
        """The lane of the loop here that makes a step."""
        lane = summed(step.op)
        return lane if lane in lanes - within and not outer(step.tile) else None

    def leveled(step: Step) -> bool:
        return isinstance(step.op, DecayDot | DecayApply) and not over(step) and not outer(step.tile)

    phases: dict[Tile, int] = {}
    for step in steps:
        before = max((phases.get(t, 0) for t in tile_operands(step.op)), default=0)
        phases[step.tile] = before + (over(step) is not None or leveled(step))
    for phase in range(max(phases.values(), default=0) + 1):
        made = [s for s in steps if phases[s.tile] == phase + 1]
        yield from (
            s for s in steps if phases[s.tile] == phase and not (outer(s.tile) or over(s) is not None or leveled(s))
        )
        ready = [s for s in stores if phases[s.tile] == phase]
        yield from (s for s in ready if not outer(s.tile))
        yield from _levels(s for s in made if leveled(s))
        for lane in (VALUE, KEY):
            sums = [s for s in made if over(s) == lane]
            own = [s for s in ready if outer(s.tile) and lane == (KEY if KEY in outer(s.tile) else VALUE)]
            if sums or own:
                wanted = {t for s in sums for t in tile_operands(s.op)} | {s.tile for s in own}
                body = tuple(_needed((s for s in steps if outer(s.tile)), wanted))
                inner = tuple(_parts(body, tuple(own), lanes, within | {lane}))
                plain = [s for s in sums if not isinstance(s.op, DecayDot)]
                gated = [s for s in sums if isinstance(s.op, DecayDot)]
                yield Loop(lane, (*plain, *_levels(gated)), inner)


def _levels(steps: Iterable[Step]) -> Iterator[Levels]:
    """Gated primitives by their gates."""
    found: dict[Exponents, list[Step]] = {}
    for step in steps:
        assert isinstance(step.op, DecayDot | DecayApply)
        found.setdefault(replace(step.op.exponents, within=Within.NONE, same=None), []).append(step)
    yield from (Levels(exponents, tuple(made)) for exponents, made in found.items())


def _needed(steps: Iterable[Step], wanted: set[Tile]) -> list[Step]:
    """The steps that some tiles take, in order."""
    found = []
    for step in reversed(tuple(steps)):
        if step.tile in wanted:
            found.append(step)
            wanted.update(tile_operands(step.op))
    return found[::-1]

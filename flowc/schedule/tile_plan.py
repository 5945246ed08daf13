"""Kernels of tiles: what one program does for one chunk, and what goes through memory between kernels.

In: nothing; these are the types that `schedule.triton` makes of a plan. Out: `TilePlan`, or `Missing`, the reasons why
there is none. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowc.chunk.ir import Argument, Node, operands
from flowc.chunk.program import Program
from flowc.chunk.values import Value
from flowc.schedule.plan import Role
from flowc.schedule.tiles import Inverse, Lane, Place, Tile, TileOp
from flowc.semantics.size import Size


@dataclass(frozen=True, slots=True)
class Step:
    """One statement: `tile = op`."""

    tile: Tile
    op: TileOp


@dataclass(frozen=True, slots=True)
class Store:
    """What a kernel leaves: a result of the pass per token, by name, or a chunk's value for others to fetch.

    `kept`: nothing but a backward pass fetches it, so that it is stored where one follows. `lower`: as in Fetch.
    """

    name: str
    tile: Tile
    fetched: bool
    stored: tuple[tuple[Size, Place], ...] = ()  # of a result: its axes as stored, as in Load
    kept: bool = False
    lower: bool = False


@dataclass(frozen=True, slots=True)
class Scratch:
    """Memory for what a kernel stores of every chunk: its name, its lanes, and the value of the pass that it is."""

    name: str
    lanes: tuple[Lane, ...]
    value: Value


@dataclass(frozen=True, slots=True)
class TileKernel:
    """What one program does for one chunk.

    `blocked`: a program holds one block of the state's columns; otherwise it goes through all of them, one loop for
    every time that something is summed over them. A walk's first store is the next state.
    """

    name: str
    role: Role
    steps: tuple[Step, ...]
    stores: tuple[Store, ...]
    blocked: bool


@dataclass(frozen=True, slots=True)
class TorchPart:
    """Part of a pass as torch operators: a program whose arguments of the role `kernel` are in memory.

    `made` are its values by name; `fetched` the names in memory of what it reads. An `adjoint` part reads cotangents.
    """

    program: Program
    adjoint: bool
    made: tuple[tuple[str, Value], ...]
    fetched: tuple[str, ...]

    @staticmethod
    def of(program: Program, made: Mapping[str, Value], known: Mapping[Value, str]) -> TorchPart | None:
        """The part of a program that makes some values from others that are `known`; None where there are none."""
        if not made:
            return None
        wanted = set(made.values())
        nodes = []
        fetched: dict[str, None] = {}
        for node in reversed(program.nodes):
            if node.value not in wanted:
                continue
            if node.value in known and known[node.value] not in made:
                fetched[known[node.value]] = None
                nodes.append(Node(node.value, Argument(known[node.value], "kernel")))
                continue
            nodes.append(node)
            wanted.update(operands(node.op))
        part = Program(tuple(reversed(nodes)), (), program.carries)
        return TorchPart(part, program.adjoint, tuple(made.items()), tuple(fetched))


@dataclass(frozen=True, slots=True)
class TilePass:
    """The kernels of a program in order, what they leave for one another, and what the caller has to do for them.

    `states` is the scratch of the carried state at every chunk. What kernels do not hold, torch operators make:
    `before` them what they fetch, `after` them results.
    """

    program: Program
    kernels: tuple[TileKernel, ...]
    scratch: tuple[Scratch, ...]
    states: str
    before: TorchPart | None
    after: TorchPart | None

    @property
    def names(self) -> frozenset[str]:
        """What is in memory for kernels, by name."""
        given = () if self.before is None else self.before.made
        return frozenset((*(s.name for s in self.scratch), *(name for name, _ in given), self.states))


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Both passes; `saved` are the names of what the forward keeps for the backward.

    `step` makes the outputs and the next state of one token, forward only; `fused` is a walk that makes the outputs as
    well, in the place of the forward pass's kernels from its walk on. None where one kernel cannot.
    """

    forward: TilePass
    backward: TilePass
    saved: tuple[str, ...]
    step: TileKernel | None
    fused: TileKernel | None = None

    @property
    def systems(self) -> frozenset[str]:
        """What an aggregation formed."""
        found = set()
        for kernel in (*self.forward.kernels, *self.backward.kernels):
            formed = {s.tile for s in kernel.steps if isinstance(s.op, Inverse)}
            found |= {s.name for s in kernel.stores if s.tile in formed}
        return frozenset(found)

    @property
    def by_torch(self) -> bool:
        """Whether torch operators make something before kernels or after them."""
        return any(part is not None for p in (self.forward, self.backward) for part in (p.before, p.after))

    @property
    def read_by_torch(self) -> frozenset[str]:
        """What torch operators read: rows past a sequence's end, which kernels do not write, have to be 0 there."""
        parts = (part for p in (self.forward, self.backward) for part in (p.before, p.after))
        return frozenset(name for part in parts if part is not None for name in part.fetched)


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a recurrence has no Triton kernels yet."""

    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """One sentence for a user."""
        return f"backend='triton' has no kernels yet for: {'; '.join(self.reasons)}; use backend='torch'"

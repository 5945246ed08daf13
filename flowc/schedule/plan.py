"""The Plan: what runs in which kernel, what is kept for the backward pass, and what is chosen at a call.

In: what `schedule` makes of a chunk program and Options. Out: frozen records that the emitters print. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flowc.algebra.recurrence import Recurrence
from flowc.chunk.aggregation import AGGREGATIONS, STATEMENTS
from flowc.chunk.ir import Node
from flowc.chunk.program import Program, value_names
from flowc.chunk.values import Value
from flowc.options import Options


class Role(Enum):
    """What a kernel runs over: the chunks of all segments at once; those of one before a walk, in order, after it."""

    ONCE = "once"
    INTRA = "intra"
    WALK = "walk"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Kernel:
    """Nodes of one role; `stores` are the values that later kernels, the backward pass or the caller need."""

    role: Role
    nodes: tuple[Node, ...]
    stores: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Pass:
    """A program cut into its kernels: `once` for a whole sequence, the others segment by segment.

    Those are one before any walk, then, for every depth of states that need others, a walk and one after it. States
    `in_place` are those that nothing but their walk needs of single chunks.
    """

    program: Program
    once: Kernel
    of_segment: tuple[Kernel, ...]
    in_place: frozenset[Value]

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """In the order in which they run."""
        return self.once, *self.of_segment

    @property
    def intra(self) -> Kernel:
        """The one before any walk."""
        return self.of_segment[0]

    @property
    def walk(self) -> Kernel:
        """The first walk."""
        return self.of_segment[1]

    @property
    def output(self) -> Kernel:
        """The last one."""
        return self.of_segment[-1]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Up to `limit` (None: without limit) choose `choice`."""

    limit: int | None
    choice: int | str


@dataclass(frozen=True, slots=True)
class Segments:
    """How much passes through all kernels before the next does, so that what is between kernels stays in a cache.

    At most `chunks` times heads, or `forward_chunks` where nothing is kept, and `tokens` times heads.
    """

    chunks: int
    forward_chunks: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A forward and a backward pass; `saved` names what the first keeps for the second, as (forward, backward) values.

    `chunk_sizes` goes by rows per token, `forward_chunk_sizes` too, where nothing is kept; `aggregations` by rows per
    chunk (empty where nothing is solved).
    """

    recurrence: Recurrence
    options: Options
    forward: Pass
    backward: Pass
    saved: tuple[tuple[Value, Value], ...]
    chunk_sizes: tuple[Threshold, ...]
    forward_chunk_sizes: tuple[Threshold, ...]
    aggregations: tuple[Threshold, ...]
    segments: Segments

    def __str__(self) -> str:
        """Kernel by kernel, by the names of the chunk program."""
        lines, s = [f"plan {self.recurrence.model.name}"], self.segments
        for title, passed in (("forward", self.forward), ("backward", self.backward)):
            names = value_names(passed.program)
            lines.append(f"  {title}")
            for kernel in passed.kernels:
                made = ", ".join(names[n.value] for n in kernel.nodes if n.value.name) or "-"
                stores = ", ".join(names[v] for v in kernel.stores) or "-"
                lines += [f"    {kernel.role.value}: {made}", f"      stores {stores}"]
        lines.append("  saved for the backward pass: inputs, " + ", ".join(f.name for f, _ in self.saved))
        lines.append("  chunk size by rows per token: " + _table(self.chunk_sizes))
        lines.append("  without gradients: " + _table(self.forward_chunk_sizes))
        if self.aggregations:
            lines.append("  aggregation by rows per chunk: " + _table(self.aggregations))
            lines += [f"    {a}: {STATEMENTS[a]}" for a in AGGREGATIONS if a in {t.choice for t in self.aggregations}]
        lines.append(
            f"  chunks times heads at a time: {s.chunks}, without gradients {s.forward_chunks}; tokens: {s.tokens}"
        )
        return "\n".join(lines)


def _table(thresholds: tuple[Threshold, ...]) -> str:
    return ", ".join(f"{'beyond' if t.limit is None else f'up to {t.limit}'} {t.choice}" for t in thresholds)

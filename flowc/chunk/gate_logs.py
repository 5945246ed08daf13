"""The log gates of a step, by the side of the state that they decay.

In: a `Memory`. Out: for each side its gates in program order. A scalar gate decays both sides alike and counts on
one of them: where vectors are, else where the state is read. Refuses, as `Refusal`, reads with a vector gate on the
other side.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowc.algebra.evaluate import Refusal
from flowc.algebra.forms import Outside
from flowc.algebra.recurrence import Gate, Memory, Write
from flowc.algebra.side import Side
from flowc.algebra.term import Term, axes_of
from flowc.source import Span


@dataclass(frozen=True, slots=True)
class GateLog:
    """Logs to be added up, of edit `offset` in `segment`."""

    segment: int
    offset: int
    logs: tuple[Term, ...]
    span: Span

    @property
    def is_vector(self) -> bool:
        """Whether it differs along its side."""
        return any(_is_vector(t) for t in self.logs)


def gate_logs(memory: Memory) -> dict[Side, tuple[GateLog, ...]]:
    """The gates of each side that has some."""
    own, across = memory.side, memory.side.other
    vectors = {s: _logs(memory, s, scalars=False) for s in Side}
    if vectors[across] and _reads(memory):
        raise Refusal(
            Outside(f"reads on the {own.value} side with a gate on the {across.value} side have no chunk program yet"),
            vectors[across][0].span,
        )
    carrier = across if vectors[across] and not vectors[own] else own
    found = {s: _logs(memory, s, scalars=s is carrier) for s in Side}
    return {s: gates for s, gates in found.items() if gates}


def _logs(memory: Memory, side: Side, scalars: bool) -> tuple[GateLog, ...]:
    found = []
    for number, segment in enumerate(memory.segments):
        for offset, edit in enumerate(segment.edits):
            if not isinstance(edit, Gate):
                continue
            vector = edit.log_row if side is Side.KEY else edit.log_column
            both = [t for t in (edit.log_row, edit.log_column) if t is not None]
            logs = [t for t in both if (t is vector and _is_vector(t)) or (scalars and not _is_vector(t))]
            if logs:
                found.append(GateLog(number, offset, tuple(logs), edit.span))
    return tuple(found)


def _is_vector(term: Term) -> bool:
    return any(a.name == "x" for a in axes_of(term))


def _reads(memory: Memory) -> bool:
    edits = (e for s in memory.segments for e in s.edits if isinstance(e, Write))
    return any(r.read is not None for e in edits for r in e.rows)

"""Specs beside each other: what each is, and how far flowc takes it.

In: a `Compilation` per spec. Out: a `Row` per spec; as a table, as Markdown, as a record for JSON. A spec that has no
compiled form has its class and no targets. Refuses errors in a spec: FlowError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flowc.algebra.recurrence import Classification, Gate, Recurrence, Row, Segment, Write
from flowc.algebra.term import axes_of
from flowc.certify import verdict
from flowc.compiler import Compilation
from flowc.diagnostics import FlowError
from flowc.report.explain import facts
from flowc.schedule.staged import kernel_plan
from flowc.schedule.tile_plan import Missing
from flowc.semantics.model import Repeat, Statement, Update
from flowc.semantics.size import ONE, Size

if TYPE_CHECKING:
    from rich.table import Table

NONE = "-"


@dataclass(frozen=True, slots=True)
class Terms:
    """The gate's side, and rows of the state per token: how many are read for the next state, how many written."""

    gate: str
    reading: str
    written: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where a spec runs, how a chunk's system is solved, and what the certificate says of it."""

    names: tuple[str, ...]
    aggregation: str | None
    certified: bool
    contradicted: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One spec. `terms` are there where it has a normal form, `target` where it compiles."""

    name: str
    file: str
    lines: int
    paper: str
    state: tuple[str, ...]
    class_name: str
    reason: str
    terms: Terms | None
    target: Target | None

    def record(self) -> dict[str, object]:
        """As JSON shows it."""
        found = asdict(self)
        found["class"] = {"name": found.pop("class_name"), "reason": found.pop("reason")}
        return found


def entry(compilation: Compilation) -> Entry:
    """What there is to say about a spec; FlowError for errors in it."""
    model, text = compilation.model, compilation.source.text
    found = compilation.classified
    decided = found if isinstance(found, Classification) else found.classification
    return Entry(
        name=model.name,
        file=compilation.source.name,
        lines=len(text.splitlines()),
        paper=_paper(model.doc),
        state=tuple(_updates(text, model.statements)),
        class_name=decided.name,
        reason=decided.reason,
        terms=_terms(found) if isinstance(found, Recurrence) and found.stepped is None else None,
        target=_target(compilation),
    )


def _updates(text: str, statements: tuple[Statement, ...]) -> Iterator[str]:
    """The statements that write states, as the spec has them, a repeat on one line."""
    for statement in statements:
        written = text[statement.span.start : statement.span.end]
        match statement:
            case Update():
                yield written
            case Repeat(body=body):
                yield f"{written}: {'; '.join(_updates(text, body))}"


def _paper(doc: str) -> str:
    """What stands in parentheses in a spec's first line, if it has a year or a number of arXiv."""
    found = re.search(r"\(([^()]*(?:\d{4}|arXiv)[^()]*)\)", doc)
    return "" if found is None else found[1]


def _terms(recurrence: Recurrence) -> Terms:
    written, reading = Size.of(0), Size.of(0)
    for segment in _segments(recurrence):
        for row in _rows(segment):
            size = (segment.count or ONE) * (ONE if row.rank is None or segment.count else row.rank.size)
            written, reading = written + size, reading + (Size.of(0) if row.read is None else size)
    return Terms(_gate(recurrence), str(reading), str(written))


def _segments(recurrence: Recurrence) -> tuple[Segment, ...]:
    return tuple(s for memory in recurrence.memories for s in memory.segments)


def _rows(segment: Segment) -> Iterator[Row]:
    for edit in segment.edits:
        if isinstance(edit, Write):
            yield from edit.rows


def _gate(recurrence: Recurrence) -> str:
    """On which side of the state it works: what the gates of all segments come to."""
    gates = [e for s in _segments(recurrence) for e in s.edits if isinstance(e, Gate)]
    keys = any(a.name == "x" for g in gates if g.log_row is not None for a in axes_of(g.log_row))
    values = any(g.log_column is not None for g in gates)
    match keys, values:
        case True, True:
            return "both sides"
        case True, False:
            return "key side"
        case False, True:
            return "value side"
    return "scalar" if gates else "none"


def _target(compilation: Compilation) -> Target | None:
    """Where it runs; None where it does not compile."""
    try:
        plan = compilation.plan
    except FlowError:
        return None
    names = ("torch",) if isinstance(kernel_plan(plan), Missing) else ("torch", "triton")
    found = compilation.certify()
    return Target(names, facts(plan).aggregation, found.holds, found.mismatch is not None, verdict(found))


# -- as text ----------------------------------------------------------------------------------------------------------

HEADER = ("spec", "class", "gate", "read", "written", "solved by", "lines", "targets", "certified")


def _cells(e: Entry) -> tuple[str, ...]:
    """What both tables have, in the order of HEADER."""
    terms = (NONE, NONE, NONE) if e.terms is None else (e.terms.gate, e.terms.reading, e.terms.written)
    if e.target is None:
        return (e.name, e.class_name, *terms, NONE, str(e.lines), "step only", NONE)
    targets, certified = " ".join(e.target.names), "yes" if e.target.certified else "no"
    return (e.name, e.class_name, *terms, e.target.aggregation or NONE, str(e.lines), targets, certified)


def table(entries: Sequence[Entry]) -> Table:
    """A row per spec."""
    from rich.box import SIMPLE
    from rich.table import Table

    made = Table(title="recurrences; read and written: rows of the state per token", box=SIMPLE, padding=(0, 1, 0, 0))
    for column in HEADER:
        number = column in ("read", "written", "lines")
        made.add_column(column, justify="right" if number else "left", no_wrap=column in ("spec", "targets"))
    for e in entries:
        made.add_row(*_cells(e))
    return made


def markdown(entries: Sequence[Entry]) -> str:
    """A row per spec, with what it does to its state and where it comes from."""
    listed: list[tuple[str, ...]] = [(HEADER[0], "the state", *HEADER[1:], "paper")]
    for e in entries:
        state = "<br>".join(f"`{line}`" for line in e.state)
        paper = re.sub(r"arXiv (\S+\d)", r"[arXiv \1](https://arxiv.org/abs/\1)", e.paper)
        listed.append((f"[{e.name}]({e.file})", state, *_cells(e)[1:], paper))
    head, *body = (f"| {' | '.join(cells)} |" for cells in listed)
    return "\n".join((head, "|" + "---|" * len(listed[0]), *body))

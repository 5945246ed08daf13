"""Where the values of a chunk program come from: the lines of the canonical spec.

In: a `Recurrence` and printed statements. Out: the statements with a line of the spec before the first that it gave
rise to. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from flowc.algebra.recurrence import Gate, Recurrence, Write
from flowc.emit.torch_printer import Statement
from flowc.semantics.model import InputRef, Model, Repeat, Update
from flowc.semantics.model import Statement as SpecStatement
from flowc.source import Span


def step_lines(model: Model) -> list[str]:
    """The lines of the canonical spec that are statements, in order, then what holds inputs for the next token."""
    lines = model.canonical.rstrip("\n").split("\n\n")[-1].split("\n")
    held = model.statements[len(model.statements) - (len(list(_spans(model.statements))) - len(lines)) :]
    shifts = [(s.state, s.value.name) for s in held if isinstance(s, Update) and isinstance(s.value, InputRef)]
    return [*lines, *(f"{state}[t] = {name}" for state, name in shifts)]


def commented(statements: list[Statement], recurrence: Recurrence) -> list[Statement]:
    """The statements, each group behind the lines of the spec that it comes from."""
    known = _origins(recurrence)
    out: list[Statement] = []
    for statement in statements:
        lines = known.pop(statement.name, ())
        out += [Statement(f"# {line}", statement.needed_by, walk=statement.walk) for line in lines]
        out.append(statement)
    return out


def _origins(recurrence: Recurrence) -> dict[str, tuple[str, ...]]:
    """The lines behind each value that the derivation names."""
    edits = recurrence.edits
    gates = [e.span for e in edits if isinstance(e, Gate)]
    rows = [r for e in edits if isinstance(e, Write) for r in e.rows]
    spans = {
        "log_gates": gates,
        "l": [r.span for r in rows if r.read is not None],
        "l_e": [r.span for r in rows if r.read is None],
        "q": [r.span for r in recurrence.results],
    }
    lines = list(zip(_spans(recurrence.model.statements), step_lines(recurrence.model), strict=True))
    return {name: _lines(lines, own) for name, own in spans.items() if own}


def _lines(lines: list[tuple[Span, str]], spans: list[Span]) -> tuple[str, ...]:
    """The innermost statements that hold the spans, once each, in the spec's order."""
    found: dict[int, str] = {}
    for span in spans:
        holding = [n for n, (own, _) in enumerate(lines) if own.start <= span.start and span.end <= own.end]
        if holding:
            found[holding[-1]] = lines[holding[-1]][1].strip()
    return tuple(found[n] for n in sorted(found))


def _spans(statements: tuple[SpecStatement, ...]) -> Iterator[Span]:
    for statement in statements:
        yield statement.span
        if isinstance(statement, Repeat):
            yield from _spans(statement.body)

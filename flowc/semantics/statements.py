"""Statements -> the step of a Model.

In: the statements of a `Spec` in order, with everything declared. Out: typed statements, or errors: what may be
assigned and where, and that names are given once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from flowc.semantics.expressions import Typer
from flowc.semantics.model import Expr, Kind, Let, Output, Repeat, State, Statement, Update
from flowc.semantics.names import Index, Names, Result, Unknown, Value, kind
from flowc.semantics.references import subscripts
from flowc.semantics.shapes import assignable, described
from flowc.semantics.sizes import resolve
from flowc.syntax import tree as syntax


@dataclass(slots=True)
class Stepper:
    """Checks the statements of a step, one after another."""

    names: Names
    typer: Typer
    outputs: set[str] = field(default_factory=set)
    """The outputs assigned so far."""
    written: set[str] = field(default_factory=set)
    """The states that some statement assigns, rightly or not."""

    def steps(self, items: Sequence[syntax.Item], inside: bool = False) -> tuple[Statement, ...]:
        """The typed statements of `items`; `inside` a repeat or not."""
        return tuple(statement for item in items for statement in self._step(item, inside))

    def _step(self, item: syntax.Item, inside: bool) -> Iterator[Statement]:
        match item:
            case syntax.Let():
                yield from self._let(item)
            case syntax.Assign():
                yield from self._assign(item, inside)
            case syntax.Repeat():
                yield from self._repeat(item)
            case syntax.Input() | syntax.Param() | syntax.State():
                pass

    def _let(self, item: syntax.Let) -> Iterator[Statement]:
        value = self.typer.type(item.value)
        self.names.declare(item.name, Unknown() if value is None else Value(value.shape))
        if value is not None:
            yield Let(item.name.text, value, item.span)

    def _repeat(self, item: syntax.Repeat) -> Iterator[Statement]:
        count = resolve(item.count, self.names)
        self.names.scopes.append({})
        self.names.declare(item.index, Unknown() if count is None else Index(count))
        body = self.steps(item.body, inside=True)
        self.names.scopes.pop()
        if count is not None:
            yield Repeat(item.index.text, count, body, item.span)

    # -- assignments ---------------------------------------------------------------------------------------------

    def _assign(self, item: syntax.Assign, inside: bool) -> Iterator[Statement]:
        name = item.target.name
        match self.names.find(name.text):
            case State() as state:
                self.written.add(name.text)
                value = self.typer.type(item.value, state.shape.rows if state.shape.kind is Kind.MATRIX else None)
                self.typer.assigned.add(name.text)
                if self._is_at_t(item.target, "a state") and value is not None:
                    yield from self._update(state, value, item)
            case Result() | None:
                value = self.typer.type(item.value)
                if self._is_at_t(item.target, "an output"):
                    yield from self._output(item, value, inside)
            case Unknown():
                self.typer.type(item.value)
                self.written.add(name.text)
            case meaning:
                message = f"`{name.text}` is {kind(meaning, self.names.report.words)} and can't be assigned"
                advice = "assign a state or an output, or name a new value with `let`"
                self.names.report.error("F206", message, advice, item.target.span)
                self.typer.type(item.value)

    def _is_at_t(self, target: syntax.Reference, what: str) -> bool:
        found = subscripts(target, self.names)
        if found is None:
            return False
        if not found.now or found.item_span is not None:
            name = target.name.text
            message = f"`{name}` is {what} and is assigned as `{name}[t]`"
            advice = f"write `{name}[t] = ...`, or `let` with a new name for a value within the step"
            self.names.report.error("F207", message, advice, target.span)
            return False
        return True

    def _update(self, state: State, value: Expr, item: syntax.Assign) -> Iterator[Statement]:
        if not assignable(state.shape, value.shape):
            message = f"the state `{state.name}` is {described(state.shape)}, and this value {described(value.shape)}"
            kinds = (state.shape.kind, value.shape.kind)
            transposable = kinds in ((Kind.COLUMN, Kind.ROW), (Kind.MATRIX, Kind.MATRIX)) and (
                (state.shape.rows, state.shape.cols) == (value.shape.cols, value.shape.rows)
            )
            advice = "transpose the value with `.T`" if transposable else f"assign a value of shape `{state.shape}`"
            self.names.report.error("F307", message, advice, item.value.span)
            return
        yield Update(state.name, value, item.span)

    def _output(self, item: syntax.Assign, value: Expr | None, inside: bool) -> Iterator[Statement]:
        name, report = item.target.name, self.names.report
        if inside:
            message = f"the output `{name.text}` is assigned inside {report.words.loop}"
            report.error("F409", message, "assign it below the block, from a state", item.target.span)
        elif name.text in self.outputs:
            message = f"the output `{name.text}` is assigned twice"
            report.error(
                "F408", message, "assign it once; a value that changes within the step is a state", item.target.span
            )
        elif value is not None and value.shape.kind is Kind.ROW:
            message = f"the output `{name.text}` is {described(value.shape)}"
            report.error("F309", message, "transpose it with `.T`: vectors are columns", item.value.span)
        elif value is not None:
            self.outputs.add(name.text)
            yield Output(name.text, value, item.span)
            return
        self.outputs.add(name.text)

"""Extraction of a step that is taken token by token: what every state becomes, entry by entry.

In: a `Model`, whatever its class. Out: `Extracted` with a `ScanEdit` for every state and no edits. Refuses, as
`Refusal` with its span, a repeat whose count is no number, and identity or diagonal matrices that nothing multiplies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import assert_never

from flowc.algebra.edits import Extracted, OutputEdit, ScanEdit
from flowc.algebra.evaluate import Evaluator, Refusal
from flowc.algebra.forms import Calculus, Outside
from flowc.algebra.leaves import Leaves
from flowc.semantics.model import Let, Model, Output, Repeat, Statement, Update


def step_by_step(model: Model, leaves: Leaves) -> Extracted:
    """The next value of every state as a function of all states before the token."""
    return _Stepping(model, leaves).run()


class _Stepping:
    def __init__(self, model: Model, leaves: Leaves) -> None:
        self.model = model
        self.states = {s.name: s for s in model.states}
        self.evaluator = Evaluator(model, leaves, Calculus(leaves, {}))
        for s in model.states:
            self.evaluator.scanned[s.name] = self.evaluator.scan_leaf(s.name, s.shape, previous=True)
        rounds = list(_rounds(model.statements))
        self.left = {s.name: sum(u.state == s.name for u, _ in rounds if isinstance(u, Update)) for s in model.states}
        self.inlined = self.read_between([s for s, _ in rounds])
        self.scans: list[ScanEdit] = []
        self.outputs: list[OutputEdit] = []

    def read_between(self, statements: Iterable[Let | Update | Output]) -> bool:
        """Whether an output stands between two updates of a state: what it reads is then written out."""
        left = dict(self.left)
        for statement in statements:
            if isinstance(statement, Update):
                left[statement.state] -= 1
            elif isinstance(statement, Output) and any(0 < left[n] < count for n, count in self.left.items()):
                return True
        return False

    def run(self) -> Extracted:
        saved = dict(self.evaluator.lets)
        for statement, number in _rounds(self.model.statements):
            if number is None and self.evaluator.round is not None:
                self.evaluator.lets = saved
            self.evaluator.round = number
            self.statement(statement)
            if number is None:
                saved = dict(self.evaluator.lets)
        return Extracted((), tuple(self.scans), (), tuple(self.outputs))

    def statement(self, statement: Let | Update | Output) -> None:
        match statement:
            case Let(name, value, _):
                self.evaluator.bind(name, value)
            case Update(state, _, _):
                self.update(state, statement)
            case Output(name, value, span):
                self.outputs.append(OutputEdit(name, self.evaluator.plain(value), value.shape, span))
            case _:
                assert_never(statement)

    def update(self, name: str, statement: Update) -> None:
        """What a state becomes: a leaf of its own, or several uses of it would each be all that it was made of."""
        value = self.evaluator.plain(statement.value)
        self.left[name] -= 1
        if self.left[name] and self.inlined:
            self.evaluator.scanned[name] = value
            return
        own = f"{name} {self.left[name]}" if self.left[name] else name  # no name of a spec has a space
        state = replace(self.states[name], name=own)
        before, after = (self.evaluator.scan_leaf(own, state.shape, previous=p) for p in (True, False))
        self.scans.append(ScanEdit(state, before, after, value, statement.value.span))
        self.evaluator.scanned[name] = after


def _rounds(statements: tuple[Statement, ...]) -> Iterator[tuple[Let | Update | Output, int | None]]:
    """All statements as they run, with the number of their round in a repeat."""
    for statement in statements:
        if not isinstance(statement, Repeat):
            yield statement, None
            continue
        count = statement.count.constant
        if count is None:
            reason = f"a repeat of {statement.count} rounds, which is known at the call alone, is not unrolled"
            advice = f"give `{statement.count}` a number in the header, such as `{statement.count} = 2`"
            raise Refusal(Outside(reason, advice=advice), statement.span)
        for number in range(count):
            for inner in statement.body:
                if isinstance(inner, Repeat):
                    raise Refusal(Outside("a repeat stands inside a repeat"), inner.span)
                yield inner, number

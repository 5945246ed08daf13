"""Classes that several states, or a state that is no matrix, make.

In: a `Model`. Out: its `Classification` (E, A, M or R) with the deciding span, or None for a single matrix state, which
`normalize` looks into. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from flowc.algebra.recurrence import Classification
from flowc.semantics.model import (
    Binary,
    Call,
    Expr,
    Kind,
    Let,
    LetRef,
    Model,
    State,
    Statement,
    StateRef,
    Update,
)
from flowc.semantics.walk import children, flat

_LOG_SEMIRING = frozenset(("max", "min", "log", "logsigmoid", "softplus"))


def classify_states(model: Model) -> Classification | None:
    """The class of a model with several states or a vector or scalar state; None for one matrix state."""
    updates = {s.name: list(_updates(model.statements, s.name)) for s in model.states}
    lets = {s.name: s.value for s in flat(model.statements) if isinstance(s, Let)}
    if len(model.states) == 1:
        state = model.states[0]
        if state.shape.kind is Kind.MATRIX:
            return None
        return _single(state, updates[state.name], lets)
    needs = {name: {s for u in us for s in _states(u.value, lets)} - {name} for name, us in updates.items()}
    cycle = _cycle(needs)
    if cycle is not None:
        span = updates[cycle][0].span
        return Classification("R", f"states {' and '.join(sorted(_round(needs, cycle)))} are coupled", span)
    names = ", ".join(s.name for s in model.states)
    return Classification(
        "M", f"several states ({names}), none of which needs another that needs it", model.states[1].span
    )


def _single(state: State, updates: list[Update], lets: dict[str, Expr]) -> Classification:
    for update in updates:
        calls = [c for c in _calls(update.value, lets) if any(True for a in c.arguments for _ in _states(a, lets))]
        semiring = [c for c in calls if c.function in _LOG_SEMIRING]
        if semiring:
            return Classification("A", f"a scan under {semiring[0].function}", semiring[0].span)
        if calls and calls[0].function not in ("diag", "outer", "sum", "concat", "kron"):
            return Classification("R", f"{calls[0].function} of the state", calls[0].span)
    for update in updates:
        fault = _not_elementwise(update.value, lets)
        if fault is not None:
            return Classification("R", "it is not affine in the state entry by entry", fault.span)
    if state.shape.kind is Kind.SCALAR:
        return Classification("A", "a scalar state under +", state.span)
    return Classification("E", "a vector state with an elementwise gate", state.span)


def _not_elementwise(e: Expr, lets: dict[str, Expr]) -> Expr | None:
    """The first part of an expression that is not affine in the state entry by entry."""
    held = [any(True for _ in _states(c, lets)) for c in children(e)]
    match e:
        case LetRef(name, _, _):
            return _not_elementwise(lets[name], lets)
        case Binary(op="*") if all(held):
            return e
        case Binary(op="/" | "**") if held[1] or (e.op == "**" and held[0]):
            return e
        case Binary(op="@", left=left) if any(held):
            diagonal = isinstance(left, Call) and left.function in ("diag", "identity") and not held[0]
            return None if diagonal else e
        case Call() if any(held) and e.function not in ("diag", "outer", "concat"):
            return e
        case _:
            return next((f for c in children(e) if (f := _not_elementwise(c, lets)) is not None), None)


def _updates(statements: tuple[Statement, ...], state: str) -> Iterator[Update]:
    return (s for s in flat(statements) if isinstance(s, Update) and s.state == state)


def _walk(e: Expr, lets: dict[str, Expr]) -> Iterator[Expr]:
    yield e
    if isinstance(e, LetRef):
        yield from _walk(lets[e.name], lets)
    for child in children(e):
        yield from _walk(child, lets)


def _states(e: Expr, lets: dict[str, Expr]) -> Iterator[str]:
    return (n.name for n in _walk(e, lets) if isinstance(n, StateRef))


def _calls(e: Expr, lets: dict[str, Expr]) -> Iterator[Call]:
    return (n for n in _walk(e, lets) if isinstance(n, Call))


def _round(needs: dict[str, set[str]], start: str) -> set[str]:
    """The states that `start` needs and that need it."""

    def reach(name: str) -> set[str]:
        found: set[str] = set()
        todo = [name]
        while todo:
            for other in needs[todo.pop()]:
                if other not in found:
                    found.add(other)
                    todo.append(other)
        return found

    return {n for n in reach(start) if start in reach(n)} | {start}


def _cycle(needs: dict[str, set[str]]) -> str | None:
    return next((name for name in needs if len(_round(needs, name)) > 1), None)

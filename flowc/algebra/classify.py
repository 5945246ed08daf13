"""States that need each other.

In: a `Model`. Out: class R with the deciding span, or None for a model whose states can be computed one after another.
Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from flowc.algebra.recurrence import Classification
from flowc.semantics.model import (
    Expr,
    Let,
    LetRef,
    Model,
    Statement,
    StateRef,
    Update,
)
from flowc.semantics.walk import children, flat


def classify_states(model: Model) -> Classification | None:
    """Class R for states that need each other; None for all others, which `normalize` looks into."""
    updates = {s.name: list(_updates(model.statements, s.name)) for s in model.states}
    lets = {s.name: s.value for s in flat(model.statements) if isinstance(s, Let)}
    needs = {name: {s for u in us for s in _states(u.value, lets)} - {name} for name, us in updates.items()}
    cycle = _cycle(needs)
    if cycle is None:
        return None
    coupled = " and ".join(sorted(_round(needs, cycle)))
    return Classification("R", f"states {coupled} are coupled", updates[cycle][0].span)


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

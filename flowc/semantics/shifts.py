"""Shifts: an input's previous value, `x[t-1]`, as a state that holds it.

In: a `Model`. Out: the same model, with a state `x_before` for every input x that is read so, written at the end of the
step: what is carried across chunks and calls is then a state like others. Refuses nothing; lists stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from flowc.semantics.intervals import hull, point
from flowc.semantics.model import (
    Binary,
    Call,
    Expr,
    Input,
    InputRef,
    Model,
    Negate,
    Repeat,
    State,
    Statement,
    StateRef,
    Transpose,
    Update,
)
from flowc.semantics.walk import flat, parts


def unshifted(model: Model) -> Model:
    """The model without shifts of single inputs."""
    inputs = {i.name: i for i in model.inputs}
    read = [
        part.name
        for statement in flat(model.statements)
        for part in parts(statement.value)
        if isinstance(part, InputRef) and part.previous and inputs[part.name].shape.items is None
    ]
    taken = _names(model)
    held: dict[str, State] = {}
    for name in dict.fromkeys(read):
        own = f"{name}_before"
        while own in taken:
            own += "_"
        taken.add(own)
        declared = inputs[name].range
        known = None if declared is None else hull(declared, point(0))
        held[name] = State(own, inputs[name].shape, 0.0, inputs[name].span, known)
    if not held:
        return model
    written = tuple(_written(inputs[name], state) for name, state in held.items())
    statements = tuple(_replaced(s, held) for s in model.statements)
    return replace(model, states=(*model.states, *held.values()), statements=(*statements, *written))


def _names(model: Model) -> set[str]:
    declared = {x.name for some in (model.dimensions, model.inputs, model.states) for x in some}
    return declared | {s.name for s in flat(model.statements) if not isinstance(s, Update)}


def _written(held: Input, state: State) -> Update:
    return Update(state.name, InputRef(held.name, None, False, held.shape, held.span), held.span)


def _replaced(statement: Statement, held: Mapping[str, State]) -> Statement:
    if isinstance(statement, Repeat):
        return replace(statement, body=tuple(_replaced(s, held) for s in statement.body))
    return replace(statement, value=_of(statement.value, held))


def _of(e: Expr, held: Mapping[str, State]) -> Expr:
    match e:
        case InputRef(name, _, True, shape, span) if name in held:
            return StateRef(held[name].name, True, shape, span)
        case Negate(argument) | Transpose(argument):
            return replace(e, argument=_of(argument, held))
        case Binary(_, left, right):
            return replace(e, left=_of(left, held), right=_of(right, held))
        case Call(_, arguments):
            return replace(e, arguments=tuple(_of(a, held) for a in arguments))
        case _:
            return e

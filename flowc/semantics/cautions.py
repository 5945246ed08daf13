"""Warnings: specs that are legal and probably not what is meant.

In: a Model. Out: diagnostics for unused inputs, states that no output depends on, gates that may exceed 1 or come near
0, and delta reads at keys that nothing normalises. Refuses nothing; `--strict` turns warnings into errors elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from flowc.diagnostics import Diagnostic, ordered
from flowc.semantics.facts import Facts
from flowc.semantics.model import (
    Binary,
    Call,
    Expr,
    InputRef,
    Kind,
    Let,
    LetRef,
    Model,
    Negate,
    Output,
    State,
    StateRef,
    Transpose,
    Update,
)
from flowc.semantics.ranges import at_most_one, interval
from flowc.semantics.walk import behind, flat, parts
from flowc.semantics.words import words
from flowc.source import Span

NEAR_ZERO = Fraction(1, 1000)
"""A plain gate that provably stays above this is not warned about: its gradient's relative error is below 4e-4."""


def warnings(model: Model) -> tuple[Diagnostic, ...]:
    """The warnings about `model`, by position."""
    facts = Facts.of(model)
    found = (*_unused(model), *_unread(model), *_gate_warnings(model, facts), *_key_warnings(model, facts))
    return ordered(found)


def _warning(code: str, message: str, advice: str, span: Span) -> Diagnostic:
    return Diagnostic(code, message, advice, span, "warning")


def _text(model: Model, span: Span, instead: str) -> str:
    text = model.source.text[span.start : span.end]
    return text if len(text) <= 32 and "\n" not in text else instead


# -- what is not used ---------------------------------------------------------------------------------------------


def _unused(model: Model) -> Iterator[Diagnostic]:
    used = {
        part.name
        for statement in flat(model.statements)
        for part in parts(statement.value)
        if isinstance(part, InputRef)
    }
    for declared in model.inputs:
        if declared.name not in used:
            what = "param" if declared.is_param else "input"
            yield _warning("W101", f"the {what} `{declared.name}` is never used", "remove it, or use it", declared.span)


def _unread(model: Model) -> Iterator[Diagnostic]:
    needs: dict[str, set[str]] = {}
    wanted: list[str] = []
    for statement in flat(model.statements):
        found = {part.name for part in parts(statement.value) if isinstance(part, StateRef | LetRef)}
        match statement:
            case Output():
                wanted += found
            case Let(name) | Update(name):
                needs.setdefault(name, set()).update(found)
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in seen:
            seen.add(name)
            wanted += needs.get(name, ())
    for state in model.states:
        if state.name not in seen:
            message = f"no output depends on the state `{state.name}`"
            advice = f"remove it, or {words(model.source).read_state.format(state.name)}"
            yield _warning("W102", message, advice, state.span)


# -- gates --------------------------------------------------------------------------------------------------------


def _gate_warnings(model: Model, facts: Facts) -> Iterator[Diagnostic]:
    for statement in flat(model.statements):
        match statement:
            case Update(name, value):
                state = next(declared for declared in model.states if declared.name == name)
                for gate in _gates(value, state):
                    yield from _judge(gate, model, facts)
            case _:
                pass


def _gates(expr: Expr, state: State) -> Iterator[Expr]:
    """The factors that `state` is multiplied with where `expr` carries it on, the arguments of `diag` among them."""
    match expr:
        case Binary("+" | "-", left, right):
            yield from _gates(left, state)
            yield from _gates(right, state)
        case Negate(argument):
            yield from _gates(argument, state)
        case Binary("*" | "@" as op, left, right):
            for kept, factor in ((left, right), (right, left)):
                if _carries(kept, state):
                    yield from _factor(factor, op)
                    yield from _gates(kept, state)
        case _:
            pass


def _factor(factor: Expr, op: str) -> tuple[Expr, ...]:
    """The gates in what the state is multiplied with; a dense matrix is none."""
    match factor:
        case Call("outer", arguments) if op == "*":
            return arguments
        case _ if op == "*":
            return (factor,)
        case _:
            return _diagonal(factor) or ()


def _diagonal(expr: Expr) -> tuple[Expr, ...] | None:
    """The scalars and diagonals whose product `expr` is, None if it is another matrix."""
    match expr:
        case Call("diag", arguments):
            return arguments
        case Call("identity"):
            return ()
        case Binary("*", left, right) if Kind.SCALAR in (left.shape.kind, right.shape.kind):
            scalar, other = (left, right) if left.shape.kind is Kind.SCALAR else (right, left)
            inner = _diagonal(other)
            return None if inner is None else (scalar, *inner)
        case Binary("@", left, right):
            first, second = _diagonal(left), _diagonal(right)
            return None if first is None or second is None else (*first, *second)
        case _:
            return None


def _carries(expr: Expr, state: State) -> bool:
    """Whether `expr` has the state in it as a whole, not only what is read of it."""
    match expr:
        case StateRef(name):
            return name == state.name
        case Negate(argument):
            return _carries(argument, state)
        case Binary("+" | "-" | "*" | "@", left, right) if expr.shape == state.shape:
            return _carries(left, state) or _carries(right, state)
        case _:
            return False


def _judge(gate: Expr, model: Model, facts: Facts) -> Iterator[Diagnostic]:
    shown = _text(model, gate.span, "this gate")
    if not at_most_one(gate, model) and not facts.reads_state(gate):
        yield _warning(
            "W201",
            f"the gate `{shown}` may exceed 1, and the state grow without bound",
            _bounded(gate, model),
            gate.span,
        )
    low = interval(gate, model).low
    if gate.shape.kind is not Kind.MATRIX and not facts.has_log(gate) and (low is None or low < NEAR_ZERO):
        message = (
            f"the gate `{shown}` may come near 0, where its gradient's relative error in float32 is about 4e-7 / gate"
        )
        advice = "write it as `exp` or `sigmoid`, or declare a range that keeps away from 0, such as `in [0.01, 1]`"
        yield _warning("W202", message, advice, gate.span)


def _bounded(gate: Expr, model: Model) -> str:
    """What to write so that `gate` is at most 1."""
    match gate:
        case Call("exp", (InputRef(name),)):
            declared = next(found for found in model.inputs if found.name == name)
            return f"declare {words(model.source).declared(declared, '<= 0')}"
        case InputRef(name):
            declared = next(found for found in model.inputs if found.name == name)
            return f"declare {words(model.source).declared(declared, 'in (0, 1]')}"
        case _:
            return "declare the ranges of its inputs, such as `in (0, 1]`, or write it as `exp` of what is at most 0"


# -- keys ---------------------------------------------------------------------------------------------------------


def delta_keys(model: Model) -> tuple[str, ...]:
    """The inputs that an update subtracts what it reads at, and that nothing in the spec normalises."""
    found = dict.fromkeys(
        part.name for key in _bare_keys(model, Facts.of(model)) for part in parts(key) if isinstance(part, InputRef)
    )
    return tuple(found)


def _key_warnings(model: Model, facts: Facts) -> Iterator[Diagnostic]:
    for key in _bare_keys(model, facts):
        shown = _text(model, key.span, "this key")
        message = f"the delta read at `{shown}` subtracts, and nothing normalises `{shown}`"
        advice = f"write `l2norm({shown})`, or make sure that its norm is at most 1"
        yield _warning("W203", message, advice, key.span)


def _bare_keys(model: Model, facts: Facts) -> Iterator[Expr]:
    """The keys of delta reads that nothing normalises; states that need each other are read as one."""
    coupled = _coupled(model)
    for statement in flat(model.statements):
        match statement:
            case Update(name, value) if not facts.is_exact_flow(value):
                states = (declared for declared in model.states if declared.name in coupled[name])
                reads = (read for state in states for read in _subtracted_keys(value, state, False))
                yield from (key for key in (_unscaled(r, model) for r in reads) if not facts.is_normalized(key))
            case _:
                pass


def _coupled(model: Model) -> dict[str, set[str]]:
    """For every state, itself and those that it needs and that need it."""
    reads: dict[str, set[str]] = {declared.name: set() for declared in model.states}
    for statement in flat(model.statements):
        if isinstance(statement, Update):
            values = (statement.value, *(let.value for let in behind(statement.value, model.statements)))
            reads[statement.state] |= {p.name for value in values for p in parts(value) if isinstance(p, StateRef)}
    reach = {name: set(found) for name, found in reads.items()}
    for _ in reach:
        reach = {name: found.union(*(reach[other] for other in found)) for name, found in reach.items()}
    return {name: {name} | {other for other in found if name in reach[other]} for name, found in reach.items()}


def _subtracted_keys(expr: Expr, state: State, negative: bool) -> Iterator[Expr]:
    """The vectors at which `state` is read where the read is subtracted: `v - S.T @ k`, `(I - b * k @ k.T) @ S`."""
    match expr:
        case Binary("-", left, right):
            yield from _subtracted_keys(left, state, negative)
            yield from _subtracted_keys(right, state, not negative)
        case Negate(argument):
            yield from _subtracted_keys(argument, state, not negative)
        case Binary("@", Transpose(StateRef(name)) | StateRef(name), key) if name == state.name and _is_column(key):
            if negative:
                yield key
        case Binary("@", Binary("-", Call("identity"), erased), kept) if _carries(kept, state) and not negative:
            yield from _transposed_columns(erased)
        case Binary("@", kept, Binary("-", Call("identity"), erased)) if _carries(kept, state) and not negative:
            yield from _transposed_columns(erased)
        case Binary("+" | "*" | "/" | "@", left, right):
            yield from _subtracted_keys(left, state, negative)
            yield from _subtracted_keys(right, state, negative)
        case Transpose(argument):
            yield from _subtracted_keys(argument, state, negative)
        case _:
            pass


def _transposed_columns(expr: Expr) -> Iterator[Expr]:
    """The vectors `k` of `k.T` in an expression."""
    return (part.argument for part in parts(expr) if isinstance(part, Transpose) and _is_column(part.argument))


def _unscaled(key: Expr, model: Model) -> Expr:
    """`key` without the factors that lie in [-1, 1], such as an erase gate."""
    match key:
        case Binary("*", left, right):
            for factor, rest in ((left, right), (right, left)):
                bounds = interval(factor, model)
                if _is_column(rest) and bounds.low is not None and bounds.low >= -1 and at_most_one(factor, model):
                    return _unscaled(rest, model)
            return key
        case _:
            return key


def _is_column(expr: Expr) -> bool:
    return expr.shape.kind is Kind.COLUMN

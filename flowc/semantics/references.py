"""References -> typed expressions: what `q`, `S[t-1]`, `k[r]` and `x[t-1]` mean.

In: a written reference and the names in sight. Out: an `Expr`, or None with the errors reported: unknown names, states
without a time, lists used whole, elements out of the list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowc.semantics.model import (
    SCALAR,
    Expr,
    HeadNumber,
    Input,
    InputRef,
    LetRef,
    LoopNumber,
    Number,
    SizeNumber,
    State,
    StateRef,
)
from flowc.semantics.names import Constant, Index, Names, Result, Symbolic, Unknown, Value, kind
from flowc.semantics.size import Size
from flowc.source import Span
from flowc.syntax import tree as syntax


@dataclass(frozen=True, slots=True)
class Subscripts:
    """What stands in a reference's brackets: a time (`previous` or now) and a list's element, with their spans."""

    previous: bool = False
    now: bool = False
    item: int | str | None = None
    time_span: Span | None = None
    item_span: Span | None = None


def subscripts(reference: syntax.Reference, names: Names) -> Subscripts | None:
    """The time and the element that `reference` names; None with an error reported."""
    found = Subscripts()
    for written in reference.subscripts:
        match written:
            case syntax.Reference(syntax.Name("t"), ()) if found.time_span is None:
                found = replace(found, now=True, time_span=written.span)
            case syntax.Binary("-", syntax.Reference(syntax.Name("t"), ()), syntax.Number(one)) if (
                one == 1 and found.time_span is None
            ):
                found = replace(found, previous=True, time_span=written.span)
            case syntax.Number(value) if value.denominator == 1 and found.item_span is None:
                found = replace(found, item=int(value), item_span=written.span)
            case syntax.Reference(name, ()) if found.item_span is None:
                found = replace(found, item=name.text, item_span=written.span)
            case _:
                text = names.report.text(written.span, "this")
                message = f"`{text}` is neither a time nor an element"
                advice = "write `[t]`, `[t-1]`, `[0]` or a repeat's `[r]`; carry older values in a state"
                names.report.error("F109", message, advice, written.span)
                return None
    return found


def refer(reference: syntax.Reference, names: Names, assigned: set[str]) -> Expr | None:
    """The value of `reference`, where the states in `assigned` have one for `[t]`."""
    name, span = reference.name.text, reference.span
    meaning, words = names.find(name), names.report.words
    if meaning is None and name in ("head", "heads"):
        return HeadNumber(name == "heads", SCALAR, span) if _plain(reference, "a number", names) else None
    match meaning:
        case None:
            names.missing(reference.name)
            return None
        case Unknown():
            return None
        case Constant(value):
            return Number(value, SCALAR, span) if _plain(reference, kind(meaning, words), names) else None
        case Symbolic():
            return SizeNumber(Size.of(name), SCALAR, span) if _plain(reference, kind(meaning, words), names) else None
        case Value(shape):
            return LetRef(name, shape, span) if _plain(reference, kind(meaning, words), names) else None
        case Index():
            return LoopNumber(name, SCALAR, span) if _plain(reference, kind(meaning, words), names) else None
        case Result():
            message = f"the output `{name}` can't be read"
            names.report.error("F208", message, words.name_output, span)
            return None
        case Input():
            return _input(reference, meaning, names)
        case State():
            return _state(reference, meaning, names, assigned)


def _plain(reference: syntax.Reference, what: str, names: Names) -> bool:
    """Whether `reference`, to something that has neither a time nor elements, has no subscript."""
    found = subscripts(reference, names)
    if found is None:
        return False
    name = reference.name.text
    if found.time_span is not None:
        message = f"`{name}` is {what} and has no time index"
        advice = f"write `{name}`; only states, and `[t-1]` of inputs, have one"
        names.report.error("F403", message, advice, found.time_span)
    if found.item_span is not None:
        message, advice = f"`{name}` is {what}, no list", f"write `{name}`; only a shape like `R of K` has elements"
        names.report.error("F405", message, advice, found.item_span)
    return not reference.subscripts


def _state(reference: syntax.Reference, state: State, names: Names, assigned: set[str]) -> Expr | None:
    found = subscripts(reference, names)
    if found is None:
        return None
    name, span = state.name, reference.span
    if found.item_span is not None:
        message = f"`{name}` is a state, no list"
        names.report.error("F405", message, f"write `{name}[t]` or `{name}[t-1]`", found.item_span)
        return None
    if found.time_span is None:
        message = f"the state `{name}` is used without a time"
        names.report.error(
            "F402", message, f"write `{name}[t-1]` for its old value, `{name}[t]` for its value so far", span
        )
        return None
    if found.now and name not in assigned:
        message = f"`{name}[t]` is read before `{name}` is assigned in this step"
        names.report.error("F401", message, f"write `{name}[t-1]`, or assign `{name}[t]` above", span)
        return None
    return StateRef(name, found.previous, state.shape, span)


def _input(reference: syntax.Reference, declared: Input, names: Names) -> Expr | None:
    found = subscripts(reference, names)
    if found is None:
        return None
    name, span, shape = declared.name, reference.span, declared.shape
    if found.now or (found.previous and declared.is_param):
        what = (
            "a param, the same at every time"
            if declared.is_param
            else "an input, which is this token's without an index"
        )
        names.report.error("F403", f"`{name}` is {what}", f"write `{name}`", found.time_span or span)
        return None
    if shape.items is None:
        if found.item_span is not None:
            message, advice = (
                f"`{name}` is no list: its shape is `{shape}`",
                f"write `{name}`, or declare it as `R of K`",
            )
            names.report.error("F405", message, advice, found.item_span)
            return None
        return InputRef(name, None, found.previous, shape, span)
    if found.item_span is None:
        message = f"`{name}` is a list, `{shape}`, and can't be used whole"
        advice = f"take one element: `{name}[0]`, or {names.report.words.element.format(name, shape.items)}"
        names.report.error("F404", message, advice, span)
        return None
    item = _item(found.item, declared, shape.items, found.item_span, names)
    return None if item is None else InputRef(name, item, found.previous, replace(shape, items=None), span)


def _item(item: int | str | None, declared: Input, items: Size, span: Span, names: Names) -> int | str | None:
    """The element `item` of a list of `items`, checked as far as that can be told."""
    meaning = names.find(item) if isinstance(item, str) else None
    if isinstance(meaning, Constant) and meaning.value.denominator == 1:
        item = int(meaning.value)
    if isinstance(item, int):
        if item < 0 or (items.constant is not None and item >= items.constant):
            message = f"`{declared.name}` has {items} elements, and no element {item}"
            names.report.error("F406", message, "count its elements from 0", span)
            return None
        return item
    match meaning:
        case Index(count):
            spare = (items - count).constant
            if spare is None or spare < 0:
                message = f"`{item}` runs to `{count}`, but `{declared.name}` has `{items}` elements"
                names.report.error("F406", message, f"repeat over `{items}`", span)
                return None
            return item
        case Unknown():
            return None
        case None:
            names.missing(syntax.Name(str(item), span))
            return None
        case _:
            message = f"`{item}` is {kind(meaning, names.report.words)}, no index"
            names.report.error("F406", message, f"use an integer, or {names.report.words.an_index}", span)
            return None

"""Written sizes -> `Size`.

In: the expressions that stand for sizes in shapes, `repeat` and `ones`. Out: polynomials in the sizes of the header,
header constants put in. Refuses what is no size (F501) and sizes that are zero or negative (F503).
"""

from __future__ import annotations

from fractions import Fraction

from flowc.semantics.names import Constant, Names, Symbolic, Unknown, kind, nearest
from flowc.semantics.size import Size
from flowc.syntax import tree as syntax

TERMS, DEGREE, LARGEST = 64, 8, 2**31 - 1
"""How complicated a size may be: terms, factors of a term, and the largest integer."""


def resolve(written: syntax.Expression, names: Names) -> Size | None:
    """The size that `written` stands for; None with an error reported."""
    before = len(names.report.diagnostics)
    size = _size(written, names)
    if size is None or len(names.report.diagnostics) > before:
        return None
    if size.constant is not None and size.constant <= 0:
        message = f"a size must be positive, and this is {size.constant}"
        advice = "write a size of at least 1"
        if isinstance(written, syntax.Reference):
            advice += f", where `{names.report.text(written.span, 'this')}` gets its number"
        names.report.error("F503", message, advice, written.span)
        return None
    return size


def _size(written: syntax.Expression, names: Names) -> Size | None:
    match written:
        case syntax.Number(value):
            return _integer(value, written, names, names.report.text(written.span, "this number"))
        case syntax.Reference(name, ()):
            return _named(name, written, names)
        case syntax.Binary(op, left, right) if op in ("+", "-", "*"):
            a, b = _size(left, names), _size(right, names)
            return None if a is None or b is None else _combined(op, a, b, written, names)
        case _:
            _refuse("this is no size", written, names)
            return None


def _named(name: syntax.Name, written: syntax.Expression, names: Names) -> Size | None:
    match names.find(name.text):
        case Symbolic(text):
            return Size.of(text)
        case Constant(value):
            return _integer(value, written, names, name.text)
        case Unknown():
            return None
        case None:
            sizes = {word for word, meaning in names.scopes[0].items() if isinstance(meaning, Symbolic | Constant)}
            near = nearest(name.text, sizes)
            words = names.report.words
            advice = f"did you mean `{near}`?" if near else words.declare_size.format(name.text, name.text)
            names.report.error("F501", f"`{name.text}` is {words.no_size}", advice, written.span)
            return None
        case meaning:
            _refuse(f"`{name.text}` is {kind(meaning, names.report.words)}, no size", written, names)
            return None


def _integer(value: Fraction, written: syntax.Expression, names: Names, shown: str) -> Size | None:
    if value.denominator == 1 and abs(value) <= LARGEST:
        return Size.of(int(value))
    _refuse(f"`{shown}` is {'no integer' if value.denominator != 1 else 'too large'}, so no size", written, names)
    return None


def _combined(op: str, a: Size, b: Size, written: syntax.Expression, names: Names) -> Size | None:
    size = a + b if op == "+" else a - b if op == "-" else a * b
    if len(size.terms) > TERMS or any(len(monomial) > DEGREE for monomial, _ in size.terms):
        _refuse("this size is too complicated", written, names)
        return None
    return size


def _refuse(message: str, written: syntax.Expression, names: Names) -> None:
    advice = f"write {names.report.words.a_size}, an integer, or a sum or product of these"
    names.report.error("F501", message, advice, written.span)

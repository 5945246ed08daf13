"""The arguments of a Python function -> the declarations and the header of a spec.

In: `ast.arguments`. Out: `Signature`: what each annotated argument declares, and the sizes: those of the annotations in
the order in which they first stand there, then what stands behind `*`, a number for a constant. Refuses arguments
without an annotation, defaults in front of the `*`, `*args` and `**kwargs`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from flowc.diagnostics import Diagnostic
from flowc.source import Span
from flowc.syntax import literals
from flowc.syntax import tree as syntax
from flowc.syntax.python.annotation import Declaration, read_annotation
from flowc.syntax.python.places import Places

KINDS = (syntax.Input, syntax.Param, syntax.State)

_ANNOTATE = 'write `{0}: "K"` for an input, `{0}: "param K"` or `{0}: "state K x V"`'


@dataclass(frozen=True, slots=True)
class Signature:
    """What the arguments declare; `wrong` are the names of those whose annotation is."""

    dimensions: tuple[syntax.Dimension, ...]
    declarations: tuple[Declaration, ...]
    wrong: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """Every name that the arguments give a meaning."""
        return self.wrong | self.named(*KINDS) | {dimension.name.text for dimension in self.dimensions}

    def named(self, *kinds: type[Declaration]) -> frozenset[str]:
        """The names of the declarations of `kinds`."""
        return frozenset(d.names[0].text for d in self.declarations if isinstance(d, kinds))


def read_signature(arguments: ast.arguments, places: Places) -> Signature:
    """What `arguments` declare."""
    positional = [*arguments.posonlyargs, *arguments.args]
    declarations = tuple(_declarations(positional, places))
    for default in arguments.defaults:
        message, advice = "an input has no default", "write a number of the recurrence behind a star: `*, tau=16`"
        places.error("F701", message, advice, default)
    for extra, star in ((arguments.vararg, "*"), (arguments.kwarg, "**")):
        if extra is not None:
            message, advice = f"`{star}{extra.arg}` declares nothing", f"name every input: {_ANNOTATE.format('q')}"
            places.error("F701", message, advice, extra)
    named = tuple(_dimensions(arguments, places))
    given = frozenset(argument.arg for argument in positional)
    inferred = _inferred(declarations, given | {argument.arg for argument in arguments.kwonlyargs})
    declared = Signature((*inferred, *named), declarations, frozenset())
    return replace(declared, wrong=given - declared.named(*KINDS))


def _declarations(arguments: Sequence[ast.arg], places: Places) -> Iterator[Declaration]:
    for argument in arguments:
        before = len(places.diagnostics)
        declared = _declaration(argument, places)
        if declared is not None and len(places.diagnostics) == before:
            yield declared
        else:
            places.leave_out(argument)


def _declaration(argument: ast.arg, places: Places) -> Declaration | None:
    name, advice = places.name(argument.arg, argument), _ANNOTATE.format(argument.arg)
    match argument.annotation:
        case None:
            places.error("F701", f"`{argument.arg}` has no annotation", advice, name.span)
            return None
        case ast.Constant(str() as text) as annotation:
            offset = places.text(annotation).find(text)
            if offset < 0 or not text.strip() or "\n" in text:
                message = f"the annotation of `{argument.arg}` is not one plain string with a shape in it"
                places.error("F701", message, advice, annotation)
                return None
            declared = read_annotation(text, places.span(annotation).start + offset, name)
            if isinstance(declared, tuple):
                places.diagnostics += declared
                return None
            return declared
        case annotation:
            message = f"the annotation of `{argument.arg}` is no string"
            places.error("F701", message, advice, annotation)
            return None


# -- sizes --------------------------------------------------------------------------------------------------------


def _inferred(declarations: Sequence[Declaration], taken: frozenset[str]) -> Iterator[syntax.Dimension]:
    """The sizes that annotations name and nothing else declares, each where it first stands."""
    seen = set(taken)
    for declaration in declarations:
        for name in _shape_names(declaration.shape):
            if name.text not in seen:
                seen.add(name.text)
                yield syntax.Dimension(name, None, name.span)


def _shape_names(shape: syntax.Shape) -> Iterator[syntax.Name]:
    match shape:
        case syntax.Scalar():
            pass
        case syntax.Vector(size):
            yield from _size_names(size)
        case syntax.Matrix(rows, cols):
            yield from _size_names(rows)
            yield from _size_names(cols)
        case syntax.List(count, item):
            yield from _size_names(count)
            yield from _shape_names(item)


def _size_names(size: syntax.Expression) -> Iterator[syntax.Name]:
    match size:
        case syntax.Reference(name):
            yield name
        case syntax.Binary(_, left, right):
            yield from _size_names(left)
            yield from _size_names(right)
        case _:
            pass


def _dimensions(arguments: ast.arguments, places: Places) -> Iterator[syntax.Dimension]:
    """What stands behind `*`: sizes, and constants with their values."""
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        name = places.name(argument.arg, argument)
        if argument.annotation is not None:
            message = f"`{argument.arg}` stands behind `*`, among sizes and constants, which have no annotation"
            advice = "move it in front of the `*`, or remove its annotation"
            places.error("F701", message, advice, argument.annotation)
            places.leave_out(argument)
            continue
        bound = None if default is None else _bound(name, default, places)
        end = name.span.end if bound is None else bound.span.end
        yield syntax.Dimension(name, bound, Span(name.span.start, end))


def _bound(name: syntax.Name, default: ast.expr, places: Places) -> syntax.Bound | None:
    sign, number = 1, default
    if isinstance(number, ast.UnaryOp) and isinstance(number.op, ast.USub):
        sign, number = -1, number.operand
    match number:
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            exact = literals.python_number(places.text(number), value, places.span(number))
            if isinstance(exact, Diagnostic):
                places.diagnostics.append(exact)
                return None
            return syntax.Bound(sign * exact, places.span(default))
        case _:
            message = f"the constant `{name.text}` is no number"
            places.error("F701", message, f"write its value: `*, {name.text}=16`", default)
            return syntax.Bound(Fraction(1), places.span(default))

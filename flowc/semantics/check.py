"""Syntax tree -> Model.

In: a `Spec` and its `Source`. Out: a `Model` in which every name, shape and size is resolved. Refuses what the language
refuses, with all errors of the spec in one `FlowError`. Imports neither torch nor sympy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowc.diagnostics import FlowError
from flowc.semantics.cautions import warnings
from flowc.semantics.constants import dimensions
from flowc.semantics.declarations import Declared, declare
from flowc.semantics.expressions import Typer
from flowc.semantics.extent import counted, written_out
from flowc.semantics.model import Model
from flowc.semantics.names import RESERVED, Names, Report, Result, Symbolic, Unknown
from flowc.semantics.shifts import unshifted
from flowc.semantics.statements import Stepper
from flowc.source import Source
from flowc.syntax import tree as syntax
from flowc.syntax.parse import read
from flowc.syntax.printer import canonical
from flowc.syntax.reading import Reading

__all__ = ["check", "load", "loaded", "warnings"]


def load(text: str, name: str = "<text>") -> Model:
    """The model of the spec `text`, named `name` in diagnostics; FlowError with all errors of syntax and meaning."""
    return loaded(Source(name, text))


def loaded(source: Source) -> Model:
    """The model of the spec in `source`; FlowError with all errors of syntax and meaning."""
    reading = read(source)
    if reading.spec is None:
        raise FlowError(source, reading.diagnostics)
    return _checked(reading.spec, source, reading)


def check(spec: syntax.Spec, source: Source) -> Model:
    """The model of `spec`; FlowError with all its errors."""
    return _checked(spec, source, Reading(spec, (), frozenset()))


def _checked(spec: syntax.Spec, source: Source, reading: Reading) -> Model:
    report = Report(source)
    names = Names(report, reading.broken, frozenset(_lets(spec.items)))
    if spec.name.text in RESERVED:
        message = f"`{spec.name.text}` is a reserved word and can't be a name"
        report.error("F204", message, f"choose another name, such as `{spec.name.text}_`", spec.name.span)
    if not counted(spec, report):
        raise FlowError(source, (*reading.diagnostics, *report.diagnostics))
    declared = declare(spec, names)
    for target in _targets(spec.items):
        if names.find(target.text) is None:
            names.declare(target, Result())
    stepper = Stepper(names, Typer(names, set(reading.broken)))
    statements = stepper.steps(spec.items)
    if not reading.diagnostics:
        _whole(spec, declared, stepper)
    if not report.diagnostics:
        written_out(statements, report)
    if report.diagnostics or reading.diagnostics:
        raise FlowError(source, (*reading.diagnostics, *report.diagnostics))
    model = Model(
        spec.name.text,
        spec.doc,
        tuple(dimensions(spec, names)),
        declared.inputs,
        declared.states,
        statements,
        source,
        canonical(spec),
    )
    return unshifted(model)


def _lets(items: Sequence[syntax.Item]) -> Iterator[str]:
    for item in items:
        match item:
            case syntax.Let(name):
                yield name.text
            case syntax.Repeat():
                yield from _lets(item.body)
            case _:
                pass


def _targets(items: Sequence[syntax.Item]) -> Iterator[syntax.Name]:
    """The names that are assigned with an index, in order."""
    for item in items:
        match item:
            case syntax.Assign(target) if target.subscripts:
                yield target.name
            case syntax.Repeat():
                yield from _targets(item.body)
            case _:
                pass


# -- the spec as a whole ------------------------------------------------------------------------------------------


def _whole(spec: syntax.Spec, declared: Declared, stepper: Stepper) -> None:
    """What can be told only at the end: states never written, sizes never bound, parts that are missing."""
    report = stepper.names.report
    for state in declared.states:
        if state.name not in stepper.written:
            message = f"the state `{state.name}` is never written"
            report.error("F407", message, report.words.assign_state.format(state.name), state.span)
    if not any(isinstance(meaning, Unknown) for meaning in stepper.names.scopes[0].values()):
        _bound(spec, declared, stepper.names)
    kinds = [type(item) for item in spec.items]
    misspelled = any(d.code == "F207" for d in report.diagnostics)  # an output without its `[t]`
    missing = [
        (not stepper.outputs and not misspelled, "output", report.words.assign_output),
        (syntax.State not in kinds, "state", report.words.declare_state),
        (syntax.Input not in kinds, "input", report.words.declare_input),
    ]
    for absent, what, advice in missing:
        if absent:
            report.error("F410", f"`{spec.name.text}` has no {what}", advice, spec.name.span)


def _bound(spec: syntax.Spec, declared: Declared, names: Names) -> None:
    bound = {size.symbol for tensor in declared.inputs for size in tensor.shape.sizes}
    for dimension in spec.dimensions:
        if isinstance(names.find(dimension.name.text), Symbolic) and dimension.name.text not in bound:
            name = dimension.name.text
            message = f"no input tells the size `{name}`"
            advice = f"give an input or param an axis `{name}`, or {names.report.words.fix_size.format(name)}"
            names.report.error("F502", message, advice, dimension.span)

"""A decorated Python function -> syntax tree.

In: the `Source` of a Python file with the place of a function in it. Out: a `Reading`, as for a text of the language:
the same tree, with spans into the file, and everything that is wrong with the function. Nothing is run. Refuses
functions that are longer than a spec may be, hold characters that a spec may not, or are no plain `def`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import cleandoc

from flowc.source import Source, Span
from flowc.syntax import tree as syntax
from flowc.syntax.python.places import Places
from flowc.syntax.python.scope import around, stored
from flowc.syntax.python.signature import Signature, read_signature
from flowc.syntax.python.steps import Steps
from flowc.syntax.python.values import Values
from flowc.syntax.reading import Reading, is_forbidden, unreadable

UNNAMED = "o"
"""The output that an expression behind `return` is."""

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def read_function(source: Source, offset: int) -> Reading:
    """The syntax tree of the function at `offset` of a Python file, and what is wrong with it."""
    module = ast.parse(source.text)
    places = Places(source)
    function = next(node for node in functions(module) if places.span(node).start == offset)
    refused = tuple(unreadable(source.text, places.span(function), "write one spec per function"))
    if refused:
        return Reading(None, refused, frozenset())
    if not isinstance(function, ast.FunctionDef):
        _refuse_kind(function, places)
        return Reading(None, tuple(places.diagnostics), frozenset())
    spec = _Reader(function, module, places).spec()
    return Reading(spec, tuple(places.diagnostics), frozenset(places.broken))


def functions(module: ast.Module) -> Iterator[Function]:
    """Every function of a file."""
    return (node for node in ast.walk(module) if isinstance(node, Function))


def _refuse_kind(function: ast.AsyncFunctionDef | ast.Lambda, places: Places) -> None:
    span = places.span(function)
    if isinstance(function, ast.Lambda):
        message, advice = "a spec is no lambda", "write a `def` with an annotation for every argument"
        places.error("F707", message, advice, span)
    else:
        message, advice = "a spec is no `async` function", "write `def`: the function is read, and never run"
        places.error("F707", message, advice, Span(span.start, span.start + len("async")))


@dataclass(frozen=True, slots=True)
class _Returned:
    """What stands behind `return`: the states and outputs that are named, and the expression that is not."""

    states: frozenset[str]
    outputs: tuple[str, ...]
    unnamed: ast.expr | None


class _Reader:
    """Reads one function."""

    def __init__(self, function: ast.FunctionDef, module: ast.Module, places: Places) -> None:
        self.function, self.places = function, places
        self.name = places.name(function.name, function, len("def"))
        self.signature: Signature = read_signature(function.args, places)
        self.states = self.signature.named(syntax.State)
        self.stored = stored(function.body)
        self.values = Values(
            places,
            self.states,
            self.signature.named(syntax.Input),
            self.signature.names | self.stored | {"I"},
            around(function, module),
        )

    def spec(self) -> syntax.Spec:
        """The spec, without the statements that are wrong."""
        self._refuse_decoration()
        body, doc = self._body()
        returned = self._returned(body)
        outputs = frozenset() if returned is None else frozenset(returned.outputs)
        steps = Steps(self.places, self.values, outputs, self.signature.wrong)
        last = isinstance(body[-1], ast.Return) if body else False
        items = [*self.signature.declarations, *steps.items(body[:-1] if last else body)]
        if returned is not None and returned.unnamed is not None:
            name = syntax.Name(UNNAMED, self.places.span(returned.unnamed))
            items += steps.output(name, returned.unnamed)
        if returned is not None:
            self._check_order(returned, items, body[-1])
        return syntax.Spec(self.name, doc, self.signature.dimensions, tuple(items), self.places.span(self.function))

    def _refuse_decoration(self) -> None:
        """Refuse type parameters and a return annotation, which would say nothing."""
        parameters: Sequence[ast.expr] = getattr(self.function, "type_params", ())  # from Python 3.12 on
        if parameters:
            message = f"`{self.name.text}` has type parameters"
            advice = "remove them: a size is declared by the annotation that names it, or behind `*`"
            self.places.error("F707", message, advice, parameters[0])
        if self.function.returns is not None:
            message = f"`{self.name.text}` has a return annotation"
            advice = "remove it: the outputs' shapes follow from the arguments' annotations"
            self.places.error("F707", message, advice, self.function.returns)

    def _body(self) -> tuple[list[ast.stmt], str]:
        """The statements behind the docstring, and the docstring as the comment block of a spec has it."""
        match self.function.body:
            case [ast.Expr(ast.Constant(str() as text)), *rest]:
                doc = "\n".join(line.rstrip() for line in cleandoc(text).split("\n")).strip("\n")
                wrong = next((c for c in doc if is_forbidden(c)), None)
                if wrong is not None:
                    message = f"the character U+{ord(wrong):04X} can't stand in a spec"
                    advice = "remove it from the docstring, or write the backslash of its escape twice"
                    self.places.error("F102", message, advice, self.function.body[0])
                return rest, doc
            case body:
                return body, ""

    # -- what is returned ----------------------------------------------------------------------------------------

    def _returned(self, body: Sequence[ast.stmt]) -> _Returned | None:
        """The names and the expression behind the last line's `return`; None where there is none."""
        match body:
            case [*_, ast.Return(ast.expr() as value)]:
                parts = value.elts if isinstance(value, ast.Tuple) else [value]
                return self._sorted(parts, value)
            case _:
                message = f"`{self.name.text}` returns nothing"
                shown = ", ".join((*self._declared_states(), "..."))
                self.places.error("F705", message, f"end with `return {shown}`: states and outputs", self.name.span)
                return None

    def _sorted(self, parts: Sequence[ast.expr], value: ast.expr) -> _Returned:
        """States, outputs and the unnamed expression among `parts`."""
        seen: list[str] = []
        unnamed: ast.expr | None = None
        for part in parts:
            match part:
                case ast.Name(name) if name in seen:
                    advice = "return it once; to put a state out, name its value: `o = S`"
                    self.places.error("F705", f"`{name}` is returned twice", advice, part)
                case ast.Name(name) if name in self.signature.wrong:
                    pass
                case ast.Name(name) if name in self.states | self.stored:
                    seen.append(name)
                case ast.Name(name) if name in self.signature.names:
                    message, advice = f"`{name}` is an argument, and names no output", f"name its value: `o = {name}`"
                    self.places.error("F705", message, advice, part)
                case _ if unnamed is not None:
                    message = f"`{UNNAMED}` is already the expression in front of this one"
                    self.places.error("F705", message, "assign each output to a name, and return the names", part)
                case _:
                    unnamed = self._check_unnamed(part)
        for state in self._declared_states():
            if state not in seen:
                advice = f"return it in front of the outputs: `return {state}, ...`"
                self.places.error("F705", f"the state `{state}` is not returned", advice, value)
        outputs = tuple(name for name in seen if name not in self.states)
        return _Returned(self.states & set(seen), outputs, unnamed)

    def _declared_states(self) -> list[str]:
        """The states, in the order of the arguments."""
        return [d.names[0].text for d in self.signature.declarations if isinstance(d, syntax.State)]

    def _check_unnamed(self, part: ast.expr) -> ast.expr | None:
        """`part` if it can be the output without a name."""
        if UNNAMED in self.stored | self.signature.names:
            message = f"an expression is returned as `{UNNAMED}`, and `{UNNAMED}` is another value"
            self.places.error("F705", message, "assign the expression to a name, and return that", part)
            return None
        return part

    def _check_order(self, returned: _Returned, items: Sequence[syntax.Item], node: ast.stmt) -> None:
        """Refuse outputs that are returned in another order than they are assigned, which is that of the op."""
        assigned = [i.target.name.text for i in items if isinstance(i, syntax.Assign)]
        outputs = (*returned.outputs, *((UNNAMED,) if returned.unnamed is not None else ()))
        order = sorted(outputs, key=lambda name: assigned.index(name) if name in assigned else len(assigned))
        if tuple(order) != outputs and set(outputs) <= set(assigned):
            message = "the outputs are returned in another order than they are assigned"
            advice = f"write `return {', '.join((*self._declared_states(), *order))}`, or change the order above"
            self.places.error("F705", message, advice, node)

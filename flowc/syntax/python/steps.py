"""The body of a Python function -> the statements of a spec.

In: statements of `ast`, and the names that are outputs. Out: `S = ...` as an assignment of the state at `[t]`, any
other name as an output if it is returned and as a `let` if not, `for r in range(R)` as a `repeat`. Refuses every other
statement; one that is wrong is reported and left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flowc.source import Span
from flowc.syntax import tree as syntax
from flowc.syntax.python.places import Places
from flowc.syntax.python.values import Values, before, now

LOOP = "for r in range(R):"

_WHERE = "write `where(a < b, x, y)` for a value that depends on a condition"
_READ = "remove it: the function is read, and never run"
_REFUSED: dict[type[ast.stmt], tuple[str, str]] = {
    ast.If: ("`if`", _WHERE),
    ast.Match: ("`match`", _WHERE),
    ast.While: ("`while`", f"write `{LOOP}`"),
    ast.AsyncFor: ("`async for`", f"write `{LOOP}`"),
    ast.Break: ("`break`", f"a loop `{LOOP}` runs to its end"),
    ast.Continue: ("`continue`", f"a loop `{LOOP}` runs to its end"),
    ast.FunctionDef: ("nested functions", "write the expressions where they are used"),
    ast.AsyncFunctionDef: ("nested functions", "write the expressions where they are used"),
    ast.ClassDef: ("nested classes", _READ),
    ast.With: ("`with`", _READ),
    ast.AsyncWith: ("`with`", _READ),
    ast.Try: ("`try`", _READ),
    ast.TryStar: ("`try`", _READ),
    ast.Assert: ("`assert`", 'declare a range, such as `g: "scalar <= 0"`, which `check=True` at a call enforces'),
    ast.Import: ("imports", "call the functions of the language by their names, such as `exp(x)`"),
    ast.ImportFrom: ("imports", "call the functions of the language by their names, such as `exp(x)`"),
    ast.Global: ("`global`", "declare every value as an argument"),
    ast.Nonlocal: ("`nonlocal`", "declare every value as an argument"),
    ast.Raise: ("`raise`", _READ),
    ast.Delete: ("`del`", "remove it: names are given once and keep their values"),
    ast.Pass: ("`pass`", "remove it"),
    ast.AnnAssign: ("annotated assignments", "write `name = value`: shapes follow from the arguments' annotations"),
    ast.Expr: ("expressions without an effect", "assign the value to a name, or remove it"),
}
"""What a spec has none of, with what to write instead."""


@dataclass(slots=True)
class Steps:
    """Translates statements, one after another."""

    places: Places
    values: Values
    outputs: frozenset[str]
    undeclared: frozenset[str]
    """Arguments of which is not known what they are: nothing is said about assigning them."""

    def items(self, nodes: Sequence[ast.stmt]) -> Iterator[syntax.Item]:
        """The statements of `nodes` in which nothing is wrong."""
        for node in nodes:
            before_it = len(self.places.diagnostics)
            found = tuple(self._items(node))
            if len(self.places.diagnostics) == before_it or isinstance(node, ast.For):
                yield from found
            else:
                self.places.leave_out(node)

    def output(self, name: syntax.Name, node: ast.expr) -> Iterator[syntax.Item]:
        """The output `name` that is the expression `node`."""
        before_it = len(self.places.diagnostics)
        value, span = self.values.expression(node), self.places.span(node)
        if len(self.places.diagnostics) == before_it:
            yield syntax.Assign(syntax.Reference(name, (now(span),), name.span), value, span)

    def _items(self, node: ast.stmt) -> Iterator[syntax.Item]:
        match node:
            case ast.Assign([ast.Name(name)], value) if name in self.undeclared:
                self.values.expression(value)
            case ast.Assign([ast.Name() as target], value):
                yield self._assign(target, value, self.places.span(node))
            case ast.Assign(targets, _):
                message = "one statement assigns one name"
                if len(targets) > 1:
                    where, advice = targets[1], "put the next assignment on a line of its own"
                elif isinstance(targets[0], ast.Subscript):
                    where, advice = targets[0], "write `S = ...` for all of a state; a list of inputs is only read"
                else:
                    where, advice = targets[0], "write a line `name = value` for each"
                self.places.error("F702", message, advice, where)
            case ast.AugAssign(ast.Name(name)):
                message, advice = "a spec has no augmented assignments", f"write the whole one: `{name} = {name} + ...`"
                self.places.error("F702", message, advice, node)
            case ast.For():
                yield from self._repeat(node)
            case ast.Return():
                message, advice = "`return` stands above the end", "write one `return`, as the last line"
                self.places.error("F705", message, advice, node)
            case _:
                what, advice = _REFUSED.get(type(node), (f"`{type(node).__name__}`", _READ))
                self.places.error("F702", f"a spec has no {what}", advice, self._head(node))

    def _assign(self, target: ast.Name, written: ast.expr, span: Span) -> syntax.Let | syntax.Assign:
        value = self.values.expression(written)
        name, place = self.places.name(target.id, target), self.places.span(target)
        if name.text in self.values.states:
            self.values.assigned.add(name.text)
        elif name.text not in self.outputs:
            return syntax.Let(name, value, span)
        return syntax.Assign(syntax.Reference(name, (now(place),), place), value, span)

    # -- loops ---------------------------------------------------------------------------------------------------

    def _repeat(self, node: ast.For) -> Iterator[syntax.Item]:
        """The loop `node`, behind assignments of the old values that it starts from."""
        head = self._head(node)
        index, count = self._range(node)
        first = self._carry(node)
        body = tuple(self.items(node.body))
        if node.orelse:
            message, advice = "a spec has no `else` of a loop", "write it below the loop, without `else`"
            self.places.error("F702", message, advice, node.orelse[0])
        if first:
            for state in sorted(self.values.wanted):
                name = syntax.Name(state, head)
                reference = syntax.Reference(name, (now(head),), head)
                yield syntax.Assign(reference, syntax.Reference(name, (before(head),), head), head)
            self.values.assigned |= self.values.wanted
            self.values.carried.clear()
            self.values.wanted.clear()
        if index is None or count is None:
            self.places.leave_out(node)
        elif body:
            yield syntax.Repeat(index, count, body, Span(head.start, count.span.end))

    def _carry(self, node: ast.For) -> bool:
        """Note the states that the outermost loop `node` assigns first; whether it is the outermost."""
        if self.values.carried:
            return False
        stored = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        self.values.carried |= (stored & self.values.states) - self.values.assigned
        return bool(self.values.carried)

    def _range(self, node: ast.For) -> tuple[syntax.Name | None, syntax.Expression | None]:
        """The index and the number of rounds."""
        index = count = None
        match node.target:
            case ast.Name(name) as target:
                index = self.places.name(name, target)
            case target:
                self.places.error("F704", "a loop has one index", f"write `{LOOP}`", target)
        match node.iter:
            case ast.Call(ast.Name("range"), [ast.expr() as size], []) if not isinstance(size, ast.Starred):
                count = self.values.expression(size)
            case ast.Call(ast.Name("range")) as iterated:
                message = "a loop runs from 0 in steps of 1, and `range` takes the number of rounds alone"
                self.places.error("F704", message, f"write `{LOOP}`", iterated)
            case iterated:
                message = "a loop runs over `range(R)`, where R is a size"
                self.places.error("F704", message, f"write `{LOOP}` and `k[r]` for an element of a list", iterated)
        return index, count

    def _head(self, node: ast.stmt) -> Span:
        """The first line of a statement, as far as it goes."""
        span = self.places.span(node)
        end = self.places.source.text.find("\n", span.start)
        return Span(span.start, min(span.end, end if end >= 0 else span.end))

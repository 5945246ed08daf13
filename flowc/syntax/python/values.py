"""Python expressions -> expressions of the syntax tree.

In: nodes of `ast`, and which states have been assigned so far in the step. Out: the same expression as the language's
own text would give: `S` is `S[t-1]` before the state's first assignment and `S[t]` behind it, `prev(S)` is `S[t-1]`
anywhere. Refuses what a spec has no word for; an error is reported, and stands in the tree as the number 0.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from flowc.diagnostics import Diagnostic
from flowc.source import Span
from flowc.syntax import literals
from flowc.syntax import tree as syntax
from flowc.syntax.layout import NESTING
from flowc.syntax.python.places import Places

PREVIOUS = "prev"
"""The function whose value is its argument one token ago."""

_OPERATORS: dict[type[ast.operator], syntax.Operator] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.MatMult: "@",
    ast.Pow: "**",
}
_RELATIONS: dict[type[ast.cmpop], syntax.Relation] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_WHERE = "write `where(a < b, x, y)`, which takes both entry by entry"
_REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.FloorDiv: ("`//`", "write `/`"),
    ast.Mod: ("remainders", "write what is meant with `+ - * / @ **` and functions"),
    ast.BitXor: ("`^`", "write `**` for a power and `.T` for a transpose"),
    ast.BitAnd: ("`&`", _WHERE),
    ast.BitOr: ("`|`", _WHERE),
    ast.LShift: ("`<<`", "write `a * 2**n`"),
    ast.RShift: ("`>>`", "write `a / 2**n`"),
    ast.UAdd: ("unary plus", "remove it"),
    ast.Not: ("`not`", _WHERE),
    ast.Invert: ("`~`", "write `1 - a`"),
    ast.IfExp: ("conditional expressions", _WHERE),
    ast.BoolOp: ("`and` and `or`", _WHERE),
    ast.Lambda: ("lambdas", "write the expression where it is used, or assign its value to a name"),
    ast.ListComp: ("comprehensions", "write a loop `for r in range(R):` that changes a state"),
    ast.SetComp: ("comprehensions", "write a loop `for r in range(R):` that changes a state"),
    ast.DictComp: ("comprehensions", "write a loop `for r in range(R):` that changes a state"),
    ast.GeneratorExp: ("comprehensions", "write a loop `for r in range(R):` that changes a state"),
    ast.List: ("lists", "declare an input as `R of K` for a list of columns"),
    ast.Tuple: ("tuples", "assign each value to a name of its own; only `return` takes several"),
    ast.Set: ("sets", "assign each value to a name of its own"),
    ast.Dict: ("dictionaries", "assign each value to a name of its own"),
    ast.JoinedStr: ("strings", "only annotations and the docstring are strings"),
    ast.NamedExpr: ("`:=`", "assign on a line of its own"),
    ast.Await: ("`await`", "remove it: the function is read, and never run"),
    ast.Yield: ("`yield`", "end with `return`, followed by the states and the outputs"),
    ast.YieldFrom: ("`yield`", "end with `return`, followed by the states and the outputs"),
    ast.Starred: ("`*`-arguments", "write every argument"),
}
"""What a spec has none of, with what to write instead."""


@dataclass(slots=True)
class Values:
    """Translates expressions; the statements around it say which states are assigned.

    `carried` are the states that an open loop assigns and nothing above it does: read in the loop, such a state is its
    value so far, so that the loop has to start from the old one; `wanted` collects those that are.
    """

    places: Places
    states: frozenset[str]
    inputs: frozenset[str]
    known: frozenset[str]
    """Every name that the function gives a meaning."""
    outside: frozenset[str]
    """Names that have a value around the function."""
    assigned: set[str] = field(default_factory=set)
    carried: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)

    def expression(self, node: ast.expr) -> syntax.Expression:
        """The expression `node`."""
        if _depth(node) > NESTING:
            message, advice = f"this is nested more than {NESTING} levels deep", "assign parts of it to names"
            return self._refuse("F104", message, advice, node)
        return self._value(node)

    def _refuse(self, code: str, message: str, advice: str, node: ast.expr) -> syntax.Number:
        self.places.error(code, message, advice, node)
        return syntax.Number(Fraction(0), self.places.span(node))

    def _no(self, kind: type[ast.AST], node: ast.expr) -> syntax.Number:
        what, advice = _REFUSED.get(kind, (f"`{kind.__name__}`", "write a value of the language"))
        return self._refuse("F703", f"a spec has no {what}", advice, node)

    def _value(self, node: ast.expr) -> syntax.Expression:
        span = self.places.span(node)
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.UnaryOp(ast.USub(), operand):
                return syntax.Negate(self._value(operand), span)
            case ast.UnaryOp(op):
                return self._no(type(op), node)
            case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
                return syntax.Binary(_OPERATORS[type(op)], self._value(left), self._value(right), span)
            case ast.BinOp(_, op, _):
                return self._no(type(op), node)
            case ast.Compare():
                return self._comparison(node)
            case ast.Attribute(value, "T"):
                return syntax.Transpose(self._value(value), span)
            case ast.Attribute(ast.Name(base), attribute) if self._is_outside(base):
                return self._outside(attribute, node)
            case ast.Attribute(value, attribute):
                point = self.places.span(value).end
                message = f"`.{attribute}` is no attribute of a value"
                advice = "write `.T` for the transpose; nothing else follows a point"
                self.places.error("F108", message, advice, Span(point, span.end))
                return syntax.Number(Fraction(0), span)
            case ast.Call():
                return self._call(node)
            case _:
                return self._no(type(node), node)

    # -- numbers and names ---------------------------------------------------------------------------------------

    def _constant(self, node: ast.Constant) -> syntax.Expression:
        span = self.places.span(node)
        match node.value:
            case bool() | None:
                return self._refuse("F703", f"a spec has no `{node.value}`", _WHERE, node)
            case int() | float():
                value = literals.python_number(self.places.text(node), node.value, span)
                if isinstance(value, Diagnostic):
                    self.places.diagnostics.append(value)
                    return syntax.Number(Fraction(0), span)
                return syntax.Number(value, span)
            case str() | bytes():
                return self._no(ast.JoinedStr, node)
            case _:
                message = f"a spec has no `{self.places.text(node)}`"
                return self._refuse("F703", message, "write a real number, or the value that is meant", node)

    def _name(self, node: ast.Name) -> syntax.Expression:
        name, span = self.places.name(node.id, node), self.places.span(node)
        if name.text in self.states:
            return syntax.Reference(name, (self._time(name.text, span),), span)
        if self._is_outside(name.text):
            return self._outside(name.text, node)
        return syntax.Reference(name, (), span)

    def _is_outside(self, name: str) -> bool:
        return name in self.outside and name not in self.known

    def _outside(self, name: str, node: ast.expr) -> syntax.Number:
        message = f"`{self._shown(node)}` is a value from outside the function, which is read and never run"
        advice = f'declare it: `*, {name}=2` for a number, `{name}: "param K"` for a tensor'
        return self._refuse("F706", message, advice, node)

    def _time(self, state: str, span: Span) -> syntax.Expression:
        """`t` or `t-1`, as the state is so far."""
        if state in self.assigned:
            return now(span)
        if state in self.carried:
            self.wanted.add(state)
            return now(span)
        return before(span)

    def _subscript(self, node: ast.Subscript) -> syntax.Expression:
        match node.value:
            case ast.Name(name) if name in self.states:
                advice = f"write `{name}`, or `prev({name})` for its old value"
                return self._refuse("F405", f"`{name}` is a state, no list", advice, node)
            case ast.Name(name):
                index = self._index(node)
                return syntax.Reference(self.places.name(name, node.value), (index,), self.places.span(node))
            case ast.Call(ast.Name(called), [ast.Name(name) as base], []) if called == PREVIOUS and name in self.inputs:
                subscripts = (self._index(node), before(self.places.span(node)))
                return syntax.Reference(self.places.name(name, base), subscripts, self.places.span(node))
            case _:
                message = "only the name of a list has elements"
                return self._refuse("F405", message, "write `k[r]` for an input declared as `R of K`", node)

    def _index(self, node: ast.Subscript) -> syntax.Expression:
        match node.slice:
            case ast.Name(name) as index if name not in self.states:
                return self._value(index)
            case ast.Constant(int() as number) as index if not isinstance(number, bool):
                return self._value(index)
            case index:
                message = f"`{self._shown(index)}` is no element of a list"
                advice = "write `[0]` or a loop's `[r]`, and `prev(x)` for the value of the token before"
                return self._refuse("F109", message, advice, index)

    def _shown(self, node: ast.expr) -> str:
        text = self.places.text(node)
        return text if len(text) <= 32 and "\n" not in text and "`" not in text else "this"

    # -- calls and comparisons -----------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> syntax.Expression:
        match node.func:
            case ast.Name(name) if name == PREVIOUS:
                return self._previous(node)
            case ast.Name(name):
                arguments = [*map(self._argument, node.args), *map(self._keyword, node.keywords)]
                return syntax.Call(self.places.name(name, node), tuple(arguments), self.places.span(node))
            case ast.Attribute(_, name):
                message = f"`{self._shown(node.func)}` is no function of a spec"
                advice = f"functions stand by themselves and take all they need as arguments, such as `{name}(x)`"
                return self._refuse("F703", message, advice, node.func)
            case _:
                return self._refuse("F703", "only a name can be called", "write a function such as `exp(x)`", node.func)

    def _argument(self, node: ast.expr) -> syntax.Argument:
        return syntax.Argument(None, self._value(node), self.places.span(node))

    def _keyword(self, node: ast.keyword) -> syntax.Argument:
        if node.arg is None:
            return syntax.Argument(None, self._no(ast.Starred, node.value), self.places.span(node))
        return syntax.Argument(self.places.name(node.arg, node), self._value(node.value), self.places.span(node))

    def _previous(self, node: ast.Call) -> syntax.Expression:
        """`prev(S)` of a state, `prev(x)` or `prev(k[r])` of an input."""
        span, usage = self.places.span(node), "write `prev(S)` for a state or an input"
        if len(node.args) != 1 or node.keywords:
            return self._refuse("F306", "`prev` takes 1 argument", usage, node)
        match node.args[0]:
            case ast.Name(name) as argument if name in self.states | self.inputs:
                return syntax.Reference(self.places.name(name, argument), (before(span),), span)
            case ast.Subscript(ast.Name(name) as base) as argument if name in self.inputs:
                subscripts = (self._index(argument), before(span))
                return syntax.Reference(self.places.name(name, base), subscripts, span)
            case argument:
                message = f"`{self._shown(argument)}` is no state and no input: it has no value of the token before"
                return self._refuse("F403", message, f"{usage}; carry any other value in a state", argument)

    def _comparison(self, node: ast.Compare) -> syntax.Expression:
        if len(node.ops) > 1:
            message, advice = "a spec has no chained comparisons", "compare twice, one `where` inside the other"
            return self._refuse("F703", message, advice, node)
        relation = _RELATIONS.get(type(node.ops[0]))
        if relation is None:
            message = "a condition is one of `<`, `<=`, `>` and `>=`"
            return self._refuse("F703", message, "write one of these, inside `where`", node)
        left, right = self._value(node.left), self._value(node.comparators[0])
        return syntax.Comparison(relation, left, right, self.places.span(node))


def now(span: Span) -> syntax.Reference:
    """The time `t`."""
    return syntax.Reference(syntax.Name("t", span), (), span)


def before(span: Span) -> syntax.Binary:
    """The time `t-1`."""
    return syntax.Binary("-", now(span), syntax.Number(Fraction(1), span), span)


def _depth(node: ast.expr) -> int:
    """How deep `node` is, found without recursion."""
    deepest, level = 0, [node]
    while level:
        deepest, level = deepest + 1, [operand for parent in level for operand in _operands(parent)]
    return deepest


def _operands(node: ast.expr) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.expr():
                yield child
            case ast.keyword(_, value):
                yield value
            case _:
                pass

"""The grammar's tree -> the syntax tree.

In: Lark's tree of a text and the text. Out: a `Spec`, with the errors that the grammar alone does not see: expressions
nested past the cap, numbers too large, attributes other than `.T`, names that are no identifiers. A part that is
wrong is left out with its statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import cast

from lark import Token, Tree

from flowc.diagnostics import Diagnostic
from flowc.source import Span
from flowc.syntax import literals
from flowc.syntax import tree as syntax
from flowc.syntax.layout import NESTING, too_deep

Node = Tree[Token]


@dataclass(frozen=True, slots=True)
class Built:
    """A spec without its wrong statements, what is wrong with them, and their text."""

    spec: syntax.Spec
    diagnostics: tuple[Diagnostic, ...]
    left_out: str


def build(tree: Node, text: str) -> Built:
    """The spec that `tree`, of `text`, stands for, and the errors found on the way."""
    builder = _Builder(text)
    spec = builder.spec(tree)
    return Built(spec, tuple(builder.diagnostics), " ".join(builder.left_out))


def build_annotation(tree: Node, text: str) -> tuple[syntax.Input | syntax.Param | syntax.State, list[Diagnostic]]:
    """The declaration, of no name yet, that the annotation `text` makes, and the errors in it."""
    builder = _Builder(text)
    return builder.declaration(tree), builder.diagnostics


def docstring(text: str) -> str:
    """The comment block at the top of `text`, without the `#` and one space behind it."""
    lines: list[str] = []
    for line in text.removeprefix("\ufeff").split("\n"):
        words = line.strip()
        if words.startswith("#"):
            lines.append(words[1:].removeprefix(" ").rstrip())
        elif words or lines:
            break
    return "\n".join(lines).strip("\n")


def _span(tree: Node) -> Span:
    return Span(tree.meta.start_pos, tree.meta.end_pos)


def _place(token: Token) -> Span:
    return Span(token.start_pos or 0, token.end_pos or 0)


def _trees(tree: Node) -> list[Node]:
    return [child for child in tree.children if isinstance(child, Tree)]


def _tokens(tree: Node) -> list[Token]:
    return [child for child in tree.children if isinstance(child, Token)]


def _depth(tree: Node) -> int:
    """How deep `tree` is, found without recursion."""
    deepest, level = 0, [tree]
    while level:
        deepest, level = deepest + 1, [child for node in level for child in _trees(node)]
    return deepest


class _Builder:
    """Turns nodes into dataclasses, one method per kind of node, and collects errors."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.diagnostics: list[Diagnostic] = []
        self.left_out: list[str] = []

    def spec(self, tree: Node) -> syntax.Spec:
        """The rule `spec`."""
        name, *rest = _trees(tree)
        dimensions = tuple(self._dimension(node) for node in rest if node.data == "dimension")
        items = self._items([node for node in rest if node.data != "dimension"])
        return syntax.Spec(self._name(name), docstring(self.text), dimensions, items, _span(tree))

    def _error(self, code: str, message: str, advice: str, span: Span) -> None:
        self.diagnostics.append(Diagnostic(code, message, advice, span))

    # -- declarations and statements -----------------------------------------------------------------------------

    def _items(self, trees: list[Node]) -> tuple[syntax.Item, ...]:
        """The statements of `trees` in which nothing is wrong."""
        items: list[syntax.Item] = []
        for tree in trees:
            before = len(self.diagnostics)
            item = self._item(tree)
            if len(self.diagnostics) == before or tree.data == "repeat":
                items.append(item)
            else:
                self.left_out.append(self.text[tree.meta.start_pos : tree.meta.end_pos])
        return tuple(items)

    def _item(self, tree: Node) -> syntax.Item:
        parts = _trees(tree)
        span = _span(tree)
        match tree.data:
            case "input" | "param" | "state":
                return self.declaration(tree)
            case "let":
                return syntax.Let(self._name(parts[0]), self._expression(parts[1]), span)
            case "assign":
                return syntax.Assign(self._reference(parts[0]), self._expression(parts[1]), span)
            case "repeat":
                count = self._expression(parts[1])
                body = self._items(parts[2:])
                return syntax.Repeat(self._name(parts[0]), count, body, Span(span.start, count.span.end))
            case _:
                raise AssertionError(tree.data)

    def declaration(self, tree: Node) -> syntax.Input | syntax.Param | syntax.State:
        """The rules `input`, `param` and `state`."""
        parts, span = _trees(tree), _span(tree)
        names = tuple(self._name(part) for part in parts if part.data == "name")
        shape, *more = (part for part in parts if part.data != "name")
        if tree.data == "state":
            return syntax.State(names, self._shape(shape), self._bound(more[0]) if more else None, span)
        kind = syntax.Input if tree.data == "input" else syntax.Param
        return kind(names, self._shape(shape), self._range(more[0]) if more else None, span)

    def _dimension(self, tree: Node) -> syntax.Dimension:
        name, *values = _trees(tree)
        return syntax.Dimension(self._name(name), self._bound(values[0]) if values else None, _span(tree))

    def _shape(self, tree: Node) -> syntax.Shape:
        match tree.data:
            case "list":
                count, item = _trees(tree)
                return syntax.List(self._expression(count), self._single(item), _span(tree))
            case _:
                return self._single(tree)

    def _single(self, tree: Node) -> syntax.Scalar | syntax.Vector | syntax.Matrix:
        sizes = [self._expression(part) for part in _trees(tree)]
        match sizes:
            case []:
                return syntax.Scalar(_span(tree))
            case [size]:
                return syntax.Vector(size, _span(tree))
            case _:
                return syntax.Matrix(sizes[0], sizes[1], _span(tree))

    def _range(self, tree: Node) -> syntax.Range:
        tokens, bounds, span = _tokens(tree), [self._bound(part) for part in _trees(tree)], _span(tree)
        if len(bounds) == 2:
            return syntax.Range(bounds[0], bounds[1], tokens[0].type == "LPAR", tokens[1].type == "RPAR", span)
        strict = len(tokens[0]) == 1
        if tokens[0].startswith("<"):
            return syntax.Range(None, bounds[0], False, strict, span)
        return syntax.Range(bounds[0], None, strict, False, span)

    def _bound(self, tree: Node) -> syntax.Bound:
        *minus, token = _tokens(tree)
        value = inf if token.type == "INF" else self._value(token)
        return syntax.Bound(-value if minus else value, _span(tree))

    # -- expressions ---------------------------------------------------------------------------------------------

    def _expression(self, tree: Node) -> syntax.Expression:
        if _depth(tree) > NESTING:
            self.diagnostics.append(too_deep(_span(tree)))
            return syntax.Number(Fraction(0), _span(tree))
        return self._value_of(tree)

    def _value_of(self, tree: Node) -> syntax.Expression:
        parts, span = _trees(tree), _span(tree)
        match tree.data:
            case "number":
                return syntax.Number(self._value(_tokens(tree)[0]), span)
            case "reference":
                return self._reference(tree)
            case "negate":
                return syntax.Negate(self._value_of(parts[0]), span)
            case "transpose":
                self._attribute(_tokens(tree)[0])
                return syntax.Transpose(self._value_of(parts[0]), span)
            case "binary":
                op = cast(syntax.Operator, str(_tokens(tree)[0]))
                return syntax.Binary(op, self._value_of(parts[0]), self._value_of(parts[1]), span)
            case "comparison":
                relation = cast(syntax.Relation, str(_tokens(tree)[0]))
                return syntax.Comparison(relation, self._value_of(parts[0]), self._value_of(parts[1]), span)
            case "call":
                arguments = tuple(self._argument(part) for part in parts[1:])
                return syntax.Call(self._name(parts[0]), arguments, span)
            case _:
                raise AssertionError(tree.data)

    def _reference(self, tree: Node) -> syntax.Reference:
        name, *subscripts = _trees(tree)
        indices = tuple(self._expression(_trees(part)[0]) for part in subscripts)
        return syntax.Reference(self._name(name), indices, _span(tree))

    def _argument(self, tree: Node) -> syntax.Argument:
        *keyword, value = _trees(tree)
        return syntax.Argument(self._name(keyword[0]) if keyword else None, self._value_of(value), _span(tree))

    def _attribute(self, token: Token) -> None:
        if token != ".T":
            message = f"`{token}` is no attribute of a value"
            self._error("F108", message, "write `.T` for the transpose; nothing else follows a point", _place(token))

    def _name(self, tree: Node) -> syntax.Name:
        text = str(_tokens(tree)[0])
        named = literals.name(text, _span(tree))
        if isinstance(named, Diagnostic):
            self.diagnostics.append(named)
            return syntax.Name(text, _span(tree))
        return named

    def _value(self, token: Token) -> Fraction:
        value = literals.number(str(token), _place(token))
        if isinstance(value, Diagnostic):
            self.diagnostics.append(value)
            return Fraction(0)
        return value

"""Syntax trees made by hand, and their text with more brackets than it needs.

In: expressions, and where to put brackets. Out: trees of `syntax.tree` without places, and text. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

from flowc.source import Span
from flowc.syntax import tree
from flowc.syntax.printer import number
from flowc.syntax.tree import Expression, Operator

NOWHERE = Span(0, 0)
LEVELS = {"+": 1, "-": 1, "*": 2, "/": 2, "@": 2}
UNARY, POWER, POSTFIX = 3, 4, 5

NOW = tree.Reference(tree.Name("t", NOWHERE), (), NOWHERE)
BEFORE = tree.Binary("-", NOW, tree.Number(Fraction(1), NOWHERE), NOWHERE)


def name(text: str, *subscripts: Expression) -> tree.Reference:
    """A name with subscripts."""
    return tree.Reference(tree.Name(text, NOWHERE), subscripts, NOWHERE)


def value(number: int | str | Fraction) -> tree.Number:
    """A number that is not negative."""
    return tree.Number(Fraction(number), NOWHERE)


def binary(op: Operator, left: Expression, right: Expression) -> tree.Binary:
    """`left op right`."""
    return tree.Binary(op, left, right, NOWHERE)


def times(*factors: Expression | None) -> Expression:
    """A product by `*` of the factors that there are."""
    return _chain("*", [f for f in factors if f is not None])


def matmul(*factors: Expression) -> Expression:
    """A product by `@`."""
    return _chain("@", list(factors))


def plus(*terms: Expression) -> Expression:
    """A sum."""
    return _chain("+", list(terms))


def minus(left: Expression, right: Expression) -> Expression:
    """A difference."""
    return binary("-", left, right)


def over(left: Expression, right: Expression) -> Expression:
    """A quotient."""
    return binary("/", left, right)


def negated(x: Expression) -> Expression:
    """`-x`."""
    return tree.Negate(x, NOWHERE)


def transposed(x: Expression) -> Expression:
    """`x.T`."""
    return tree.Transpose(x, NOWHERE)


def call(function: str, *arguments: Expression, **named: Expression) -> Expression:
    """A call of a function of the language."""
    given = [tree.Argument(None, a, NOWHERE) for a in arguments]
    given += [tree.Argument(tree.Name(n, NOWHERE), a, NOWHERE) for n, a in named.items()]
    return tree.Call(tree.Name(function, NOWHERE), tuple(given), NOWHERE)


def below(left: Expression, right: Expression) -> Expression:
    """`left < right`."""
    return tree.Comparison("<", left, right, NOWHERE)


def _chain(op: Operator, parts: list[Expression]) -> Expression:
    result = parts[0]
    for part in parts[1:]:
        result = binary(op, result, part)
    return result


@dataclass(frozen=True)
class Spelling:
    """How a tree is written: the names that stand for its own, and whether to put brackets where none are needed."""

    names: Mapping[str, str]
    brackets: Callable[[], bool]

    def text(self, written: Expression, level: int = 0) -> str:
        """The text of `written` where only operators that bind at least as tightly as `level` may stand bare."""
        match written:
            case tree.Number(n):
                return number(n)
            case tree.Reference(called, subscripts):
                inside = "".join(f"[{self.text(s).replace(' ', '')}]" for s in subscripts)
                return self.names.get(called.text, called.text) + inside
            case tree.Call(called, arguments):
                return f"{called.text}({', '.join(self._argument(a) for a in arguments)})"
            case tree.Transpose(inner):
                return f"{self.text(inner, POSTFIX)}.T"
            case tree.Negate(inner):
                return self._bracketed(f"-{self.text(inner, UNARY)}", level > UNARY)
            case tree.Comparison(op, left, right):
                return f"{self.text(left, 1)} {op} {self.text(right, 1)}"
            case tree.Binary("**", left, right):
                return self._bracketed(f"{self.text(left, POSTFIX)}**{self.text(right, UNARY)}", level > POWER)
            case tree.Binary(op, left, right):
                own = LEVELS[op]
                whole = f"{self.text(left, own)} {op} {self.text(right, own + 1)}"
                return self._bracketed(whole, own < level, may=True)
            case _:
                assert_never(written)

    def _argument(self, argument: tree.Argument) -> str:
        keyword = "" if argument.keyword is None else f"{argument.keyword.text}="
        return keyword + self.text(argument.value)

    def _bracketed(self, text: str, needed: bool, may: bool = False) -> str:
        return f"({text})" if needed or (may and self.brackets()) else text

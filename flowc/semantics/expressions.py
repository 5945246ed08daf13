"""Expressions -> typed expressions.

In: a written expression and the names in sight. Out: an `Expr` with its shape, or None with the errors reported, as
many as can be told apart. Refuses shapes that do not fit, and `I` where its size can't be told.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flowc.semantics import calls
from flowc.semantics.model import SCALAR, Binary, Call, Expr, Kind, Negate, Number, Shape, Transpose
from flowc.semantics.names import Names
from flowc.semantics.references import refer
from flowc.semantics.shapes import Misfit, Operand, matrix, multiplied, operated, transposed
from flowc.semantics.size import Size
from flowc.source import Span
from flowc.syntax import tree as syntax


@dataclass(slots=True)
class Typer:
    """Types expressions; `assigned` are the states that have a value for `[t]` so far."""

    names: Names
    assigned: set[str] = field(default_factory=set)
    known: dict[int, bool] = field(default_factory=dict)
    """Answers of `_floats` by the node's identity, without which nested products would be typed again and again."""

    def type(self, written: syntax.Expression, square: Size | None = None) -> Expr | None:
        """The typed expression; `square` is the size of an `I` that stands alone in it."""
        match written:
            case syntax.Number(value, span):
                return Number(value, SCALAR, span)
            case syntax.Reference():
                return self._identity(square, written.span) if self._is_identity(written) else self._reference(written)
            case syntax.Negate(inner, span):
                argument = self.type(inner, square)
                return None if argument is None else Negate(argument, argument.shape, span)
            case syntax.Transpose(inner, span):
                argument = self.type(inner, square)
                return None if argument is None else Transpose(argument, transposed(argument.shape), span)
            case syntax.Binary():
                return self._binary(written, square)
            case syntax.Comparison():
                message = "a comparison is no value"
                advice = "use it as the condition of `where(condition, a, b)`"
                self.names.report.error("F310", message, advice, written.span)
                return None
            case syntax.Call():
                return calls.call(written, self)

    def operand(self, typed: Expr) -> Operand:
        """`typed` for a sentence."""
        return Operand(typed.shape, self.names.report.text(typed.span, "..."))

    def misfit(self, misfit: Misfit, span: Span) -> None:
        """Report `misfit`."""
        self.names.report.error(misfit.code, misfit.message, misfit.help, span)

    def _reference(self, written: syntax.Reference) -> Expr | None:
        return refer(written, self.names, self.assigned)

    # -- operators -----------------------------------------------------------------------------------------------

    def _binary(self, written: syntax.Binary, square: Size | None) -> Expr | None:
        left, right = self._operands(written, square)
        if left is None or right is None:
            return None
        rule = multiplied if written.op == "@" else lambda a, b: operated(written.op, a, b)
        shape = rule(self.operand(left), self.operand(right))
        if isinstance(shape, Misfit):
            self.misfit(shape, written.span)
            return None
        return Binary(written.op, left, right, shape, written.span)

    def _operands(self, written: syntax.Binary, square: Size | None) -> tuple[Expr | None, Expr | None]:
        """Both operands; an `I` in one of them takes its size from the other."""
        floating = self._floats(written.left), self._floats(written.right)
        if floating == (True, False):
            right = self.type(written.right)
            return (
                (None, None)
                if right is None
                else (self.type(written.left, _beside(written.op, right.shape, square, 0)), right)
            )
        left = self.type(written.left, square)
        if floating == (False, True):
            return (
                (None, None)
                if left is None
                else (left, self.type(written.right, _beside(written.op, left.shape, square, 1)))
            )
        return left, self.type(written.right, square)

    # -- the identity --------------------------------------------------------------------------------------------

    def _is_identity(self, written: syntax.Expression) -> bool:
        match written:
            case syntax.Reference(syntax.Name("I"), ()):
                return self.names.find("I") is None
            case _:
                return False

    def _floats(self, written: syntax.Expression) -> bool:
        """Whether `written` is a multiple of `I` whose size is told by what stands beside it."""
        if id(written) not in self.known:
            self.known[id(written)] = self._is_floating(written)
        return self.known[id(written)]

    def _is_floating(self, written: syntax.Expression) -> bool:
        match written:
            case syntax.Negate(inner) | syntax.Transpose(inner):
                return self._floats(inner)
            case syntax.Binary(("+" | "-" | "@"), left, right):
                return self._floats(left) and self._floats(right)
            case syntax.Binary(("*" | "/") as op, left, right):
                if self._floats(left):
                    return self._floats(right) or self._is_scalar(right)
                return op == "*" and self._floats(right) and self._is_scalar(left)
            case _:
                return self._is_identity(written)

    def _is_scalar(self, written: syntax.Expression) -> bool:
        """Whether `written` is a scalar; what is wrong with it is reported elsewhere."""
        kept = len(self.names.report.diagnostics)
        typed = self.type(written)
        del self.names.report.diagnostics[kept:]
        return typed is not None and typed.shape.kind is Kind.SCALAR

    def _identity(self, square: Size | None, span: Span) -> Expr | None:
        if square is None:
            message = "the size of `I` can't be told here"
            self.names.report.error(
                "F308", message, "add it to a square matrix, or multiply it with a matrix, in one expression", span
            )
            return None
        return Call("identity", (), None, matrix(square, square), span)


def _beside(op: str, shape: Shape, square: Size | None, place: int) -> Size | None:
    """The size of an `I` that stands in `place` (0 left, 1 right) of `op` beside a value of `shape`."""
    match shape.kind:
        case Kind.SCALAR:
            return square
        case Kind.ROW:
            return shape.cols
        case Kind.COLUMN:
            return shape.rows
        case Kind.MATRIX:
            return shape.cols if op == "@" and place == 1 else shape.rows

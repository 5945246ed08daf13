"""The rules of shapes: what an operator makes of two shapes, and what it refuses.

In: shapes, and the operands' texts for the hints. Out: the resulting `Shape`, or a `Misfit` that says what is wrong and
what to write instead. Nothing here knows of names or spans.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flowc.semantics.model import SCALAR, Kind, Shape
from flowc.semantics.size import ONE, Size


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why two shapes do not go together."""

    code: str
    message: str
    help: str


@dataclass(frozen=True, slots=True)
class Operand:
    """A shape and how the spec writes what has it."""

    shape: Shape
    text: str

    def __str__(self) -> str:
        """For a sentence: text and shape."""
        return f"`{self.text}` is {described(self.shape)}"

    @property
    def factor(self) -> str:
        """Its text as a factor of a product."""
        bare = re.sub(r"\([^()]*\)|\[[^\[\]]*\]", "", self.text)
        return f"({self.text})" if " " in bare or bare.startswith("-") else self.text

    @property
    def flipped(self) -> str:
        """The text of its transpose."""
        return self.factor.removesuffix(".T") if self.factor.endswith(".T") else f"{self.factor}.T"


def column(size: Size) -> Shape:
    """A `size x 1` vector."""
    return Shape(Kind.COLUMN, rows=size)


def matrix(rows: Size, cols: Size) -> Shape:
    """A `rows x cols` matrix."""
    return Shape(Kind.MATRIX, rows, cols)


def described(shape: Shape) -> str:
    """A shape in words."""
    match shape.kind:
        case Kind.SCALAR:
            return "a scalar"
        case Kind.COLUMN:
            return f"a column `{shape}`"
        case Kind.ROW:
            return f"a row `{shape}`"
        case Kind.MATRIX:
            return f"a matrix `{shape}`"


def transposed(shape: Shape) -> Shape:
    """The shape of `x.T`."""
    match shape.kind:
        case Kind.SCALAR:
            return shape
        case Kind.COLUMN:
            return Shape(Kind.ROW, cols=shape.rows)
        case Kind.ROW:
            return Shape(Kind.COLUMN, rows=shape.cols)
        case Kind.MATRIX:
            return matrix(shape.cols, shape.rows)


def elementwise(left: Operand, right: Operand) -> Shape | Misfit:
    """Entries one by one: equal shapes, or a scalar with anything."""
    a, b = left.shape, right.shape
    if a == b or b.kind is Kind.SCALAR:
        return a
    if a.kind is Kind.SCALAR:
        return b
    message = f"shapes differ: {left} and {right}"
    if {a.kind, b.kind} == {Kind.ROW, Kind.COLUMN}:
        return Misfit("F301", message, "transpose one of them with `.T`")
    if (a.rows, a.cols) == (b.rows, b.cols):
        return Misfit("F301", message, "a matrix with one column or row is no vector: multiply it with `ones(1)`")
    return Misfit("F301", message, "give both the same shape, or make one a scalar")


def operated(op: str, left: Operand, right: Operand) -> Shape | Misfit:
    """The shape of `left op right` for all operators but `@`."""
    kinds = {left.shape.kind, right.shape.kind}
    if op in ("+", "-") and kinds == {Kind.SCALAR, Kind.MATRIX}:
        scalar, other = (left, right) if left.shape.kind is Kind.SCALAR else (right, left)
        factor = "" if scalar.text == "1" else f"{scalar.factor} * "
        spread = f"outer(ones({other.shape.rows}), ones({other.shape.cols}))"
        diagonal = f"`{factor}I` for its diagonal or " if other.shape.rows == other.shape.cols else ""
        advice = f"write {diagonal}`{factor}{spread}` for every entry"
        verb = "added" if op == "+" else "subtracted"
        return Misfit("F302", f"a scalar and a matrix can't be {verb}: {left} and {right}", advice)
    if op in ("*", "/") and Kind.MATRIX in kinds and kinds & {Kind.COLUMN, Kind.ROW}:
        return _scaling(op, left, right)
    return elementwise(left, right)


def multiplied(left: Operand, right: Operand) -> Shape | Misfit:
    """The shape of the matrix product; a row times a column is a scalar."""
    a, b = left.shape, right.shape
    if Kind.SCALAR in (a.kind, b.kind):
        message = f"`@` multiplies vectors and matrices: {left} and {right}"
        return Misfit("F304", message, "write `*` to multiply with a scalar")
    if a.cols == b.rows:
        match a.kind, b.kind:
            case Kind.ROW, Kind.COLUMN:
                return SCALAR
            case Kind.ROW, _:
                return Shape(Kind.ROW, cols=b.cols)
            case _, Kind.COLUMN:
                return column(a.rows)
            case _:
                return matrix(a.rows, b.cols)
    message = f"inner sizes of `@` differ, `{a.cols}` and `{b.rows}`: {left} and {right}"
    return Misfit("F304", message, _product_hint(left, right))


def assignable(target: Shape, value: Shape) -> bool:
    """Whether a state of shape `target` can take a value of shape `value`."""
    return target == value


def _scaling(op: str, left: Operand, right: Operand) -> Misfit:
    vector, other = (right, left) if left.shape.kind is Kind.MATRIX else (left, right)
    size = vector.shape.rows if vector.shape.kind is Kind.COLUMN else vector.shape.cols
    text = vector.text if vector.shape.kind is Kind.COLUMN else vector.flipped
    text = text if op == "*" else f"1 / {text}" if " " not in text else f"1 / ({text})"
    rows, cols = f"`diag({text}) @ {other.factor}`", f"`{other.factor} @ diag({text})`"
    if size == other.shape.rows != other.shape.cols:
        advice = f"write {rows} to scale the rows"
    elif size == other.shape.cols != other.shape.rows:
        advice = f"write {cols} to scale the columns"
    else:
        advice = f"write {rows} to scale the rows, or {cols} to scale the columns"
    verb = "multiplied" if op == "*" else "divided"
    return Misfit("F303", f"a vector and a matrix are not {verb} entry by entry: {left} and {right}", advice)


def _product_hint(left: Operand, right: Operand) -> str:
    a, b = left.shape, right.shape
    if a.kind is Kind.COLUMN and b.kind is Kind.COLUMN:
        dot = f"`{left.flipped} @ {right.factor}` for the dot product or " if a == b else ""
        return f"write {dot}`{left.factor} @ {right.flipped}` for the outer product"
    if a.kind is Kind.MATRIX and a.rows == b.rows and a.cols != ONE:
        return f"write `{left.flipped} @ {right.factor}`"
    if (a.cols == b.cols and b.kind is not Kind.ROW) or (b.kind is Kind.COLUMN and a.cols == ONE):
        return f"write `{left.factor} @ {right.flipped}`"
    return "transpose a factor with `.T`, or change their order"

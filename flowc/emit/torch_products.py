"""Products of matrices as PyTorch expressions, and what their operands are rounded to.

In: contractions of a `Pass`, names for sizes and arguments. Out: expressions, and statements that make an operand in
the type `narrow` that products take: once for all that need it, before the loop over chunks where it is made there.
Where that type is the one to compute in, they copy nothing. Refuses nothing.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Value
from flowc.emit.layout import Layout
from flowc.emit.names import Names
from flowc.emit.torch_functions import ATOM, PRODUCT, UNARY, Code
from flowc.emit.usage import Usage
from flowc.emit.wide import wide_values
from flowc.schedule.plan import Kernel, Pass, Role
from flowc.semantics.size import ONE

INDEX = {(1, 1): "[..., 0, 0]", (1, 2): "[..., 0, :]", (2, 1): "[..., 0]", (2, 2): ""}
"""What takes the axes out of a matrix product that its factors, vectors or matrices, do not have."""


def product_inputs(program: Program) -> tuple[str, ...]:
    """The inputs that operands of products are made of, other than by gates: vectors and matrices, no scalars.

    None where a system is solved: what comes of that is large and of either sign, and its sums cancel.
    """
    if any(isinstance(n.op, ir.Inverse) for n in program.nodes):
        return ()
    todo: list[Value] = []
    for op in (n.op for n in program.nodes if n.value.level is Level.CHUNK):
        match op:
            case ir.Contract(left, right) if len(left.axes) == len(right.axes) == 2:
                todo += left, right
            case ir.DecayDot() | ir.DecayApply():
                todo += ir.operands(op)[:2]
    found, seen = set(), set(todo)
    while todo:
        value = todo.pop()
        op = program.defined[value]
        if isinstance(op, ir.Argument) and op.role == "input" and value.axes:
            found.add(op.name)
        if not isinstance(op, ir.At | ir.Decay | ir.DecayMatrix):
            todo += set(ir.operands(op)) - seen
            seen.update(ir.operands(op))
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class Added:
    """Matrix products added to `first`, which may be a product of two factors that has not been made yet."""

    first: str | tuple[str, str]
    products: tuple[tuple[str, str], ...]
    text: str


class Products(ABC):
    """What is known of the values that were printed, and the products among them."""

    def __init__(
        self,
        passed: Pass,
        sizes: Mapping[str, str],
        arguments: Mapping[str, str],
        names: Names,
        kernels: tuple[Kernel, ...],
        kept: frozenset[Value],
    ) -> None:
        """Print `kernels` of `passed` with names of sizes and of arguments; `kept` are values needed after it."""
        self.passed, self.sizes, self.arguments, self.names = passed, {**sizes, "#C": "tokens"}, arguments, names
        self.program = passed.program
        self.usage = Usage(passed, kernels, kept)
        self.helpers: dict[str, None] = {}
        self.layout = Layout(self.sizes, names)
        self.code: dict[Value, Code] = {}
        self.products: dict[Value, tuple[str, str]] = {}  # the factors of matrix products, to be added in one call
        self.sums: dict[Value, Added] = {}  # what a walk adds products to, one call each
        self.waiting: dict[Value, Code] = {}  # rows that one elementwise product alone uses
        self.narrow: dict[Value, str] = {}  # operands of products in the type that those take
        self.factors: dict[Value, tuple[str, str]] = {}  # a walk's elementwise products, which may be made in place
        self.walking: frozenset[Value] = frozenset()  # what the walk that is printed makes
        self.blocks: dict[object, str] = {}  # of gates over the state's rows, by their two sums
        self.wide = wide_values(self.program, frozenset(v for v, (_, r) in self.usage.places.items() if r is Role.WALK))
        self.scan = "_scan"  # the function that scans over tokens
        self.widening = False  # whether the operation that is printed takes wide operands as they are

    def base(self, value: Value) -> Code:
        """A value where it stands: in the walk, what another kernel made is taken at the chunk."""
        code = self.code[value]
        outside = value.level is Level.CHUNK and value not in self.walking and not code.number
        if self.walking and outside and not isinstance(self.program.defined[value], ir.MaskMatrix):
            return Code(f"{code.at(ATOM)}[c]")
        return code if self.widening or value not in self.wide else Code(f"{code.at(ATOM)}.to(dtype)")

    def operand(self, value: Value, axes: tuple[Axis, ...]) -> Code:
        """A value, given axes of length one where it lacks some of `axes`."""
        code = self.base(value)
        if code.number or value.axes == axes:
            return code
        own = [a for a in axes if a in value.axes]
        assert tuple(own) == value.axes, (value, axes)
        marks = [":" if a in value.axes else "None" for a in axes]
        while marks and marks[0] == ":":
            marks.pop(0)
        return Code(f"{code.at(ATOM)}[..., {', '.join(marks)}]")

    def contracted(self, value: Value, op: ir.Contract) -> Code:
        """A product over one axis; products of two matrices are noted, to be added in one call."""
        left, right = self.base(op.left), self.base(op.right)
        first = self.matrix(left, op.left, op.left.axes[-1] == op.axis, row=True)
        second = self.matrix(right, op.right, op.right.axes[0] == op.axis, row=False)
        if value in self.wide:
            self.helpers["wide_product"] = None
            same = second.text == f"{first.text}.mT"
            return Code(f"_wide_product({first.text}{f', {second.text}' * (not same)})")
        vector = value.level is Level.TOKEN and min(len(op.left.axes), len(op.right.axes)) == 1
        if vector or (value.level is Level.CHUNK and any(a.size == ONE for a in value.axes)):
            self.helpers["column_product"] = None
            code = Code(f"_column_product({first.text}, {second.text})")
            return Code(f"{code.text}{INDEX[len(op.left.axes), len(op.right.axes)]}")
        if value.level is Level.CHUNK and len(op.left.axes) == len(op.right.axes) == 2:
            first = self.matrix(self.narrowed(op.left), op.left, op.left.axes[-1] == op.axis, row=True)
            second = self.matrix(self.narrowed(op.right), op.right, op.right.axes[0] == op.axis, row=False)
            self.products[value] = (first.text, second.text)
            return Code(f"({first.at(PRODUCT)} @ {second.at(UNARY)}).to(dtype)")
        text = f"{first.at(PRODUCT)} @ {second.at(UNARY)}"
        if len(op.left.axes) == 2 and len(op.right.axes) == 2:
            return Code(text, PRODUCT)
        return Code(f"({text}){INDEX[len(op.left.axes), len(op.right.axes)]}")

    def narrowed(self, value: Value) -> Code:
        """An operand in the type that products take."""
        while isinstance(op := self.program.defined[value], ir.Rename):
            value = op.argument
        code, inside = self.code[value], value in self.walking
        if not re.fullmatch(r"\w+(\[c\])?", code.text) or isinstance(op, ir.MaskMatrix):
            return Code(f"{self.base(value).at(ATOM)}.to(narrow)")
        if value not in self.narrow:
            self.narrow[value] = self.names.fresh(f"{code.text.removesuffix('[c]').rstrip('_')}_narrow")
            self.cast(f"{self.narrow[value]} = {code.text}.to(narrow)", value, inside)
        outside = bool(self.walking) and not inside and value.level is Level.CHUNK
        return Code(f"{self.narrow[value]}{'[c]' * outside}")

    def matrix(self, code: Code, value: Value, straight: bool, row: bool) -> Code:
        """A factor of a matrix product: transposed unless `straight`, a vector as a row or a column."""
        if len(value.axes) == 1:
            return Code(f"{code.at(ATOM)}[..., None, :]" if row else f"{code.at(ATOM)}[..., None]")
        return code if straight else Code(f"{code.at(ATOM)}.mT")

    def added(self, value: Value, other: Value, product: tuple[str, str]) -> Code:
        """In the walk, a product added to another value, in its memory where nothing else reads it."""
        code = self.operand(other, value.axes)
        inner = self.sums.get(other)
        known = inner if inner is not None and inner.text == code.text else None
        free = self.usage.overwritable(other, value)
        text = f"{'_add_product' if free else '_sum_product'}({', '.join((code.text, *product))})"
        self.helpers["add_product"] = None
        first = self.factors.get(other, code.text) if known is None else known.first
        self.sums[value] = Added(first, (product,) if known is None else (*known.products, product), text)
        return Code(text)

    @abstractmethod
    def define(self, text: str, key: object) -> None:
        """A statement that all primitives of one gate need."""

    @abstractmethod
    def cast(self, text: str, value: Value, inside: bool) -> None:
        """A statement that makes an operand in another type: `inside` the loop over chunks, or once before it."""

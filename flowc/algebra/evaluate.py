"""Evaluation: a typed expression as a form in the state.

In: expressions of a `Model`. Out: `Form`s. Refuses, as `Refusal` with the span of the smallest expression at fault,
what is not affine in the state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, assert_never

import sympy as sp

from flowc.algebra.forms import Calculus, Form, Outside, Point, Product, StateUse, column_axis, row_axis
from flowc.algebra.functions import build
from flowc.algebra.leaves import Leaves
from flowc.algebra.numbers import NoFloat, check_power, checked
from flowc.algebra.term import (
    Apply,
    Axis,
    Concat,
    HeadValue,
    IndexValue,
    Kron,
    Load,
    Peak,
    ScanValue,
    SizeValue,
    bound_depth,
    rename,
)
from flowc.semantics.model import (
    SCALAR,
    Binary,
    Call,
    Expr,
    HeadNumber,
    InputRef,
    Kind,
    LetRef,
    LoopNumber,
    Model,
    Negate,
    Number,
    Shape,
    SizeNumber,
    StateRef,
    Transpose,
)
from flowc.source import Span

Result = TypeVar("Result")


class Refusal(Exception):
    """An `Outside` with the span that decides it."""

    def __init__(self, outside: Outside, span: Span) -> None:
        """Record reason, class and place."""
        super().__init__(outside.reason)
        self.outside, self.span = outside, span


@dataclass(frozen=True, slots=True)
class Deferred:
    """A let that only an output may use: not affine in the state, evaluated again where it is read."""

    value: Expr
    now: dict[str, Point]
    scanned: dict[str, sp.Expr]
    lets: dict[str, Form | Deferred]
    refusal: Refusal


class Evaluator:
    """Evaluates expressions at a point of the step."""

    def __init__(self, model: Model, leaves: Leaves, calculus: Calculus) -> None:
        """Start before the first edit, without lets."""
        self.model, self.leaves, self.calculus = model, leaves, calculus
        self.params = {i.name for i in model.inputs if i.is_param}
        self.lets: dict[str, Form | Deferred] = {}
        self.now: dict[str, Point] = {s.name: Point(0, 0) for s in model.states}
        self.scanned: dict[str, sp.Expr] = {}  # the states that are scanned, as they stand
        self.rank: Axis | None = None
        self.round: int | None = None  # of a repeat that is unrolled

    def bind(self, name: str, value: Expr) -> None:
        """`let name = value`; what is not affine may still be read by an output."""
        try:
            self.lets[name] = self.form(value)
        except Refusal as refusal:
            self.lets[name] = Deferred(value, dict(self.now), dict(self.scanned), dict(self.lets), refusal)

    def plain(self, value: Expr) -> sp.Expr:
        """An expression as one elementwise expression."""
        form = self.form(value)
        return self.guarded(value.span, lambda: self.calculus.plain(form))

    def guarded(self, span: Span, action: Callable[[], Result]) -> Result:
        """`action()`, its refusal given a place."""
        try:
            return action()
        except Outside as outside:
            raise Refusal(outside, span) from None
        except NoFloat as error:
            raise NoFloat(error.reason, error.span or span) from None

    def form(self, e: Expr) -> Form:
        """An expression as a form."""
        match e:
            case Number(value, shape, _):
                return self.just(shape, sp.Rational(value.numerator, value.denominator))
            case SizeNumber(size, shape, _):
                constant = size.constant
                leaf = sp.Integer(constant) if constant is not None else self.leaves.symbol(SizeValue(size))
                return self.just(shape, leaf)
            case HeadNumber(count, shape, _):
                return self.just(shape, self.leaves.symbol(HeadValue(count)))
            case LoopNumber(_, shape, _):
                if self.round is not None:
                    return self.just(shape, sp.Integer(self.round))
                assert self.rank is not None
                return self.just(shape, self.leaves.symbol(IndexValue(self.rank)))
            case InputRef():
                return self.loaded(e)
            case StateRef(name, previous, shape, _):
                return self.state(name, previous, shape)
            case LetRef(name, _, _):
                return self.let(name)
            case Negate(argument, shape, _):
                return self.calculus.scale(shape, self.form(argument), sp.S.NegativeOne)
            case Transpose(argument, shape, _):
                return self.calculus.transpose(shape, self.form(argument))
            case Binary():
                return self.binary(e)
            case Call():
                return self.call(e)
            case _:
                assert_never(e)

    def state(self, name: str, previous: bool, shape: Shape) -> Form:
        """A state as it stands, or before the token."""
        if name in self.scanned:
            return self.just(shape, self.scan_leaf(name, shape, True) if previous else self.scanned[name])
        point = Point(0, 0) if previous else self.now[name]
        column = "j" if shape.kind is Kind.MATRIX else ""
        return Form(shape, (Product(sp.S.One, (), StateUse(name, point, "i", column)),))

    def scan_leaf(self, name: str, shape: Shape, previous: bool) -> sp.Symbol:
        """The leaf of a scanned state, before the token or after it."""
        axes = tuple(a for a in (row_axis(shape), column_axis(shape)) if a is not None)
        return self.leaves.symbol(ScanValue(name, previous, axes))

    def just(self, shape: Shape, expr: sp.Expr) -> Form:
        """A plain form."""
        return Form(shape, (Product(expr),) if expr != 0 else ())

    def loaded(self, e: InputRef) -> Form:
        """An input or param of this token; one element of a list, or in a repeat the list itself over its rank."""
        if e.previous:
            raise Refusal(Outside("it reads the previous token's input, a shift", "shift"), e.span)
        index = e.index if isinstance(e.index, int) else None if e.index is None else self.round
        ranks = (self.rank,) if isinstance(e.index, str) and self.rank is not None else ()
        axes = (*ranks, *(a for a in (row_axis(e.shape), column_axis(e.shape)) if a is not None))
        return self.just(e.shape, self.leaves.symbol(Load(e.name, index, axes, e.name in self.params)))

    def let(self, name: str) -> Form:
        """What a let stands for; a deferred one is evaluated where it was bound, and only for an output."""
        match self.lets[name]:
            case Form() as form:
                return form
            case Deferred(value, now, scanned, lets, refusal):
                if self.calculus.kept == frozenset(self.calculus.states):
                    raise refusal
                saved = self.now, self.scanned, self.lets
                self.now, self.scanned, self.lets = now, scanned, lets
                try:
                    return self.form(value)
                finally:
                    self.now, self.scanned, self.lets = saved

    def binary(self, e: Binary) -> Form:
        """An operator applied to two forms."""
        a, b = self.form(e.left), self.form(e.right)
        calculus = self.calculus

        def combined() -> Form:
            match e.op:
                case "+":
                    return calculus.collect(e.shape, [*a.products, *b.products])
                case "-":
                    minus = calculus.scale(e.right.shape, b, sp.S.NegativeOne)
                    return calculus.collect(e.shape, [*a.products, *minus.products])
                case "*":
                    return calculus.multiply(e.shape, a, b)
                case "@":
                    return calculus.matmul(e.shape, a, b)
                case "/":
                    return calculus.scale(e.shape, a, 1 / calculus.plain(b))
                case _:
                    base, exponent = calculus.plain(a), calculus.plain(b)
                    check_power(base, exponent)
                    return self.just(e.shape, build(e.op, [base, exponent]))

        return self.guarded(e.span, lambda: self.sized(combined()))

    def sized(self, form: Form) -> Form:
        """A form whose coefficients have no numbers that no float holds."""
        for product in form.products:
            for factor in sp.Mul.make_args(product.coefficient):
                checked(factor)
        return form

    def call(self, e: Call) -> Form:
        """A function or constructor."""
        if e.function in ("identity", "diag", "outer", "ones", "zeros"):
            return self.guarded(e.span, lambda: self.constructed(e))
        arguments = [self.plain(a) for a in e.arguments]
        return self.guarded(e.span, lambda: self.sized(self.just(e.shape, self.applied(e, arguments))))

    def constructed(self, e: Call) -> Form:
        """A matrix made of numbers and vectors."""
        match e.function:
            case "identity":
                return Form(e.shape, (Product(sp.S.One, delta=True),))
            case "diag":
                return Form(e.shape, (Product(self.plain(e.arguments[0]), delta=True),))
            case "outer":
                right = e.arguments[1]
                row = Shape(Kind.ROW, cols=right.shape.rows)
                transposed = self.calculus.transpose(row, self.form(right))
                return self.calculus.matmul(e.shape, self.form(e.arguments[0]), transposed)
            case _:
                return self.just(e.shape, sp.Integer(e.function == "ones"))

    def applied(self, e: Call, arguments: list[sp.Expr]) -> sp.Expr:
        """A function of plain expressions; functions of whole vectors are written out."""
        x = arguments[0]
        axis = row_axis(e.arguments[0].shape)
        eps = sp.Rational(e.eps.numerator, e.eps.denominator) if e.eps is not None else sp.S.Zero
        match e.function:
            case "sum":
                return self.summed(e.arguments[0].shape, x)
            case "norm":
                return build("root", [self.summed(e.arguments[0].shape, x * x)])
            case "l2norm" if axis is not None:
                return x * build("rsqrt", [self.total(x * x, axis) + eps])
            case "rmsnorm" if axis is not None:
                mean = self.total(x * x, axis) / self.size(axis)
                return x * build("rsqrt", [mean + eps])
            case "softmax" if axis is not None and axis not in self.leaves.axes(x):
                return 1 / self.size(axis)
            case "softmax" if axis is not None:
                term = self.leaves.freeze(x)
                bound = Axis(f"s{bound_depth(term)}", axis.size)
                shifted = sp.exp(x - self.leaves.symbol(Peak(rename(term, {axis.name: bound.name}), bound)))
                whole = self.leaves.symbol(Apply("exp", (self.leaves.freeze(shifted.args[0]),)))
                return whole / self.leaves.total(whole, axis)
            case "concat" | "kron":
                return self.joined(e, arguments)
            case _:
                return build(e.function, arguments)

    def summed(self, shape: Shape, x: sp.Expr) -> sp.Expr:
        """The sum over all entries."""
        for axis in (row_axis(shape), column_axis(shape)):
            x = x if axis is None else self.total(x, axis)
        return x

    def total(self, x: sp.Expr, axis: Axis) -> sp.Expr:
        """The sum over an axis, of what may not run over it."""
        return self.leaves.total(x, axis) if axis in self.leaves.axes(x) else x * self.size(axis)

    def size(self, axis: Axis) -> sp.Expr:
        """An axis' size as a number."""
        return self.form(SizeNumber(axis.size, SCALAR, Span(0, 0))).plain

    def joined(self, e: Call, arguments: list[sp.Expr]) -> sp.Expr:
        """Vectors joined to one, as a leaf: each part runs over an axis of its own."""
        terms = [self.leaves.freeze(a) for a in arguments]
        depth = max(bound_depth(t) for t in terms)
        inner = tuple(Axis(f"s{depth}_{n}", a.shape.rows) for n, a in enumerate(e.arguments))
        renamed = tuple(rename(t, {"i": a.name}) for t, a in zip(terms, inner, strict=True))
        axis = Axis("i", e.shape.rows)
        if e.function == "concat":
            return self.leaves.symbol(Concat(renamed, inner, axis))
        return self.leaves.symbol(Kron(renamed[0], renamed[1], (inner[0], inner[1]), axis))

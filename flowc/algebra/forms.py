"""Forms: what an expression of a step is as a function of the state, as sums of products with named axes.

In: SymPy coefficients over `Leaves`. Out: `Form`s closed under +, -, *, @ and transposition. A product may hold the
state once. Refuses (as `Outside`, with the reason) what is not affine in the state.

Result axes are called `i` (rows) and `j` (columns); axes that are summed have names of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy as sp

from flowc.algebra.leaves import Leaves, factors, product
from flowc.algebra.side import Side
from flowc.algebra.term import Axis, ReadValue, SizeValue
from flowc.semantics.model import Kind, Shape


class Outside(Exception):
    """An expression outside the normal form; `reason` completes "because ...", `class_name` is the class it makes.

    `advice` is what to write instead, where there is something.
    """

    def __init__(self, reason: str, class_name: str = "R", advice: str = "") -> None:
        """Record why."""
        super().__init__(reason)
        self.reason, self.class_name, self.advice = reason, class_name, advice


class Entrywise(Exception):
    """A vector state that is used entry by entry, not contracted with a vector: it is scanned."""

    def __init__(self, state: str) -> None:
        """Record which."""
        super().__init__(state)
        self.state = state


MOST_PRODUCTS = 256


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A place in a step: before edit `offset` of segment `segment` (in the reader's own round where that repeats)."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class StateUse:
    """A state at a point, its axes named; a vector has rows alone."""

    state: str
    point: Point
    row: str
    column: str


@dataclass(frozen=True, slots=True)
class StateRead:
    """`S^T query`, or on the value side `S query`, as others than its updates read S; over `rank` if it has one."""

    state: str
    point: Point
    query: sp.Expr
    rank: Axis | None
    side: Side


@dataclass(frozen=True, slots=True)
class Product:
    """`sum over summed of coefficient * S[row, column]`; `delta` is the identity's i == j, its diagonal named `i`."""

    coefficient: sp.Expr
    summed: tuple[Axis, ...] = ()
    state: StateUse | None = None
    delta: bool = False

    @property
    def plain(self) -> bool:
        """Whether this is an elementwise expression and nothing else."""
        return not self.summed and self.state is None and not self.delta


@dataclass(frozen=True, slots=True)
class Form:
    """A sum of products of one shape."""

    shape: Shape
    products: tuple[Product, ...]

    @property
    def holds_state(self) -> bool:
        """Whether the state is in it."""
        return any(p.state is not None for p in self.products)

    @property
    def plain(self) -> sp.Expr | None:
        """The form as one elementwise expression where it is one."""
        if not self.products:
            return sp.S.Zero
        return self.products[0].coefficient if len(self.products) == 1 and self.products[0].plain else None


def row_axis(shape: Shape) -> Axis | None:
    """Axis `i` of a shape."""
    return Axis("i", shape.rows) if shape.kind in (Kind.COLUMN, Kind.MATRIX) else None


def column_axis(shape: Shape) -> Axis | None:
    """Axis `j` of a shape."""
    return Axis("j", shape.cols) if shape.kind in (Kind.ROW, Kind.MATRIX) else None


class Calculus:
    """The operations on forms of one recurrence."""

    def __init__(self, leaves: Leaves, states: Mapping[str, Shape]) -> None:
        """Operate over `leaves` and the states of these shapes."""
        self.leaves, self.states = leaves, states
        self._fresh = 0
        self.reads: list[StateRead] = []
        self.kept: frozenset[str] = frozenset(states)  # states that stay what they are; others are read where needed

    def fresh(self) -> str:
        """An axis name not used before."""
        self._fresh += 1
        return f"x{self._fresh}"

    def collect(self, shape: Shape, products: list[Product]) -> Form:
        """Products added up: plain ones as one, equal uses of the state with added coefficients."""
        separate = shape.kind is Kind.MATRIX  # there, what is added may be written row by row
        plain = sp.Add(*(p.coefficient for p in products if p.plain and not separate))
        rest: list[Product] = []
        for p in (p for p in products if separate or not p.plain):
            if p.plain:
                rest.append(p)
                continue
            for index, seen in enumerate(rest):
                if not p.summed and (seen.summed, seen.state, seen.delta) == (p.summed, p.state, p.delta):
                    rest[index] = replace(seen, coefficient=seen.coefficient + p.coefficient)
                    break
            else:
                rest.append(p)
        kept = [p for p in rest if p.coefficient != 0]
        return Form(shape, (*((Product(plain),) if plain != 0 else ()), *kept))

    def scale(self, shape: Shape, form: Form, by: sp.Expr) -> Form:
        """`form` times the elementwise expression `by`, whose axes are among the result's."""
        products = []
        for p in form.products:
            factor = self.leaves.rename(by, {"j": "i"}) if p.delta else by
            products.append(replace(p, coefficient=p.coefficient * factor))
        return Form(shape, tuple(products))

    def multiply(self, shape: Shape, a: Form, b: Form) -> Form:
        """The elementwise product, a scalar broadcasting."""
        if self.keeps(a) and self.keeps(b):
            raise Outside("it multiplies the state with itself")
        if self.keeps(b) or (not self.keeps(a) and not a.holds_state and (a.plain is not None or b.holds_state)):
            return self.scale(shape, b, self.plain(a))
        return self.scale(shape, a, self.plain(b))

    def transpose(self, shape: Shape, form: Form) -> Form:
        """The transpose."""
        swap = {"i": "j", "j": "i"}

        def turned(p: Product) -> Product:
            state = p.state and StateUse(
                p.state.state,
                p.state.point,
                swap.get(p.state.row, p.state.row),
                swap.get(p.state.column, p.state.column),
            )
            coefficient = p.coefficient if p.delta else self.leaves.rename(p.coefficient, swap)
            return Product(coefficient, p.summed, state, p.delta)

        return Form(shape, tuple(turned(p) for p in form.products))

    def matmul(self, shape: Shape, a: Form, b: Form) -> Form:
        """The matrix product; what holds no state and is no matrix becomes one leaf at once."""
        if self.keeps(a) and self.keeps(b):
            raise Outside("it multiplies the state with itself")
        if a.holds_state and b.holds_state:
            if self.keeps(a) or (not self.keeps(b) and a.shape.kind is Kind.MATRIX and b.shape.kind is not Kind.MATRIX):
                b = self.settled(b)
            else:
                a = self.settled(a)
        if len(a.products) * len(b.products) > MOST_PRODUCTS:
            raise Outside(f"it multiplies out to more than {MOST_PRODUCTS} products")
        products = [self._pair(a.shape, p, q) for p in a.products for q in b.products]
        form = self.collect(shape, products)
        if shape.kind is not Kind.MATRIX and not form.holds_state:
            return Form(shape, (Product(self.plain(form)),))
        return form

    def _pair(self, shape: Shape, p: Product, q: Product) -> Product:
        """One product of two products: p's columns against q's rows."""
        if p.delta:  # p is diagonal: its entry multiplies row i of q, whatever q is
            factor = p.coefficient
            return replace(q, coefficient=q.coefficient * factor)
        if q.delta:
            return replace(p, coefficient=p.coefficient * self.leaves.rename(q.coefficient, {"i": "j"}))
        column = column_axis(shape)
        p, q = self._apart(p), self._apart(q)
        if column is None:  # column @ row: nothing is summed
            return Product(p.coefficient * q.coefficient, (*p.summed, *q.summed), p.state or q.state)
        name = self.fresh()
        left = self._renamed(p, {"j": name})
        right = self._renamed(q, {"i": name})
        summed = (*left.summed, *right.summed, Axis(name, column.size))
        return Product(left.coefficient * right.coefficient, summed, left.state or right.state)

    def _apart(self, p: Product) -> Product:
        """The product with summed axes of fresh names, so that squaring it does not mix its sums."""
        names = {a.name: self.fresh() for a in p.summed}
        moved = self._renamed(p, names)
        return replace(moved, summed=tuple(Axis(names[a.name], a.size) for a in p.summed))

    def _renamed(self, p: Product, names: dict[str, str]) -> Product:
        state = p.state and StateUse(
            p.state.state,
            p.state.point,
            names.get(p.state.row, p.state.row),
            names.get(p.state.column, p.state.column),
        )
        return replace(p, coefficient=self.leaves.rename(p.coefficient, names), state=state)

    def plain(self, form: Form) -> sp.Expr:
        """The form as one elementwise expression: sums become leaves, and reads of states that are not kept do."""
        if self.keeps(form):
            self._entrywise(form)
            raise Outside("it is not affine in the state")
        return sp.Add(*(self._summed(p) for p in self.settled(form).products))

    def _entrywise(self, form: Form) -> None:
        """Tell that a vector which is updated is a function of itself; a let may yet be used elsewhere."""
        for p in form.products if self.kept != frozenset(self.states) or len(self.states) == 1 else ():
            if p.state is not None and p.state.state in self.kept and self.states[p.state.state].kind is Kind.COLUMN:
                raise Entrywise(p.state.state)

    def keeps(self, form: Form) -> bool:
        """Whether a state that stays what it is is in a form."""
        return any(p.state is not None and p.state.state in self.kept for p in form.products)

    def _summed(self, p: Product) -> sp.Expr:
        if p.delta:
            raise Outside("it uses an identity or diagonal matrix entry by entry")
        expr = p.coefficient
        for axis in reversed(p.summed):
            runs = axis in self.leaves.axes(expr)
            expr = self.leaves.total(expr, axis) if runs else expr * self._size(axis)
        return expr

    def _size(self, axis: Axis) -> sp.Expr:
        constant = axis.size.constant
        return sp.Integer(constant) if constant is not None else self.leaves.symbol(SizeValue(axis.size))

    def settled(self, form: Form) -> Form:
        """Every use of a state that is not kept as a leaf, `S.T @ y` or `S @ y` with y what it is contracted with."""
        if not any(p.state is not None and p.state.state not in self.kept for p in form.products):
            return form
        products = [self._read(p) if p.state and p.state.state not in self.kept else p for p in form.products]
        return self.collect(form.shape, products)

    def _read(self, p: Product) -> Product:
        state = p.state
        assert state is not None
        shape = self.states[state.state]
        rows, columns = Axis(state.row, shape.rows), Axis(state.column, shape.cols)
        if rows in p.summed:
            side, contracted = Side.KEY, rows
            open_ = (columns,) if shape.kind is Kind.MATRIX else ()
        elif columns in p.summed:
            side, contracted, open_ = Side.VALUE, columns, (rows,)
        elif shape.kind is Kind.COLUMN:
            raise Entrywise(state.state)
        else:
            raise Outside("it outputs the state without contracting its rows or columns with a vector")
        inside, outside = split(self.leaves, p.coefficient, contracted)
        if frozenset(open_) & self.leaves.axes(inside):
            raise Outside("it reads the state through a matrix of both of its axes")
        others = [a for a in p.summed if a != contracted]
        ranks = tuple(sorted(a for a in self.leaves.axes(inside) if a != contracted))
        if len(ranks) > 1:
            raise Outside("it reads the state with a tensor of more than one rank axis")
        names = {a.name: "rank" for a in ranks} | {contracted.name: "i"}
        rank = Axis("rank", ranks[0].size) if ranks else None
        read = StateRead(state.state, state.point, self.leaves.rename(inside, names), rank, side)
        if read not in self.reads:
            self.reads.append(read)
        value = ReadValue(self.reads.index(read), (*ranks, *open_))
        return Product(outside * self.leaves.symbol(value), tuple(others))


def split(leaves: Leaves, expr: sp.Expr, axis: Axis) -> tuple[sp.Expr, sp.Expr]:
    """The factors of `expr` that run over `axis`, and the others."""
    inside = [f for f in factors(expr) if axis in leaves.axes(f)]
    outside = [f for f in factors(expr) if axis not in leaves.axes(f)]
    return product(inside), product(outside)

"""What a chunk program costs, by interpreting its nodes.

In: nodes of a `Program`, sizes, the length of a chunk. Out: flops and bytes, for one chunk of one head. Products count
2 flops per multiply-add, elementwise work 1 per entry; bytes are operands and result, 4 each, nothing for
views. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from flowc.algebra.term import Axis
from flowc.chunk.aggregation import formed, inverse_flops, inverse_products, solve_products
from flowc.chunk.ir import (
    Argument,
    At,
    Contract,
    DecayApply,
    DecayDot,
    Element,
    Extent,
    Head,
    Inverse,
    Literal,
    Loop,
    MaskMatrix,
    Node,
    Relabel,
    Rename,
    Solve,
    Spread,
    operands,
)
from flowc.chunk.values import Level, Value

BYTES = 4
FREE = (Argument, At, Element, Extent, Head, Literal, MaskMatrix, Relabel, Rename, Spread)  # views, and made once


@dataclass(frozen=True, slots=True)
class Cost:
    """Flops of products and inverses, of elementwise work, and bytes."""

    products: float = 0.0
    elementwise: float = 0.0
    bytes: float = 0.0
    launches: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(
            self.products + other.products,
            self.elementwise + other.elementwise,
            self.bytes + other.bytes,
            self.launches + other.launches,
        )

    def times(self, count: int) -> Cost:
        """So many of it."""
        return Cost(self.products * count, self.elementwise * count, self.bytes * count, self.launches * count)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Dimensions by name and the tokens of a chunk."""

    dimensions: Mapping[str, int]
    tokens: int

    def of(self, axis: Axis) -> int:
        """An axis' length."""
        return axis.size.value({**self.dimensions, "#C": self.tokens})

    def entries(self, value: Value) -> int:
        """The entries of a value in one chunk of one head."""
        own = prod(self.of(a) for a in value.axes)
        return own * self.tokens if value.level is Level.TOKEN else own


def solve_cost(aggregation: str, rows: int, columns: int) -> Cost:
    """The cost of solving for `columns` columns with what was formed."""
    products = solve_products(aggregation, rows, columns)
    moved = BYTES * (rows * rows + 2 * rows * columns)
    launches = 1
    if aggregation == "signature":  # a copy of what is solved in place; a block's products, copy and parts
        launches += 4 * formed(aggregation, rows).count
    return Cost(float(sum(products)), 0, moved, launches)


def node_cost(node: Node, sizes: Sizes, aggregation: str) -> Cost:
    """The cost of one node in one chunk of one head."""
    op, entries = node.op, sizes.entries(node.value)
    if isinstance(op, FREE):
        return Cost()
    moved = BYTES * (entries + sum(sizes.entries(v) for v in operands(op)))
    match op:
        case Contract(_, _, axis):
            return Cost(2.0 * entries * sizes.of(axis), 0, moved, 1)
        case Solve(matrix, _, _):
            rows = sizes.of(matrix.axes[0])
            return solve_cost(aggregation, rows, entries // rows)
        case Inverse(matrix):
            rows = sizes.of(matrix.axes[0])
            launches = len(inverse_products(aggregation, rows)) if aggregation == "tensorinv" else 1
            return Cost(float(inverse_flops(aggregation, rows)), 0, moved * launches, launches)
        case DecayDot(left, _, _, _, mask):
            columns = sizes.of(mask.columns.axis)
            return Cost(2.0 * sizes.entries(left) * columns, 0, moved + _halving(sizes, left), 20)
        case DecayApply(_, vectors, _, _, _, _):
            return Cost(2.0 * entries * sizes.of(vectors.axes[0]), 0, moved + _halving(sizes, vectors), 20)
        case Loop(body, number=0):  # once for all its states
            one = Sizes(sizes.dimensions, 1)
            return sum((node_cost(n, one, aggregation) for n in body.nodes), Cost()).times(sizes.tokens)
        case Loop():
            return Cost()
        case _:
            return Cost(0, float(entries), moved, 1)


def _halving(sizes: Sizes, vectors: Value) -> float:
    """Bytes of a vector gate's factors: 8 passes over the vectors per level of halving, 24 for blocks of 4 tokens."""
    levels = max((sizes.tokens - 1).bit_length() - 2, 0)
    return float(BYTES * sizes.entries(vectors) * (8 * levels + 24))


def cost(nodes: Iterable[Node], sizes: Sizes, aggregation: str = "wy") -> Cost:
    """The cost of several nodes."""
    total = Cost()
    for node in nodes:
        total = total + node_cost(node, sizes, aggregation)
    return total

"""The one table of functions: what a spec may call, with how many arguments, and what becomes of their shapes.

In: nothing. Out: `FUNCTIONS`, by name. Refuses nothing; `semantics.calls` applies the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

EPS = Fraction(1, 10**6)
"""The eps of the functions that have one, unless the spec gives another."""


class Rule(Enum):
    """How a function's shape follows from its arguments'."""

    ELEMENTWISE = "entries one by one; arguments have equal shapes or are scalars"
    CHOICE = "entries one by one; the first argument is a comparison"
    VECTOR = "a column, to a column of the same size"
    REDUCTION = "the entries of anything, to a scalar"
    IDENTITY = "`I`: no argument, its size from the context"
    FILLED = "a size, to a column of that size"
    DIAGONAL = "a column, to a square matrix"
    OUTER = "two columns, to a matrix"
    STACKED = "two columns, to a column of the sum of their sizes"
    KRONECKER = "two columns, to a column of the product of their sizes"


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the language: arguments without eps, and whether it takes eps."""

    name: str
    arity: int
    rule: Rule
    has_eps: bool = False


def _table(rule: Rule, arity: int, names: str, has_eps: bool = False) -> dict[str, Function]:
    return {name: Function(name, arity, rule, has_eps) for name in names.split()}


FUNCTIONS: dict[str, Function] = {
    **_table(Rule.ELEMENTWISE, 1, "exp log expm1 log1p exprel sigmoid logsigmoid softplus tanh sin cos"),
    **_table(Rule.ELEMENTWISE, 1, "relu silu gelu sqrt rsqrt abs"),
    **_table(Rule.ELEMENTWISE, 2, "min max"),
    **_table(Rule.ELEMENTWISE, 3, "clamp"),
    **_table(Rule.CHOICE, 3, "where"),
    **_table(Rule.VECTOR, 1, "l2norm rmsnorm", has_eps=True),
    **_table(Rule.VECTOR, 1, "softmax"),
    **_table(Rule.REDUCTION, 1, "sum norm"),
    **_table(Rule.IDENTITY, 0, "identity"),
    **_table(Rule.FILLED, 1, "ones zeros"),
    **_table(Rule.DIAGONAL, 1, "diag"),
    **_table(Rule.OUTER, 2, "outer"),
    **_table(Rule.STACKED, 2, "concat"),
    **_table(Rule.KRONECKER, 2, "kron"),
}

CALLABLE = {name: function for name, function in FUNCTIONS.items() if function.rule is not Rule.IDENTITY}
"""What a spec calls by name: all but the identity, which it writes `I`."""

"""What the warnings ask about expressions, lets seen through.

In: a Model. Out: `Facts`, which answers whether an expression has an exact logarithm, is a sigmoid, reads a state, is
the exact flow of a delta step, or is normalised. Refuses nothing: what is not known is answered no.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flowc.semantics.model import (
    Binary,
    Call,
    Expr,
    Kind,
    Let,
    LetRef,
    Model,
    Negate,
    Number,
    StateRef,
    Transpose,
)
from flowc.semantics.walk import flat, parts


@dataclass(slots=True)
class Facts:
    """The names of the lets of which each fact holds.

    They are found in the order of the step, so that no chain of lets is followed twice, or deeper than Python's stack.
    """

    with_log: set[str] = field(default_factory=set)
    sigmoids: set[str] = field(default_factory=set)
    reading: set[str] = field(default_factory=set)
    flows: set[str] = field(default_factory=set)
    normalized: set[str] = field(default_factory=set)

    @staticmethod
    def of(model: Model) -> Facts:
        """The facts about the lets of `model`; of several with one name, what holds of all, or reading of any."""
        facts = Facts()
        seen: set[str] = set()
        for let in flat(model.statements):
            match let:
                case Let(name, value):
                    facts._learn(name, value, name not in seen)
                    seen.add(name)
                case _:
                    pass
        return facts

    def _learn(self, name: str, value: Expr, is_first: bool) -> None:
        for names, holds in (
            (self.with_log, self.has_log(value)),
            (self.sigmoids, self.is_sigmoid(value)),
            (self.normalized, self.is_normalized(value)),
        ):
            if holds and is_first:
                names.add(name)
            elif not holds:
                names.discard(name)
        for names, holds in ((self.reading, self.reads_state(value)), (self.flows, self.is_exact_flow(value))):
            if holds:
                names.add(name)

    def has_log(self, gate: Expr) -> bool:
        """Whether the logarithm of `gate` is exact: `exp`, `sigmoid` and positive numbers under products and powers."""
        match gate:
            case Call("exp" | "sigmoid"):
                return True
            case Call("sqrt" | "rsqrt", (argument,)) | Transpose(argument):
                return self.has_log(argument)
            case Number(value):
                return value > 0
            case LetRef(name):
                return name in self.with_log
            case Binary("-", Number(value), right) if value == 1:
                return self.is_sigmoid(right)
            case Binary("**", base):
                return self.has_log(base)
            case Binary("*" | "/", left, right):
                return self.has_log(left) and self.has_log(right)
            case _:
                return False

    def is_sigmoid(self, expr: Expr) -> bool:
        """Whether `expr` is a sigmoid."""
        match expr:
            case Call("sigmoid"):
                return True
            case LetRef(name):
                return name in self.sigmoids
            case _:
                return False

    def reads_state(self, expr: Expr) -> bool:
        """Whether `expr` depends on a state, as the gates of a running maximum do: no range tells how large it gets."""
        return any(
            isinstance(part, StateRef) or (isinstance(part, LetRef) and part.name in self.reading)
            for part in parts(expr)
        )

    def is_exact_flow(self, expr: Expr) -> bool:
        """Whether `exprel` scales the step, as in the exact flow of the delta rule, which is stable for every key."""
        return any(
            (isinstance(part, Call) and part.function == "exprel")
            or (isinstance(part, LetRef) and part.name in self.flows)
            for part in parts(expr)
        )

    def is_normalized(self, key: Expr) -> bool:
        """Whether a norm of at most 1 is written: `l2norm`, `softmax` or a division by the norm."""
        match key:
            case Call("l2norm" | "softmax"):
                return True
            case LetRef(name):
                return name in self.normalized
            case Negate(argument):
                return self.is_normalized(argument)
            case Binary("*", left, right):
                return self.is_normalized(left) or self.is_normalized(right)
            case Binary("/", left, Call("norm")):
                return left.shape.kind is Kind.COLUMN
            case _:
                return False

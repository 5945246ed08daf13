"""The border between Terms and SymPy: every leaf tensor is one real symbol.

In: Terms. Out: SymPy expressions over symbols (`Leaves.symbol`), and Terms again (`Leaves.freeze`). A symbol's name is
the leaf's text with its axes, so that orderings inside SymPy, and so everything derived, are the same on every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

import sympy as sp

from flowc.algebra.functions import number
from flowc.algebra.term import Apply, Axis, Constant, Term, Total, axes_of, bound_depth, rename, text

_NAMED: dict[type, str] = {
    sp.exp: "exp",
    sp.log: "log",
    sp.tanh: "tanh",
    sp.sin: "sin",
    sp.cos: "cos",
    sp.Abs: "abs",
    sp.sign: "sign",
    sp.erf: "erf",
}
_HALF = sp.Rational(1, 2)


class Leaves:
    """The symbols of one recurrence and what they stand for."""

    def __init__(self) -> None:
        """Start with no symbols."""
        self._terms: dict[str, Term] = {}

    def symbol(self, term: Term) -> sp.Symbol:
        """The symbol that stands for `term`."""
        axes = ",".join(f"{a.name}:{a.size}" for a in sorted(axes_of(term)))
        name = f"{text(term)}<{axes}>"
        known = self._terms.setdefault(name, term)
        if known != term:  # equal text, different tensors: two leaves of one name but another binding
            name = f"{name}#{len(self._terms)}"
            self._terms[name] = term
        return sp.Symbol(name, real=True)

    def term(self, symbol: sp.Symbol) -> Term:
        """What `symbol` stands for."""
        return self._terms[symbol.name]

    def axes(self, expr: sp.Expr) -> frozenset[Axis]:
        """The free axes of an expression."""
        return frozenset().union(*(axes_of(self.term(s)) for s in expr.free_symbols))

    def rename(self, expr: sp.Expr, names: Mapping[str, str]) -> sp.Expr:
        """`expr` with its free axes renamed."""
        moves = {}
        for symbol in sorted(expr.free_symbols, key=lambda s: s.name):
            renamed = rename(self.term(symbol), names)
            if renamed != self.term(symbol):
                moves[symbol] = self.symbol(renamed)
        return expr.xreplace(moves) if moves else expr

    def total(self, expr: sp.Expr, axis: Axis) -> sp.Expr:
        """The sum of `expr` over `axis`, factors that do not run over it taken out.

        exp(a + b) stays one: exp(a) may overflow where it does not.
        """
        whole = sp.Mul.make_args(expr)
        inside = [f for f in whole if axis in self.axes(f)]
        outside = [f for f in whole if axis not in self.axes(f)]
        if not inside:
            raise ValueError("a sum over an axis that nothing runs over")
        coefficient, rest = product(inside).as_coeff_Mul()
        term = self.freeze(rest)
        bound = Axis(f"s{bound_depth(term)}", axis.size)
        return sp.Mul(coefficient, *outside) * self.symbol(Total(rename(term, {axis.name: bound.name}), bound))

    def freeze(self, expr: sp.Expr) -> Term:
        """`expr` as a Term: SymPy ends here."""
        return freeze(expr, self.term, lambda e: len(self.axes(e)))


def factors(expr: sp.Expr) -> list[sp.Expr]:
    """The factors of a product, exp(a + b) taken apart into exp(a) and exp(b)."""
    found: list[sp.Expr] = []
    for factor in sp.Mul.make_args(expr):
        if isinstance(factor, sp.exp) and isinstance(factor.args[0], sp.Add):
            found.extend(sp.exp(part, evaluate=False) for part in factor.args[0].as_ordered_terms())
        else:
            found.append(factor)
    return found


def product(parts: Iterable[sp.Expr]) -> sp.Expr:
    """The product of factors, exponentials in one: exp(a) exp(b) may overflow where exp(a + b) does not."""
    exponents, rest = [], []
    for part in parts:
        if isinstance(part, sp.exp):
            exponents.append(part.args[0])
        else:
            rest.append(part)
    return sp.Mul(*rest, sp.exp(sp.Add(*exponents))) if exponents else sp.Mul(*rest)


def divide(expr: sp.Expr, divisor: sp.Expr) -> sp.Expr | None:
    """`expr / divisor` where every factor of `divisor` is a factor of `expr`, else None."""
    left = factors(expr)
    for factor in factors(divisor):
        if factor not in left:
            return None
        left.remove(factor)
    return product(left)


def freeze(expr: sp.Expr, leaf: Callable[[sp.Symbol], Term], weight: Callable[[sp.Expr], int]) -> Term:
    """`expr` as a Term; `leaf` says what symbols stand for, products multiply factors of least `weight` first."""

    def go(e: sp.Expr) -> Term:
        match e:
            case sp.Symbol():
                return leaf(e)
            case _ if e.is_number:
                return Constant(number(e))
            case sp.Add():
                return _sum(e.as_ordered_terms())
            case sp.Mul():
                return _product(e)
            case sp.Pow(base=base, exp=exponent):
                return _power(base, exponent)
            case _:
                return Apply(_NAMED.get(e.func, e.func.__name__), tuple(go(a) for a in e.args))

    def _sum(terms: Iterable[sp.Expr]) -> Term:
        plus = [t for t in terms if not t.could_extract_minus_sign()]
        minus = [t for t in terms if t.could_extract_minus_sign()]
        total = go(plus[0]) if plus else Apply("neg", (go(-minus.pop(0)),))
        for t in plus[1:]:
            total = Apply("add", (total, go(t)))
        for t in minus:
            total = Apply("sub", (total, go(-t)))
        return total

    def _product(e: sp.Expr) -> Term:
        under = [f for f in e.args if _inverse(f)]
        if under:  # as they stand: denominators that are cleared overflow where an eps is small
            over = sp.Mul(*(f for f in e.args if not _inverse(f)))
            return Apply("div", (go(over), go(sp.Mul(*(f.base for f in under)))))
        coefficient, rest = e.as_coeff_Mul()
        parts = sorted(rest.as_ordered_factors() if isinstance(rest, sp.Mul) else [rest], key=weight)
        total = go(parts[0])
        if coefficient == -1:
            total = Apply("neg", (total,))
        elif coefficient != 1:
            total = Apply("mul", (go(coefficient), total))
        for part in parts[1:]:
            total = Apply("mul", (total, go(part)))
        return total

    def _power(base: sp.Expr, exponent: sp.Expr) -> Term:
        if exponent == 2:
            return Apply("mul", (go(base), go(base)))
        if exponent == _HALF:
            return Apply("sqrt", (go(base),))
        if exponent == -_HALF:
            return Apply("rsqrt", (go(base),))
        if exponent == -1:
            return Apply("div", (Constant(Fraction(1)), go(base)))
        return Apply("pow", (go(base), go(exponent)))

    return go(expr)


def _inverse(factor: sp.Expr) -> bool:
    return isinstance(factor, sp.Pow) and factor.exp == -1 and not factor.base.is_number

"""The scan that an update of a state entry by entry is.

In: what the state becomes, as a function of what it was. Out: the kind of scan, its gate and its value: gate z + value,
max(gate + z, value) or log(exp(gate + z) + exp(value)). Refuses (`Outside`) any other function. `shares` rewrites what
compares the state with what it was joined from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp

from flowc.algebra.forms import Outside
from flowc.algebra.functions import OWN
from flowc.algebra.gates import Ranges, is_positive, logarithm
from flowc.algebra.leaves import factors, product

_max, _min, _logsigmoid, _softplus = (OWN[n] for n in ("max", "min", "logsigmoid", "softplus"))


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a scan: `after` is gate + before and value, joined by `kind`."""

    kind: str
    gate: sp.Expr
    value: sp.Expr
    before: sp.Expr
    after: sp.Expr

    def moved(self, to: Callable[[sp.Expr], sp.Expr]) -> Step:
        """The step in other symbols."""
        return Step(self.kind, *(to(e) for e in (self.gate, self.value, self.before, self.after)))


def scanned(after: sp.Expr, before: sp.Symbol, ranges: Ranges) -> tuple[str, sp.Expr, sp.Expr]:
    """Kind, gate and value of `after`, in which `before` stands for the state before the token."""
    match after:
        case _max(args=(a, b)):
            for with_state, value in ((a, b), (b, a)):
                gate = with_state - before
                if before not in gate.free_symbols and before not in value.free_symbols:
                    return "max", gate, value
        case sp.log(args=(inside,)):
            found = _exponentials(inside, before)
            if found is not None and all(is_positive(e, ranges) for e in found):
                gate, value = (logarithm(e, ranges) for e in found)
                return "logsumexp", gate, value
    gate = _slope(after, before)
    if gate is None:
        raise Outside("it is neither linear in the state entry by entry, nor a maximum or logsumexp with it")
    return "linear", gate, after.xreplace({before: sp.S.Zero})


def _slope(e: sp.Expr, z: sp.Symbol) -> sp.Expr | None:
    """What multiplies z in an expression that is linear in it; None where it is not."""
    if z not in e.free_symbols:
        return sp.S.Zero
    match e:
        case sp.Symbol():
            return sp.S.One
        case sp.Add(args=parts):
            slopes = [_slope(p, z) for p in parts]
            return None if None in slopes else sp.Add(*slopes)
        case sp.Mul(args=parts):
            held = [p for p in parts if z in p.free_symbols]
            slope = _slope(held[0], z) if len(held) == 1 else None
            return None if slope is None else sp.Mul(slope, *(p for p in parts if p is not held[0]))
        case _:
            return None


def _exponentials(e: sp.Expr, z: sp.Symbol) -> tuple[sp.Expr, sp.Expr] | None:
    """`e` as c exp(z) + d with c and d free of z; None where it is not."""
    c, d = [], []
    for term in sp.Add.make_args(e):
        if z not in term.free_symbols:
            d.append(term)
            continue
        rest = product((*factors(term), sp.exp(-z)))  # SymPy leaves exp(z + a) exp(-z) as it is
        if z in rest.free_symbols:
            return None
        c.append(rest)
    return (sp.Add(*c), sp.Add(*d)) if c and d else None


def shares(e: sp.Expr, step: Step) -> sp.Expr:
    """`e` with gate + before - after, and value - after, as functions of what was joined.

    For max these are min(0, x) and -max(0, x) with x = gate + before - value, for logsumexp logsigmoid(x) and
    -softplus(x). A difference of states is what is left of large numbers: where a maximum grows without end, the last
    bits of a scan that joins tokens in another order than a loop, where the loop has exactly 0.
    """
    if step.kind == "linear" or step.after not in e.free_symbols:
        return e
    return e.replace(lambda x: x.is_Add, lambda x: _shared(x, step))


def _shared(e: sp.Expr, step: Step) -> sp.Expr:
    """A sum, where it has a joined part less the state, either sign."""
    given, value = step.gate + step.before, step.value
    ahead = given - value  # of which both shares are functions, so that rounding cannot have both parts win
    of_given, of_value = _min(0, ahead), -_max(0, ahead)
    if step.kind == "logsumexp":
        of_given, of_value = _logsigmoid(ahead), -_softplus(ahead)
    for (part, share), sign in ((pair, s) for pair in ((given, of_given), (value, of_value)) for s in (1, -1)):
        rest = e - sign * (part - step.after)
        fewer = len(sp.Add.make_args(rest)) - (rest == 0) <= len(e.args) - 1 - len(sp.Add.make_args(part))
        if fewer and not {step.before, step.after} & rest.free_symbols:
            return rest + sign * share
    return e

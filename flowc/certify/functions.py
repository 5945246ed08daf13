"""The values of elementwise functions on `Number`s, by the names of the language and of chunk programs.

In: numbers that broadcast. Out: `value(name, arguments)`. What is rational in exp of its argument is so here; log, sin,
cos, erf and gelu are oracles, the exponent of a logarithm being the one that gives its argument back. Decisions are
taken by the shadow. Refuses a tie of drawn numbers and a root of a non-square (Redraw), and what has no value on any
draw (Uncertified).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from flowc.certify import field as fp
from flowc.certify.field import Entries, P
from flowc.certify.number import Number, Redraw, Shadow, Uncertified

MARGIN = 1e-6


def value(name: str, *arguments: Number) -> Number:
    """The function `name` of its arguments."""
    found = TABLE[name](*arguments)
    if name not in RATIONAL and found.exact is None and all(a.exact is not None for a in arguments):
        remember(found)
    return found


def remember(found: Number) -> None:
    """Constants that are no fractions are known by their float wherever a float stands for them."""
    for entry, shadow in zip(found.value.flat, found.shadow.flat, strict=True):
        if np.isfinite(shadow):
            found.oracles.constants[float(shadow)] = entry


def one(like: Number) -> Number:
    """The number 1."""
    return Number.fraction(like.oracles, 1)


def exp(a: Number) -> Number:
    """The generator to the power that the argument's exponent says; its logarithm is known."""
    found = exponential(a)
    for y, x in zip(found.value.flat, a.value.flat, strict=True):
        a.oracles.logarithms.setdefault(y, x)
    return found


def exponential(a: Number) -> Number:
    """The same of a power's exponent: powers of a small number are few, and say nothing on their logarithms."""
    return Number(a.oracles, fp.each(fp.power_of_generator, a.exponent), exp_of_shadow(a.shadow), opaque=a.opaque)


def exp_of_shadow(shadow: Shadow) -> Shadow:
    """What stands for an exponential in decisions."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(shadow))


def log(a: Number) -> Number:
    """Of an exponential its argument, else an oracle, odd as the logarithm of 1 / a is; exp of it is a.

    It is not opaque even where `a` is: its exponent is a function of `a` alone.
    """
    if not np.all(a.value):
        raise Redraw("the logarithm of 0")

    def ask(x: int) -> int:
        if x in a.oracles.logarithms:
            return a.oracles.logarithms[x]
        other = pow(x, -1, P)
        if other in a.oracles.logarithms:
            return -a.oracles.logarithms[other] % P
        return a.oracles.ask("log", x) if x < other else -a.oracles.ask("log", other) % P

    with np.errstate(all="ignore"):
        shadow = np.asarray(np.log(a.shadow))
    return Number(a.oracles, fp.each(ask, a.value), shadow, lambda: fp.each(fp.logarithm, a.value))


def power(a: Number, b: Number) -> Number:
    """An exact whole power, else exp(b log a), also of what was read from a state."""
    if b.exact is not None and all(e.denominator == 1 for e in b.exact.flat):
        if a.exact is not None:
            return Number.constant(a.oracles, fp.each(lambda x, n: x**n, a.exact, b.exact))
        if not np.all(a.value):
            raise Redraw("a power of 0")
        whole = b.exact
        made = fp.each(lambda x, n: pow(x, int(n), P), a.value, whole)
        shadow = np.asarray(a.shadow**b.shadow)
        return Number(a.oracles, made, shadow, lambda: fp.each(_power_exponent, a.exponent, whole), opaque=a.opaque)
    base = log(a)
    if b.exact is None and any(fp.logarithm(x) % fp.SMALL for x in a.value.flat):
        raise Uncertified("a power whose exponent is drawn")  # of what has no such powers, a**(b - 1) is not a**b / a
    known = Number(a.oracles, base.value, base.shadow, lambda: fp.each(fp.logarithm, a.value))
    exponent = Number(b.oracles, b.value, b.shadow, lambda: b.exponent, b.exact) * known
    found = exponential(exponent)
    return found.hidden() if a.opaque or b.opaque else found


def _power_exponent(exponent: int, power: Fraction) -> int:
    """A whole power in the ring of exponents."""
    if power == 1:
        return exponent
    if power < 0:
        exponent = fp.inverse_exponent(exponent) or 0
        if not exponent:
            raise Redraw("an exponent without an inverse")
    return pow(exponent, abs(int(power)), fp.ORDER) * fp.IN_WIDE % fp.ORDER


def root(a: Number) -> Number:
    """The square root that is a square itself."""
    found = fp.each(fp.root, a.value)
    if any(r is None for r in found.flat):
        if a.exact is not None:
            raise Uncertified(f"the square root of {a.exact.flat[0]} is not in the field")
        raise Redraw("the square root of a non-square")
    with np.errstate(invalid="ignore"):
        return Number(a.oracles, found, np.asarray(np.sqrt(a.shadow)), opaque=a.opaque)


def sigmoid(a: Number) -> Number:
    """1 / (1 + exp(-a)), rational in exp(a)."""
    e = exp(a)
    return e * (one(a) + e).inverse()


def tanh(a: Number) -> Number:
    """Rational in exp(a)."""
    e = exp(a)
    square = e * e
    return (square - one(a)) * (square + one(a)).inverse()


def exprel(a: Number) -> Number:
    """(exp(a) - 1) / a."""
    return (exp(a) - one(a)) * a.inverse()


def exprel_slope(a: Number) -> Number:
    """The derivative of exprel: ((a - 1) exp(a) + 1) / a^2."""
    return ((a - one(a)) * exp(a) + one(a)) * (a * a).inverse()


def oracle(name: str, parity: int, real: Callable[[float], float]) -> Callable[[Number], Number]:
    """A function that the field does not have: even (1), odd (-1) or neither (0)."""

    def ask(a: Number) -> Number:
        def entry(x: int) -> int:
            if parity and x > P // 2:
                return parity * a.oracles.ask(name, P - x) % P
            return a.oracles.ask(name, x)

        shadow = np.vectorize(real, otypes=[float])(a.shadow)
        return Number(a.oracles, fp.each(entry, a.value), np.asarray(shadow), opaque=a.opaque)

    return ask


# -- decisions --------------------------------------------------------------------------------------------------------


def decided(a: Number, b: Number, compare: Callable[[Shadow, Shadow], Shadow]) -> Number:
    """A comparison as 0 and 1. Constants may tie, drawn numbers must be apart."""
    if a.exact is not None and b.exact is not None:
        return Number.whole(a.oracles, np.asarray(compare(a.exact, b.exact)))
    least = MARGIN * np.maximum(1.0, np.maximum(abs(a.shadow), abs(b.shadow)))
    if not np.all(abs(a.shadow - b.shadow) > least):
        raise Redraw("a tie")
    return Number.whole(a.oracles, np.asarray(compare(a.shadow, b.shadow)))


def less(a: Number, b: Number) -> Number:
    """Whether a < b."""
    return decided(a, b, np.less)


def less_equal(a: Number, b: Number) -> Number:
    """Whether a <= b."""
    return decided(a, b, np.less_equal)


def where(condition: Number, a: Number, b: Number) -> Number:
    """Entry by entry a or b; `condition` is exact."""
    assert condition.exact is not None
    chosen = condition.exact != 0

    def pick(x: Entries, y: Entries) -> Entries:
        return np.where(chosen, x, y)

    exact = None if a.exact is None or b.exact is None else pick(a.exact, b.exact)
    shadow = np.where(chosen, a.shadow, b.shadow)
    value, opaque = pick(a.value, b.value), a.opaque or b.opaque
    return Number(a.oracles, value, shadow, lambda: pick(a.exponent, b.exponent), exact, opaque)


def sign(a: Number) -> Number:
    """-1, 0 or 1."""
    zero = Number.fraction(a.oracles, 0)
    return less(zero, a) - less(a, zero)


def absolute(a: Number) -> Number:
    """Where it is positive it has to be a square, as the root of its square is."""
    positive = a * sign(a)
    if a.exact is None and not a.opaque and any(fp.root(x) is None for x in positive.value.flat):
        raise Redraw("an absolute value that is no square")
    return positive


def relu(a: Number) -> Number:
    """max(a, 0)."""
    return where(less(Number.fraction(a.oracles, 0), a), a, Number.fraction(a.oracles, 0))


def maximum(a: Number, b: Number) -> Number:
    """The larger one."""
    return where(less(a, b), b, a)


def minimum(a: Number, b: Number) -> Number:
    """The smaller one."""
    return where(less(a, b), a, b)


def softplus(a: Number) -> Number:
    """log(1 + exp(a))."""
    return log(one(a) + exp(a))


TABLE: dict[str, Callable[..., Number]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a * b.inverse(),
    "neg": lambda a: -a,
    "pow": power,
    "exp": exp,
    "expm1": lambda a: exp(a) - one(a),
    "log": log,
    "log1p": lambda a: log(one(a) + a),
    "gate_log": log,
    "gate_log1p": lambda a: log(one(a) + a),
    "inverse_or_zero": lambda a: a.inverse(),
    "floor_log": lambda a: a,
    "above_floor": lambda a: Number.fraction(a.oracles, 1, a.shape),
    "exprel": exprel,
    "exprel_slope": exprel_slope,
    "sigmoid": sigmoid,
    "logsigmoid": lambda a: log(sigmoid(a)),
    "softplus": softplus,
    "silu": lambda a: a * sigmoid(a),
    "tanh": tanh,
    "sqrt": root,
    "root": root,
    "rsqrt": lambda a: root(a).inverse(),
    "sin": oracle("sin", -1, math.sin),
    "cos": oracle("cos", 1, math.cos),
    "erf": oracle("erf", -1, math.erf),
    "gelu": oracle("gelu", 0, lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
    "relu": relu,
    "step": lambda a: less(Number.fraction(a.oracles, 0), a),
    "abs": absolute,
    "sign": sign,
    "lt": less,
    "le": less_equal,
    "where": where,
    "max": maximum,
    "min": minimum,
    "clamp": lambda a, low, high: minimum(maximum(a, low), high),
}

RATIONAL = frozenset({"add", "sub", "mul", "div", "neg", "lt", "le", "where", "max", "min", "clamp", "abs", "sign"})

"""Interval arithmetic: what it knows, and that it never claims too much."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowc.semantics import load
from flowc.semantics.intervals import applied, hull, point
from flowc.semantics.model import Expr, Interval, Let, Model
from flowc.semantics.ranges import at_most_one, interval, positive, same

HEAD = """flow f(K)
input x : K
input f : scalar
input g : scalar <= 0
input p : scalar > 0
param lower : K in (0, 1]
param b : scalar in (0, 1)
state S : K
"""


def let(text: str, before: str = "") -> tuple[Expr, Model]:
    model = load(f"{HEAD}{before}let y = {text}\nS[t] = S[t-1] + x\no[t] = S[t] * sum(y)")
    value = next(s.value for s in model.statements if isinstance(s, Let) and s.name == "y")
    return value, model


def shown(found: Interval) -> str:
    left = "(" if found.low_open or found.low is None else "["
    right = ")" if found.high_open or found.high is None else "]"
    return f"{left}{'-inf' if found.low is None else found.low}, {'inf' if found.high is None else found.high}{right}"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("sigmoid(f)", "(0, 1)"),
        ("1 - sigmoid(x)", "(0, 1)"),
        ("exp(f)", "(0, inf)"),
        ("exp(g)", "(0, 1]"),
        ("exp(-exp(x))", "(0, 1)"),
        ("exp(-softplus(x) * exp(f))", "(0, 1)"),
        ("-exp(f)", "(-inf, 0)"),
        ("head", "[0, inf)"),
        ("heads", "[1, inf)"),
        ("K", "[1, inf)"),
        ("2 * K - 1", "[1, inf)"),
        ("1 - 2**(-5 - head)", "[31/32, 1)"),
        ("exp(-(8 / heads) * (1 - 0.25) * head)", "(0, 1]"),
        ("sigmoid(f)**(1 / 16)", "(0, 1]"),
        ("lower + (1 - lower) * sigmoid(x)", "(0, 1]"),
        ("sigmoid(x) * (1 - lower) + lower", "(0, 1]"),
        ("b * lower + (1 - b) * sigmoid(x)", "(0, 1]"),
        ("(1 - b) * 3 + b * 2", "[2, 3]"),
        ("x.T @ x", "[0, inf)"),
        ("f * f", "[0, inf)"),
        ("exp(g) * exp(g)", "(0, 1]"),
        ("f**2 + 1", "[1, inf)"),
        ("rsqrt(1 + f**2)", "(0, 1]"),
        ("1 / (1 + exp(f))", "(0, 1)"),
        ("abs(f)", "[0, inf)"),
        ("relu(f)", "[0, inf)"),
        ("tanh(f)", "(-1, 1)"),
        ("sin(f)", "[-1, 1]"),
        ("max(g, -5)", "[-5, 0]"),
        ("min(p, 1)", "(0, 1]"),
        ("clamp(f, 0.5, 1)", "[1/2, 1]"),
        ("where(f < 0, b, 1)", "(0, 1]"),
        ("exprel(g)", "(0, 1]"),
        ("expm1(g)", "(-1, 0]"),
        ("logsigmoid(x)", "(-inf, 0)"),
        ("log(b)", "(-inf, 0)"),
        ("sqrt(b)", "(0, 1)"),
        ("softmax(x)", "(0, 1]"),
        ("l2norm(x)", "[-1, 1]"),
        ("sum(lower)", "(0, inf)"),
        ("norm(x)", "[0, inf)"),
        ("outer(lower, exp(g) * lower)", "(0, 1]"),
        ("lower @ lower.T", "(0, 1]"),
        ("diag(lower)", "[0, 1]"),
        ("concat(lower, zeros(1))", "[0, 1]"),
        ("ones(K)", "[1, 1]"),
        ("g[t-1]", "(-inf, 0]"),
        ("p[t-1]", "[0, inf)"),
        ("f", "(-inf, inf)"),
        ("1 / f", "(-inf, inf)"),
        ("S[t-1]", "(-inf, inf)"),
        ("0.5**head", "(0, 1]"),
        ("p**f", "(0, inf)"),
        ("b**p", "(0, 1]"),
    ],
)
def test_known(text: str, known: str) -> None:
    value, model = let(text)
    assert shown(interval(value, model)) == known


def test_through_lets() -> None:
    value, model = let("1 - a * a", before="let a = sigmoid(x)\n")
    assert shown(interval(value, model)) == "(0, 1)"


def test_lets_of_one_name_in_two_repeats_count_together() -> None:
    model = load(
        "flow f(K)\ninput x : K\nstate S : K\nS[t] = S[t-1]\n"
        "repeat r in 2:\n    let a = sigmoid(x)\n    S[t] = a * S[t]\n"
        "repeat r in 2:\n    let a = 2 + sigmoid(x)\n    S[t] = a * S[t]\no[t] = S[t]"
    )
    product = model.statements[1].body[1].value  # type: ignore[union-attr]
    assert shown(interval(product.left, model)) == "(0, 3)"


def test_predicates() -> None:
    value, model = let("lower + (1 - lower) * sigmoid(x)")
    assert positive(value, model)
    assert at_most_one(value, model)
    value, model = let("f")
    assert not positive(value, model)
    assert not at_most_one(value, model)


def test_same_ignores_places() -> None:
    value, _ = let("(f + 1) * (f  +  1)")
    assert same(value.left, value.right)  # type: ignore[union-attr]
    value, _ = let("(f + 1) * (f + 2)")
    assert not same(value.left, value.right)  # type: ignore[union-attr]


def test_unknown_names_are_unbounded() -> None:
    assert applied("mystery", (point(1),)) == Interval()


def test_nested_powers_stay_cheap() -> None:
    found = point(Fraction(7, 3))
    for _ in range(30):
        found = applied("**", (found, point(64)))
    assert found.low is not None
    assert found.low >= 1


# -- soundness: a random value of the arguments is inside ---------------------------------------------------------

FUNCTIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": lambda a, b: a**b,
    "exp": math.exp,
    "expm1": math.expm1,
    "log": math.log,
    "log1p": math.log1p,
    "exprel": lambda a: math.expm1(a) / a if a else 1.0,
    "sigmoid": lambda a: 1 / (1 + math.exp(-a)),
    "logsigmoid": lambda a: -math.log1p(math.exp(-a)),
    "softplus": lambda a: math.log1p(math.exp(a)),
    "tanh": math.tanh,
    "sin": math.sin,
    "relu": lambda a: max(a, 0.0),
    "silu": lambda a: a / (1 + math.exp(-a)),
    "gelu": lambda a: a * (1 + math.erf(a / math.sqrt(2))) / 2,
    "sqrt": math.sqrt,
    "rsqrt": lambda a: 1 / math.sqrt(a),
    "abs": abs,
    "max": max,
    "min": min,
    "clamp": lambda a, low, high: min(max(a, low), high),
}
ARITY = {"clamp": 3, **dict.fromkeys(("+", "-", "*", "/", "**", "max", "min"), 2)}
ends = st.one_of(st.none(), st.sampled_from([Fraction(n, 4) for n in range(-24, 25)]))


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    low, high = draw(ends), draw(ends)
    if low is not None and high is not None and low > high:
        low, high = high, low
    is_point = low is not None and low == high
    return Interval(
        low,
        high,
        draw(st.booleans()) and low is not None and not is_point,
        draw(st.booleans()) and high is not None and not is_point,
    )


def pick(found: Interval, rng: random.Random) -> float:
    low = (
        float(found.low)
        if found.low is not None
        else (float(found.high) if found.high is not None else 0.0) - rng.choice([1, 30])
    )
    high = float(found.high) if found.high is not None else max(low, 0.0) + rng.choice([1, 30])
    if rng.random() < 0.3 and not found.low_open and found.low is not None:
        return low
    if rng.random() < 0.3 and not found.high_open and found.high is not None:
        return high
    return low + (high - low) * rng.uniform(0.01, 0.99)


@given(st.sampled_from(sorted(FUNCTIONS)), st.tuples(intervals(), intervals(), intervals()), st.integers(0, 10**6))
def test_sound(name: str, arguments: tuple[Interval, Interval, Interval], seed: int) -> None:
    some = arguments[: ARITY.get(name, 1)]
    found = applied(name, some)
    rng = random.Random(seed)
    for _ in range(20):
        try:
            value = FUNCTIONS[name](*(pick(a, rng) for a in some))
        except (ValueError, ZeroDivisionError, OverflowError):
            continue
        if isinstance(value, complex) or math.isnan(value):
            continue
        slack = 1e-9 * max(1.0, abs(value))
        assert found.low is None or value >= float(found.low) - slack
        assert found.high is None or value <= float(found.high) + slack


@given(intervals(), intervals())
def test_hull_holds_both(a: Interval, b: Interval) -> None:
    both = hull(a, b)
    if a.low is None or b.low is None:
        assert both.low is None
    else:
        assert both.low == min(a.low, b.low)
    if a.high is None or b.high is None:
        assert both.high is None
    else:
        assert both.high == max(a.high, b.high)

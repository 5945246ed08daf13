"""Constants that no float holds are refused by their place, and quickly: nothing is written out to all its digits."""

import pytest

from flowc.compiler import Stage, compile_text
from flowc.diagnostics import FlowError
from flowc.options import Options
from flowc.source import Source

SPEC = """flow f(K, V)
input q, k : K; input v : V; input x : scalar
state S : K x V
let a = 9**9
S[t] = S[t-1] + {} * k @ v.T
o[t] = S[t].T @ q
"""
LARGE = "this comes to a number that is too large or too small"


def plan(constant):
    return compile_text(Source("f", SPEC.format(constant)), Options(), Stage.PLAN)


@pytest.mark.parametrize(
    ("constant", "at", "words"),
    [
        ("9**9**9**9", "9**9**9", LARGE),
        ("2**1000000000", "2**1000000000", LARGE),
        ("2**-1000000000", "2**-1000000000", LARGE),
        ("a**a", "a**a", LARGE),
        ("(x + 1e200 * 1e200)", "1e200 * 1e200", LARGE),
        ("1e-200 / 1e200", "1e-200 / 1e200", LARGE),
        ("(1 - 1e-30)**1000000", "(1 - 1e-30)**1000000", LARGE),
        ("exp(1e250)", "exp(1e250)", LARGE),
        ("exp(exp(exp(100)))", "exp(exp(100))", LARGE),
        ("x * 0**-1", "0**-1", "this comes to no real number"),
        ("sqrt(-1)", "sqrt(-1)", "this comes to no real number"),
    ],
)
def test_refused(constant, at, words):
    with pytest.raises(FlowError) as caught:
        plan(constant)
    (found,) = caught.value.diagnostics
    text = SPEC.format(constant)
    assert (found.code, found.message) == ("F107", words)
    assert text[found.span.start : found.span.end] == at


@pytest.mark.parametrize("constant", ["1e300", "1e-300", "1e250**0.5", "10**(K * 100)", "sin(1e290)", "0 * 2**900"])
def test_taken(constant):
    assert plan(constant).plan

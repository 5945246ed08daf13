"""The canonical spelling: parsed, it gives the same tree; printed again, itself."""

import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from trees import bare, expressions, specs, steps

from flowc.source import Source
from flowc.syntax import parse
from flowc.syntax import tree as syntax
from flowc.syntax.printer import canonical, expression, number


def parsed(text: str) -> syntax.Spec:
    return parse(Source("<text>", text))


def value(text: str) -> syntax.Expression:
    (item,) = parsed(f"flow f(K)\nlet a = {text}\n").items
    assert isinstance(item, syntax.Let)
    return item.value


@given(specs)
def test_random_specs(spec: syntax.Spec) -> None:
    text = canonical(spec)
    again = parsed(text)
    assert canonical(again) == text
    assert again.doc == spec.doc
    assert bare(again.dimensions) == bare(spec.dimensions)
    assert bare(steps(again)) == bare(steps(spec))


@given(expressions)
def test_random_expressions(tree: syntax.Expression) -> None:
    assert bare(value(expression(tree))) == bare(tree)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("c * S.T @ p", "(c * S.T) @ p"),
        ("-a * b", "(-a) * b"),
        ("a / b * c", "(a / b) * c"),
        ("a - b - c", "(a - b) - c"),
        ("2**3**4", "2**(3**4)"),
        ("-a**2", "-(a**2)"),
        ("2**-a", "2**(-a)"),
        ("a.T**2", "(a.T)**2"),
        ("a + b < c * d", "(a + b) < (c * d)"),
        ("a @ b * c / d @ e", "(((a @ b) * c) / d) @ e"),
        ("1.50e1 + .5 + 1e-6 + 1.", "15 + 0.5 + 1e-6 + 1"),
    ],
)
def test_precedence(text: str, same: str) -> None:
    assert bare(value(text)) == bare(value(same))
    assert expression(value(text)) == expression(value(same))


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("((a))", "a"),
        ("(a * b) @ c", "a * b @ c"),
        ("a * (b @ c)", "a * (b @ c)"),
        ("(a + b).T", "(a + b).T"),
        ("(2**3)**4", "(2**3)**4"),
        ("(-a)**2", "(-a)**2"),
        ("S[ t - 1 ]", "S[t-1]"),
        ("k[r][t-1]", "k[r][t-1]"),
        ("l2norm(k,eps=1e-05)", "l2norm(k, eps = 1e-5)"),
        ("where(a<b,a,b)", "where(a < b, a, b)"),
    ],
)
def test_expressions(text: str, printed: str) -> None:
    assert expression(value(text)) == printed


@pytest.mark.parametrize(
    ("numerator", "denominator", "text"),
    [
        (0, 1, "0"),
        (1, 2, "0.5"),
        (-3, 4, "-0.75"),
        (1, 10**6, "1e-6"),
        (125, 10**8, "1.25e-6"),
        (1, 1000, "0.001"),
        (10**15, 1, "1000000000000000"),
        (10**20, 1, "1e20"),
        (12300, 1, "12300"),
    ],
)
def test_numbers(numerator: int, denominator: int, text: str) -> None:
    assert number(Fraction(numerator, denominator)) == text


@given(st.integers(0, 10**12), st.integers(-250, 250))
def test_numbers_are_exact(digits: int, exponent: int) -> None:
    exact = Fraction(digits) * Fraction(10) ** exponent
    assert Fraction(number(exact)) == exact


def test_layout_and_order_do_not_matter() -> None:
    loose = """
        # the op
        # in two lines

        flow f( K,V , R=4 );input q,k:K
        state S:K x V = 0.0
        input v : V   # a value
        param u:K in ( 0,1 ]; input g : scalar<=0
        S[t]=(S[t-1]+
              k@v.T)
        repeat r in R :

            # inside
            S[t] = 2*S[t]; let w = k

        o[t]=S[t].T@q"""
    assert canonical(parsed(loose)) == (
        "# the op\n# in two lines\nflow f(K, V, R = 4)\n\n"
        "input q, k : K\ninput v : V\ninput g : scalar <= 0\nparam u : K in (0, 1]\nstate S : K x V\n\n"
        "S[t] = S[t-1] + k @ v.T\nrepeat r in R:\n    S[t] = 2 * S[t]\n    let w = k\no[t] = S[t].T @ q\n"
    )


def test_one_name_a_line_is_the_same_spec() -> None:
    one = "flow f(K)\ninput q : K\ninput k : K\nstate m : scalar = -inf\no[t] = q\n"
    other = "flow f(K); input q, k : K; state m : scalar = -inf; o[t] = q"
    assert canonical(parsed(one)) == canonical(parsed(other))

"""What the check makes of expressions, declarations and statements."""

from fractions import Fraction

import pytest

from flowc.diagnostics import FlowError
from flowc.semantics import check, load, warnings
from flowc.semantics.model import (
    SCALAR,
    Binary,
    Call,
    Expr,
    HeadNumber,
    InputRef,
    Interval,
    Let,
    LetRef,
    LoopNumber,
    Model,
    Negate,
    Number,
    Output,
    Repeat,
    SizeNumber,
    StateRef,
    Transpose,
    Update,
)
from flowc.semantics.size import Size
from flowc.source import Source
from flowc.syntax import parse

HEAD = """flow f(K, V, R, M = 4, tau = 0.5)
input q, k : K
input v : V
input g : scalar
input A, B : K x R
input W : V x R
input list : R of K
input marks : M of scalar
param u : K
state S : K x V
state h : V
"""
TAIL = "\nS[t] = S[t-1] + k @ v.T\nh[t] = h[t-1] + v\no[t] = S[t].T @ q\n"


def spec(body: str) -> Model:
    return load(HEAD + body + TAIL)


def value(text: str) -> Expr:
    first = spec(f"let a = {text}").statements[0]
    assert isinstance(first, Let)
    return first.value


def codes(text: str) -> list[str]:
    with pytest.raises(FlowError) as caught:
        load(text)
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


def test_products_have_one_precedence_from_left_to_right() -> None:
    product = value("g * S[t-1].T @ k")
    assert isinstance(product, Binary)
    assert (product.op, str(product.shape)) == ("@", "V")
    assert isinstance(product.left, Binary)
    assert product.left.op == "*"
    assert isinstance(product.left.right, Transpose)


def test_powers_bind_to_the_right_and_before_minus() -> None:
    power = value("-g**2**3")
    assert isinstance(power, Negate)
    assert isinstance(power.argument, Binary)
    assert isinstance(power.argument.right, Binary)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("q", "K"),
        ("q.T", "1 x K"),
        ("q.T.T", "K"),
        ("k.T @ q", "scalar"),
        ("k @ q.T", "K x K"),
        ("k @ v.T", "K x V"),
        ("A", "K x R"),
        ("A.T @ k", "R"),
        ("k.T @ A", "1 x R"),
        ("A @ W.T", "K x V"),
        ("A @ A.T @ S[t-1]", "K x V"),
        ("S[t-1] @ v", "K"),
        ("q + 1", "K"),
        ("1 - q", "K"),
        ("g * S[t-1]", "K x V"),
        ("S[t-1] / g", "K x V"),
        ("1 / q", "K"),
        ("q / (k.T @ q)", "K"),
        ("S[t-1] * S[t-1]", "K x V"),
        ("2**q", "K"),
        ("q**2", "K"),
        ("g.T", "scalar"),
        ("diag(q)", "K x K"),
        ("diag(q) @ S[t-1] @ diag(v)", "K x V"),
        ("outer(q, v)", "K x V"),
        ("ones(K)", "K"),
        ("zeros(1 + K*K)", "1 + K*K"),
        ("ones(M)", "4"),
        ("concat(q, v)", "K + V"),
        ("kron(q, q)", "K*K"),
        ("concat(ones(1), concat(q, kron(q, q)))", "1 + K + K*K"),
        ("sum(S[t-1])", "scalar"),
        ("norm(q)", "scalar"),
        ("l2norm(q)", "K"),
        ("softmax(S[t-1].T @ q)", "V"),
        ("exp(S[t-1])", "K x V"),
        ("max(q, 0)", "K"),
        ("min(0, q)", "K"),
        ("clamp(q, -1, k)", "K"),
        ("where(q < 0, q, k)", "K"),
        ("where(g < 0, S[t-1], 0)", "K x V"),
        ("list[0]", "K"),
        ("list[0][t-1]", "K"),
        ("list[t-1][0]", "K"),
        ("marks[3]", "scalar"),
        ("I + B @ A.T", "K x K"),
        ("(I - g * k @ k.T) @ S[t-1]", "K x V"),
        ("g * I + diag(q)", "K x K"),
        ("diag(q) - 2 * I / 3", "K x K"),
        ("I @ S[t-1] @ I", "K x V"),
        ("(I + I).T @ q", "K"),
        ("A @ ones(R)", "K"),
        ("q @ ones(1)", "K"),
    ],
)
def test_shapes(text: str, shape: str) -> None:
    assert str(value(text).shape) == shape


def test_a_matrix_of_one_column_stays_a_matrix() -> None:
    first = load(
        "flow f(K, R = 1)\ninput A : K x R\ninput k : K\nstate h : K\nlet a = A.T @ k\nh[t] = A @ a\no[t] = h[t]"
    )
    assert isinstance(first.statements[0], Let)
    assert str(first.statements[0].value.shape) == "1"
    assert first.statements[0].value.shape != SCALAR


def test_header_constants_are_sizes_and_numbers() -> None:
    found = spec("let a = M * tau * ones(M)")
    assert [(d.name, d.value) for d in found.dimensions] == [("K", None), ("V", None), ("R", None), ("M", 4)]
    product = found.statements[0]
    assert isinstance(product, Let)
    assert isinstance(product.value, Binary)
    numbers = product.value.left
    assert isinstance(numbers, Binary)
    assert [part.value for part in (numbers.left, numbers.right) if isinstance(part, Number)] == [4, Fraction(1, 2)]
    assert product.value.shape.rows == Size.of(4)


def test_fixed_sizes_equal_their_values() -> None:
    text = "flow f(K, M = 4)\ninput a : M\ninput b : 2 + 2\ninput q : K\nstate h : 4\nh[t] = a + b\no[t] = h[t]"
    assert load(text).inputs[0].shape == load(text).inputs[1].shape


def test_leaves() -> None:
    assert isinstance(value("K"), SizeNumber)
    assert isinstance(value("head"), HeadNumber)
    heads = value("heads")
    assert isinstance(heads, HeadNumber)
    assert heads.count
    previous = value("q[t-1]")
    assert isinstance(previous, StateRef)  # an input's previous value is held in a state of its own
    assert (previous.previous, previous.name) == (True, "q_before")
    element = value("list[1]")
    assert isinstance(element, InputRef)
    assert (element.previous, element.index, element.shape.items) == (False, 1, None)
    state = value("S[t-1]")
    assert isinstance(state, StateRef)
    assert state.previous


def test_eps() -> None:
    for text, eps in {
        "l2norm(q)": Fraction(1, 10**6),
        "l2norm(q, eps = 1e-5)": Fraction(1, 10**5),
        "rmsnorm(q, tau)": Fraction(1, 2),
    }.items():
        call = value(text)
        assert isinstance(call, Call)
        assert (call.eps, len(call.arguments)) == (eps, 1)
    other = value("softmax(q)")
    assert isinstance(other, Call)
    assert other.eps is None


def test_a_declared_name_hides_functions_and_the_identity() -> None:
    found = load("flow f(K)\ninput exp, I : K\nstate h : K\nh[t] = exp(exp) * I + h[t-1]\no[t] = h[t]")
    assert [declared.name for declared in found.inputs] == ["exp", "I"]


def test_lists_in_a_repeat() -> None:
    found = spec("S[t] = S[t-1]\nrepeat r in R:\n    let w = r * list[r]\n    S[t] = S[t] + w @ v.T")
    repeat = found.statements[1]
    assert isinstance(repeat, Repeat)
    assert repeat.count == Size.of("R")
    let, update = repeat.body
    assert isinstance(let, Let)
    assert isinstance(update, Update)
    assert isinstance(let.value, Binary)
    assert isinstance(let.value.left, LoopNumber)
    assert isinstance(let.value.right, InputRef)
    assert let.value.right.index == "r"


def test_lets_of_two_repeats_are_apart() -> None:
    block = "repeat r in R:\n    let w = list[r]\n    S[t] = S[t] + w @ v.T\n"
    assert len(spec("S[t] = S[t-1]\n" + block + block).statements) == 6


def test_repeats_nest() -> None:
    found = spec("S[t] = S[t-1]\nrepeat r in R:\n    repeat i in 2:\n        S[t] = S[t] + i * list[r] @ v.T")
    assert isinstance(found.statements[1], Repeat)
    assert isinstance(found.statements[1].body[0], Repeat)


def test_params_come_after_inputs() -> None:
    found = load(
        "flow f(K)\nparam w : K in (0, 1]\ninput q : K <= 0\nstate m : scalar = -inf\nm[t] = w.T @ q\no[t] = m[t]"
    )
    assert [(x.name, x.is_param) for x in found.inputs] == [("q", False), ("w", True)]
    assert found.inputs[1].range == Interval(Fraction(0), Fraction(1), True, False)
    assert found.inputs[0].range == Interval(None, Fraction(0))
    assert found.states[0].start == float("-inf")


def test_an_output_may_be_a_matrix_or_stand_before_the_update() -> None:
    found = load("flow f(K)\ninput k : K\nstate S : K x K\na[t] = S[t-1]\nS[t] = S[t-1] + k @ k.T\nb[t] = k.T @ k")
    assert [s.name for s in found.statements if isinstance(s, Output)] == ["a", "b"]


def test_let_refs_carry_their_shape() -> None:
    found = spec("let a = k @ v.T\nlet b = a.T")
    second = found.statements[1]
    assert isinstance(second, Let)
    assert isinstance(second.value, Transpose)
    assert isinstance(second.value.argument, LetRef)
    assert str(second.value.shape) == "V x K"


def test_check_takes_a_tree() -> None:
    source = Source("<text>", HEAD + TAIL)
    assert check(parse(source), source) == load(HEAD + TAIL)


def test_names_in_broken_lines_cause_no_further_errors() -> None:
    text = "flow f(K, V)\ninput q : K\ninput v $ V\nstate S : K x V\n"
    text += "S[t] = S[t-1] + + q @ v.T\nlet a = nope\no[t] = S[t] @ v"
    assert codes(text) == ["F101", "F101", "F201"]


def test_nested_identities_do_not_take_exponential_time() -> None:
    nested = "I * (" * 60 + "1" + ")" * 60
    text = f"flow f(K)\ninput q : K\nstate h : K\nlet a = {nested}\nh[t] = q\no[t] = h[t]"
    assert codes(text) == ["F308"] * 60


def test_a_long_chain_of_lets_is_no_recursion() -> None:
    chain = "let a0 = q\n" + "".join(f"let a{i} = q * a{i - 1}\n" for i in range(1, 250))
    found = load("flow f(K)\ninput q : K\nstate h : K\n" + chain + "h[t] = a249 * h[t-1]\no[t] = h[t]")
    assert {warning.code for warning in warnings(found)} == {"W201", "W202"}


def test_nested_convex_combinations_do_not_take_exponential_time() -> None:
    nested = "b * q + (1 - b) * (" * 40 + "q" + ")" * 40
    found = load(
        f"flow f(K)\ninput q : K <= 1\nparam b : scalar in (0, 1)\nstate h : K\nh[t] = ({nested}) * h[t-1]\no[t] = h[t]"
    )
    assert {warning.code for warning in warnings(found)} == {"W202"}


@pytest.mark.parametrize("depth", [150, 199])
def test_expressions_at_the_cap_are_checked(depth: int) -> None:
    spec("let a = " + "-" * (depth - 1) + "q")
    spec("let a = q" + " + q" * (depth - 2))
    spec("let a = " + "exp(" * (depth // 2) + "q" + ")" * (depth // 2))

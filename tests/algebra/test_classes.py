"""Every class of the algebra is recognised and named, with the span that decides it.

Inline specs first, then the zoo. A span is compared by the text under it.
"""

from pathlib import Path

import pytest

from flowc.algebra.normalize import normalize
from flowc.algebra.recurrence import Recurrence
from flowc.semantics import load

ROOT = Path(__file__).parent.parent.parent

HEADER = """flow it(K, V, R)
input q, k : K; input v, w : V; input g, x : scalar; input gk : K; input gv : V; input kk : R of K
input M : K x K; input G : K x V
state S : K x V
"""
OUTPUT = "\no[t] = S[t].T @ q\n"
SQUARE = "flow it(K)\ninput q, k : K\nstate S : K x K\n"
VECTOR = "flow it(K)\ninput x, f : K; input M : K x K\nstate h : K\n"
SCALAR = "flow it(K)\ninput x : K; input a, b : scalar\nstate m : scalar\n"
TWO = "flow it(K, V)\ninput q, k : K; input v : V\nstate S, U : K x V\n"


def classified(text):
    result = normalize(load(text, "test"))
    found = result.classification if isinstance(result, Recurrence) else result
    return found, text[found.span.start : found.span.end], isinstance(result, Recurrence)


# body, class, text under the deciding span, a word of the reason
IN_NORMAL_FORM = {
    "no gate": ("S[t] = S[t-1] + k @ v.T", "G", "S[t] = S[t-1] + k @ v.T", "no gate"),
    "scalar gate": ("S[t] = exp(g) * S[t-1]", "G", "exp(g)", "scalar or key side"),
    "key gate": ("S[t] = diag(exp(gk)) @ S[t-1]", "G", "diag(exp(gk))", "scalar or key side"),
    "value gate": ("S[t] = S[t-1] @ diag(exp(gv))", "G", "diag(exp(gv))", "value side"),
    "outer gate": (
        "S[t] = outer(exp(gk), exp(gv)) * S[t-1]",
        "G",
        "outer(exp(gk), exp(gv))",
        "value side",
    ),
    "a vector made by a matrix": ("S[t] = S[t-1] + (M @ k) @ v.T", "G", "S[t] = S[t-1] + (M @ k) @ v.T", "no gate"),
    "a read": (
        "S[t] = exp(g) * S[t-1]\nS[t] = S[t] + k @ (v - S[t].T @ k).T",
        "D",
        "S[t] = S[t] + k @ (v - S[t].T @ k).T",
        "key side",
    ),
    "a read in a repeat": (
        "S[t] = S[t-1]\nrepeat r in R:\n    S[t] = S[t] - kk[r] @ (S[t].T @ kk[r]).T",
        "D",
        "S[t] = S[t] - kk[r] @ (S[t].T @ kk[r]).T",
        "key side",
    ),
    "a read on the value side": (
        "S[t] = S[t-1] + (k - S[t-1] @ v) @ v.T",
        "D",
        "S[t] = S[t-1] + (k - S[t-1] @ v) @ v.T",
        "value side",
    ),
    "reads on the value side in a repeat": (
        "S[t] = exp(g) * S[t-1] @ diag(exp(gv))\nrepeat r in R:\n    S[t] = S[t] - (S[t] @ v) @ w.T",
        "D",
        "S[t] = S[t] - (S[t] @ v) @ w.T",
        "value side",
    ),
    "a read on the value side and a key gate": (
        "S[t] = diag(exp(gk)) @ S[t-1]\nS[t] = S[t] + (k - S[t] @ v) @ v.T",
        "D'",
        "diag(exp(gk))",
        "reads on the value side, a gate on the key side",
    ),
    "a read and a value gate": (
        "S[t] = S[t-1] @ diag(exp(gv))\nS[t] = S[t] + k @ (v - S[t].T @ k).T",
        "D'",
        "diag(exp(gv))",
        "value side",
    ),
}

OUTSIDE = {
    "elementwise gate": ("S[t] = exp(G) * S[t-1]", "E", "exp(G)", "no outer product"),
    "sum of outer gates": (
        "S[t] = (outer(gk, ones(V)) + outer(ones(K), gv)) * S[t-1]",
        "E",
        "outer(gk, ones(V)) + outer(ones(K), gv)",
        "no outer product",
    ),
    "reads on both sides": (
        "S[t] = S[t-1] + k @ (v - S[t-1].T @ k).T + (k - S[t-1] @ v) @ v.T",
        "R",
        "(k - S[t-1] @ v) @ v.T",
        "both sides",
    ),
    "reads on both sides, one after another": (
        "S[t] = S[t-1] + k @ (v - S[t-1].T @ k).T\nS[t] = S[t] + (k - S[t] @ v) @ v.T",
        "R",
        "(k - S[t] @ v) @ v.T",
        "both sides",
    ),
    "reads on both sides, the value side first": (
        "S[t] = S[t-1] + (k - S[t-1] @ v) @ v.T\nS[t] = S[t] + k @ (v - S[t].T @ k).T",
        "R",
        "k @ (v - S[t].T @ k).T",
        "both sides",
    ),
    "a value-side read that is weighed": (
        "S[t] = S[t-1] + (k - k * (S[t-1] @ v)) @ v.T",
        "R",
        "(k - k * (S[t-1] @ v)) @ v.T",
        "key-side vector",
    ),
    "a dense transition": ("S[t] = M @ S[t-1] + k @ v.T", "R", "M", "dense matrix"),
    "tanh of the state": ("S[t] = tanh(S[t-1] + k @ v.T)", "R", "S[t-1] + k @ v.T", "not affine"),
    "tanh of a read": ("S[t] = S[t-1] + k @ tanh(S[t-1].T @ k).T", "R", "S[t-1].T @ k", "not affine"),
    "state times itself": ("S[t] = S[t-1] * S[t-1]", "R", "S[t-1] * S[t-1]", "with itself"),
    "a read down to a scalar": (
        "S[t] = S[t-1] + (k.T @ S[t-1] @ v) * k @ v.T",
        "R",
        "(k.T @ S[t-1] @ v) * k @ v.T",
        "scalar",
    ),
    "a weighed read": (
        "S[t] = S[t-1] + k @ (v - w * (S[t-1].T @ k)).T",
        "R",
        "k @ (v - w * (S[t-1].T @ k)).T",
        "value-side vector",
    ),
    "a dense write": ("S[t] = S[t-1] + G", "R", "G", "full rank"),
    "a zero gate": ("S[t] = k @ v.T", "R", "S[t] = k @ v.T", "gate that is 0"),
    "a gate times zero": ("S[t] = 0 * S[t-1] + k @ v.T", "R", "0", "gate that is 0"),
    "a gate of unknown sign": ("S[t] = x * S[t-1]", "R", "x", "not provably positive"),
    "a gate that may be 0": ("S[t] = relu(x) * S[t-1]", "R", "relu(x)", "not provably positive"),
    "a negative gate": ("S[t] = -exp(g) * S[t-1]", "R", "-exp(g)", "not provably positive"),
    "a key gate of unknown sign": (
        "S[t] = diag(tanh(gk)) @ S[t-1]",
        "R",
        "diag(tanh(gk))",
        "not provably positive",
    ),
    "a repeat in a repeat": (
        "S[t] = S[t-1]\nrepeat r in R:\n    repeat p in R:\n        S[t] = S[t] + kk[r] @ v.T",
        "R",
        "repeat p in R",
        "inside a repeat",
    ),
    "the previous key of a list": ("S[t] = S[t-1] + kk[1][t-1] @ v.T", "shift", "kk[1][t-1]", "shift"),
}


@pytest.mark.parametrize("name", IN_NORMAL_FORM)
def test_in_normal_form(name):
    body, expected, deciding, word = IN_NORMAL_FORM[name]
    found, text, normal = classified(HEADER + body + OUTPUT)
    assert (found.name, text, normal) == (expected, deciding, True)
    assert word in found.reason


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside(name):
    body, expected, deciding, word = OUTSIDE[name]
    found, text, normal = classified(HEADER + body + OUTPUT)
    assert (found.name, text, normal) == (expected, deciding, False)
    assert word in found.reason


@pytest.mark.parametrize(
    ("text", "expected", "deciding"),
    [
        (SQUARE + "S[t] = S[t-1] + S[t-1].T + k @ k.T" + OUTPUT, "R", "S[t-1].T"),
        (SQUARE + "S[t] = S[t-1] + (S[t-1].T @ k) @ k.T" + OUTPUT, "R", "(S[t-1].T @ k) @ k.T"),
        (SQUARE + "S[t] = S[t-1] + k @ (S[t-1] @ k).T" + OUTPUT, "R", "k @ (S[t-1] @ k).T"),
        (SQUARE.replace(": K\n", ": K; input M : K x K\n", 1) + "S[t] = S[t-1] @ M + k @ k.T" + OUTPUT, "R", "M"),
        (VECTOR + "h[t] = sigmoid(f) * h[t-1] + x\no[t] = h[t]\n", "E", "sigmoid(f) * h[t-1] + x"),
        (VECTOR + "h[t] = tanh(f * h[t-1] + x)\no[t] = h[t]\n", "R", "tanh(f * h[t-1] + x)"),
        (VECTOR + "h[t] = M @ h[t-1] + x\no[t] = h[t]\n", "R", "M"),
        (VECTOR + "h[t] = h[t-1] * h[t-1] + x\no[t] = h[t]\n", "R", "h[t-1] * h[t-1]"),
        (SCALAR + "m[t] = exp(a) * m[t-1] + b\no[t] = m[t] * x\n", "A", "exp(a) * m[t-1] + b"),
        (SCALAR + "m[t] = max(m[t-1] + a, b)\no[t] = m[t] * x\n", "A", "max(m[t-1] + a, b)"),
        (VECTOR + "h[t] = log(exp(h[t-1]) + exp(x))\no[t] = h[t]\n", "A", "log(exp(h[t-1]) + exp(x))"),
        (TWO + "S[t] = S[t-1] + k @ v.T\nU[t] = U[t-1] + q @ v.T\no[t] = S[t].T @ q + U[t].T @ k\n", "M", "U"),
        (
            TWO + "S[t] = S[t-1] + U[t-1]\nU[t] = U[t-1] + S[t] + k @ v.T\no[t] = S[t].T @ q\n",
            "R",
            "S[t] = S[t-1] + U[t-1]",
        ),
    ],
)
def test_other_states(text, expected, deciding):
    found, shown, _ = classified(text)
    assert (found.name, shown) == (expected, deciding)


@pytest.mark.parametrize("use", ["S[t] @ v", "S[t].T @ q", "(S[t] @ v) * k", "q.T @ S[t] @ v", "S[t] @ (S[t].T @ q)"])
def test_an_output_contracts_the_state_on_either_side(use):
    found, _, normal = classified(HEADER + f"S[t] = S[t-1] + k @ v.T\no[t] = {use}\n")
    assert (found.name, normal) == ("G", True)


@pytest.mark.parametrize("use", ["S[t]", "2 * S[t]", "sum(S[t])", "tanh(S[t]).T @ q"])
def test_an_output_that_does_not_contract_the_state(use):
    found, text, normal = classified(HEADER + f"S[t] = S[t-1] + k @ v.T\no[t] = {use}\n")
    assert (found.name, normal) == ("R", False)
    assert text in use
    assert "without contracting its rows or columns" in found.reason


ZOO = {"squashed_in_rounds": ("R", "S[t] + a[r] @ b[r].T")}
STEPPED = {
    "longhorn": ("E", "outer(ones(K), ones(V)) - outer(k * k, delta)"),
    "mamba": ("E", "exp(A * outer(ones(K), softplus(dt)))"),
    "momentum_delta": ("R", "M[t] = mu * M[t-1] + beta * k @ (v - S[t-1].T @ k).T"),
    "squashed_fast_weights": ("R", "S[t-1] + a @ b.T"),
}


def test_the_zoo_is_all_here():
    assert set(ZOO) == {path.stem for path in (ROOT / "tests/cases/zoo").glob("*.flow")}


@pytest.mark.parametrize(("folder", "name"), [("tests/cases/zoo", n) for n in ZOO] + [("examples", n) for n in STEPPED])
def test_the_zoo(folder, name):
    found, text, normal = classified((ROOT / f"{folder}/{name}.flow").read_text())
    assert (found.name, text) == (ZOO | STEPPED)[name]
    assert found.reason
    assert not normal


EXAMPLES = {
    "E": "hgrn",
    "M": "mamba3 linear_attention_normalized based rebased mlstm rwkv4 preconditioned_gated_deltanet gsa abc",
    "G": "linear_attention retnet lightning simple_gla gated_retnet gated_rfa mamba2 gla hgrn2 rwkv6 "
    "decaying_fast_weights",
    "D": "deltanet gated_deltanet kda gated_deltanet2 comba rwkv7 iplr delta_product gated_delta_product "
    "lowrank_delta gated_lowrank_delta kda_lowrank delta_exact gated_oja",
}


@pytest.mark.parametrize(("name", "expected"), [(n, c) for c, names in EXAMPLES.items() for n in names.split()])
def test_the_examples(name, expected):
    found, _, normal = classified((ROOT / f"examples/{name}.flow").read_text())
    assert (found.name, normal) == (expected, True)

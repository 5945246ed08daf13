"""The logarithm of a gate: exact rules, intervals for the rest, and never a clamp."""

import pytest
import torch

import flowc
from flowc import reference
from flowc.algebra.normalize import normalize
from flowc.algebra.recurrence import Classification, Gate, Recurrence
from flowc.algebra.term import text
from flowc.semantics import load

SPEC = """flow it(K, V, tau = 4)
input q, k : K; input v : V; input x, y : scalar; input z : K
input d : scalar in (0, 1]; input p : scalar > 0; input n : scalar <= 0; input c : scalar in [0, 1]
param low : K in (0, 1]
state S : K x V
S[t] = {gate} S[t-1] + k @ v.T
o[t] = S[t].T @ q
"""

SCALAR = {
    "exp(x)": "x",
    "exp(-exp(x))": "-exp(x)",
    "exp(-softplus(x) * exp(y))": "(-exp(y)) * softplus(x)",
    "sigmoid(x)": "logsigmoid(x)",
    "sigmoid(-x)": "logsigmoid(-x)",
    "1 - sigmoid(x)": "logsigmoid(-x)",
    "exp(x) * sigmoid(y)": "x + logsigmoid(y)",
    "sigmoid(x)**(1 / 4)": "0.25 * logsigmoid(x)",
    "sigmoid(x)**tau": "4 * logsigmoid(x)",
    "sigmoid(x)**y": "y * logsigmoid(x)",
    "(exp(x) * sigmoid(y))**3": "3 * x + 3 * logsigmoid(y)",
    "1 / sigmoid(x)": "-logsigmoid(x)",
    "sqrt(sigmoid(x))": "0.5 * logsigmoid(x)",
    "sqrt(exp(2 * x))": "x",
    "rsqrt(exp(x))": "(-0.5) * x",
    "exp(x) / exp(y)": "x - y",
    "2**(-x)": "(-x) * 0.6931471805599453",
    "exp(x) / 2": "x - 0.6931471805599453",
    "-(-exp(x))": "x",
    "d": "gate_log(d)",
    "d**2 * p": "2 * gate_log(d) + gate_log(p)",
    "1 - 2**(-5 - head)": "gate_log1p(-2**(-head - 5))",
    "1 - 0.5 * sigmoid(x)": "gate_log1p((-0.5) * sigmoid(x))",
    "clamp(x, 0.1, 0.9)": "gate_log(min(max(x, 0.1), 0.9))",
    "max(x, 0.5)": "gate_log(max(x, 0.5))",
    "where(x < 0, 0.5, 0.75)": "gate_log(where(lt(x, 0), 0.5, 0.75))",
    "x * x + 0.1": "gate_log(x * x + 0.1)",
    "norm(z) + 0.1": "gate_log(root(sum_K(z**2)) + 0.1)",
}

KEY = {
    "exp(z)": "z",
    "exp(x * z)": "x * z",
    "exp(x) * sigmoid(z)": "x + logsigmoid(z)",
    "1 - sigmoid(z)": "logsigmoid(-z)",
    "low + (1 - low) * sigmoid(z)": "gate_log(low + (1 - low) * sigmoid(z))",
}

# Each may be 0 or negative somewhere in the declared ranges.
REFUSED = (
    "x",
    "c",
    "n",
    "tanh(x)",
    "relu(x)",
    "silu(x)",
    "expm1(x)",
    "x * x",
    "abs(x)",
    "1 - d",
    "norm(z)",
    "-d",
    "d - 1",
)


def gate_of(gate):
    return normalize(load(SPEC.format(gate=gate), "test"))


def log_row(recurrence):
    assert isinstance(recurrence, Recurrence), recurrence
    (gate,) = (e for e in recurrence.edits if isinstance(e, Gate))
    assert gate.log_column is None
    return text(gate.log_row)


@pytest.mark.parametrize("gate", SCALAR)
def test_scalar_gates(gate):
    assert log_row(gate_of(f"({gate}) *")) == SCALAR[gate]


@pytest.mark.parametrize("gate", KEY)
def test_key_gates(gate):
    assert log_row(gate_of(f"diag({gate}) @")) == KEY[gate]


@pytest.mark.parametrize("gate", REFUSED)
def test_a_gate_that_may_be_zero_or_negative_is_refused(gate):
    found = gate_of(f"({gate}) *")
    assert isinstance(found, Classification)
    assert found.name == "R"
    assert "not provably positive" in found.reason


@pytest.mark.parametrize("gate", [*SCALAR, *REFUSED])
def test_no_clamp_is_made_up(gate):
    """A bound in the normal form is one that the spec has."""
    shown = str(gate_of(f"({gate}) *"))
    for word in ("min(", "max(", "clamp("):
        assert word not in shown or "clamp" in gate or "max" in gate


def tensors(seed=0):
    rng = torch.Generator().manual_seed(seed)
    names = {"q": (3,), "k": (3,), "v": (2,), "x": (), "y": (), "z": (3,), "d": (), "p": (), "n": (), "c": ()}
    x = {name: torch.randn(1, 9, 2, *shape, generator=rng, dtype=torch.float64) for name, shape in names.items()}
    x |= {name: x[name].sigmoid() for name in "dpc"}
    return x | {"n": -x["n"].abs(), "low": torch.rand(2, 3, generator=rng, dtype=torch.float64)}


@pytest.mark.parametrize("gate", [*(f"({g}) *" for g in SCALAR), *(f"diag({g}) @" for g in KEY)])
def test_the_logarithm_is_the_gate_s(gate):
    spec, x = SPEC.format(gate=gate), tensors()
    x["x"] = x["x"].clamp(-1, 0.3)  # so that no product of nine gates overflows
    expected, _ = reference.run(load(spec, "test"), x)
    found = flowc.compile(spec)(**x, chunk_size=4)
    # Sums of 3 keys over 9 tokens and 9 log gates of size one: about 40 roundings either way.
    assert ((found - expected["o"]).norm() / expected["o"].norm()).item() < 1e-14


@pytest.mark.parametrize(
    ("gate", "at"),
    [
        ("exp(x)", -torch.inf),
        ("exp(-exp(x))", 8.0),
        ("sigmoid(x)", -1000.0),
        ("1 - sigmoid(x)", 1000.0),
        ("0.5 + 0.5 * tanh(x)", -50.0),
        ("softplus(x)", -1000.0),
        ("exp(x) + exp(y)", -1000.0),
    ],
)
def test_a_gate_that_rounds_to_zero_is_zero_and_so_is_its_gradient(gate, at):
    spec, x = SPEC.format(gate=f"({gate}) *"), tensors()
    x["x"][:, 3::4] = at
    if "y" in gate:
        x["y"][:, 3::4] = at
    leaves = {name: value.requires_grad_() for name, value in x.items()}
    found = flowc.compile(spec)(**leaves, chunk_size=4)
    expected, _ = reference.run(load(spec, "test"), {name: value.detach() for name, value in leaves.items()})
    assert ((found - expected["o"]).norm() / expected["o"].norm()).item() < 1e-11
    found.sum().backward()
    for name, value in leaves.items():
        if value.grad is not None:
            assert torch.isfinite(value.grad).all(), name
    assert (leaves["x"].grad[:, 3::4] == 0).all()

"""Warnings: what calls for one, and what must not."""

import pytest

from flowc.semantics import load, warnings

HEAD = """flow f(K, V)
input q, k : K
input v : V
input g : scalar <= 0
input h : K
param low : scalar in [0.01, 1]
state S : K x V
"""


def codes(body: str) -> set[str]:
    found = warnings(load(f"{HEAD}{body}\no[t] = S[t].T @ (q + 0 * g * low * h)\n"))
    assert all(warning.severity == "warning" for warning in found)
    return {warning.code for warning in found}


@pytest.mark.parametrize(
    "body",
    [
        "S[t] = S[t-1] + k @ v.T",
        "S[t] = exp(g) * S[t-1] + k @ v.T",
        "S[t] = low * S[t-1] + k @ v.T",
        "S[t] = diag(sigmoid(h)**0.5 * exp(g)) @ S[t-1] + k @ v.T",
        "let a = sigmoid(h)\nS[t] = diag(1 - a) @ S[t-1] + k @ v.T",
        "S[t] = 0.5 * S[t-1] + k @ v.T",
        "let n = l2norm(k)\nS[t] = S[t-1] + n @ (v - S[t-1].T @ n).T",
        "let n = k / norm(k)\nS[t] = (I - 0.5 * n @ n.T) @ S[t-1] + n @ v.T",
        "S[t] = S[t-1] + k @ (S[t-1].T @ h).T + k @ v.T",
        "S[t] = S[t-1] + exprel(-k.T @ k) * k @ (v - S[t-1].T @ k).T",
    ],
)
def test_nothing_to_warn_about(body: str) -> None:
    assert codes(body) == set()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("S[t] = exp(h.T @ k) * S[t-1] + k @ v.T", "W201"),
        ("S[t] = 2 * S[t-1] + k @ v.T", "W201"),
        ("S[t] = S[t-1] @ diag(exp(v)) + k @ v.T", "W201"),
        ("S[t] = exp(g) * diag(1 + exp(h)) @ S[t-1] + k @ v.T", "W201"),
        ("S[t] = tanh(h.T @ k) * S[t-1] + k @ v.T", "W202"),
        ("S[t] = (1 - exp(g)) * S[t-1] + k @ v.T", "W202"),
        ("S[t] = S[t-1] + k @ (v - S[t-1].T @ k).T", "W203"),
        ("S[t] = S[t-1] - k @ (S[t-1].T @ (2 * k)).T + k @ v.T", "W203"),
        ("S[t] = (I - k @ k.T) @ S[t-1] + k @ v.T", "W203"),
        ("state m : scalar\nm[t] = m[t-1] + 1\nS[t] = S[t-1] + k @ v.T", "W102"),
        ("input z : K\nS[t] = S[t-1] + k @ v.T", "W101"),
    ],
)
def test_a_warning(body: str, code: str) -> None:
    assert codes(body) == {code}

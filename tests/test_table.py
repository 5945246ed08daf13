"""`flowc table`: what it says of specs that compile, that do not, and that are wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowc.cli import cli
from flowc.compiler import Compilation
from flowc.options import Options
from flowc.report.table import entry
from flowc.source import Source

ROOT = Path(__file__).parent.parent
HEAD = """flow f(K, V, R)
input q, k : K; input v : V; input a : K <= 0; input b : V <= 0; input r : R of K
state S : K x V
"""


def run(*arguments, stdin=None):
    return CliRunner().invoke(cli, ["table", *arguments], input=stdin)


def example(name):
    return str(ROOT / f"examples/{name}.flow")


def of(body):
    return entry(Compilation(Source("f.flow", f"{HEAD}{body}\no[t] = S[t].T @ q\n"), Options()))


@pytest.mark.parametrize(
    ("body", "gate", "read", "written"),
    [
        ("S[t] = S[t-1] + k @ v.T", "none", "0", "1"),
        ("S[t] = 0.5 * S[t-1] + k @ v.T", "scalar", "0", "1"),
        ("S[t] = diag(exp(a)) @ S[t-1] + k @ v.T", "key side", "0", "1"),
        ("S[t] = S[t-1] @ diag(exp(b)) + k @ v.T", "value side", "0", "1"),
        ("S[t] = outer(exp(a), exp(b)) * S[t-1] + k @ v.T", "both sides", "0", "1"),
        ("S[t] = S[t-1] + k @ (v - S[t-1].T @ k).T + q @ v.T", "none", "1", "2"),
        ("S[t] = S[t-1]\nrepeat i in R:\n    S[t] = S[t] + r[i] @ (v - S[t].T @ r[i]).T", "none", "R", "R"),
    ],
)
def test_the_terms_of_a_token(body, gate, read, written):
    terms = of(body).terms
    assert (terms.gate, terms.reading, terms.written) == (gate, read, written)


def test_json_has_what_compiles_and_what_does_not():
    other = (
        "flow other(K, R)\ninput x : R of K\nstate h : K\n"
        "h[t] = h[t-1]\nrepeat r in R:\n    h[t] = tanh(h[t] + x[r])\no[t] = h[t]\n"
    )
    done = run("--json", example("kda"), "-", stdin=other)
    assert done.exit_code == 0, done.output
    one, two = json.loads(done.stdout)
    assert (one["name"], one["class"]["name"], one["lines"]) == ("kda", "D", 13)
    assert one["terms"] == {"gate": "key side", "reading": "1", "written": "1"}
    assert one["target"]["names"] == ["torch", "triton"]
    assert one["target"]["certified"]
    assert one["paper"] == "Kimi Team 2025, arXiv 2510.26692"
    assert (two["name"], two["class"]["name"], two["file"]) == ("other", "R", "<stdin>")
    assert two["terms"] is two["target"] is None
    assert two["state"] == ["h[t] = h[t-1]", "repeat r in R: h[t] = tanh(h[t] + x[r])"]


def test_the_table_is_whole_on_a_pipe():
    done = run(example("gated_delta_product"), example("gla"))
    assert done.exit_code == 0, done.output
    (line,) = (line for line in done.stdout.splitlines() if "gated_delta_product" in line)
    assert line.split() == ["gated_delta_product", "D", "scalar", "R", "R", "wy", "15", "torch", "triton", "yes"]


def test_what_is_wrong_is_shown_and_the_rest_is_told():
    done = run("--markdown", "-", example("gla"), stdin="flow f(K)\nstate h : K\nh[t] = y\n")
    assert done.exit_code == 1
    assert "error[F201]" in done.stderr
    assert done.stdout.splitlines()[2].startswith("| [gla](")
    assert run("--json", "--markdown", example("gla")).exit_code == 2


def test_a_contradicted_spec_is_a_finding(monkeypatch):
    plain = Compilation.certify
    monkeypatch.setattr(Compilation, "certify", lambda self: replace(plain(self), mismatch="o is off"))
    done = run(example("gla"))
    assert done.exit_code == 1
    assert done.stdout.split()[-1] == "no"

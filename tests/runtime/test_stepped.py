"""Recurrences that are taken token by token: what they hold in memory, and what is said of them."""

import pytest
import torch
from click.testing import CliRunner
from differential.harness import ROOT, Case, draw, model_of, op_of
from torch.utils._python_dispatch import TorchDispatchMode

import flowc
from flowc.cli import cli

STEPPED = ("longhorn", "mamba", "momentum_delta", "squashed_fast_weights")


class Largest(TorchDispatchMode):
    """The most entries that memory of one tensor has, of all that operations make."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for x in made if isinstance(made, tuple | list) else (made,):
            if isinstance(x, torch.Tensor):
                self.entries = max(self.entries, x.untyped_storage().nbytes() // x.element_size())
        return made


@pytest.mark.parametrize("name", STEPPED)
def test_no_tensor_holds_the_states_of_all_tokens(name):
    """At K 16, V 64: at most those of a chunk, or of all chunks' starts."""
    length, keys, values, heads = 1024, 16, 64, 2
    model = model_of(name)
    x = draw(model, Case(1, length, heads, (keys, values), None, "mild"))
    leaves = {n: v.float().requires_grad_() for n, v in x.items()}
    with Largest() as largest:
        o = op_of(name)(**leaves)
        o.sum().backward()
    chunk = 64 * heads * keys * values
    assert largest.entries <= max(
        chunk, length * heads * values, len(model.states) * length // 64 * heads * keys * values
    )
    assert largest.entries < length * heads * keys * values // 8


@pytest.mark.parametrize(
    ("name", "reason", "span"),
    [
        ("momentum_delta", "states M and S are coupled", "M[t] = mu * M[t-1] + beta"),
        ("mamba", "its gate is a matrix that is no outer product of two vectors", "exp(A * outer"),
        ("squashed_fast_weights", "it is not affine in the state", "tanh(S[t-1] + a @ b.T)"),
    ],
)
def test_it_is_said(name, reason, span):
    done = CliRunner().invoke(cli, ["explain", str(ROOT / f"examples/{name}.flow")])
    assert done.exit_code == 0, done.output
    assert f"W204]: class {'E' if name == 'mamba' else 'R'} is taken token by token" in " ".join(done.output.split())
    assert reason in done.output
    assert span in done.output
    assert "`_tokens_forward` takes" in done.output
    assert "token by token" in done.stdout


def test_a_repeat_of_a_number_is_unrolled():
    """The same numbers as the rounds written out."""
    head = "flow f(K, V{})\ninput q : K; input a : 2 of K; input b : 2 of V\nstate S : K x V\n"
    rounds = "S[t] = S[t-1]\nrepeat r in R:\n    S[t] = tanh(S[t] + a[r] @ b[r].T) / (r + 1)\n"
    out = "o[t] = S[t].T @ q\n"
    twice = "S[t] = tanh(S[t-1] + a[0] @ b[0].T)\nS[t] = tanh(S[t] + a[1] @ b[1].T) / 2\n"
    one, other = flowc.compile(head.format(", R = 2") + rounds + out), flowc.compile(head.format("") + twice + out)
    torch.manual_seed(0)
    q, a, b = torch.randn(1, 9, 1, 3), torch.randn(1, 9, 1, 2, 3), torch.randn(1, 9, 1, 2, 4)
    torch.testing.assert_close(one(q, a, b), other(q, a, b))
    with pytest.raises(flowc.FlowError, match="give `R` a number in the header"):
        flowc.compile(head.format(", R").replace("2 of", "R of") + rounds + out)


def test_many_rounds_are_many_lines_and_not_their_powers():
    """A round that uses the state twice: what is compiled grows with the rounds, not with 2 to their number."""
    text = """flow f(K, V, R = {})
input q : K; input k : R of K; input v : R of V; input g : V <= 0
state S : K x V
S[t] = S[t-1] @ diag(exp(g))
repeat r in R:
    S[t] = S[t] + k[r] @ (v[r] - S[t].T @ k[r]).T
o[t] = S[t].T @ q
"""
    few, many = (len(flowc.compile(text.format(rounds)).source) for rounds in (10, 40))
    assert many < 4 * few

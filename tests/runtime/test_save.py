"""What is kept between a forward and its backward pass, and the same gradients of nothing kept."""

import sys

import pytest
import torch
from differential.harness import EXAMPLES, ROOT, Case, draw, draw_states, given_states, model_of, op_of, several

import flowc

sys.path.insert(0, str(ROOT / "benchmarks"))

from autograd_memory import Kept

HELD = 64  # bytes: an expanded state of one number


def gradients(op, leaves, **options):
    """Gradients for random cotangents, and what was kept for them."""
    with Kept(*leaves.values()) as kept:
        made = several(op(**leaves, **options))
    draws = torch.Generator().manual_seed(0)
    bars = [torch.randn(o.shape, generator=draws, dtype=o.dtype) for o in made]
    return torch.autograd.grad(made, list(leaves.values()), bars, allow_unused=True), kept.bytes


def leaves_of(name, **case):
    return {n: x.float().requires_grad_() for n, x in draw(model_of(name), Case(**case)).items()}


def same(ones, others):
    assert [x is None for x in ones] == [x is None for x in others]
    assert all(torch.equal(a, b) for a, b in zip(ones, others, strict=True) if a is not None)


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_kept_and_gradients_have_the_same_bits(name):
    leaves = leaves_of(name, length=70)
    own, many = gradients(op_of(name), leaves, chunk_size=16)
    again, few = gradients(op_of(name), leaves, chunk_size=16, save="recompute")
    same(own, again)
    assert few <= HELD * len(model_of(name).states) < many


@pytest.mark.parametrize("name", ["gated_deltanet", "mlstm", "mamba"])
def test_packed_sequences_and_states_likewise(name):
    leaves, ends = leaves_of(name, batch=1, length=40), torch.tensor([0, 3, 3, 40])
    starts = given_states(model_of(name), draw_states(model_of(name), Case(batch=3)))
    own, again = (
        gradients(op_of(name), leaves, cu_seqlens=ends, initial_state=starts, chunk_size=16, save=how)[0]
        for how in ("states", "recompute")
    )
    same(own, again)


def test_an_op_may_be_compiled_so():
    """By an option of the op, within torch.compile, under torch.func; a call can ask for the other."""
    op, leaves = flowc.compile("examples/gated_deltanet.flow", save="recompute"), leaves_of("gated_deltanet", length=70)
    own, few = gradients(op, leaves)
    asked, many = gradients(op, leaves, save="states")
    same(own, asked)
    assert few <= HELD < many
    compiled, _ = gradients(torch.compile(op, backend="eager"), leaves)
    same(own, compiled)
    mapped = torch.func.grad(lambda x: op(**x).sum())({n: x.detach() for n, x in leaves.items()})
    plain = torch.autograd.grad(op(**leaves).sum(), list(leaves.values()))
    same(plain, list(mapped.values()))


def test_what_is_no_choice_is_refused():
    with pytest.raises(ValueError, match="save is 'all'; allowed: 'states', 'recompute'"):
        flowc.compile("examples/gla.flow", save="all")
    with pytest.raises(ValueError, match="save"):
        op_of("gla")(**draw(model_of("gla"), Case()), save="all")

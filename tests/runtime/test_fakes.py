"""Tools that run a model on tensors without values (FakeTensorMode): what is cached serves neither side wrongly."""

import pytest
import torch
from differential.harness import EXAMPLES, TEXTS, Case, draw, model_of, op_of, several
from differential.pools import SIZE, SLOTS, token_of
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import flowc


def called(op, x):
    """The output, the final state and the gradients of a call."""
    leaves = {n: v.clone().requires_grad_() for n, v in x.items()}
    o, state = op(**leaves, output_final_state=True)
    states = several(state)
    return o, *states, *torch.autograd.grad(o.sum() + sum(s.sum() for s in states), list(leaves.values()))


def faked(op, x):
    with FakeTensorMode() as mode:
        found = called(op, {n: mode.from_tensor(v) for n, v in x.items()})
    assert all(isinstance(v, FakeTensor) for v in found)
    return found


@pytest.mark.parametrize("name", [*EXAMPLES, "two_repeats", "several_gates"])
def test_fakes_after_a_real_call_and_before_one(name):
    x = draw(model_of(name), Case())
    expected = called(op_of(name), x)
    fakes = faked(op_of(name), x)
    assert [(v.shape, v.dtype) for v in fakes] == [(v.shape, v.dtype) for v in expected]
    assert all(torch.equal(a, b) for a, b in zip(called(op_of(name), x), expected, strict=True))


def test_a_step_on_a_pool():
    """Nothing is looked up among slots that have no values."""
    x, pool, slots = token_of("gated_deltanet"), torch.zeros(SIZE, 2, 6, 40), torch.tensor(SLOTS)
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(v) for v in (*x.values(), pool, slots)]
        o, made = op_of("gated_deltanet").step(*fakes[:-2], state=fakes[-2], state_indices=fakes[-1])
    assert isinstance(o, FakeTensor)
    assert made is fakes[-2]


def test_a_first_call_on_fakes_keeps_none():
    op = flowc.compile(TEXTS["rwkv7"].replace("rwkv7", "rwkv7_on_fakes"))  # a module of its own: nothing is cached yet
    x = draw(model_of("rwkv7"), Case())
    faked(op, x)
    assert all(torch.equal(a, b) for a, b in zip(called(op, x), called(op_of("rwkv7"), x), strict=True))

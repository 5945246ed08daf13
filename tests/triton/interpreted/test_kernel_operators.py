"""Operators on the kernels, under Triton's interpreter: what torch.compile sees of a call runs them alike."""

import pytest
import torch
from differential.harness import Case, draw, draw_states, model_of, op_of
from torch._dynamo.testing import CompileCounterWithBackend
from torch.library import opcheck

NAMES = ("gated_deltanet", "mamba2", "gated_delta_product", "two_repeats")  # params; rows by R; torch operators beside


def tensors(name, length, starts=None):
    case = Case(1, length, heads=2)
    (start,) = draw_states(model_of(name), case).values()
    start = start if starts is None else start[:1].repeat(starts, 1, 1, 1)
    return [x.float().requires_grad_() for x in (*draw(model_of(name), case).values(), start)]


def results(name, given, call, **options):
    *inputs, start = given
    outputs, final = call(*inputs, initial_state=start, output_final_state=True, backend="triton", **options)
    made = (*(outputs if isinstance(outputs, tuple) else (outputs,)), final)
    return *made, *torch.autograd.grad(sum(x.square().sum() for x in made), given, allow_unused=True)


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", [None, "signature"])
def test_opcheck(name, how):
    """Fakes and schema; the chain of dispatch that the rest looks at is that of the torch version."""
    own, plain = op_of(name)._module, [x.detach() for x in tensors(name, 9)]
    tests = ("test_schema", "test_faketensor")
    opcheck(own._FORWARD, (plain, None, 4, how, None, "triton", None, True), test_utils=tests)
    made = own._FORWARD(plain, None, 4, how, None, "triton", None, True)
    memory, bars = made[own._OUTPUTS + 1 :], [torch.ones_like(x) for x in made[: own._OUTPUTS + 1]]
    wanted = [True] * len(plain)
    opcheck(own._BACKWARD, (plain, memory, bars, wanted, None, 4, how, None, "triton", None), test_utils=tests)


@pytest.mark.parametrize("name", NAMES[::3])
def test_lengths_are_one_graph(name):
    """One for the first, one for all others, with the bits of a call that is not compiled."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(op_of(name), fullgraph=True, backend=counter)
    for length in (6, 9, 3):
        given = tensors(name, length)
        found = results(name, given, compiled, chunk_size=4)
        assert_same(found, results(name, given, op_of(name), chunk_size=4))
    assert counter.frame_count == 2


@pytest.mark.parametrize(("name", "schedule"), [*((n, "split") for n in NAMES[::3]), ("gated_deltanet", "two-level")])
def test_packed_sequences_compile(name, schedule):
    """Memory that follows from sizes holds the chunks and the segments of any offsets."""
    torch._dynamo.reset()
    compiled = torch.compile(op_of(name), fullgraph=True, backend="aot_eager")
    for offsets in ((0, 1, 7), (0, 0, 5, 6, 7), (0, 7)):
        given, packed = tensors(name, 7, starts=len(offsets) - 1), torch.tensor(offsets)
        options = {"chunk_size": 4, "cu_seqlens": packed, "schedule": schedule}
        assert_same(results(name, given, compiled, **options), results(name, given, op_of(name), **options))


def test_segments_compile():
    """Of a batch, whose entries are cut apart: every length is one graph more than the first at most."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(op_of("kda"), fullgraph=True, backend=counter)
    for length in (9, 13, 30):
        given, options = tensors("kda", length), {"chunk_size": 4, "schedule": "two-level"}
        assert_same(results("kda", given, compiled, **options), results("kda", given, op_of("kda"), **options))
    assert counter.frame_count == 2

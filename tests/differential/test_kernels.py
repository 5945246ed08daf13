"""What holds of the Triton kernels whatever they compute: at every size and type, and for every part of a call.

On a GPU by `pytest -m gpu`, under the interpreter from tests/triton/test_interpreter.py; there, programs run one after
another, so a call has few. Every run is of inputs that must stay as they are, in memory that holds NaN until it is
written (`harness`).
"""

from dataclasses import replace

import pytest
import torch
from differential.harness import (
    ON_KERNELS,
    TEXTS,
    Case,
    check,
    draw,
    draw_states,
    errors,
    is_log_gate,
    model_of,
    op_of,
    run_op,
    run_reference,
    shares_heads,
)
from differential.targets import INTERPRETED, INTERPRETER, on_kernels, placed

KINDS = ("gated_deltanet", "kda", "gated_delta_product", "mamba2")  # scalar gates, vectors, several rows, no reads
GATED = ("gated_deltanet", "kda")
TYPES = ("float32", "float16", "bfloat16")

on_types = pytest.mark.parametrize("dtype", TYPES)


def typed(target, dtype):
    dtype = getattr(torch, dtype)
    if dtype not in target.types:
        pytest.skip("Triton's interpreter computes wrong numbers in bfloat16")
    return dtype


# -- sizes -------------------------------------------------------------------------------------------------------------


@on_kernels
@on_types
@pytest.mark.parametrize("length", [0, 1, 2, 15, 16, 17, 37])
def test_lengths(length, dtype, target):
    """None, one, odd ones, less than a chunk, a chunk, one more, several and a part; from a state and from none."""
    for number, name in enumerate(KINDS):
        case = Case(1, length, 1, (6, 5, 2), 16, start=(number + length) % 2 == 0)
        check(name, case, typed(target, dtype), target=target)


@on_kernels
@pytest.mark.parametrize("length", [0, 5])
def test_no_sequence(length, target):
    for name in KINDS:
        check(name, Case(0, length, 2), torch.float32, target=target)


@on_kernels
@pytest.mark.parametrize("chunk", [1, 7, 16, 24, 100, None])
def test_chunk_sizes(chunk, target):
    """Powers of two and others; of several rows per token at most 256 in all."""
    for name in KINDS:
        check(name, Case(1, min(3 * (chunk or 30), 110), 1, (6, 5, 2), chunk), torch.float32, target=target)


@on_kernels
@on_types
@pytest.mark.parametrize("sizes", [(1, 1), (3, 5), (17, 33), (48, 80), (130, 70), (256, 9), (16, 256)])
def test_states(sizes, dtype, target):
    """Sizes that are no powers of two, and the largest."""
    for name in ("simple_gla", "gated_deltanet", "kda"):
        check(name, Case(1, 20, 1, sizes, 16), typed(target, dtype), target=target)


@on_kernels
@pytest.mark.parametrize("rows", [260])
def test_many_rows(rows, target):
    """Walks that sum over no rows hold blocks of them: states of more than 256."""
    for name in ("linear_attention", "gla", "mlstm"):
        check(name, Case(1, 20, 1, (rows, 3), 16), torch.float32, target=target)


@on_kernels
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_ranks(rank, target):
    """Rows of a token that see one another and rows that do not, powers of two and others."""
    for name in ("gated_delta_product", "gated_lowrank_delta", "two_repeats"):
        check(name, Case(1, 13, 1, (6, 5, rank, 2), 7), torch.float32, target=target)


# -- arguments ---------------------------------------------------------------------------------------------------------


@on_kernels
@on_types
@pytest.mark.parametrize("layout", ["strided", "expanded"])
def test_layouts(layout, dtype, target):
    """Views that are not contiguous, and views that repeat one token."""
    for name in GATED:
        check(name, Case(2, 11, 2, chunk=16, layout=layout), typed(target, dtype), target=target)


@on_kernels
@on_types
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("gate", ["zero", "mild", "strong", "mixed", "never"])
def test_gates(gate, wide, dtype, target):
    """Gates from none to complete, in float32 beside vectors of half precision and in their type."""
    for name in GATED:
        check(name, Case(1, 29, 1, (6, 5), 16, gate, wide=wide), typed(target, dtype), target=target)


@on_kernels
@pytest.mark.parametrize("group", [1, 2, 6])
def test_heads_that_share_queries_and_keys(group, target):
    for name in GATED:
        check(name, Case(1, 11, 6, group=group, chunk=16), torch.float32, target=target)


@on_kernels
@pytest.mark.parametrize("name", GATED)
def test_shared_heads_are_the_same_as_repeated_ones(name, target):
    """Bit for bit in what is computed; gradients of shared ones are sums over the heads, in the heads' order."""
    case, model = Case(1, 11, 6, group=3, chunk=16), model_of(name)
    x = draw(model, case)
    shared = {i.name for i in model.inputs if shares_heads(i)}
    wide = {n: v.repeat_interleave(3, 2) if n in shared else v for n, v in x.items()}
    one, other = (run_op(op_of(name), model, v, {}, torch.float32, case, target) for v in (x, wide))
    for n, value in one.items():
        expected = other[n]
        if n[1:] in shared:
            parts = expected.unflatten(2, (2, 3)).unbind(3)
            expected = parts[0] + parts[1] + parts[2]
        assert torch.equal(value, expected), n


@on_kernels
def test_types_of_one_call_may_differ(target):
    """Vectors of two types are multiplied in float32; the output has the value's type, gradients their input's."""
    model, case = model_of("gated_deltanet"), Case(1, 20, 2, (6, 5))
    x = {n: v.float() for n, v in draw(model, case).items()} | {"v": draw(model, case)["v"].half()}
    leaves = {n: v.to(target.device).requires_grad_() for n, v in x.items()}
    o = op_of("gated_deltanet")(**leaves, **dict(target.options))
    assert o.dtype is torch.float16
    o.float().sum().backward()
    assert all(v.grad.dtype == v.dtype for v in leaves.values())
    truth = run_reference(model, {n: v.double() for n, v in x.items()}, {}, torch.float64)["o"]
    assert errors({"o": truth}, {"o": o.detach().cpu()})["o"] < 2**-11  # one rounding of the output


@on_kernels
def test_types_without_kernels(target):
    x = {n: v.to(target.device) for n, v in draw(model_of("gla"), Case(1, 3)).items()}
    with pytest.raises(ValueError, match=r"^gla: backend='triton': float64 has no kernels; use backend='torch'$"):
        op_of("gla")(**x, backend="triton")
    if target is INTERPRETER:
        with pytest.raises(ValueError, match=r"^gla: backend='triton': Triton's interpreter computes wrong numbers"):
            op_of("gla")(**{n: v.bfloat16() for n, v in x.items()}, backend="triton")
    else:
        with pytest.raises(ValueError, match=r"^gla: backend='auto': float64 has no kernels; use backend='torch'$"):
            op_of("gla")(**x)


# -- gradients ---------------------------------------------------------------------------------------------------------


@on_kernels
@pytest.mark.parametrize("name", [*KINDS, "outputs_everywhere"])
def test_some_gradients_alone(name, target):
    """The gradient of each input alone is the one that all together have, bit for bit, and nothing else gets one."""
    model, case = model_of(name), Case(1, 11, 1, (6, 5, 2), 8)
    tensors = draw(model, case) | {"initial_state": draw_states(model, case)["S"]}
    tensors = {n: v.float().to(target.device) for n, v in tensors.items()}

    def run(wanted):
        leaves = {n: v.clone().requires_grad_(n in wanted) for n, v in tensors.items()}
        o, state = op_of(name)(**leaves, output_final_state=True, chunk_size=8, **dict(target.options))
        values = [*(o if isinstance(o, tuple) else (o,)), state]
        sum((v * (1 + torch.arange(v.numel(), device=v.device).view_as(v) % 5)).sum() for v in values).backward()
        assert {n for n, v in leaves.items() if v.grad is not None} == set(wanted)
        return leaves

    whole = run(tensors)
    for one in tensors:
        assert torch.equal(run((one,))[one].grad, whole[one].grad), one


@on_kernels
@pytest.mark.parametrize("name", [*KINDS, "outputs_everywhere"])
def test_an_output_or_the_state_alone(name, target):
    """Cotangents that autograd leaves out are zeros."""
    model, case = model_of(name), Case(1, 11, 1, (6, 5, 2), 8)
    x = {n: v.float().to(target.device) for n, v in draw(model, case).items()}

    def grads(pick, zero):
        leaves = {n: v.clone().requires_grad_() for n, v in x.items()}
        o, state = op_of(name)(**leaves, output_final_state=True, chunk_size=8, **dict(target.options))
        values = [*(o if isinstance(o, tuple) else (o,)), state]
        loss = values[pick].sum() + (sum(0 * v.sum() for v in values) if zero else 0)
        return torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)

    for pick in (0, -1):
        for one, other in zip(grads(pick, False), grads(pick, True), strict=True):
            assert torch.equal(one, other)


# -- bits --------------------------------------------------------------------------------------------------------------


IN_ORDER = ("gated_deltanet", "gated_lowrank_delta", "kda", "mlstm", "mamba", "outputs_everywhere", "two_repeats")
"""Under the interpreter, whose programs end in one order: what is left is memory, which every test fills with NaN."""


@on_kernels
@pytest.mark.parametrize("name", IN_ORDER if INTERPRETED else TEXTS)
def test_the_same_bits_on_every_run(name, target):
    """Outputs, states and gradients: nothing depends on what memory held or on the order in which programs end."""
    size = (1, 11, 1) if target is INTERPRETER else (2, 211, 4)
    case, model = Case(*size, (6, 5, 2, 2), 8, "mixed"), model_of(name)
    x, start = draw(model, case), draw_states(model, case)
    one, other = (run_op(op_of(name), model, x, start, torch.float32, case, target) for _ in range(2))
    for n, value in one.items():
        assert torch.isfinite(value).all(), n
        assert torch.equal(value, other[n]), n


@on_kernels
@pytest.mark.parametrize("name", [*ON_KERNELS, "outputs_everywhere", "two_repeats"])
def test_a_prefix_does_not_see_what_follows(name, target):
    """Outputs of the first tokens are the same bits whatever follows, and give what follows a gradient of 0."""
    case, model, prefix = Case(1, 14, 1, (6, 5, 2, 2), 8), model_of(name), 11
    x = {n: v.float() for n, v in draw(model, case).items()}
    tokens = [i.name for i in model.inputs if not i.is_param]
    other = draw(model, replace(case, seed=1))
    other = {n: torch.cat((v[:, :prefix], other[n][:, prefix:].float()), 1) if n in tokens else v for n, v in x.items()}

    def run(values):
        leaves = {n: v.to(target.device).requires_grad_() for n, v in values.items()}
        o = op_of(name)(**leaves, chunk_size=8, **dict(target.options))
        o = o if isinstance(o, tuple) else (o,)
        grads = torch.autograd.grad(sum(v[:, :prefix].sum() for v in o), [leaves[n] for n in tokens])
        return [v[:, :prefix] for v in o], grads

    (one, grads), (two, more) = run(x), run(other)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    for a, b in zip(grads, more, strict=True):
        assert torch.equal(a[:, :prefix], b[:, :prefix])
        assert not a[:, prefix:].any()


@on_kernels
def test_strong_gates_do_not_round_mild_ones(target):
    """A float32 sum over a chunk loses 6e-5 here; whole numbers and fractions of base-2 logs are summed apart."""
    for name in ("simple_gla", "gla"):
        model, case = model_of(name), Case(1, 64, 1, (16, 16), 64, "zero")
        x = draw(model, case)
        for i in model.inputs:
            if is_log_gate(i):
                x[i.name] = torch.full_like(x[i.name], -0.05)
                x[i.name][:, :32] = -20.0
        x = {n: v.float().double() for n, v in x.items()}
        truth = run_reference(model, x, {}, torch.float64)["o"]
        found = run_op(op_of(name), model, x, {}, torch.float32, case, target)["o"]
        assert errors({"o": truth}, {"o": found})["o"] < 4e-7


def test_tensors_are_placed_with_their_strides():
    """What the layouts above rest on."""
    x = torch.randn(2, 1, 3, dtype=torch.float64).expand(2, 5, 3)
    assert placed(x, torch.float32, "cpu").stride() == x.stride()
    y = torch.randn(2, 5, 3, 2, dtype=torch.float64)[..., 0].mT
    assert placed(y, torch.float16, "cpu").stride() == y.stride()
    assert torch.equal(placed(y, torch.float16, "cpu"), y.half())

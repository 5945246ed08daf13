"""What a call on the kernels accepts and refuses, under Triton's interpreter."""

from pathlib import Path

import pytest
import torch

import flowc

ROOT = Path(__file__).parent.parent.parent.parent
OP = flowc.compile(ROOT / "examples" / "simple_gla.flow")


def inputs(length=20, batch=1, dtype=torch.float32, keys=16):
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(batch, length, 2, n, generator=rng, dtype=dtype) for n in (keys, keys, 24))
    return q, k, v, -torch.rand(batch, length, 2, generator=rng)


@pytest.mark.parametrize(("length", "batch"), [(0, 1), (20, 0), (0, 0)])
def test_nothing_to_do_launches_nothing(length, batch):
    state = torch.randn(batch, 2, 16, 24)
    o, final = OP(*inputs(length, batch), initial_state=state, output_final_state=True, backend="triton")
    assert o.shape == (batch, length, 2, 24)
    assert torch.equal(final, state)
    assert batch == 0 or final.data_ptr() != state.data_ptr()


def test_views_are_read_right():
    q, k, v, g = inputs()
    wide = torch.randn(1, 40, 2, 32)
    k = torch.randn(1, 1, 2, 16).expand(1, 20, 2, 16)
    strided = wide[:, ::2, :, ::2]
    for inputs_ in ((q, k, v, g), (strided, k, v.transpose(1, 2).contiguous().transpose(1, 2), g)):
        torch.testing.assert_close(OP(*inputs_, backend="triton"), OP(*inputs_, backend="torch"), rtol=1e-4, atol=1e-5)


def test_mixed_operand_types_compute_in_float32():
    q, k, v, g = inputs()
    found = OP(q.half(), k, v, g, backend="triton")
    torch.testing.assert_close(found, OP(q.half(), k, v, g, backend="torch"), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_refused():
    with pytest.raises(
        ValueError, match="simple_gla: backend='triton': Triton's interpreter computes wrong numbers in bfl"
    ):
        OP(*inputs(dtype=torch.bfloat16), backend="triton")


def test_float64_is_refused():
    with pytest.raises(ValueError, match="float64 has no kernels; use backend='torch'"):
        OP(*inputs(dtype=torch.float64), backend="triton")


def test_large_states_are_refused():
    q, k, v, g = inputs(keys=257)
    with pytest.raises(ValueError, match="the state has 257 rows, and the kernels hold at most 256"):
        flowc.compile(ROOT / "examples" / "gated_deltanet.flow")(q, k, v, g, g.sigmoid(), backend="triton")


def test_nothing_is_kept_without_a_gradient():
    q, k, v, g = inputs()
    q.requires_grad_()
    with torch.no_grad():
        assert not OP(q, k, v, g, backend="triton").requires_grad


def test_a_second_derivative_is_refused():
    q, k, v, g = inputs()
    q.requires_grad_()
    (grad,) = torch.autograd.grad(OP(q, k, v, g, backend="triton").sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="simple_gla: the backward pass cannot be differentiated again"):
        grad.sum().backward()


@pytest.mark.parametrize("chunk", [0, -1, 257, 2.5, True])
def test_chunk_sizes_are_checked(chunk):
    with pytest.raises(ValueError, match="chunk_size"):
        OP(*inputs(), backend="triton", chunk_size=chunk)


def test_auto_stays_with_torch_on_the_cpu():
    q, k, v, g = inputs()
    assert torch.equal(OP(q, k, v, g), OP(q, k, v, g, backend="torch"))


def ranked(rank, length=5):
    op = flowc.compile(ROOT / "examples" / "gated_delta_product.flow")
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, length, 1, *n, generator=rng) for n in ((8,), (rank, 8), (rank, 8)))
    k = k / k.norm(dim=-1, keepdim=True)
    return op, (q, k, v, torch.rand(1, length, 1, rank, generator=rng), -torch.rand(1, length, 1, generator=rng))


@pytest.mark.parametrize(("rank", "largest"), [(3, 64), (9, 16), (16, 16)])
def test_rows_that_tiles_hold(rank, largest):
    op, x = ranked(rank)
    expected = op.reference(*(t.double() for t in x)).float()
    for chunk in (None, largest):
        torch.testing.assert_close(op(*x, chunk_size=chunk, backend="triton"), expected, rtol=1e-4, atol=1e-5)
    words = rf"chunk_size = {largest + 1} with R = {rank} rows per token .* legal chunk_size is {largest}$"
    if (largest + 1) * rank <= 256:
        with pytest.raises(ValueError, match=words):
            op(*x, chunk_size=largest + 1, backend="triton")


def test_more_rows_than_tiles_hold():
    op, x = ranked(17)
    with pytest.raises(ValueError, match="R = 17 rows per token, and Triton kernels hold at most 16; backend='torch'"):
        op(*x, backend="triton")
    with pytest.raises(ValueError, match="R = 17 rows per token"):
        op.step(*(t[:, 0] for t in x), backend="triton")


@pytest.mark.parametrize("name", ["grid", "num_warps", "num_stages", "warmup"])
def test_sizes_may_have_names_of_launch_options(name):
    op = flowc.compile(f"""flow f(K, V, {name})
input Q : K x {name}; input k : K; input v : V
state S : K x V
S[t] = S[t-1] + k @ v.T
o[t] = S[t].T @ Q
""")
    Q, k, v = (torch.randn(1, 5, 1, *n) for n in ((8, 3), (8,), (4,)))
    torch.testing.assert_close(op(Q, k, v, backend="triton"), op(Q, k, v, backend="torch"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [20, 0])
def test_a_state_of_one_number_expanded_is_what_it_stands_for(length):
    q, k, v, g = inputs(length)
    found = []
    for state in (torch.tensor(0.5).expand(1, 2, 16, 24), torch.full((1, 2, 16, 24), 0.5)):
        leaf = state.detach().requires_grad_()
        o, final = OP(q, k, v, g, initial_state=leaf, output_final_state=True, backend="triton")
        ends = torch.ones(()).expand(final.shape)  # a cotangent of one number as well
        found.append((o, final, *torch.autograd.grad((o, final), leaf, (torch.ones_like(o), ends))))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
        assert one.is_contiguous()


def test_gradients_of_inputs_are_the_same_without_a_state():
    """No state given is a state of zeros, none asked for no gradient of it: neither is in memory."""
    given = [x.requires_grad_() for x in inputs()]
    zeros = torch.zeros(1, 2, 16, 24, requires_grad=True)
    alone = torch.autograd.grad(OP(*given, backend="triton").sum(), given)
    o, final = OP(*given, initial_state=zeros, output_final_state=True, backend="triton")
    both = torch.autograd.grad((o.sum(), final.sum() * 0), (*given, zeros))
    for one, other in zip(alone, both, strict=False):
        torch.testing.assert_close(one, other, rtol=0, atol=0)

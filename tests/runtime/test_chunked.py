"""The training path is chunked, and its backward is a program of its own, not autograd through the forward."""

import pytest
import torch
from differential.harness import EXAMPLES, SPECS, Case, draw, draw_states, errors, model_of, op_of, several
from torch.utils._python_dispatch import TorchDispatchMode


class Count(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self):
        super().__init__()
        self.ops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops += 1
        return func(*args, **(kwargs or {}))


STEPPED = {"longhorn", "mamba", "momentum_delta", "squashed_fast_weights"}  # token by token, as W204 says


def counted(name, length, chunk, heads):
    """How many torch ops the forward and the backward take."""
    x = draw(model_of(name), Case(1, length, heads, (4, 3, 2, 2), chunk))
    leaves = {n: v.float().requires_grad_() for n, v in x.items()}
    with Count() as forward:
        o = op_of(name)(**leaves, chunk_size=chunk)
    total = sum(part.sum() for part in (o if isinstance(o, tuple) else (o,)))
    with Count() as backward:
        total.backward()
    return forward.ops, backward.ops


@pytest.mark.parametrize(
    "name", [*(n for n in EXAMPLES if n not in STEPPED), "outputs_everywhere", "prelude", "several_gates"]
)
@pytest.mark.parametrize("heads", [1, 4])
def test_ops_go_with_the_chunks_and_not_with_the_tokens(name, heads):
    """64 chunks either way: a loop over tokens would take four times as many ops on four times as many."""
    for many, few in zip(counted(name, 4096, 64, heads), counted(name, 1024, 16, heads), strict=True):
        assert many <= 1.2 * few, (many, few)


@pytest.mark.parametrize("name", [*EXAMPLES, *SPECS])
def test_the_backward_is_not_autograd(name, monkeypatch):
    """It works, with the same gradients, where every way to autograd raises."""
    x = draw(model_of(name), Case())
    leaves, others = ({n: v.clone().requires_grad_() for n, v in x.items()} for _ in range(2))

    def loss_of(values):
        o, state = op_of(name)(**values, output_final_state=True, chunk_size=7)
        return sum(part.sin().sum() for part in (*several(o), *several(state)))

    loss_of(others).backward()
    loss = loss_of(leaves)

    def refuse(*args, **kwargs):
        raise AssertionError("the backward called autograd")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    monkeypatch.setattr(torch, "enable_grad", refuse)
    monkeypatch.setattr(torch.autograd.grad_mode, "enable_grad", refuse)
    monkeypatch.setattr(torch.autograd.functional, "vjp", refuse)
    monkeypatch.setattr(torch.autograd.functional, "jacobian", refuse)
    for transform in ("grad", "vjp", "jvp", "jacrev", "jacfwd", "vmap", "grad_and_value", "functional_call"):
        monkeypatch.setattr(torch.func, transform, refuse)
    loss.backward()
    for n, v in leaves.items():
        assert (v.grad is None) == (others[n].grad is None)
        assert v.grad is None or torch.equal(v.grad, others[n].grad)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_loop_over_chunks_makes_no_graph(name):
    """Autograd sees one node between the inputs and the output, whatever the length."""
    x = draw(model_of(name), Case(length=64))
    o = op_of(name)(**{n: v.requires_grad_() for n, v in x.items()}, chunk_size=4)
    seen, todo = set(), [o.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [after for after, _ in node.next_functions]
    accumulators = [node for node in seen if "AccumulateGrad" in type(node).__name__]
    assert len(accumulators) == len(x)
    assert len(seen) - len(accumulators) <= 2, [type(node).__name__ for node in seen]


@pytest.mark.parametrize("chunk", [1, 5, 16, 64, None])
def test_every_chunk_size_gives_the_same(chunk):
    """64 tokens in chunks of any size: a hundred roundings in float64 apart."""
    x = draw(model_of("kda"), Case(length=64, gate="mixed"))
    found, truth = (op_of("kda")(**x, chunk_size=c, output_final_state=True) for c in (chunk, 8))
    off = errors(dict(zip("oS", truth, strict=True)), dict(zip("oS", found, strict=True)))
    assert max(off.values()) < 1e-12


@pytest.mark.parametrize("name", ["gated_deltanet", "linear_attention", "gla", "outputs_everywhere"])
def test_states_stay_the_caller_s(name):
    """The walk overwrites one state from chunk to chunk: not the one that was given, nor a final state's gradient."""
    case, model = Case(1, 40, 2), model_of(name)
    x, start = draw(model, case), draw_states(model, case)["S"]
    given = start.clone().requires_grad_()
    leaves = {n: v.requires_grad_() for n, v in x.items()}
    finals = []
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            finals.append(op_of(name)(**leaves, initial_state=given, output_final_state=True, chunk_size=8)[1])
    weight = torch.randn(start.shape, generator=torch.Generator().manual_seed(0), dtype=start.dtype)
    cotangent = weight.clone()
    torch.autograd.grad(finals[0], given, cotangent)
    assert torch.equal(cotangent, weight)
    assert torch.equal(given, start)
    assert torch.equal(finals[0], finals[1])
    assert finals[1].data_ptr() != given.data_ptr()

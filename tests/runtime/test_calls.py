"""What a call of an op takes, checks, returns and leaves alone."""

import inspect
import pydoc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.utils.checkpoint
from differential.harness import EXAMPLES, Case, draw, draw_states, given_states, model_of, op_of, several, sizes_of
from torch.utils._python_dispatch import TorchDispatchMode

import flowc

ROOT = Path(__file__).parent.parent.parent


def inputs(name="kda", dtype=torch.float32, **case):
    return {n: x.to(dtype) for n, x in draw(model_of(name), Case(**case)).items()}


class Count(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self):
        super().__init__()
        self.ops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops += 1
        return func(*args, **(kwargs or {}))


# -- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_only_the_gradients_that_are_asked_for_are_computed(name):
    """A gradient for one input costs fewer ops than for all, is the same numbers, and leaves the others without."""
    x = inputs(name, torch.float64)

    def run(wanted):
        leaves = {n: v.clone().requires_grad_(n in wanted) for n, v in x.items()}
        o = op_of(name)(**leaves)
        weight = torch.randn(o.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        with Count() as count:
            o.backward(weight)
        assert {n for n, v in leaves.items() if v.grad is not None} == set(wanted)
        return count.ops, {n: leaves[n].grad for n in wanted}

    all_ops, grads = run(tuple(x))
    for one in x:
        ops, (grad,) = (lambda ops, found: (ops, found.values()))(*run((one,)))
        assert torch.equal(grad, grads[one]), one
        assert ops < all_ops, one


def test_a_start_alone_may_want_a_gradient():
    x, start = inputs(), draw_states(model_of("kda"), Case())["S"].float().requires_grad_()
    op_of("kda")(**x, initial_state=start).sum().backward()
    assert start.grad.shape == start.shape
    assert all(v.grad is None for v in x.values())


def test_nothing_is_kept_without_gradients():
    x = {n: v.requires_grad_() for n, v in inputs(length=64).items()}
    with torch.no_grad():
        o = op_of("kda")(**x)
    assert o.grad_fn is None
    with_none = op_of("kda")(**{n: v.detach() for n, v in x.items()})
    assert with_none.grad_fn is None
    kept = op_of("kda")(**x).grad_fn
    assert kept is not None
    assert torch.equal(o, with_none)

    def stored(call):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            call()
        return sum(sizes)

    with torch.no_grad():
        assert stored(lambda: op_of("kda")(**x)) == 0
    assert stored(lambda: op_of("kda")(**{n: v.detach() for n, v in x.items()})) == 0
    assert stored(lambda: op_of("kda")(**x)) > sum(v.numel() for v in x.values())


def test_inference_mode():
    with torch.inference_mode():
        assert op_of("kda")(**inputs()).is_inference()


def test_a_gradient_through_the_state_alone():
    x = {n: v.requires_grad_() for n, v in inputs().items()}
    _, state = op_of("kda")(**x, output_final_state=True)
    state.sum().backward()
    assert x["v"].grad.abs().sum() > 0
    assert (x["q"].grad == 0).all()  # the query is read into the output only


def test_an_unused_output_of_two():
    x = {n: v.requires_grad_() for n, v in inputs("epilogue").items()}
    outputs = op_of("epilogue")(**x)
    outputs.o.sum().backward()
    assert torch.isfinite(x["q"].grad).all()


def test_backward_twice_through_a_kept_graph():
    x = {n: v.requires_grad_() for n, v in inputs().items()}
    o = op_of("kda")(**x)
    first = torch.autograd.grad(o.sum(), list(x.values()), retain_graph=True)
    second = torch.autograd.grad(o.sum(), list(x.values()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_double_backward_is_an_error_that_says_so():
    x = {n: v.requires_grad_() for n, v in inputs().items()}
    (grad,) = torch.autograd.grad(op_of("kda")(**x).sum(), x["k"], create_graph=True)
    with pytest.raises(RuntimeError, match=r"kda.*backward"):
        grad.sum().backward()


@pytest.mark.parametrize("name", [*EXAMPLES, "outputs_everywhere", "two_repeats"])
def test_inputs_are_not_modified(name):
    """Neither are the cotangents, nor saved values: a second backward pass is the first."""
    case = Case(chunk=None)
    x = {n: v.requires_grad_() for n, v in draw(model_of(name), case).items()}
    start = {n: v.requires_grad_() for n, v in draw_states(model_of(name), case).items()}
    before = {n: v.detach().clone() for n, v in (x | start).items()}
    begin = given_states(model_of(name), start)
    outputs, state = op_of(name)(**x, initial_state=begin, output_final_state=True)
    values = (*several(outputs), *several(state))
    bars = [torch.ones_like(v) for v in values]
    torch.autograd.backward(values, bars)
    assert all(torch.equal(v.detach(), before[n]) for n, v in (x | start).items())
    assert all((b == 1).all() for b in bars)


def test_outputs_share_no_memory_with_inputs():
    x, start = inputs(length=0), torch.ones(2, 2, 5, 4)
    _, state = op_of("kda")(**x, initial_state=start, output_final_state=True)
    state.zero_()
    assert (start == 1).all()
    x, (o, state) = inputs(), op_of("kda")(**inputs(), output_final_state=True)
    again, _ = op_of("kda")(**x, output_final_state=True)
    state.zero_()
    assert torch.equal(o, again)


# -- under what torch offers -------------------------------------------------------------------------------------------


def test_training_after_a_first_call_in_inference_mode():
    """What the first call caches serves the others."""
    op = flowc.compile(ROOT / "examples/kda.flow")
    with torch.inference_mode():
        op(**inputs())
    x = {n: v.requires_grad_() for n, v in inputs().items()}
    op(**x).sum().backward()
    assert all(torch.isfinite(v.grad).all() for v in x.values())


def test_checkpointing():
    x = {n: v.requires_grad_() for n, v in inputs().items()}
    grads = torch.autograd.grad(op_of("kda")(**x).sum(), list(x.values()))
    o = torch.utils.checkpoint.checkpoint(lambda *t: op_of("kda")(*t), *x.values(), use_reentrant=False)
    assert all(torch.equal(a, b) for a, b in zip(torch.autograd.grad(o.sum(), list(x.values())), grads, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", EXAMPLES)
def test_autocast_changes_nothing(name, dtype):
    """The dtype rules are the op's own: everything is computed in float32, forward and backward."""
    x = {n: v.requires_grad_() for n, v in inputs(name, dtype).items()}

    def everything():
        o, state = op_of(name)(**x, output_final_state=True)
        loss = o.float().sum() + sum(s.sum() for s in several(state))
        return o, *several(state), *torch.autograd.grad(loss, list(x.values()))

    plain = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = everything()
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16  # on again, for the user's own products
    for a, b in zip(cast, plain, strict=True):
        assert a.dtype is b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", EXAMPLES)
def test_autocast_changes_no_step_and_no_reference(name):
    x = inputs(name)
    params = {i.name for i in model_of(name).inputs if i.is_param}
    token = {n: v if n in params else v[:, 0] for n, v in x.items()}

    def everything():
        made = (*op_of(name).step(**token), *op_of(name).reference(**x, output_final_state=True))
        return [part for one in made for part in several(one)]

    plain = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = everything()
    assert all(torch.equal(a, b) for a, b in zip(cast, plain, strict=True))


def test_threads():
    """Ops called from several threads at once: torch's own dataloaders and pipelines do."""
    x = inputs()
    expected = op_of("kda")(**x)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: op_of("kda")(**x), range(12)))
    assert all(torch.equal(o, expected) for o in found)


# -- empty -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize(("batch", "length"), [(0, 5), (2, 0), (0, 0)])
def test_empty(name, batch, length):
    x = {n: v.requires_grad_() for n, v in inputs(name, batch=batch, length=length).items()}
    o, state = op_of(name)(**x, output_final_state=True)
    recurrence, dims = op_of(name).compilation.recurrence, sizes_of(model_of(name), Case(batch=batch, length=length))
    (result,) = recurrence.results
    assert o.shape == (batch, length, 2, *(n.value(dims) for n in result.shape.sizes))
    for s, end in zip(model_of(name).states, several(state), strict=True):
        assert end.shape == (batch, 2, *(n.value(dims) for n in s.shape.sizes))
        assert (end == s.start).all()
    (o.sum() + sum(s[s.isfinite()].sum() for s in several(state))).backward()
    assert all(v.grad is None or (v.grad.shape == v.shape and (v.grad == 0).all()) for v in x.values())


# -- what an op says of itself -----------------------------------------------------------------------------------------


def test_signature_and_doc():
    op = op_of("mamba2")
    signature = inspect.signature(op)
    names = [i.name for i in model_of("mamba2").inputs]
    assert list(signature.parameters)[: len(names)] == names
    keyword = {n: p for n, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    options = {"initial_state", "output_final_state", "chunk_size", "aggregation", "schedule", "backend", "check"}
    assert options <= set(keyword)
    shown = pydoc.render_doc(op, renderer=pydoc.plaintext)
    for line in ("x: input [B, T, H, V]", "A_log: param [H]", "o [B, T, H, V]", "[B, H, K, V]", "chunk_size"):
        assert line in shown, line
    assert op.__name__ == "mamba2"
    assert "mamba2" in repr(op)


def test_source_spec_and_explain():
    op = op_of("kda")
    assert "flow kda(K, V)" in op.spec
    assert flowc.compile(op.spec).spec == op.spec
    compile(op.source, "kda.py", "exec")
    assert "class D" in op.explain()


def test_positional_and_by_name():
    x = inputs()
    assert torch.equal(op_of("kda")(*x.values()), op_of("kda")(**x))


# -- one token, and the loop -------------------------------------------------------------------------------------------


def steps(name, x, state=None):
    """Outputs of all tokens by `op.step`, and the state after them."""
    params = {i.name for i in model_of(name).inputs if i.is_param}
    outputs = []
    for t in range(next(v.shape[1] for n, v in x.items() if n not in params)):
        o, state = op_of(name).step(**{n: v if n in params else v[:, t] for n, v in x.items()}, state=state)
        outputs.append(o if isinstance(o, tuple) else (o,))
    return tuple(torch.stack(c, 1) for c in zip(*outputs, strict=True)), state


@pytest.mark.parametrize(
    "name", [*EXAMPLES, "outputs_everywhere", "two_repeats", "started", "counted", "scalar_output"]
)
def test_steps_and_reference_are_the_op(name):
    # 23 tokens of float64 sums of 5 * 4 terms in another order: a few hundred roundings, and the states' growth.
    case = Case()
    x = draw(model_of(name), case)
    whole, state = op_of(name)(**x, output_final_state=True, chunk_size=7)
    looped, loop_state = op_of(name).reference(**x, output_final_state=True)
    stepped, step_state = steps(name, x)
    for others, last in ((looped, loop_state), (stepped, step_state)):
        for a, b in zip((*several(whole), *several(state)), (*several(others), *several(last)), strict=True):
            assert a.shape == b.shape
            assert ((a - b).norm() / b.norm()).item() < 1e-12


def test_a_step_takes_a_whole_call_s_state():
    x = inputs(dtype=torch.float64)
    whole = op_of("kda")(**x)
    first, rest = ({n: v[:, part] for n, v in x.items()} for part in (slice(20), slice(20, None)))
    _, state = op_of("kda")(**first, output_final_state=True)
    (o,), _ = steps("kda", rest, state)
    assert ((o - whole[:, 20:]).norm() / whole[:, 20:].norm()).item() < 1e-12


def test_a_step_leaves_its_state_alone():
    x, state = inputs(length=1), torch.ones(2, 2, 5, 4)
    op_of("kda").step(**{n: v[:, 0] for n, v in x.items()}, state=state)
    assert (state == 1).all()


# -- causality ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*EXAMPLES, "two_repeats", "outputs_everywhere"])
@pytest.mark.parametrize("at", [1, 8, 14, 22])
def test_later_inputs_change_no_earlier_output(name, at):
    """Bit for bit, also within a chunk, also where what comes later is large; within declared ranges."""
    x = draw(model_of(name), Case())
    changed = {n: v.clone() for n, v in x.items()}
    for i in model_of(name).inputs:
        if not i.is_param:
            later = changed[i.name][:, at:]
            later.copy_(later.flip(0) if i.range else -1e3 * later.abs())
    before, after = (op_of(name)(**values, chunk_size=7) for values in (x, changed))
    for a, b in zip(*((o if isinstance(o, tuple) else (o,)) for o in (before, after)), strict=True):
        assert torch.equal(a[:, :at], b[:, :at])

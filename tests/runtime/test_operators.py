"""Ops as torch.compile, torch.export and torch.func take them: one operator for each pass, and what is refused."""

import importlib.util
import subprocess
import sys

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.utils.checkpoint
from differential.harness import EXAMPLES, Case, draw, draw_states, model_of, op_of, several
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck

import flowc

SOME = ("kda", "mamba2", "gated_delta_product", "epilogue")  # a vector gate; params; rows by R; several outputs
CHUNK = 8


def module(name):
    """The emitted module of an op."""
    return op_of(name)._module


def tensors(name, dtype=torch.float32, **case):
    """The inputs of a call and the states it starts from, all wanting gradients."""
    case = Case(**case)
    given = (*draw(model_of(name), case).values(), *draw_states(model_of(name), case).values())
    return [x.to(dtype).requires_grad_() for x in given]


def everything(op):
    """A function of an op's tensors: outputs, the final state."""

    states = len(op.compilation.model.states) if isinstance(op, flowc.Op) else 1

    def function(*given, **options):
        inputs, starts = given[:-states], given[-states:]
        begin = starts[0] if len(starts) == 1 else starts
        outputs, final = op(*inputs, initial_state=begin, output_final_state=True, **options)
        return *several(outputs), *several(final)

    return function


def results(function, given, **options):
    """What a function returns and its gradients, those of the squares' sum."""
    made = function(*given, **options)
    return *made, *torch.autograd.grad(sum(x.square().sum() for x in made), given, allow_unused=True)


def assert_same(found, expected):
    """Bit for bit, since an operator runs what a call without one does."""
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (a.dtype == b.dtype and torch.equal(a, b))


@pytest.fixture(autouse=True)
def fresh():
    """No graph of another test."""
    torch._dynamo.reset()


# -- operators ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*EXAMPLES, "epilogue", "two_repeats"])
def test_opcheck(name):
    """Schema, fakes, autograd and tracing with symbolic sizes, as torch checks them."""
    own, given = module(name), tensors(name, length=19)
    opcheck(own._FORWARD, (given, None, CHUNK, None, None, None, None, True))
    plain = [x.detach() for x in given]
    found = own._FORWARD(plain, None, CHUNK, None, None, None, None, True)
    made, memory = found[: own._RESULTS], found[own._RESULTS :]
    bars = [torch.ones_like(x) for x in made]
    wanted = [n % 2 == 0 for n in range(len(given))]
    tests = ("test_schema", "test_faketensor")  # the rest asks for derivatives, which there are none of
    for cotangents, needed in ((bars, [True] * len(given)), ([None] * len(bars[1:]) + bars[-1:], wanted)):
        options = None, CHUNK, None, None, None, None
        opcheck(own._BACKWARD, (plain, memory, cotangents, needed, *options), test_utils=tests)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("offsets", [None, (0, 0, 5, 6, 19)])
def test_an_operator_is_a_call(name, offsets):
    """Also of packed sequences, whose chunks are as many as their offsets say."""
    own, given = module(name), tensors(name, length=19, batch=1)
    packed = None if offsets is None else torch.tensor(offsets)
    if offsets is not None:
        given[-1] = given[-1].detach().repeat(4, 1, 1, 1).requires_grad_()
    outputs = own._RESULTS
    found = results(lambda *x: own._FORWARD(list(x), packed, CHUNK, None, None, None, None, True)[:outputs], given)
    assert_same(found, results(everything(op_of(name)), given, chunk_size=CHUNK, cu_seqlens=packed))


def test_nothing_is_kept_without_gradients():
    own, given = module("kda"), tensors("kda")
    assert len(own._FORWARD(given, None, None, None, None, None, None, False)) == own._RESULTS
    call = own._chosen(*given, None, None, None, None, None, None, True)
    assert len(call.memory(given)) > 0
    assert len(own._FORWARD(given, None, None, None, None, None, None, True)) == own._RESULTS + len(call.memory(given))


def test_what_operators_return_on_a_gpu(monkeypatch):
    """Without one: shapes and types follow from sizes, those that the kernels keep and make."""
    pytest.importorskip("triton")
    own, shapes = module("gated_delta_product"), [x.shape for x in tensors("gated_delta_product", length=70)]
    monkeypatch.setattr(own, "_family", lambda _: "any")
    monkeypatch.setattr(own, "_processors", lambda _: 132)
    with FakeTensorMode():
        given = [torch.empty(shape, device="cuda", dtype=torch.bfloat16) for shape in shapes]
        outputs, final, *memory = own._FORWARD(given, None, None, None, None, None, None, True)
        grads = own._BACKWARD(given, memory, [outputs, final], [True] * len(given), None, None, None, None, None, None)
    assert (outputs.shape, outputs.dtype) == ((2, 70, 2, 4), torch.bfloat16)
    assert (final.shape, final.dtype) == ((2, 2, 5, 4), torch.float32)
    assert {x.shape[:2] for x in memory} == {(1, 5 * 4)}  # 16 tokens of 3 rows in a chunk, 2 heads of 2 sequences
    assert [(x.shape, x.dtype, x.device) for x in grads] == [(x.shape, x.dtype, x.device) for x in given]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["gated_deltanet", "mamba2", "gated_delta_product"])
def test_lengths_are_one_graph_on_a_gpu(name):
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(everything(op_of(name)), fullgraph=True, backend=counter)
    for length in (300, 64, 129):
        given = [
            x.detach().cuda().requires_grad_()
            for x in tensors(name, torch.bfloat16, length=length, sizes=(64, 32, 2, 2))
        ]
        assert_same(results(compiled, given), results(everything(op_of(name)), given))
    assert counter.frame_count <= 2


def test_only_wanted_gradients_come_back():
    given = tensors("kda")
    for x in given[1:]:
        x.requires_grad_(False)
    compiled = torch.compile(everything(op_of("kda")), fullgraph=True, backend="aot_eager")
    sum(x.sum() for x in compiled(*given)).backward()
    assert [x.grad is not None for x in given] == [True] + [False] * (len(given) - 1)


def imported(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


def test_a_text_imported_twice_has_one_pair_of_operators(tmp_path):
    """Vendored and by flowc, in either order: both compile, and one may go."""
    op = flowc.compile(model_of("kda").canonical.replace("kda", "kda_twice"))
    path = tmp_path / "vendored.py"
    path.write_text(op.source)
    first, second = imported(path, "vendored_once"), imported(path, "vendored_twice")
    assert first._FORWARD is second._FORWARD is op._module._FORWARD
    del sys.modules["vendored_once"], first, op
    given = tensors("kda")
    compiled = torch.compile(everything(second.kda_twice), fullgraph=True, backend="aot_eager")
    assert_same(results(compiled, given), results(everything(op_of("kda")), given))


def test_other_options_are_other_operators():
    text = model_of("kda").canonical
    names = {flowc.compile(text, chunk_size=size)._module._OPERATOR for size in (None, 16, 32)}
    assert len(names) == 3
    assert flowc.compile(text, chunk_size=16)._module._OPERATOR in names


def test_a_name_that_no_operator_can_have():
    op = flowc.compile(model_of("linear_attention").canonical.replace("linear_attention", "größe"))
    assert op._module._OPERATOR.startswith("gr__e_")
    given = tensors("linear_attention")
    compiled = torch.compile(everything(op), fullgraph=True, backend="aot_eager")
    assert_same(results(compiled, given), results(everything(op_of("linear_attention")), given))


# -- torch.compile -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOME)
def test_three_lengths_are_one_graph(name):
    """With the lengths marked as dynamic: forward and backward, the same bits as without torch.compile."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(everything(op_of(name)), fullgraph=True, backend=counter)
    timed = module(name)._TIMED
    for length in (19, 64, 7):
        given = tensors(name, length=length)
        for x in (x for x, own in zip(given, timed, strict=False) if own):
            torch._dynamo.mark_dynamic(x, 1)
        assert_same(results(compiled, given), results(everything(op_of(name)), given))
    assert counter.frame_count == 1


def test_a_length_that_changes_becomes_dynamic():
    """Nothing marked: one graph for the first length, one for all others; batches too."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(everything(op_of("kda")), fullgraph=True, backend=counter)
    counts = []
    for length, batch in ((19, 2), (64, 2), (7, 2), (100, 2), (100, 3), (33, 5), (12, 4)):
        given = tensors("kda", length=length, batch=batch)
        assert_same(results(compiled, given), results(everything(op_of("kda")), given))
        counts.append(counter.frame_count)
    assert counts == [1, 2, 2, 2, 3, 3, 3]


def test_packed_sequences_compile():
    """Other offsets, and more of them, are the same graph."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(everything(op_of("kda")), fullgraph=True, backend=counter)
    for offsets in ((0, 4, 19), (0, 10, 19), (0, 3, 3, 12, 19), (0, 1, 19, 19, 19, 19)):
        given = tensors("kda", length=19, batch=1)
        given[-1] = given[-1].detach().repeat(len(offsets) - 1, 1, 1, 1).requires_grad_()
        packed = torch.tensor(offsets)
        options = {"cu_seqlens": packed, "chunk_size": CHUNK}
        assert_same(results(compiled, given, **options), results(everything(op_of("kda")), given, **options))
    assert counter.frame_count <= 2


def test_options_are_part_of_the_graph():
    given = tensors("kda")
    ways = ({"aggregation": name} for name in ("wy", "tensorinv", "signature"))
    for options in ({"chunk_size": 7}, *ways, {"backend": "torch"}):
        compiled = torch.compile(everything(op_of("kda")), fullgraph=True, backend="aot_eager")
        assert_same(results(compiled, given, **options), results(everything(op_of("kda")), given, **options))


@pytest.mark.parametrize("name", [*SOME, "squashed_fast_weights"])
def test_a_step_compiles(name):
    """It is torch operators, which a compiler sees through."""
    params = {i.name for i in model_of(name).inputs if i.is_param}
    token = {n: x if n in params else x[:, 0] for n, x in draw(model_of(name), Case()).items()}
    step = torch.compile(op_of(name).step, fullgraph=True, backend="aot_eager")
    found, expected = step(**token), op_of(name).step(**token)
    for a, b in ((found, expected), (step(**token, state=found[1]), op_of(name).step(**token, state=expected[1]))):
        assert_same(torch.utils._pytree.tree_leaves(a), torch.utils._pytree.tree_leaves(b))


@pytest.mark.parametrize("grad", [True, False])
def test_inductor(grad):
    """Forward, and with gradients backward, between other operators."""

    op = everything(op_of("kda"))

    def function(q, *others):
        with torch.set_grad_enabled(grad):
            o, final = op(2 * q, *others)
        return o + 1, final

    given = tensors("kda")
    found, expected = torch.compile(function, fullgraph=True)(*given), function(*given)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)  # doubling and adding 1 round the same way everywhere
        assert a.requires_grad == grad


def test_autocast_changes_nothing_that_is_compiled():
    given = tensors("kda", torch.bfloat16)
    expected = results(everything(op_of("kda")), given)
    compiled = torch.compile(everything(op_of("kda")), fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(results(compiled, given), expected)


def test_checkpointing_what_is_compiled():
    given, op = tensors("kda"), everything(op_of("kda"))

    def function(*x):
        return torch.utils.checkpoint.checkpoint(op, *x, use_reentrant=False)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert_same(results(compiled, given), results(everything(op_of("kda")), given))


def test_an_argument_that_does_not_fit_is_named():
    q, *others = tensors("kda")
    compiled = torch.compile(everything(op_of("kda")), fullgraph=True, backend="aot_eager")
    with pytest.raises(
        Exception, match=r"kda: `k` has shape \[2, 23, 2, 4\]; expected \[B, T, H, K\] = \[2, 23, 2, 5\]"
    ):
        compiled(q, others[0][..., :-1], *others[1:])


# -- torch.export ------------------------------------------------------------------------------------------------------


class Layer(torch.nn.Module):
    """An op with a parameter before it."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((5,), 0.5))
        self.op = everything(op_of("kda"))

    def forward(self, q, *others):
        return self.op(self.scale * q, *others)


@pytest.mark.parametrize("strict", [True, False])
def test_export(strict, tmp_path):
    """One program for every length, that can be saved."""
    layer, first = Layer(), [x.detach() for x in tensors("kda", length=19)]
    length = torch.export.Dim("length", min=2, max=4096)
    shapes = {"q": {1: length}, "others": (*({1: length} for _ in first[1:-1]), {})}
    program = torch.export.export(layer, tuple(first), dynamic_shapes=shapes, strict=strict)
    torch.export.save(program, tmp_path / "layer.pt2")
    loaded = torch.export.load(tmp_path / "layer.pt2").module()
    for size in (7, 64):
        given = [x.detach() for x in tensors("kda", length=size)]
        assert_same(loaded(*given), layer(*given))


LOAD = """
import importlib.util, sys, torch
spec = importlib.util.spec_from_file_location("kda", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
torch.save(torch.export.load(sys.argv[2]).module()(*torch.load(sys.argv[3])), sys.argv[4])
assert "flowc" not in sys.modules
"""


def test_an_exported_program_needs_the_emitted_module_alone(tmp_path):
    given = [x.detach() for x in tensors("kda")]
    paths = [tmp_path / name for name in ("kda.py", "layer.pt2", "given.pt", "found.pt")]
    paths[0].write_text(op_of("kda").source)
    with torch.no_grad():
        program = torch.export.export(Layer(), tuple(given))
        assert "True" not in program.graph_module.code.split("kda_")[1].split(")")[0]  # nothing is kept
        torch.export.save(program, paths[1])
        torch.save(given, paths[2])
        subprocess.run([sys.executable, "-c", LOAD, *map(str, paths)], cwd=tmp_path, check=True)
        assert_same(torch.load(paths[3]), Layer()(*given))


# -- torch.func, forward mode, second derivatives ----------------------------------------------------------------------


def loss(name, given, at):
    """A function of the tensor `at`, of the others fixed, through an op."""
    others, own = [x.detach() for x in given], op_of(name)

    def function(x, op=own):
        made = everything(op)(*others[:at], x, *others[at + 1 :])
        return sum(y.square().sum() for y in made)

    return function


@pytest.mark.parametrize("name", SOME)
def test_func_grad_and_vjp(name):
    """Of every input: the bits of autograd."""
    given = tensors(name)
    expected = results(everything(op_of(name)), given)[-len(given) :]
    everywhere = tuple(range(len(given)))
    plain = tuple(x.detach() for x in given)

    def function(*x):
        return sum(y.square().sum() for y in everything(op_of(name))(*x))

    found = torch.func.grad(function, argnums=everywhere)(*plain)
    value, pull = torch.func.vjp(function, *plain)
    assert torch.equal(value, function(*plain))
    for grads in (found, pull(torch.ones(()))):
        assert_same(grads, [torch.zeros_like(x) if e is None else e for x, e in zip(given, expected, strict=True)])


def test_func_grad_within_what_is_compiled_runs_uncompiled():
    given = tensors("kda")
    function = loss("kda", given, 1)
    expected = torch.func.grad(function)(given[1].detach())
    assert torch.equal(torch.compile(torch.func.grad(function), backend="aot_eager")(given[1].detach()), expected)
    assert torch.equal(torch.func.grad(torch.compile(function, backend="aot_eager"))(given[1].detach()), expected)


def dual(function, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, torch.ones_like(x))))


@pytest.mark.parametrize("compiled", ["not", "inside", "outside"])
@pytest.mark.parametrize("mode", [dual, lambda f, x: torch.func.jvp(f, (x,), (x,))])
def test_forward_mode_is_refused(mode, compiled):
    """Never a tangent of 0 in silence."""
    given = tensors("kda")
    x, function = given[1].detach(), loss("kda", given, 1)
    through = torch.compile(function, backend="aot_eager") if compiled == "inside" else function

    def run(x):
        return mode(through, x)

    run = torch.compile(run, backend="aot_eager") if compiled == "outside" else run
    with pytest.raises(RuntimeError, match=r"kda: forward-mode differentiation \(jvp\) is not supported"):
        run(x)


def test_vmap_is_refused():
    given = tensors("kda")
    keys = torch.stack((given[1].detach(), given[1].detach()))
    with pytest.raises(RuntimeError, match=r"kda: torch\.vmap does not map over an op"):
        torch.func.vmap(loss("kda", given, 1))(keys)
    with pytest.raises(RuntimeError, match=r"kda: torch\.vmap does not map over an op"):
        torch.func.jacrev(lambda k: everything(op_of("kda"))(given[0].detach(), k, *given[2:])[0])(keys[0])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_second_derivative_is_refused(compiled):
    given = tensors("kda")
    function = everything(op_of("kda"))
    function = torch.compile(function, backend="aot_eager") if compiled else function
    grads = torch.autograd.grad(sum(x.sum() for x in function(*given)), given, create_graph=True)
    said = "does not currently support double backward" if compiled else "kda: the backward pass cannot be differentia"
    with pytest.raises(RuntimeError, match=said):
        sum(x.sum() for x in grads).backward()


def test_a_second_derivative_of_func_is_refused():
    given = tensors("kda")
    first = torch.func.grad(loss("kda", given, 1))
    with pytest.raises(RuntimeError, match=r"kda: the backward pass cannot be differentiated again"):
        torch.func.grad(lambda k: first(k).sum())(given[1].detach())


def test_the_reference_has_what_an_op_refuses():
    """As the README's limits say: forward mode, torch.vmap and a second derivative, of the step-by-step form."""
    given = tensors("kda", torch.float64, length=5)
    k, function = given[1].detach(), loss("kda", given, 1)

    def slow(k):
        return function(k, op_of("kda").reference)

    expected = torch.func.grad(function)(k)
    # 5 tokens in float64: a few hundred roundings
    assert ((torch.func.grad(slow)(k) - expected).norm() / expected.norm()).item() < 1e-13
    assert torch.allclose(torch.func.vmap(slow)(torch.stack((k, 2 * k))), torch.stack((function(k), function(2 * k))))
    assert torch.isfinite(torch.func.grad(lambda k: torch.func.grad(slow)(k).sum())(k)).all()
    assert torch.allclose(torch.func.jvp(slow, (k,), (k,))[1], (expected * k).sum())

"""The three ways to solve a chunk's system: each right on hard cases, each another algorithm, none leaning on another.

On torch operators here, on kernels under the interpreter and on a GPU as in test_ops.
"""

import ast
import importlib.util
from dataclasses import replace

import pytest
import torch
from differential.harness import TEXTS, Case, check, differences, draw, draw_states, model_of, op_of, run_op
from differential.targets import INTERPRETED, TARGETS, Target, on_targets
from torch.utils._python_dispatch import TorchDispatchMode

import flowc
from flowc.chunk.aggregation import AGGREGATIONS, BLOCK, inverse_flops, solve_products

each = pytest.mark.parametrize("aggregation", AGGREGATIONS)


# -- right ------------------------------------------------------------------------------------------------------------


@on_targets
@each
@pytest.mark.parametrize("gate", ["mixed", "never"])
@pytest.mark.parametrize("keys", ["repeated", "near", "alternating"])
@pytest.mark.parametrize("beta", [1, 2])
def test_hard_keys_and_gates(aggregation, keys, gate, beta, target):
    """Chunks of 64 rows, in four blocks of 16, in the precision that suffers most; `auto` is in test_ops."""
    for name, chunk in (("gated_deltanet", 64), ("gated_delta_product", 32))[: 1 if INTERPRETED else 2]:
        check(
            name, Case(1, 70, 1, (16, 8, 2), chunk, gate, keys, beta, True, aggregation), torch.float32, target=target
        )


@on_targets
@each
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["delta_product", "gated_delta_product", "gated_lowrank_delta", "kda_lowrank"])
def test_ranks(name, rank, aggregation, target):
    """One after another and at once; the last chunk is not full, and its rows are no whole blocks."""
    check(name, Case(1, 29, 1, (7, 5, rank), 16, aggregation=aggregation), target.types[-1], target=target)


@on_targets
@each
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 31, 33, 100])
def test_rows_that_are_no_whole_blocks(rows, aggregation, target):
    check("deltanet", Case(1, rows + 3, 1, (6, 5), rows, aggregation=aggregation), target.types[0], target=target)


@on_targets
@each
def test_an_aggregation_that_is_compiled_in(aggregation, target):
    """It is what a call gets that does not ask, bit for bit; a call that asks gets another."""
    case, model = Case(1, 40, 1, (6, 5), 40), model_of("deltanet")
    x, compiled = draw(model, case), flowc.compile(TEXTS["deltanet"], aggregation=aggregation)

    def run(op, asked):
        return run_op(op, model, x, {}, torch.float32, replace(case, aggregation=asked), target)["o"]

    assert torch.equal(run(compiled, None), run(op_of("deltanet"), aggregation))
    assert all(torch.equal(run(compiled, a), run(op_of("deltanet"), a)) for a in AGGREGATIONS)


# -- faults -----------------------------------------------------------------------------------------------------------

FAULTS = {
    "torch": (
        ("wy", "_inverse_wy", "eye - matrix", "eye - 1.001 * matrix"),
        ("tensorinv", "_inverse_tensorinv", "@ first", "@ first * 1.001"),
        ("signature", "_inverse_signature", "eye - blocks", "eye - 1.001 * blocks"),
        ("signature", "_substituted", "left, here], solved)", "left, here], solved, alpha=1.001)"),
        ("signature", "_substituted", "reversed(starts)", "starts"),
    ),
    "kernels": (
        ("wy", "_tl_inverse_wy", "_tl_diagonal(matrix, N, 16)", "_tl_diagonal(matrix, N, 16) * 1.001"),
        ("wy", "_tl_inverse_wy", "_tl_merged(matrix, out, N, 16,", "_tl_merged(matrix * 1.001, out, N, 16,"),
        ("tensorinv", "_tl_inverse_tensorinv", "tl.full((N, 1, 1), 1.0,", "tl.full((N, 1, 1), 1.001,"),
        (
            "tensorinv",
            "_tl_inverse_tensorinv",
            "_tl_merged(matrix, out, N, 4,",
            "_tl_merged(matrix * 1.001, out, N, 4,",
        ),
        ("signature", "_tl_inverse_signature", "_tl_diagonal(matrix, N, 16)", "_tl_diagonal(matrix, N, 16) * 1.001"),
        ("signature", "_tl_substituted", "tl.dot(factor,", "tl.dot(factor * 1.001,"),
        ("signature", "_tl_substituted", "if TRANSPOSED else block > this", "if not TRANSPOSED else block > this"),
    ),
}


def faults():
    """Every fault of every target, marked as the target is."""
    for one in TARGETS:
        target, marks = (one, ()) if isinstance(one, Target) else (one.values[0], one.marks)
        for at, fault in enumerate(FAULTS["kernels" if target.kernels else "torch"]):
            yield pytest.param(*fault, target, marks=marks, id=f"{target}-{fault[1]}-{at}")


def faulty(name, function, old, new, folder):
    """The op of a module in which one function is another; from a file, which Triton needs."""
    tree = ast.parse(op_of(name).source)
    body = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function)
    text = ast.unparse(body)
    assert text.count(old) == 1, text
    tree.body[tree.body.index(body)] = ast.parse(text.replace(old, new)).body[0]
    path = folder / f"{name}.py"
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


@pytest.mark.parametrize(("aggregation", "function", "old", "new", "target"), list(faults()))
def test_a_fault_in_one_leaves_the_others_right(aggregation, function, old, new, target, tmp_path):
    """Off by a thousandth, or in the wrong order: found by that aggregation, and by no other."""
    op = faulty("deltanet", function, old, new, tmp_path)
    case = Case(1, 40, 1, (6, 5), 40)
    found = {
        a: all(d.holds for d in differences("deltanet", replace(case, aggregation=a), torch.float32, op, target))
        for a in AGGREGATIONS
    }
    assert found == {a: a != aggregation for a in AGGREGATIONS}


# -- algorithms -------------------------------------------------------------------------------------------------------


class Counter(TorchDispatchMode):
    """Counts the flops of products, and notes the sizes of triangular systems."""

    def __init__(self):
        super().__init__()
        self.flops, self.systems = 0, set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        if name in ("bmm", "mm", "baddbmm", "baddbmm_", "addmm"):
            left, right = arguments[-2:]
            self.flops += 2 * left.numel() * right.shape[-1]
        if name == "linalg_solve_triangular":
            self.systems.add(arguments[0].shape[-1])
        return function(*arguments, **(keywords or {}))


def counted(name, case):
    """What a forward and a backward pass count."""
    model, counter = model_of(name), Counter()
    x, start = draw(model, case), draw_states(model, case)
    leaves = {n: v.float().requires_grad_() for n, v in x.items()}
    with counter:
        o, final = op_of(name)(
            **leaves, initial_state=start["S"].float(), output_final_state=True,
            chunk_size=case.chunk, aggregation=case.aggregation,
        )  # fmt: skip
        (o.sum() + final.sum()).backward()
    return counter


@pytest.mark.skipif(INTERPRETED, reason="counts torch operators")
@pytest.mark.parametrize("rows", [16, 40, 64])
@pytest.mark.parametrize("rank", [1, 2])
def test_flops_are_those_that_explain_counts(rows, rank):
    """Aggregations differ by what the cost model says, to the flop; forward substitution is no product."""
    chunks, heads, columns = 3, 2, 5
    case = Case(1, chunks * rows // rank, heads, (8, columns, rank), rows // rank)
    name = "gated_delta_product"
    found = {a: counted(name, replace(case, aggregation=a)) for a in AGGREGATIONS}

    def expected(a):
        formed = inverse_flops(a, rows) if a == "tensorinv" else 0
        return chunks * heads * (formed + 2 * sum(solve_products(a, rows, columns)))

    for a in AGGREGATIONS:
        assert found[a].flops - found["wy"].flops == expected(a) - expected("wy"), a
    assert {a: found[a].systems for a in AGGREGATIONS} == {"wy": {rows}, "tensorinv": set(), "signature": {BLOCK}}


@on_targets
def test_signature_forms_no_inverse_of_the_whole(target):
    """What is kept of N: with wy and tensorinv (I - N)^-1, with signature N itself beside inverses of 16 rows."""
    case, model = Case(1, 40, 1, (6, 5), 40), model_of("deltanet")
    x = {n: v.float().to(target.device).requires_grad_() for n, v in draw(model, case).items()}
    k, beta = x["k"][0, :, 0].detach(), x["beta"][0, :, 0].detach()
    n = (-beta[:, None] * (k @ k.T)).tril(-1)
    whole = torch.linalg.inv(torch.eye(40, device=n.device) - n)
    own = torch.block_diag(*(torch.ones(b, b) for b in (16, 16, 8))).bool().to(n.device)
    parts = torch.linalg.inv(torch.eye(40, device=n.device) - torch.where(own, n, 0.0))
    kept = {"wy": whole, "tensorinv": whole, "signature": torch.where(own, parts, n)}
    for aggregation, expected in kept.items():
        o = op_of("deltanet")(**x, chunk_size=40, aggregation=aggregation, **dict(target.options))
        saved = [t.reshape(40, 40) for t in o.grad_fn.saved_tensors if t is not None and t.shape[-2:] == (40, 40)]
        saved = [t.tril() for t in saved]  # kernels leave blocks above the diagonal as they lay in memory
        # 40 sums of numbers below 1, each off by a rounding of 6e-8
        near = [torch.allclose(t.float(), expected.tril(), rtol=0, atol=5e-6) for t in saved]
        assert any(near), aggregation
        assert any(torch.allclose(t.float(), whole.tril(), rtol=0, atol=1e-3) for t in saved) == (
            aggregation != "signature"
        )

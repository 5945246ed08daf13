"""What kernels do, counted under the interpreter: products on matrix units, no loop over tokens, costs as predicted."""

import sys
from dataclasses import replace
from functools import cache

import pytest
import torch
from differential.harness import (
    EXAMPLES,
    ON_KERNELS,
    ROOT,
    TEXTS,
    Case,
    draw,
    draw_states,
    model_of,
    op_of,
    run_op,
    sizes_of,
)
from differential.targets import INTERPRETER

from flowc.chunk.cost import Sizes, cost
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.report.kernels import triton_facts
from flowc.schedule import predict, two_level
from flowc.schedule.devices import DEVICES
from flowc.schedule.predict import Shape, forward_kernels, kernel_model, sides_of_state
from flowc.schedule.schedule import rows_per_token
from flowc.schedule.staged import kernel_plan
from flowc.schedule.token_cost import TokenSizes, launch_cost
from flowc.source import Source

sys.path.insert(0, str(ROOT / "benchmarks"))

from autograd_memory import Kept
from meter import Meter

CHUNKS = 2
KINDS = ("simple_gla", "gla", "gated_deltanet", "kda", "gated_lowrank_delta", "gated_oja", "decaying_fast_weights")
"""Gates of either kind, without a system, with one, and with one of several rows a token; gates of other sides."""

STEPPED = ("longhorn", "mamba", "squashed_fast_weights")  # token by token: products with a vector are sums
SIDE = 64


@cache
def plan_of(name):
    return compile_text(Source(name, TEXTS[name]), Options(), Stage.PLAN).plan


def whole_chunks(name, rows=SIDE, chunks=CHUNKS, aggregation="wy"):
    """A case of chunks of `rows` rows where sizes fill their tiles."""
    case = Case(1, 1, 1, (SIDE, SIDE, 2, 2), aggregation=aggregation)
    tokens = rows // rows_per_token(plan_of(name).forward.program, Sizes(sizes_of(model_of(name), case), 1))
    return replace(case, chunk=tokens, length=chunks * tokens)


@cache
def counted(name, case, dtype=torch.float16, schedule="auto"):
    """What a forward and a backward pass of one head count."""
    model = model_of(name)
    target = replace(INTERPRETER, options=(*INTERPRETER.options, ("schedule", schedule)))
    with Meter() as meter:
        run_op(op_of(name), model, draw(model, case), draw_states(model, case), dtype, case, target)
    return meter


# -- matrix units ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ON_KERNELS if name not in STEPPED])
def test_products_are_made_on_matrix_units(name):
    """At least 90 % of the flops of a pass's products go through `tl.dot`.

    Of what goes there, at least as much as the chunk program's own products take; of sums over an axis of a tile, which
    is how else a product could be made, every one counts as one, prefix sums' anchors and substitution with the rest.
    """
    case, plan = whole_chunks(name), plan_of(name)
    meter = counted(name, case)
    sizes = Sizes(sizes_of(model_of(name), case), case.chunk)
    for backward, passed in enumerate((plan.forward, plan.backward)):
        products = CHUNKS * cost(passed.program.nodes, sizes).products
        dots, sums = (meter.of(c, bool(backward)) for c in (meter.dot_flops, meter.sum_flops))
        assert dots >= 0.9 * products, (dots, products)
        assert dots >= 0.9 * (dots + sums), (dots, sums)


# -- launches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", ["states", "recompute"])
@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [("gated_deltanet", 2, 2), ("kda", 2, 2), ("simple_gla", 1, 2), ("gla", 2, 2), ("gated_oja", 3, 3)],
)
def test_launches_of_a_pass(name, forward, backward, save):
    """A walk each way beside what comes before it, and gradients; nothing kept is a forward pass more."""
    case = whole_chunks(name, rows=32)
    leaves = {n: x.half().requires_grad_() for n, x in draw(model_of(name), case).items()}
    with Meter() as first:
        made = op_of(name)(**leaves, backend="triton", schedule="auto", chunk_size=case.chunk, save=save)
    with Meter() as second:
        torch.autograd.grad(made, list(leaves.values()), torch.ones_like(made))
    assert first.launches.total() == forward
    assert second.launches.total() == backward + (forward if save == "recompute" else 0)


@pytest.mark.parametrize("name", ["gated_deltanet", "kda", "simple_gla", "gated_oja"])
def test_explain_tells_how_much_is_kept(name):
    """In bytes of a token, at K = V = 128 in half precision, as autograd holds them of a call of whole chunks."""
    plan = plan_of(name)
    sizes = {d.name: d.value or 128 for d in plan.recurrence.model.dimensions}
    found = triton_facts(plan, sizes, 1)
    length = 2 * found.tokens
    x = draw(model_of(name), Case(1, length, 1, (128, 128, 2, 2)))
    leaves = {n: v.half().requires_grad_() for n, v in x.items()}
    with Kept(*leaves.values()) as kept:
        op_of(name)(**leaves, backend="triton")
    started = 4  # the state before the first token, one number expanded
    assert kept.bytes == CHUNKS * sum(found.saved.values()) + started


# -- no loop over tokens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "schedule"),
    [(name, "fused") for name in ON_KERNELS if name not in STEPPED] + [(name, "split") for name in KINDS],
)
def test_work_goes_with_the_chunks_and_not_with_the_tokens(name, schedule, monkeypatch):
    """Twice the chunks: as many launches, twice the products. Four times the tokens in as many chunks: two more levels.

    A level of halving, or of merging an inverse, is a product or two wherever there is one; 3/2 of the operations is
    more than two more of seven levels may take, and less than half of what a loop over tokens would. Programs hold the
    same blocks of the state whatever the chunk.
    """
    module = op_of(name)._module
    monkeypatch.setattr(module, "_tiling", lambda *_: (16, 32, 8, 1))
    monkeypatch.setattr(module, "_tiles", module._tiles.__wrapped__)  # what is kept was made before

    def count(**case):
        return counted.__wrapped__(name, whole_chunks(name, **case), schedule=schedule)

    few, many = (count(chunks=n) for n in (2, 4))
    assert few.launches == many.launches
    assert set(few.launches.values()) == {1}
    assert {n: 2 * count for n, count in few.dots.items()} == many.dots
    short = count(rows=16)
    assert short.launches == few.launches
    assert few.operations.total() <= 1.5 * short.operations.total()


# -- predictions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["split", "fused"])
@pytest.mark.parametrize("aggregation", ["wy", "tensorinv", "signature"])
@pytest.mark.parametrize("name", ["gated_deltanet", "kda", "gated_lowrank_delta", "gated_oja", "decaying_fast_weights"])
def test_costs_are_what_is_counted(name, aggregation, schedule):
    """Flops on the matrix units and bytes of every kernel, within 5 %; in float32, where every number takes 4 bytes."""
    case, plan = whole_chunks(name, rows=48, aggregation=aggregation), plan_of(name)
    case = replace(case, sizes=(40, 24, 2, 2))
    meter = counted(name, case, torch.float32, schedule)
    compared(name, case, meter, schedule, plan)


@pytest.mark.parametrize("schedule", ["split", "fused"])
@pytest.mark.parametrize("name", [n for n in EXAMPLES if n in ON_KERNELS and kernel_plan(plan_of(n)).stages])
def test_costs_of_every_example(name, schedule):
    """The same of all examples, every state's kernels, and the distinct bytes of every launch."""
    case = replace(whole_chunks(name, rows=32), sizes=(40, 24, 2, 2))
    compared(name, case, counted(name, case, torch.float32, schedule), schedule, plan_of(name))


@pytest.mark.parametrize("name", ["gated_deltanet", "kda", "gla", "decaying_fast_weights", "gated_lowrank_delta"])
def test_costs_of_segments(name, monkeypatch):
    """The same of two-level: what segments do to a state, what composes that, and walks from a state each."""
    monkeypatch.setattr(op_of(name)._module, "_processors", lambda _: 1000)
    case = replace(whole_chunks(name, rows=32, chunks=3), sizes=(40, 24, 2, 2))
    sizes, stages = sizes_of(model_of(name), case), kernel_plan(plan_of(name)).stages
    meter = counted.__wrapped__(name, case, torch.float32, "two-level")
    device = replace(DEVICES["h200"], processors=1000)
    models = predict.schedules(stages, sizes, 1, device, width=4, tokens=case.chunk)
    forward = two_level.cut(next(m for m in models if m.schedule == "split"), stages, sizes)
    (back,) = two_level.behind(stages, sizes, (forward,), device, width=4)
    state = 3 * 4 * 40 * 24
    ones = {"ends": state, "begins": state, "flow": 0 if forward.dense else 3 * 4 * 40 * forward.columns}
    for model in (forward, back):
        for kernel in model.at(Shape(1, case.length, 1)).kernels:
            own, cost = f"_{kernel.name}", kernel.cost
            times = 2 if kernel.name == "compose" else 1  # forward and backward
            end = state * kernel.name.startswith("walk")  # what a sequence ends with is asked for of each segment
            one = ones.get(kernel.name, 0)  # the number that all of a state begins with is read for each entry
            assert meter.dot_flops[own] == pytest.approx(times * cost.dots, rel=0.05), own
            assert meter.read[own] == pytest.approx(times * cost.read + one, rel=0.05), own
            assert meter.written[own] == pytest.approx(times * cost.written + end, rel=0.05), own
            assert meter.distinct_of(own) == pytest.approx(times * cost.distinct + end, rel=0.05), own
            assert meter.launches[own] == times, own


BY_TOKENS = [n for n in EXAMPLES if kernel_plan(plan_of(n)).tokens]
PRODUCT = """
flow squared(K)
input q, k, v : K
state S : K x K
S[t] = tanh(S[t-1] @ S[t-1]) + k @ v.T
o[t] = S[t].T @ q
"""


@pytest.mark.parametrize("name", [*BY_TOKENS, "squared"])
def test_costs_of_kernels_from_token_to_token(name, monkeypatch):
    """The same of scans and of states without chunks, in blocks that do not end with the state, or whole."""
    monkeypatch.setitem(TEXTS, "squared", PRODUCT)
    case, length = replace(Case(1, 1, 1, (40, 24, 2, 2)), chunk=32, length=70), 70
    meter, plan = counted(name, case, torch.float32), kernel_plan(plan_of(name)).tokens
    at = TokenSizes(sizes_of(model_of(name), case), case.chunk, 4)
    for own in ("_tokens_forward", "_tokens_backward"):
        found = launch_cost(plan, at, length, keep=True, adjoint=own.endswith("backward"))
        assert meter.dot_flops[own] == found.dots, own
        assert meter.read[own] == pytest.approx(found.read, rel=0.05), own
        assert meter.written[own] == pytest.approx(found.written, rel=0.05), own
        assert meter.distinct_of(own) == pytest.approx(found.distinct, rel=0.05), own
        assert meter.launches[own] == 1, own


def compared(name, case, meter, schedule, plan):
    """Assert that what every kernel was seen to do is what it was predicted to."""
    sizes = sizes_of(model_of(name), case)
    for stage in kernel_plan(plan).stages:
        keys, values = sides_of_state(stage, sizes)
        for adjoint, kernels in ((False, forward_kernels(stage, schedule)), (True, stage.cuts.backward.kernels)):
            for kernel in kernels:
                model = kernel_model(
                    kernel, stage, sizes, case.chunk, "any", 4, adjoint=adjoint, aggregation=case.aggregation
                )
                own, found = f"_{model.name}", model.cost.times(CHUNKS)
                state = 4 * keys * values * model.walks  # the start is read, the end written
                assert meter.dot_flops[own] == pytest.approx(found.dots, rel=0.05), own
                assert meter.read[own] == pytest.approx(found.read + state, rel=0.05), own
                assert meter.written[own] == pytest.approx(found.written + state, rel=0.05), own
                assert meter.distinct_of(own) == pytest.approx(found.distinct + 2 * state, rel=0.05), own
                assert meter.launches[own] == 1, own


# -- the meter ---------------------------------------------------------------------------------------------------------


def test_the_meter_counts_an_address_once_a_launch():
    """q, k, v, o of two bytes, T and P read by blocks and written once; reads through L2 are the blocks' together.

    Of T and P there are 16 rows of 16 columns, 16 of 32, of 48 and of 64: what lies above is 0 and not in memory.
    """
    case = Case(1, 128, 1, (64, 128), 64)
    meter = counted("gated_deltanet", case, torch.float16, "fused")
    entries = 128 * (2 * 64 + 2 * 128 + 4 * 40)  # q k v o; T and P twice
    forward = meter.distinct(backward=False)
    kept = 2 * 128 * 128 + 2 * 2 * 64 * 128  # U, and the state of two chunks
    states = 2 * 4 * 64 * 128
    gates = 2 * 2 * 128 * 4  # g and beta, in two kernels: float32 gates
    assert forward == pytest.approx(2 * entries + 2 * 2 * 128 * 64 + kept + states + gates, rel=0.05)
    assert meter.of(meter.read, False) + meter.of(meter.written, False) > forward

"""Every spec written for the transposed state, which it then reads and decays on the other side: the same numbers.

The spec as it stands runs step by step, so that the compiler does not judge itself. Tolerances: what two orders of
summation differ by, in float64 and in float32, over 23 tokens of a handful of entries.
"""

import re
from functools import cache

import pytest
import torch
from differential.harness import TEXTS, Case, draw, draw_states, model_of, op_of
from differential.targets import INTERPRETED

import flowc
from flowc.algebra.recurrence import Write
from flowc.algebra.side import Side
from flowc.semantics.model import Kind

CASE = Case(2, 23, 2, (5, 4, 3, 2), 7)
ON_KERNELS = ("gla", "kda", "rwkv7", "gated_delta_product", "gated_lowrank_delta", "outputs_everywhere", "gated_oja")


# a function without an exact form, of a state
NOT_CERTIFIED = ("joined_reads", "rows_alone", "squashed_fast_weights", "squashed_features")
ONE_MATRIX = [name for name in TEXTS if [s.shape.kind for s in model_of(name).states] == [Kind.MATRIX]]


def mirrored(text):
    """The spec of T = S^T, called as S: every use of it transposed, and what is assigned."""
    lines = []
    name = re.search(r"^state (\w+)", text, re.MULTILINE)[1]
    for line in text.splitlines():
        turned = re.sub(rf"\b{name}\[t(-1)?\]", lambda m: f"{m[0]}.T", line)
        if state := re.fullmatch(rf"state {name} : (.*?) x (.*?)( = .*)?", line):
            turned = f"state {name} : {state[2]} x {state[1]}{state[3] or ''}"
        elif update := re.fullmatch(rf"(\s*){name}\[t\]\.T = (.*)", turned):
            turned = f"{update[1]}{name}[t] = ({update[2]}).T"
        lines.append(turned)
    return "\n".join(lines) + "\n"


@cache
def mirrored_op(name):
    return flowc.compile(mirrored(TEXTS[name]))


def run(op, inputs, start, options, turned=False):
    """Outputs, the final state, the gradients of inputs and start; what is `turned` takes and gives S^T for S."""
    leaves = {n: x.clone().requires_grad_() for n, x in inputs.items()}
    start = start.clone().requires_grad_()
    result, final = op(**leaves, initial_state=start.mT if turned else start, output_final_state=True, **options)
    made = [*(result if isinstance(result, tuple) else (result,)), final.mT if turned else final]
    rng = torch.Generator().manual_seed(1)
    loss = sum((x.double() * torch.randn(x.shape, generator=rng, dtype=torch.float64)).sum() for x in made)
    wanted = [*leaves.values(), start]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return made, [torch.zeros_like(x) if g is None else g for g, x in zip(found, wanted, strict=True)]


def off(name, dtype, **options):
    """How far the mirrored op is off at most, of values and of gradients, relative to the largest entry of each."""
    model = model_of(name)
    inputs, (start,) = draw(model, CASE), draw_states(model, CASE).values()
    expected = run(op_of(name).reference, inputs, start, {})
    found = run(mirrored_op(name), {n: x.to(dtype) for n, x in inputs.items()}, start.to(dtype), options, turned=True)
    worst = []
    for one, other in zip(expected, found, strict=True):
        largest = max(float(x.abs().max()) for x in one)
        worst.append(max(float((x - y.double()).abs().max()) for x, y in zip(one, other, strict=True)) / largest)
    return max(worst)


@pytest.mark.skipif(INTERPRETED, reason="runs torch operators")
@pytest.mark.parametrize("name", ONE_MATRIX)
def test_as_the_oracle(name):
    assert off(name, torch.float64, chunk_size=CASE.chunk) < 1e-9


@pytest.mark.skipif(not INTERPRETED, reason="runs kernels")
@pytest.mark.parametrize("name", ON_KERNELS)
def test_as_the_oracle_on_the_interpreter(name):
    assert off(name, torch.float32, chunk_size=CASE.chunk, backend="triton") < 1e-4


@pytest.mark.skipif(INTERPRETED, reason="runs no kernel")
@pytest.mark.parametrize("name", [name for name in ONE_MATRIX if name not in NOT_CERTIFIED])
def test_it_is_certified(name):
    found = mirrored_op(name).compilation.certify()
    assert found.mismatch is None
    assert not found.reason


@pytest.mark.skipif(INTERPRETED, reason="runs nothing")
@pytest.mark.parametrize("name", ONE_MATRIX)
def test_the_class_is_the_same_on_the_other_side(name):
    one, other = (op.compilation.recurrence for op in (op_of(name), mirrored_op(name)))
    assert one.classification.name == other.classification.name
    for here, there in zip(one.memories, other.memories, strict=True):
        reads = any(r.read is not None for s in here.segments for e in s.edits if isinstance(e, Write) for r in e.rows)
        assert there.side is (here.side.other if reads else Side.KEY)

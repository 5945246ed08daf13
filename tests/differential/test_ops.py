"""Compiled ops against the oracle on drawn shapes, lengths, chunks, gates, keys, strengths and layouts.

Every output, final state and gradient (params, the start, and through the final state) is judged as `harness` says, on
every target: on torch operators here, on kernels under the interpreter where tests/triton/test_interpreter.py starts
this file again, on kernels of a GPU by `pytest -m gpu`. The interpreter runs one program after another: there, sizes
are such that a call has few.
"""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from differential.harness import (
    EXAMPLES,
    FINITE_GATES,
    TEXTS,
    Case,
    check,
    cotangents,
    draw,
    draw_states,
    errors,
    model_of,
    op_of,
    run_op,
    run_reference,
    shares_heads,
)
from differential.specs import SPECS
from differential.targets import INTERPRETED, INTERPRETER, TORCH, on_targets
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flowc import reference
from flowc.fuzz.judge import Trials, run_emitted_reference, run_steps, states_of
from flowc.schedule.schedule import AGGREGATIONS

# For each of the specs, of the profile's examples a quarter: 5 locally, 25 in CI; 2 and 4 under the interpreter.
DRAWN = settings(
    max_examples=max(2, settings().max_examples // 25) if INTERPRETED else max(5, settings().max_examples // 4)
)

GATES = ("zero", "mild", "strong", "mixed", "never")
KEYS = ("random", "repeated", "near", "alternating")
LONGEST = {"features": 6}  # K: the state has 1 + K + K K rows
PROGRAMS = 16  # chunks, sequences and heads together, where programs run one after another
DELTAS = ("deltanet", "gated_deltanet", "kda", "gated_deltanet2", "comba", "gated_delta_product")


def gates_of(name):
    if name in FINITE_GATES:
        return GATES[:2] if name == "growing" else GATES[:4]
    return GATES


def can_share(name):
    """Whether a query or a key of this spec may have fewer heads: not where keys are all that there is."""
    inputs = model_of(name).inputs
    return name not in ("square", "square_oja") and any(shares_heads(i) for i in inputs)


@st.composite
def cases(draw_, name, target):
    heads = draw_(st.integers(1, 3))
    group = draw_(st.sampled_from((1, 1, 2))) if can_share(name) else 1
    ranks = draw_(st.integers(1, 4)), draw_(st.integers(1, 4))
    length = draw_(st.sampled_from((0, 1, 2, 5, 13, 33, 64, 100)) | st.integers(0, 40))
    batch = draw_(st.sampled_from((1, 2, 0)))
    # At most 256 rows a chunk: two_repeats has up to 12 rows per token.
    chunk = draw_(st.sampled_from((1, 3, 7, 16, 21, None) if ranks != (1, 1) else (1, 3, 7, 16, 24, 40, 64, 100, None)))
    if target is INTERPRETER:
        assume(max(batch, 1) * heads * group * -(-length // (chunk or 16)) <= PROGRAMS)
    return Case(
        batch=batch,
        length=length,
        heads=heads * group,
        sizes=(draw_(st.integers(1, LONGEST.get(name, 20))), draw_(st.integers(1, 20)), *ranks),
        chunk=chunk,
        gate=draw_(st.sampled_from(gates_of(name))),
        keys=draw_(st.sampled_from(KEYS)),
        beta=draw_(st.sampled_from((None, 0, 1, 2))),
        start=draw_(st.booleans()),
        aggregation=draw_(st.sampled_from(("auto", *AGGREGATIONS))),
        layout=draw_(st.sampled_from(("contiguous", "strided", "expanded"))),
        group=group,
        wide=draw_(st.booleans()),
        seed=draw_(st.integers(0, 2**20)),
    )


@on_targets
@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
@DRAWN
def test_as_the_oracle(name, target, data):
    dtype = data.draw(st.sampled_from(target.types))
    check(name, data.draw(cases(name, target)), dtype, target=target)


@pytest.mark.skipif(INTERPRETED, reason="runs torch operators")
@pytest.mark.parametrize("form", [run_emitted_reference, run_steps])
@pytest.mark.parametrize("name", [*EXAMPLES, *SPECS])
def test_the_module_s_own_loop(name, form):
    """The step-by-step form in the module, with gradients, and `step`; from zeros, where norms and roots begin."""
    case = Case(2, 5, 2, (4, 3, 2, 2), 4, start=False)
    failed = [d for d in Trials(model_of(name), op_of(name), case, torch.float64, TORCH).judge(form) if not d.holds]
    assert not failed, failed


@on_targets
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("beta", [0, 1, 2])
def test_hard_keys_and_gates(keys, gate, beta, target):
    """Every combination, in the precision that suffers most, with chunks long enough for the sums to lose.

    Under the interpreter gates of channels alone: test_aggregations.py has the hard ones of a scalar gate.

    Kernels solve in float32 what torch operators solve in float64. With keys all alike entries of N, and of its
    inverse, are about beta, off by half a rounding each: an entry of U sums 64 x 64 such errors of either, a random
    walk of 64 beta / 2 eps. As everywhere eight times that, for two of them.
    """
    beyond = 0.0 if target is TORCH else 2 * 8 * 64 * beta / 2 * torch.finfo(torch.float32).eps
    for name in ("kda",) if INTERPRETED else ("gated_deltanet", "kda"):
        case = Case(1, 130, 1, (16, 8), 64, gate, keys, beta)
        check(name, case, torch.float32, target=target, beyond=beyond if keys == "near" else 0.0)


@on_targets
@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("widest", [True, False])
def test_long(name, widest, target):
    """Many chunks of the length the op chooses itself, and a last one that is not full."""
    length = 150 if INTERPRETED else 301  # kernels take 64 rows a chunk at most, torch operators 128 tokens
    check(name, Case(1, length, 1, (6, 5, 2), None, "mild"), target.types[0 if widest else 1], target=target)


@on_targets
@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.parametrize("rows", [1, 2, 17, 64, 256])
def test_aggregations_agree(name, rows, target):
    """All of them at the same chunk, up to the most rows there may be: each within the bar, so alike."""
    rank = 2 if name == "gated_delta_product" and rows > 1 else 1
    chunk = max(rows // rank, 1)
    case = Case(1, min(300, (4 if INTERPRETED else PROGRAMS) * chunk), 1, (8, 6, rank), chunk, "mild")
    for aggregation in AGGREGATIONS:
        check(name, replace(case, aggregation=aggregation), target.types[0], target=target)


@on_targets
@pytest.mark.parametrize("name", DELTAS)
def test_aggregations_differ_in_rounding(name, target):
    """The option reaches the solve: another algorithm rounds otherwise, in the type that systems are solved in."""
    case = Case(1, 64, 1, (8, 6, 1), 64)
    model = model_of(name)
    x = draw(model, case)
    found = [
        run_op(op_of(name), model, x, {}, target.types[0], replace(case, aggregation=a), target) for a in AGGREGATIONS
    ]
    assert not any(all(torch.equal(one[n], other[n]) for n in one) for one, other in combinations(found, 2))


@on_targets
@pytest.mark.parametrize("name", ["kda", "gla", "rwkv7", "outputs_everywhere", "key_gates_in_repeat", "gated_deltanet"])
@pytest.mark.parametrize("chunk", [3, 7, 40])
def test_a_gate_of_zero_at_a_chunk_s_end(name, chunk, target):
    """The last token of a chunk and the first of the next forget everything; the chunk's length is no power of two."""
    case, model = Case(1, 2 * chunk, 1, chunk=chunk), model_of(name)
    x, start = draw(model, case), draw_states(model, case)
    for i in model.inputs:
        if i.range and i.range.high == 0:
            x[i.name][:, chunk - 1 : chunk + 1] = -torch.inf
    truth = run_reference(model, x, start, torch.float64)
    off = errors(truth, run_op(op_of(name), model, x, start, torch.float32, case, target))
    # 80 tokens of float32 sums: a hundred roundings.
    assert max(off.values()) < 1e-5, off


# -- half precision ----------------------------------------------------------------------------------------------------

# Half the distance between neighbours, relative: what rounding a result costs. Everything before is float32.
ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
# Where products take bfloat16, a result goes through some eight, each of which rounds two operands and what it gives:
# 24 roundings of either sign.
ROUNDED = 24**0.5 * ROUNDING[torch.bfloat16]


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def narrow(request, monkeypatch):
    """Whether the CPU has products in bfloat16; where it has none, torch makes them all the same."""

    def compiled(name):
        op = op_of(name)
        if rounds(name):
            monkeypatch.setattr(op._module, "_multiplies_bfloat16", lambda: request.param)
        return op

    compiled.rounds = lambda name: request.param and rounds(name)
    return compiled


def rounds(name):
    """Whether products of an op may take bfloat16."""
    return hasattr(op_of(name)._module, "_multiplies_bfloat16")


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("dtype", ROUNDING)
def test_half_precision(name, dtype, narrow):
    """Inputs in half precision: outputs and gradients are those of the same numbers in float64, rounded once.

    The output's cotangent arrives in half precision too, so it is drawn there.
    """
    case, model = Case(1, 40, 2, (6, 5, 2), 16, start=False), model_of(name)
    x = {n: v.to(dtype) for n, v in draw(model, case).items()}
    leaves = {n: v.clone().requires_grad_() for n, v in x.items()}
    o, final = narrow(name)(**leaves, output_final_state=True, chunk_size=16)
    states = states_of(model, final)
    assert (o.dtype, {x.dtype for x in states.values()}) == (dtype, {torch.float32})
    weight = torch.randn(o.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    o.backward(weight)
    exact = {n: v.double().requires_grad_() for n, v in x.items()}
    outputs, finals = reference.run(model, exact)
    outputs["o"].backward(weight.double())
    ends = {f"{n}[T]": finals[n].detach() for n in states}
    truth = {"o": outputs["o"].detach()} | ends | {f"d{n}": v.grad for n, v in exact.items()}
    found = {"o": o.detach()} | {f"{n}[T]": x.detach() for n, x in states.items()}
    found |= {f"d{n}": v.grad for n, v in leaves.items()}
    assert all(v.grad.dtype == dtype for v in leaves.values())
    off = errors(truth, found)
    # float16 stores nothing below 6e-8 and rounds coarsely below 6e-5: far under the largest of these gradients.
    before = ROUNDED if narrow.rounds(name) and dtype == torch.bfloat16 else 0.0
    assert max(off.pop(n) for n in ends) < before + 1e-5  # 40 tokens of float32 sums, grown a hundredfold at most
    assert max(off.values()) < before + ROUNDING[dtype] + 1e-5, off


@pytest.mark.parametrize("name", ["simple_gla", "gla"])
@pytest.mark.parametrize("gate", [0.05, 1.0, 8.0, 50.0])
def test_gradients_of_gates_whose_products_are_rounded(name, gate, monkeypatch):
    """They are differences of sums of products: from decays near 1 to those that leave nothing, some in mild ones."""
    case, model, op = Case(1, 64, 2, (16, 16, 2), 16, start=False), model_of(name), op_of(name)
    x = {n: v.bfloat16().float() for n, v in draw(model, case).items()}
    mild = torch.rand(x["g"].shape, generator=torch.Generator().manual_seed(0))
    x["g"] = -gate * mild if gate < 10 else torch.where(mild < 0.1, -gate, -0.02 * mild)
    weight = torch.randn(1, 64, 2, 16, generator=torch.Generator().manual_seed(1)).bfloat16()

    def gradient(of, chunk):
        leaves = {n: v.to(of.get(n, of[""])).requires_grad_() for n, v in x.items()}
        o = op(**leaves, chunk_size=chunk)
        return torch.autograd.grad(o, leaves["g"], weight.to(o.dtype))[0]

    monkeypatch.setattr(op._module, "_multiplies_bfloat16", lambda: True)
    truth, found = gradient({"": torch.float64}, 16), gradient({"": torch.bfloat16, "g": torch.float32}, 16)
    off = errors({"dg": truth}, {"dg": found})
    assert 0 < off["dg"] < ROUNDED, off


def test_products_are_rounded_where_the_cpu_has_them(narrow):
    """The vectors' type decides, not that of gates and strengths; float64 anywhere leaves all as it is."""
    choose = narrow("gla")._module._narrow
    halves, single = [torch.zeros(1, dtype=torch.bfloat16)] * 3, torch.zeros(1)
    assert choose(halves, torch.float32) is (torch.bfloat16 if narrow.rounds("gla") else torch.float32)
    assert choose([*halves, single], torch.float32) is torch.float32
    assert choose(halves, torch.float64) is torch.float64
    assert not rounds("gated_deltanet")  # it solves a system


@pytest.mark.parametrize("name", ["gated_deltanet", "kda", "mamba2", "rwkv7"])
def test_mixed_types(name, narrow):
    """Vectors in bf16, gates and strengths in float32: `o` in the value's type, gradients in their input's."""
    case, model = Case(1, 20, 2, (6, 5)), model_of(name)
    halves = {"q", "k", "v", "x", "B", "C"}
    types = {i.name: torch.bfloat16 if i.name in halves else torch.float32 for i in model.inputs}
    x = {n: v.to(types[n]).requires_grad_() for n, v in draw(model, case).items()}
    o = narrow(name)(**x)
    assert o.dtype is torch.bfloat16
    o.float().sum().backward()
    assert {n: v.grad.dtype for n, v in x.items()} == types
    truth = run_reference(model, {n: v.detach().double() for n, v in x.items()}, {}, torch.float64)["o"]
    before = ROUNDED if narrow.rounds(name) else 0.0
    assert errors({"o": truth}, {"o": o.detach()})["o"] < before + ROUNDING[torch.bfloat16] + 1e-5


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("value_type", [torch.bfloat16, torch.float32])
def test_the_output_has_the_value_s_type(name, value_type):
    """Everything but the value is float32; the value is what is written along the state's columns."""
    model = model_of(name)
    value = op_of(name).compilation.recurrence.value_input
    x = {n: v.to(value_type if n == value else torch.float32) for n, v in draw(model, Case(length=3)).items()}
    assert op_of(name)(**x).dtype is value_type


# -- states ------------------------------------------------------------------------------------------------------------


@on_targets
@pytest.mark.parametrize("name", EXAMPLES if INTERPRETED else TEXTS)
def test_two_halves_are_the_whole(name, target):
    """The final state of the first tokens starts the rest."""
    case, model, dtype = Case(1, 20, 2, start=True), model_of(name), target.types[0]
    x, start = draw(model, case), draw_states(model, case)
    params = {i.name for i in model.inputs if i.is_param}
    truth = run_reference(model, x, start, torch.float64)
    halves = [{n: v if n in params else v[:, part] for n, v in x.items()} for part in (slice(9), slice(9, None))]
    first = run_op(op_of(name), model, halves[0], start, dtype, case, target)
    between = {s.name: first[f"{s.name}[T]"] for s in model.states}
    second = run_op(op_of(name), model, halves[1], between, dtype, case, target)
    values = [n for n in truth if not n.startswith("d") and not n.endswith("[T]")]
    joined = {n: torch.cat((first[n], second[n]), 1) for n in values} | {f"{s}[T]": second[f"{s}[T]"] for s in between}
    off = errors({n: truth[n] for n in joined}, joined)
    # 20 tokens of sums of at most 56 terms: some hundred roundings, ten times that where a state grows.
    assert max(off.values()) < 1e3 * torch.finfo(dtype).eps, off


@on_targets
@pytest.mark.parametrize("name", EXAMPLES if INTERPRETED else TEXTS)
def test_no_token_hands_the_start_on(name, target):
    case, model, dtype = Case(2, 0, 2), model_of(name), target.types[0]
    start = {n: x.to(dtype) for n, x in draw_states(model, case).items()}
    found = run_op(op_of(name), model, draw(model, case), start, dtype, case, target)
    for state, weight in zip(start, cotangents({}, start), strict=True):
        assert torch.equal(found[f"{state}[T]"], start[state])
        assert torch.equal(found[f"d{state}[0]"], weight.to(dtype))

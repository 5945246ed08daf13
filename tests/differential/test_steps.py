"""One token at a time on Triton kernels: in one launch, or where a gradient is asked for in a call of one token."""

from contextlib import contextmanager
from functools import cache, partial

import pytest
import torch
from differential.harness import (
    BAR,
    FLOOR,
    ON_KERNELS,
    TEXTS,
    Case,
    draw,
    draw_states,
    errors,
    model_of,
    run_reference,
)
from differential.pools import LAYOUTS, held_to_states, token_of, turned
from differential.targets import HALVES, INTERPRETED, on_kernels, placed

import flowc
from flowc import reference

SPECS = ("several_gates", "matrix_output", "shared_vector", "outputs_everywhere", "normalised", "scalar_output")
# Rounds are known at the call alone.
IN_CHUNKS = ("two_repeats",)
SEVERAL = (
    "abc", "based", "gsa", "linear_attention_normalized", "mamba3", "mlstm", "preconditioned_gated_deltanet", "rebased",
    "states_in_turn", "scan_of_a_read", "read_of_its_own_read", "scans_together", "before_in_scans", "set_from_params",
    "momentum_delta", "coupled_in_rounds", "beside_columns",
)  # fmt: skip
# Of each way to make a step: one state, its rows, several, not divided, of tokens, scans, of rounds, and a call.
ON_POOLS = (
    "gated_deltanet", "gated_oja", "mlstm", "mamba3", "gsa", "longhorn", "momentum_delta", "rwkv4",
    "gated_delta_product", "preconditioned_gated_deltanet", "two_repeats",
)  # fmt: skip
LENGTH = 4


@cache
def op_of(name):
    return flowc.compile(TEXTS[name], backend="triton")


@contextmanager
def launched(op):
    """The roles of the kernels that are launched."""
    module, found = op._module, []
    steps = [kernel for name in ("_step", "_tokens_forward") if (kernel := getattr(module, name, None)) is not None]
    classes = [getattr(module, name) for name in ("_Tokens", "_Kernels") if hasattr(module, name)]
    before = [kernels.run for kernels in classes]

    def noting(run):
        def noted(self, kernel, role, *rest, **arguments):
            found.append("step" if any(kernel is s for s in steps) else role)
            return run(self, kernel, role, *rest, **arguments)

        return noted

    for kernels, run in zip(classes, before, strict=True):
        kernels.run = noting(run)
    try:
        yield found
    finally:
        for kernels, run in zip(classes, before, strict=True):
            kernels.run = run


def drawn(name, target, dtype):
    """Inputs and a state as the kernels take them, and in float64."""
    model, case = model_of(name), Case(2, LENGTH, 2, (20, 9, 3, 2), gate="mixed")
    state = model.states[0].name
    x = {n: placed(v, dtype if v.dim() > 3 else torch.float32, target.device) for n, v in draw(model, case).items()}
    start = placed(draw_states(model, case)[state], torch.float32, target.device)
    return x, start, {n: v.cpu().double() for n, v in x.items()}, {state: start.cpu().double()}


def stepped(name, x, state):
    """All tokens, one after another: outputs by name, and the last state."""
    model = model_of(name)
    params = {i.name for i in model.inputs if i.is_param}
    outputs = []
    for t in range(LENGTH):
        made, state = op_of(name).step(**{n: v if n in params else v[:, t] for n, v in x.items()}, state=state)
        outputs.append(made if isinstance(made, tuple) else (made,))
    names = [o.name for o in reference.outputs_of(model.statements)]
    columns = (torch.stack(column, 1).cpu() for column in zip(*outputs, strict=True))
    return dict(zip(names, columns, strict=True)), state


def truth(name, x, start):
    return run_reference(model_of(name), x, start, torch.float64)


@on_kernels
@pytest.mark.parametrize("name", dict.fromkeys((*ON_KERNELS, *SPECS, *IN_CHUNKS)))
def test_as_the_oracle(name, target):
    """Values and state; every token in one launch, where one kernel holds the step.

    Tolerance: that of `harness` in float32, without what chunks add: `BAR` times what the oracle loses, and the floor.
    """
    x, start, x64, start64 = drawn(name, target, torch.float32)
    exact = truth(name, x64, start64)
    lost = errors(exact, run_reference(model_of(name), x64, start64, torch.float32))
    with launched(op_of(name)) as roles:
        found, state = stepped(name, x, start)
    found[f"{model_of(name).states[0].name}[T]"] = state.cpu()
    for quantity, error in errors(exact, found).items():
        assert error <= BAR * lost[quantity] + FLOOR * target.single, quantity
    assert (roles == ["step"] * LENGTH) == (name not in IN_CHUNKS)


@on_kernels
@pytest.mark.parametrize("name", SEVERAL)
def test_of_several_states(name, target):
    """A token in one launch, and what torch operators make of it.

    Tolerance: a step has at most three sums one after another (a read, a norm, an output) of 20 entries, or as many as
    features are: a rounding for each of them, and four beside.
    """
    case = Case(2, LENGTH, 2, (20, 20, 3, 2), gate="mixed")
    model = model_of(name)
    x = {n: placed(v, torch.float32, target.device) for n, v in draw(model, case).items()}
    now = {i.name: x[i.name] if i.is_param else x[i.name][:, 0] for i in model.inputs}
    states = tuple(placed(v, torch.float32, target.device) for v in draw_states(model, case).values())
    with launched(op_of(name)) as roles:
        made, finals = op_of(name).step(**now, state=states)
    assert roles == ["step"]
    expected, others = op_of(name).step(**now, state=states, backend="torch")
    made, expected = ((x,) if isinstance(x, torch.Tensor) else x for x in (made, expected))
    limit = (3 * max(n for s in states for n in s.shape[2:]) + 4) * 2**-23
    for found, exact in zip((*made, *finals), (*expected, *others), strict=True):
        torch.testing.assert_close(found, exact, rtol=limit, atol=limit * exact.abs().max().item())


@on_kernels
@pytest.mark.parametrize("name", ["kda", "gated_oja", "gsa"])
def test_states_are_taken_as_they_lie(name, target):
    """Transposed in memory, in half precision, or one number for all: the same bits as packed in float32."""
    case, model = Case(2, LENGTH, 2, (20, 9, 3, 2), gate="mixed"), model_of(name)
    x = {n: placed(v, torch.float32, target.device) for n, v in draw(model, case).items()}
    now = {i.name: x[i.name] if i.is_param else x[i.name][:, 0] for i in model.inputs}
    drawn = [placed(v, torch.float32, target.device).half().float() for v in draw_states(model, case).values()]

    def finals(states):
        made, after = op_of(name).step(**now, state=tuple(states) if len(states) > 1 else states[0])
        return [*(made if isinstance(made, tuple) else (made,)), *(after if isinstance(after, tuple) else (after,))]

    expected = finals(drawn)
    for moved in (lambda s: s.mT.contiguous().mT if s.dim() > 3 else s, lambda s: s.half()):
        assert all(map(torch.equal, finals([moved(s) for s in drawn]), expected))
    ones = [s[:1, :1].flatten()[0] for s in drawn]
    spread = [n.expand(s.shape) for n, s in zip(ones, drawn, strict=True)]
    assert all(map(torch.equal, finals(spread), finals([s.contiguous() for s in spread])))


@on_kernels
@pytest.mark.parametrize("name", ["gated_deltanet", "kda", "gated_lowrank_delta"])
def test_in_half_precision(name, target):
    """Outputs are of the inputs' type; each of K = 20 terms and of the state's is off by half a distance, 2 ** -11."""
    for dtype in (t for t in target.types if t in HALVES):
        x, start, x64, start64 = drawn(name, target, dtype)
        expected = truth(name, x64, start64)
        found, _ = stepped(name, x, start)
        assert found["o"].dtype == dtype
        limit = 20**0.5 * 4 * torch.finfo(dtype).eps
        assert errors({"o": expected["o"]}, found)["o"] <= limit


@on_kernels
def test_gradients_go_through_a_call_of_one_token(target):
    """The same bits as the call's."""
    x, start, *_ = drawn("kda", target, torch.float32)
    first = {n: v[:, :1] for n, v in x.items()}

    def gradients(run):
        leaves = {n: v.clone().requires_grad_() for n, v in first.items()}
        state = start.clone().requires_grad_()
        made, final = run(leaves, state)
        return torch.autograd.grad(made.sum() + final.sum(), [*leaves.values(), state])

    op = op_of("kda")
    with launched(op) as roles:
        found = gradients(lambda x, s: op.step(**{n: v[:, 0] for n, v in x.items()}, state=s))
    assert "step" not in roles
    assert "walk_backward" in roles
    expected = gradients(lambda x, s: op(**x, initial_state=s, output_final_state=True))
    assert all(map(torch.equal, found, expected))


@on_kernels
@pytest.mark.parametrize("name", ON_POOLS)
@pytest.mark.parametrize(
    ("dtype", "layout"), [(torch.float32, of) for of in LAYOUTS] + [(torch.float16, turned), (torch.bfloat16, turned)]
)
def test_a_pool_is_updated_in_place(name, dtype, layout, target):
    """Whatever kernels make a step of, as the pool lies in memory."""
    if dtype not in target.types:
        pytest.skip("Triton's interpreter has no bfloat16")
    held_to_states(name, partial(op_of(name).step, backend="triton"), dtype, layout, target.device)


@pytest.mark.gpu
@pytest.mark.skipif(INTERPRETED, reason="needs kernels that are compiled")
@pytest.mark.parametrize("name", ["gated_deltanet", "gated_delta_product", "mlstm", "mamba"])
def test_a_captured_graph_replays_with_other_slots_and_inputs(name):
    """The same bits as the calls, in the outputs of sequences that have slots and in all of the pools."""
    op, x = op_of(name), token_of(name, device="cuda")
    slots, now = torch.tensor([3, 0, 5, -1], device="cuda"), {n: v.clone() for n, v in x.items()}
    states = op.step(**x)[1]
    pools = [torch.rand(7, *s.shape[1:], device="cuda") for s in (states if isinstance(states, tuple) else (states,))]
    others = [p.clone() for p in pools]

    def stepped(pools, slots):
        return op.step(**now, state=tuple(pools) if len(pools) > 1 else pools[0], state_indices=slots)[0]

    graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.no_grad(), torch.cuda.stream(aside):
        stepped([p.clone() for p in pools], slots)  # compiled before it is captured
        with torch.cuda.graph(graph, stream=aside):
            made = stepped(pools, slots)
    torch.cuda.synchronize()
    for own in ([3, 0, 5, -1], [0, 2, 6, 1], [4, 3, 2, 1]):
        slots.copy_(torch.tensor(own))
        for v in now.values():
            v.mul_(0.75)
        graph.replay()
        expected = stepped(others, slots)
        live = slots > 0
        assert torch.equal(made[live], expected[live])
        assert all(map(torch.equal, pools, others))


@on_kernels
def test_one_launch_moves_each_state_in_and_out(target):
    op, x = op_of("gated_deltanet"), {n: v.to(target.device) for n, v in token_of("gated_deltanet").items()}
    pool, slots = torch.rand(9, 2, 6, 40, device=target.device), torch.tensor([4, 2, 0, 8], device=target.device)
    with launched(op) as found:
        op.step(**x, state=pool, state_indices=slots)
    assert found == ["step"]

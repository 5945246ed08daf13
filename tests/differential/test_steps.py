"""One token at a time on Triton kernels: in one launch, or where a gradient is asked for in a call of one token."""

from contextlib import contextmanager
from functools import cache

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
from differential.targets import HALVES, on_kernels, placed

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

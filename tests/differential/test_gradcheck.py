"""Gradients against finite differences: no oracle in between."""

import pytest
import torch
from differential.harness import EXAMPLES, Case, draw, draw_states, given_states, model_of, op_of, several

SPECS = (
    *EXAMPLES,
    "two_repeats",
    "outputs_everywhere",
    "ranks_and_writes",
    "epilogue",
    "prelude",
    "started",
    "by_hand",
    "outer_gates",
    "value_gates_in_repeat",
    "both_sides_of_an_outer_gate",
    "both_sides_of_key_reads",
    "oja_of_rank",
    "oja_in_repeat",
    "oja_everywhere",
)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("aggregation", ["wy", "tensorinv", "signature"])
def test_gradcheck(name, aggregation):
    """All inputs, params and the start, through outputs and the final state; gates strong and mild in one chunk."""
    model, case = model_of(name), Case(1, 7, 1, (3, 2, 2, 2), gate="mild")
    inputs, start = draw(model, case), draw_states(model, case)
    for i in model.inputs:
        if i.range and i.range.high == 0 and not i.is_param:
            inputs[i.name][:, 3] = -20.0
    names, states = list(inputs), list(start)

    def call(*tensors):
        o, final = op_of(name)(
            **dict(zip(names, tensors, strict=False)),
            initial_state=given_states(model, dict(zip(states, tensors[len(names) :], strict=True))),
            output_final_state=True, chunk_size=3, aggregation=aggregation,
        )  # fmt: skip
        return (*several(o), *several(final))

    leaves = tuple(x.clone().requires_grad_() for x in (*inputs.values(), *start.values()))
    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)


def test_gradcheck_finds_a_wrong_gradient():
    """The check has teeth: a gradient off by one part in a hundred is found."""
    model, case = model_of("gated_deltanet"), Case(1, 7, 1, (3, 2), gate="mild")
    inputs = draw(model, case)

    class Off(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, bar):
            return 1.01 * bar

    def call(*tensors):
        return op_of("gated_deltanet")(*tensors[:-1], Off.apply(tensors[-1]), chunk_size=3)

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(call, tuple(x.clone().requires_grad_() for x in inputs.values()), fast_mode=True)

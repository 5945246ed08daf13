"""All specs of the suite have Triton kernels; which take torch operators within a state is a list that only shrinks."""

import pytest
import torch
from differential.harness import EXAMPLES, TEXTS, op_of
from differential.targets import MISSING as MESSAGE

import flowc
from flowc.schedule.staged import KernelPlan, kernel_plan

# Several writes of a token of which one is in a repeat or of the token before, gates in a repeat, tiles over three
# vectors.
BY_TORCH = frozenset(
    (
        *(
            "both_gates_two_writes",
            "by_hand",
            "constants",
            "gates_in_repeat",
            "held_reads",
            "key_gates_in_repeat",
            "mamba3",
        ),
        *("matrix_output", "mixed_masks", "number_of_one", "param_matrix", "ranks_and_writes", "read_then_write"),
        *("shared_vector", "square", "two_ranks", "two_repeats"),
        *("oja_everywhere", "oja_in_repeat", "square_oja", "value_gate_and_rank", "value_gates_in_repeat"),
    )
)


def plan_of(name):
    return kernel_plan(op_of(name).compilation.plan)


@pytest.mark.parametrize("name", TEXTS)
def test_all_have_kernels(name):
    assert isinstance(plan_of(name), KernelPlan)
    assert f"{name}: {MESSAGE}" not in op_of(name).source


def test_a_matrix_that_no_program_holds_is_said():
    op = flowc.compile(TEXTS["dense_transition"])
    x = {n: torch.zeros(1, 2, 1, 300) for n in "qkv"}
    x |= {"A": torch.zeros(1, 2, 1, 300, 300), "W": torch.zeros(1, 300, 300)}
    with pytest.raises(
        ValueError, match="a token's largest tile has 262144 entries, and the kernels hold at most 65536"
    ):
        op(**x, backend="triton")


def test_what_torch_operators_make_beside_kernels_is_pinned():
    found = set()
    for name in TEXTS:
        if any(stage.cuts.by_torch for stage in plan_of(name).stages):
            found.add(name)
    assert found == BY_TORCH, "take from BY_TORCH what kernels make alone"
    assert BY_TORCH & EXAMPLES.keys() == {"mamba3"}

"""All that is chunked has Triton kernels; which take torch operators within a state is a list that only shrinks."""

import pytest
from differential.harness import EXAMPLES, TEXTS, op_of
from differential.targets import MISSING as MESSAGE

from flowc.schedule.staged import KernelPlan, kernel_plan

# Several writes of a token of which one is in a repeat or of the token before, gates in a repeat, tiles over three
# vectors.
BY_TORCH = frozenset(
    (
        *(
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


STEPPED = frozenset(
    (
        *("coupled_in_rounds", "dense_transition", "longhorn", "mamba", "momentum_delta"),
        *("squashed_fast_weights", "value_strength"),
    )
)


def plan_of(name):
    return kernel_plan(op_of(name).compilation.plan)


@pytest.mark.parametrize("name", TEXTS)
def test_all_have_kernels(name):
    assert isinstance(plan_of(name), KernelPlan) == (name not in STEPPED)
    assert (f"{name}: {MESSAGE}" in op_of(name).source) == (name in STEPPED)


def test_what_torch_operators_make_beside_kernels_is_pinned():
    found = set()
    for name in TEXTS.keys() - STEPPED:
        if any(stage.cuts.by_torch for stage in plan_of(name).stages):
            found.add(name)
    assert found == BY_TORCH, "take from BY_TORCH what kernels make alone"
    assert BY_TORCH & EXAMPLES.keys() == {"mamba3"}

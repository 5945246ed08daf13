"""Which recurrences have no Triton kernels yet, and which need torch operators beside them: lists that only shrink.

Differential tests of the first are skipped on the kernels, by the error that names them, and by no other.
"""

import pytest
from differential.harness import EXAMPLES, ON_KERNELS, TEXTS, op_of
from differential.targets import MISSING as MESSAGE

from flowc.schedule.tile_plan import Missing
from flowc.schedule.triton import cut

# Several states, and states that are scanned.
MISSING = frozenset(
    (
        *("abc", "based", "gsa", "hgrn", "linear_attention_normalized", "mlstm", "preconditioned_gated_deltanet"),
        *("rebased", "rwkv4"),
    )
)

# Several writes of a token of which one is in a repeat, gates in a repeat, vectors over other axes than the state's.
BY_TORCH = frozenset(
    (
        *("by_hand", "constants", "doubled", "features", "gates_in_repeat", "held_reads", "key_gates_in_repeat"),
        *("matrix_output", "mixed_masks", "number_of_one", "param_matrix", "ranks_and_writes", "read_then_write"),
        *("shared_vector", "square", "two_ranks", "two_repeats"),
        *("oja_everywhere", "oja_in_repeat", "square_oja", "value_gate_and_rank", "value_gates_in_repeat"),
    )
)


def plan_of(name):
    return cut(op_of(name).compilation.plan)


def test_what_has_no_kernels_is_pinned():
    assert {name for name in TEXTS if isinstance(plan_of(name), Missing)} == MISSING, "take from MISSING what has some"
    assert EXAMPLES.keys() - MISSING == set(ON_KERNELS)


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_missing_is_an_error_of_the_module(name):
    assert (f"{name}: {MESSAGE}" in op_of(name).source) == (name in MISSING)


def test_what_torch_operators_make_beside_kernels_is_pinned():
    found = set()
    for name in TEXTS.keys() - MISSING:
        passes = plan_of(name).forward, plan_of(name).backward
        if any(part is not None for passed in passes for part in (passed.before, passed.after)):
            found.add(name)
    assert found == BY_TORCH, "take from BY_TORCH what kernels make alone"
    assert not BY_TORCH & EXAMPLES.keys()

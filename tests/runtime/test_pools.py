"""`step` on a pool of states: each sequence has a slot of it, which is updated in place."""

import re

import pytest
import torch
from differential.harness import EXAMPLES, op_of
from differential.pools import LAYOUTS, SIZE, SLOTS, held_to_states, token_of


@pytest.mark.parametrize("name", EXAMPLES)
def test_in_place(name):
    held_to_states(name, op_of(name).step)


@pytest.mark.parametrize("name", ["gated_deltanet", "mlstm", "longhorn"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_types_and_layouts(name, dtype, layout):
    held_to_states(name, op_of(name).step, dtype, layout)


def test_a_pool_goes_through_a_compiler():
    step = torch.compile(op_of("gated_deltanet").step, fullgraph=True, backend="aot_eager")
    held_to_states("gated_deltanet", step)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"state_indices": [1, 2, 3, 4]}, TypeError, "`state_indices` is list; expected an int64 or int32 tensor"),
        ({"state_indices": torch.ones(4)}, TypeError, "`state_indices` has dtype torch.float32; expected an int64"),
        ({"state_indices": torch.tensor([1])}, ValueError, "`state_indices` has shape [1]; expected [B] = [4]"),
        ({"state_indices": torch.ones(4, dtype=torch.long, device="meta")}, ValueError, "is on meta; expected cpu"),
        ({"state": None}, ValueError, "`state_indices` goes with a `state` of pools, [slots, H, *], of S"),
        (
            {"state": torch.zeros(SIZE, 2, 6, 4)},
            ValueError,
            "`state` has shape [7, 2, 6, 4]; expected [slots, H, *] = [*, 2, 6, 40]",
        ),
        ({"state": torch.zeros(1, 2, 6, 40).expand(SIZE, -1, -1, -1)}, ValueError, "`state` is expanded"),
        ({"state": torch.zeros(0, 2, 6, 40)}, ValueError, "as many slots each, one at least; slots of `S` 0"),
        ({"state": torch.zeros(SIZE, 2, 6, 40, requires_grad=True)}, ValueError, "`state` requires a gradient"),
        ({"state_indices": torch.tensor([1, 0, 7, 2])}, ValueError, "`state_indices`[2] is 7; expected less than 7"),
        ({"state_indices": torch.tensor([0, 4, 0, 4])}, ValueError, "`state_indices`[1] and [3] are both 4; expected"),
    ],
)
def test_what_is_no_pool(change, error, words):
    op, x = op_of("gated_deltanet"), token_of("gated_deltanet")
    pool = torch.rand(SIZE, 2, 6, 40)
    before = pool.clone()
    with pytest.raises(error, match=re.escape(words)):
        op.step(**x, **{"state": pool, "state_indices": torch.tensor(SLOTS), **change})
    assert torch.equal(pool, before)


def test_pools_of_several_states_have_as_many_slots():
    """A slot that one of them has not would be memory of something else."""
    op, x = op_of("mlstm"), token_of("mlstm")
    _, states = op.step(**x)
    pools = [torch.zeros(SIZE - at, *s.shape[1:]) for at, s in enumerate(states)]
    with pytest.raises(ValueError, match="pools have as many slots each, one at least; slots of"):
        op.step(**x, state=tuple(pools), state_indices=torch.tensor(SLOTS))


def test_what_is_skipped_reads_no_state():
    """Its output is that of a state of 0, whatever lies in the pool."""
    op, x = op_of("gated_deltanet"), token_of("gated_deltanet")
    pool = torch.full((SIZE, 2, 6, 40), float("nan"))
    o, _ = op.step(**x, state=pool, state_indices=torch.tensor([0, -1, -7, 0]))
    torch.testing.assert_close(o, op.step(**x)[0])
    assert pool.isnan().all()


def test_no_gradient_goes_through():
    """Neither into the output nor into the pool, which the next step would refuse, though inputs have gradients."""
    op, x = op_of("gated_deltanet"), token_of("gated_deltanet")
    pool, slots = torch.rand(SIZE, 2, 6, 40), torch.tensor(SLOTS)
    leaves = {n: v.clone().requires_grad_() for n, v in x.items()}
    for _ in range(2):
        o, made = op.step(**leaves, state=pool, state_indices=slots)
        assert made is pool
        assert not o.requires_grad
        assert not pool.requires_grad

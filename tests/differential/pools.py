"""Holds `step` on a pool of states to `step` on the states themselves."""

import math

import torch
from differential.harness import Case, draw, model_of, op_of

SLOTS = (3, 0, 5, -1)
SIZE = 7


def token_of(name, dtype=torch.float32, device="cpu"):
    """What a step takes of each of four sequences."""
    model = model_of(name)
    params = {i.name for i in model.inputs if i.is_param}
    drawn = draw(model, Case(4, 1, 2, (6, 40, 2, 2), None))  # columns of several programs
    return {n: (v if n in params else v[:, 0]).to(device, dtype) for n, v in drawn.items()}


def several(states):
    return states if isinstance(states, tuple) else (states,)


def one_or_all(states):
    return tuple(states) if len(states) > 1 else states[0]


def packed(state, generator):
    """A pool as large as it must be."""
    return torch.rand(SIZE, *state.shape[1:], generator=generator)


def turned(state, generator):
    """[V, K] in memory."""
    shape = state.shape[1:2] + state.shape[2:][::-1]
    return (
        torch.rand(SIZE, *shape, generator=generator).transpose(2, -1) if state.dim() > 3 else packed(state, generator)
    )


def padded(state, generator):
    """Every other slot of a larger one, whose heads and rows have others between them."""
    shape = (2 * SIZE, *(n + 3 for n in state.shape[1:]))
    memory = torch.rand(shape, generator=generator)
    return memory[(slice(1, None, 2), *(slice(n) for n in state.shape[1:]))]


def cut_off(state, generator):
    """A part of one page of memory for each slot, where other things lie before and after it, [V, K] and with gaps."""
    heads, *own = state.shape[1:]
    strides = [2 * n for n in (1, *own[:1])[: len(own)]]
    size = 2 * heads * math.prod(own)
    page = size + 11
    memory = torch.rand(SIZE * page, generator=generator)
    return memory.as_strided((SIZE, heads, *own), (page, size // heads, *strides), 5)


LAYOUTS = (packed, turned, padded, cut_off)


def moved(pool, device, dtype):
    """The whole memory that a pool lies in, and the pool as it lies there, on a device and in a type."""
    memory = torch.empty(0, dtype=pool.dtype).set_(pool.untyped_storage()).to(device, dtype)
    return memory, memory.as_strided(pool.size(), pool.stride(), pool.storage_offset())


def held_to_states(name, step, dtype=torch.float32, layout=packed, device="cpu"):
    """The same bits as of the states alone; nothing else in the pools' memory changes, nor what has no slot."""
    op, x, slots = op_of(name), token_of(name, device=device), torch.tensor(SLOTS, device=device)
    generator = torch.Generator().manual_seed(0)
    made = [moved(layout(state, generator), device, dtype) for state in several(op.step(**x)[1])]
    pools, before = [pool for _, pool in made], [memory.clone() for memory, _ in made]
    output, after = step(**x, state=one_or_all([p[slots.clamp(min=0)] for p in pools]))
    found, same = step(**x, state=one_or_all(pools), state_indices=slots)
    assert [p.data_ptr() for p in several(same)] == [p.data_ptr() for p in pools]
    live = slots > 0
    for a, b in zip(torch.utils._pytree.tree_leaves(found), torch.utils._pytree.tree_leaves(output), strict=True):
        assert torch.equal(a[live], b[live])
    for (memory, pool), old, new in zip(made, before, several(after), strict=True):
        expected = old.as_strided(pool.size(), pool.stride(), pool.storage_offset())
        expected[slots[live]] = new[live].to(dtype)
        assert torch.equal(memory, old)

"""Inputs of more than 2^31 entries, and of more sequences and heads than a grid's second axis has: the last of them.

Memory that nothing touches takes none: tensors are as large as they say, all but the last sequence and head of them is
never written or read, and of a launch only the programs of that one run. They are held to the same sequence alone.
"""

from pathlib import Path

import pytest
import torch
from triton.runtime.interpreter import interpreter_builder

import flowc
from flowc.semantics import load

ROOT = Path(__file__).parent.parent.parent.parent
SEQUENCES, TOKENS, HEADS, COLUMNS = 70_000, 64, 2, 256
TRAINED, FORWARD = ("deltanet", "gla"), ("mamba", "hgrn")  # states of every token, or zeros, fill the memory of others


class Last:
    """Stands where a kernel stands in its module: of a launch, the programs of the last sequence and head run."""

    def __init__(self, kernel, sequences):
        self.kernel, self.sequences = kernel, sequences

    def __getitem__(self, grid):
        assert grid[0] > 2**16
        assert all(n < 2**16 for n in grid[1:])
        count = -(-grid[0] // self.sequences)
        executor = self.kernel[(count, *grid[1:])]
        executor._restore_args_dev = lambda *_: None  # which copies arguments to where they are

        def launch(*args, **options):
            dimension, index = interpreter_builder.set_grid_dim, interpreter_builder.set_grid_idx
            interpreter_builder.set_grid_dim = lambda *_: dimension(*grid, *[1] * (3 - len(grid)))
            interpreter_builder.set_grid_idx = lambda x, y, z: index(grid[0] - count + x, y, z)
            try:
                executor(*args, **options)
            finally:
                del interpreter_builder.set_grid_dim, interpreter_builder.set_grid_idx

        return launch


def made(op, inputs, names, **options):
    """The output and the gradients of the named inputs, of the last sequence and head."""
    leaves = {n: x.requires_grad_(n in names) for n, x in inputs.items()}
    out = op(**leaves, backend="triton", chunk_size=TOKENS, **options)
    bar = out.new_empty(out.shape)
    bar[-1, -TOKENS:, -1] = torch.linspace(-1, 1, TOKENS)[:, None]
    grads = torch.autograd.grad(out, [leaves[n] for n in names], bar) if names else ()
    return [x[-1, -TOKENS:, -1].clone() for x in (out, *grads)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", TRAINED + FORWARD)
def test_the_last_of_many_is_what_it_is_alone(name, packed, monkeypatch):
    text = (ROOT / f"examples/{name}.flow").read_text()
    op, model = flowc.compile(text), load(text, name)
    sizes = {d.name: d.value or {"K": 2, "V": COLUMNS, "D": COLUMNS}.get(d.name, 2) for d in model.dimensions}
    rng = torch.Generator().manual_seed(0)
    alone, large = {}, {}
    lead = (1, SEQUENCES * TOKENS) if packed else (SEQUENCES, TOKENS)
    for i in model.inputs:
        own = tuple(s.value(sizes) for s in i.shape.sizes)
        x = torch.rand((HEADS, *own) if i.is_param else (1, TOKENS, HEADS, *own), generator=rng).half() / 4
        x = -x if i.range is not None and i.range.high == 0 else x
        alone[i.name] = large[i.name] = x
        if not i.is_param:
            large[i.name] = torch.empty((*lead, HEADS, *own), dtype=torch.half)
            large[i.name][-1, -TOKENS:] = x
    assert any(x.numel() > 2**31 for x in large.values())
    assert SEQUENCES * HEADS > 2**16
    names = [i.name for i in model.inputs] if name in TRAINED else []
    options = {"cu_seqlens": torch.arange(SEQUENCES + 1, dtype=torch.int32) * TOKENS} if packed else {}
    expected = made(op, alone, names)
    kernels = {n: v for n, v in vars(op._module).items() if type(v).__name__ == "InterpretedFunction"}
    for own in (n for n in kernels if not n.startswith("_tl_")):
        monkeypatch.setattr(op._module, own, Last(kernels[own], SEQUENCES * HEADS))
    for found, wanted in zip(made(op, large, names, **options), expected, strict=True):
        assert torch.equal(found, wanted)

"""Every schedule of every example: the one that `auto` does not choose here; `fused` is what it chooses where it can.

On a GPU by `pytest -m gpu`, under the interpreter from tests/triton/test_interpreter.py.
"""

from dataclasses import replace

import pytest
import torch
from differential.harness import EXAMPLES, Case, check, op_of
from differential.targets import on_kernels

import flowc
from flowc.schedule.staged import kernel_plan
from flowc.schedule.tilings import fused_rows

IN_CHUNKS = [n for n in EXAMPLES if kernel_plan(op_of(n).compilation.plan).stages]


def chosen(name):
    """What `auto` takes where there are programs enough."""
    return "split" if fused_rows(kernel_plan(op_of(name).compilation.plan).stages, "any") is None else "fused"


@on_kernels
@pytest.mark.parametrize("name", IN_CHUNKS)
def test_the_other_schedule(name, target):
    other = {"fused": "split", "split": "fused"}[chosen(name)]
    own = replace(target, options=(*target.options, ("schedule", other)))
    check(name, Case(1, 37, 2, (6, 20, 2, 2), 16, start=True), torch.float32, target=own)


def test_most_examples_have_a_fused_walk():
    without = {n for n in IN_CHUNKS if any(s.cuts.fused is None for s in kernel_plan(op_of(n).compilation.plan).stages)}
    assert without == {"abc", "gated_oja", "gsa", "mamba3"}, "reads that sum over the state's columns, a part by torch"


@on_kernels
@pytest.mark.parametrize("name", ["gated_deltanet", "kda", "simple_gla", "mlstm"])
def test_nothing_is_kept_where_no_backward_pass_follows(name, target):
    """The same bits as with what is kept, by the same kernels and by those of a call compiled for them."""
    op = flowc.compile(op_of(name).compilation.source.text, schedule="fused", backend="triton")
    torch.manual_seed(0)
    sizes = {"K": 18, "V": 20}
    x = {}
    for i in op.compilation.model.inputs:
        shape = tuple(s.value(sizes) for s in i.shape.sizes)
        lead = (2,) if i.is_param else (1, 37, 2)
        drawn = torch.rand(*lead, *shape, device=target.device)
        x[i.name] = -drawn if i.range is not None and i.range.high == 0 else drawn / 4
    kept = op(**{n: v.clone().requires_grad_() for n, v in x.items()})
    alone = op(**x)
    kept, alone = ((y,) if isinstance(y, torch.Tensor) else y for y in (kept, alone))
    assert all(map(torch.equal, kept, alone))

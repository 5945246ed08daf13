"""Products read no denormal numbers, whatever the gates: they would take many times as long.

Not a matter of time here: every operand of every product is looked at, forward and backward.
"""

import pytest
import torch
from differential.harness import Case, draw, model_of, op_of
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("bmm", "baddbmm", "baddbmm_", "mm", "addmm", "linalg_solve_triangular")


class Watch(TorchDispatchMode):
    """Counts the operands of products, and the entries among them that are denormal."""

    def __init__(self):
        super().__init__()
        self.operands = self.entries = 0
        self.denormal = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        for x in args if name in PRODUCTS else ():
            if isinstance(x, torch.Tensor) and name != "out":
                self.operands += 1
                self.entries += x.numel()
                small = int(((x != 0) & (x.abs() < torch.finfo(x.dtype).tiny)).sum())
                if small:
                    self.denormal[name, *x.shape] = self.denormal.get((name, *x.shape), 0) + small
        return func(*args, **(kwargs or {}))


def watched(name, gate, dtype, aggregation=None):
    """Forward and backward with one log decay, or a strong one now and then."""
    case, model = Case(1, 192, 2, (16, 12, 2), gate="mixed" if gate == "mixed" else "mild"), model_of(name)
    x = draw(model, case)
    for i in model.inputs:
        if gate != "mixed" and i.range and i.range.high == 0 and not i.is_param:
            x[i.name] = torch.full_like(x[i.name], gate)
    leaves = {n: v.to(dtype).requires_grad_() for n, v in x.items()}
    with Watch() as watch:
        o = op_of(name)(**leaves, chunk_size=64, aggregation=aggregation)
        torch.autograd.grad(o, list(leaves.values()), torch.ones_like(o))
    assert watch.operands > 20
    return watch.denormal


@pytest.mark.parametrize("name", ["gated_deltanet", "gated_delta_product", "mamba2", "gla", "kda", "rwkv7"])
@pytest.mark.parametrize("gate", [-0.1, -1.0, -1.5, -4.0, -20.0, -38.0, -43.0, -50.0, -86.0, -95.0, "mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_read_no_denormals(name, gate, dtype):
    """Log decays that reach the smallest normal number within a chunk of 64 tokens, and such that pass it in one."""
    assert not watched(name, gate, dtype)


@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
@pytest.mark.parametrize("gate", [-1.5, -20.0])
def test_whatever_solves_systems(name, gate):
    for aggregation in ("tensorinv", "signature"):
        assert not watched(name, gate, torch.float32, aggregation)

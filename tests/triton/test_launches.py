"""What a call compiles: kernels are specialised for sizes of the state and types, not for B, T or H."""

import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton")

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import offline  # noqa: E402

import flowc  # noqa: E402
from flowc.semantics import load  # noqa: E402

NAMES = ("gated_deltanet", "gated_delta_product", "kda", "mlstm", "rebased", "mamba", "hgrn")
SHAPES = ((1, 256, 1), (1, 257, 1), (2, 4096, 4), (3, 1000, 7), (64, 129, 16))


def compilations(module, model, shape, schedule):
    """What Triton's cache of compiled kernels goes by, for every launch of a forward and a backward pass."""
    batch, length, heads = shape
    sizes = {d.name: d.value or {"K": 64, "V": 64}.get(d.name, 2) for d in model.dimensions}
    inputs = {}
    for i in model.inputs:
        lead = (heads,) if i.is_param else (batch, length, heads)
        dtype = torch.float32 if i.is_param or (i.range is not None and i.range.high == 0) else torch.bfloat16
        own = tuple(s.value(sizes) for s in i.shape.sizes)
        inputs[i.name] = torch.empty((*lead, *own), dtype=dtype, device="meta", requires_grad=True)
    with offline.recorded(module, "any") as found:
        made = getattr(module, model.name)(**inputs, schedule=schedule)
        made = [x for x in (made if isinstance(made, tuple) else (made,)) if x.requires_grad]
        torch.autograd.grad(made, list(inputs.values()), [torch.empty_like(x) for x in made], allow_unused=True)
    return {key(launch) for launch in found}


class Operators(TorchDispatchMode):
    """The operators that a GPU would have launches for: those that are neither views nor memory alone."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        if not function.is_view and name not in ("empty", "new_empty", "empty_like", "detach"):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def key(launch):
    """A kernel's name, its options, and every argument that it is specialised for."""
    seen = []
    for p in launch.kernel.params:
        value = launch.arguments[p.name]
        if p.is_constexpr or value is None:
            seen.append((p.name, str(value)))
        elif isinstance(value, torch.Tensor):
            seen.append((p.name, str(value.dtype)))
        elif not p.do_not_specialize:
            seen.append((p.name, value == 1, value % 16 == 0))
    return launch.name, tuple(seen), tuple(sorted(launch.options.items()))


@pytest.mark.parametrize("schedule", ["split", "fused"])
@pytest.mark.parametrize("name", NAMES)
def test_a_new_length_batch_or_number_of_heads_compiles_nothing(name, schedule):
    text = (ROOT / f"examples/{name}.flow").read_text()
    module, model = flowc.compile(text)._module, load(text, name)
    first, *others = (compilations(module, model, shape, schedule) for shape in SHAPES)
    assert first
    for other in others:
        assert other == first


LAUNCHES = (  # of a forward pass, and with its backward
    ("gated_deltanet", 2, 4),
    ("deltanet", 2, 4),
    ("gated_delta_product", 2, 4),
    ("kda", 2, 4),
    ("rwkv7", 2, 4),
    ("simple_gla", 1, 3),
    ("retnet", 1, 3),
    ("gla", 2, 4),
)


@pytest.mark.parametrize(("name", "alone", "both"), LAUNCHES)
def test_a_call_is_these_launches_and_no_operator(name, alone, both, monkeypatch):
    """In bfloat16, as many value heads as key heads, no first state given and no last one asked for."""
    text = (ROOT / f"examples/{name}.flow").read_text()
    module, model = flowc.compile(text)._module, load(text, name)
    monkeypatch.setattr(module, "is_in_torch_dispatch_mode", lambda: False)  # tables are there after the first call
    sizes = {d.name: d.value or {"K": 64, "V": 64}.get(d.name, 2) for d in model.dimensions}
    shapes = {i.name: (2, 256, 4, *(s.value(sizes) for s in i.shape.sizes)) for i in model.inputs if not i.is_param}
    shapes |= {i.name: (4, *(s.value(sizes) for s in i.shape.sizes)) for i in model.inputs if i.is_param}
    inputs = {n: torch.empty(s, dtype=torch.bfloat16, device="meta", requires_grad=True) for n, s in shapes.items()}
    op = getattr(module, name)
    timed = [x for x in inputs.values() if x.dim() > 2]
    with offline.recorded(module, "any") as found:
        op(**inputs, schedule="fused")
        found.clear()
        with Operators() as own, torch.no_grad():
            op(**inputs, schedule="fused")
        assert (len(found), own.found) == (alone, [])
        assert [launch.arguments["final_ptr"] for launch in found if "final_ptr" in launch.arguments] == [None]
        found.clear()
        with Operators() as own:
            out = op(**inputs, schedule="fused")
            torch.autograd.grad(out, timed, torch.empty_like(out))
        assert (len(found), own.found) == (both, [])


PUT_BACK = {"based": 1, "linear_attention_normalized": 1, "mamba3": 3, "mlstm": 2, "preconditioned_gated_deltanet": 1,
            "rebased": 1}  # fmt: skip
"""The states that are not divided where others are: each goes back to its pool in a launch of its own."""
SUMMED = {("gated_oja", 64): ["add", "add", "add", "_to_copy"]}
"""Outputs that are sums over blocks of a state's rows, of 16 each: torch operators add them up, in order."""
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.flow"))


@pytest.mark.parametrize(("name", "keys"), [*((name, 16) for name in EXAMPLES), ("gated_oja", 64), ("gla", 128)])
def test_a_step_on_a_pool_is_one_launch_and_asks_nothing_of_the_device(name, keys):
    """No operator beside it, and no value is read: tensors have none here, `item`, `tolist` and `bool` of them raise.

    So what the host does goes by shapes and strides alone, and a CUDA graph replays all of it with other slots.
    """
    text = (ROOT / f"examples/{name}.flow").read_text()
    module, model = flowc.compile(text)._module, load(text, name)
    sizes = {d.name: d.value or {"K": keys, "V": 64}.get(d.name, 4) for d in model.dimensions}
    given = offline.pooled(model, sizes, torch.bfloat16)
    with offline.recorded(module, "any") as found:
        module.step(**given)  # index tables are there after the first call
        found.clear()
        with Operators() as own:
            _, after = module.step(**given)
    pools, after = (x if isinstance(x, tuple) else (x,) for x in (given["state"], after))
    assert all(x is pool for x, pool in zip(after, pools, strict=True))
    first, *others = (launch.name for launch in found)
    assert first in ("_step", "_tokens_forward")
    assert others == ["_put_back"] * PUT_BACK.get(name, 0)
    assert own.found == SUMMED.get((name, keys), [])

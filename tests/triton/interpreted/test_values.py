"""Kernels under Triton's interpreter against the oracle in float64.

Errors are the RMS of the difference over the RMS of the truth, or over a tenth where that is less: an erased state is
what is left of inputs of size one, and in float16 a decay under 2 ** -24 is 0. In float32 the bar is design's: 8 times
what the oracle itself loses in float32, plus 18 eps for the chunk's own sums (a random walk of at most 64 + 256 half
roundings, 2 ** -24 each). In float16 every operand of a product and the output are rounded once, u = 2 ** -11 at most,
u / sqrt(3) in the RMS: an output passes through up to four such roundings (the left and right operands of a product,
the state or the weights before, its own), 2 u / sqrt(3) if they add as independent ones do, and as much again for
operands whose rounding is not uniform; a state through one per chunk, of a written vector, or two of computed ones.
"""

from functools import cache
from pathlib import Path

import pytest
import torch

import flowc
from flowc import reference
from flowc.semantics import load

ROOT = Path(__file__).parent.parent.parent.parent
SPECS = {
    **{n: ROOT / "examples" / f"{n}.flow" for n in ("linear_attention", "retnet", "simple_gla", "mamba2")},
    **{p.stem: p for p in sorted((ROOT / "tests" / "cases" / "triton").glob("*.flow"))},
}
EPS = torch.finfo(torch.float32).eps
HALF = 2**-11
GATES = ("g", "f", "dt", "DOT", "head_")


@cache
def compiled(name):
    return flowc.compile(SPECS[name]), load(SPECS[name].read_text(), name)


def draw(model, sizes, gate, dtype, seed=0):
    """Inputs by name: gates in float32 whatever the others are, `group` value heads to a query and key head."""
    batch, length, heads, group, keys, values = sizes
    rng = torch.Generator().manual_seed(seed)
    bound = {d.name: d.value or (keys if d.name in ("K", "tau") else values) for d in model.dimensions}
    found = {}
    for i in model.inputs:
        own = [s.value(bound) for s in i.shape.sizes]
        shared = bool(own) and i.shape.sizes[0].symbol in ("K", "tau") and not i.is_param
        lead = [heads] if i.is_param else [batch, length, heads // group if shared else heads]
        x = torch.randn(*lead, *own, generator=rng)
        x = x * keys**-0.5 if shared else x
        if i.name in GATES:
            found[i.name] = x if i.range is None else gates(x, gate)
        else:
            found[i.name] = x.to(dtype)
    return found


def gates(x, kind):
    """Log gates: 0, mild, all -20, or -20, -0.001, -inf and 0 in one chunk."""
    match kind:
        case "zero":
            return torch.zeros_like(x)
        case "strong":
            return torch.full_like(x, -20.0)
        case "mixed":
            x = torch.full_like(x, -0.001)
            x[:, 2::7], x[:, 5::11], x[:, 3::13] = -20.0, -torch.inf, 0.0
            return x
        case _:
            return -0.2 * x.abs()


def error(found, truth):
    truth = truth.double()
    return ((found.double() - truth).square().mean().sqrt() / truth.square().mean().sqrt().clamp(min=0.1)).item()


def check(name, sizes, gate="mild", dtype=torch.float32, start=True, **options):
    op, model = compiled(name)
    inputs = draw(model, sizes, gate, dtype)
    batch, _, heads, _, keys, values = sizes
    state = torch.randn(batch, heads, keys, values) if start else None
    before = {n: x.clone() for n, x in inputs.items()}
    found, final = op(**inputs, initial_state=state, output_final_state=True, backend="triton", **options)
    assert all(torch.equal(before[n].nan_to_num(), x.nan_to_num()) for n, x in inputs.items())
    results = found if isinstance(found, tuple) else (found,)
    initial = None if state is None else {"S": state}

    def oracle(to):
        wide = {n: x.to(to) for n, x in inputs.items()}
        return reference.run(model, wide, initial and {"S": initial["S"].to(to)})

    outputs, states = oracle(torch.float64)
    single = oracle(torch.float32)
    for got, (n, truth) in zip(results, outputs.items(), strict=True):
        assert got.dtype == dtype
        assert got.shape == truth.shape
        assert error(got, truth) <= (4 * HALF if dtype == torch.float16 else 8 * error(single[0][n], truth) + 18 * EPS)
    assert final.dtype == torch.float32
    assert error(final, states["S"]) <= (
        2 * HALF if dtype == torch.float16 else 8 * error(single[1]["S"], states["S"]) + 18 * EPS
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("name", SPECS)
def test_each_recurrence(name, dtype):
    check(name, (1, 75, 2, 2, 24, 40), dtype=dtype)


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 33, 64])
def test_lengths(length):
    check("simple_gla", (1, length, 2, 1, 16, 16), start=length % 2 == 1)


@pytest.mark.parametrize(("keys", "values"), [(1, 1), (3, 5), (17, 33), (64, 16), (130, 70), (256, 9)])
def test_sizes(keys, values):
    check("simple_gla", (1, 20, 2, 2, keys, values))
    check("norms", (1, 20, 2, 2, keys, values), dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("gate", ["zero", "strong", "mixed"])
def test_gates(gate, dtype):
    check("simple_gla", (1, 70, 1, 1, 16, 24), gate, dtype)
    check("norms", (1, 40, 1, 1, 16, 24), gate, dtype)


@pytest.mark.parametrize("chunk", [1, 7, 16, 24, 64, 128])
def test_chunk_sizes(chunk):
    check("mamba2", (1, 30, 1, 1, 16, 16), chunk_size=chunk)
    check("features", (1, 30, 1, 1, 16, 16), dtype=torch.float16, chunk_size=chunk)


@pytest.mark.parametrize("group", [1, 2, 6])
def test_grouped_heads(group):
    check("simple_gla", (2, 19, 6, group, 16, 16))
    check("mamba2", (2, 19, 6, group, 8, 16), start=False)


def test_strong_gates_do_not_round_mild_ones():
    """A float32 sum over a chunk loses 6e-5 here; whole numbers and fractions of base-2 logs are summed apart."""
    op, model = compiled("simple_gla")
    inputs = draw(model, (1, 64, 1, 1, 16, 16), "zero", torch.float32)
    inputs["g"] = torch.full_like(inputs["g"], -0.05)
    inputs["g"][:, :32] = -20.0
    truth = reference.run(model, {n: x.double() for n, x in inputs.items()})[0]["o"]
    assert error(op(**inputs, backend="triton", chunk_size=64), truth) < 4e-7


def test_a_prefix_does_not_see_what_follows():
    op, model = compiled("mamba2")
    inputs = draw(model, (1, 40, 2, 1, 16, 16), "mild", torch.float32)
    whole = op(**inputs, backend="triton")
    cut = {n: x.clone() for n, x in inputs.items()}
    for n in ("x", "B", "C", "dt"):
        cut[n][:, 23:] = 5.0
    assert torch.equal(op(**cut, backend="triton")[:, :23], whole[:, :23])

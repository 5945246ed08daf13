"""Every emitted kernel, compiled for devices that are not there: what ptxas and Triton's own text say of it.

The bars are design/performance.md's: no register spilled at K = V = 128 in half precision, and no product of a warp
group whose left operand comes from registers, which ptxas can corrupt on Hopper.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import offline  # noqa: E402

import flowc  # noqa: E402
from flowc.runtime.load import load as load_module  # noqa: E402
from flowc.semantics import load  # noqa: E402
from flowc.semantics.model import Kind  # noqa: E402

EXAMPLES = [
    path.stem
    for path in sorted((ROOT / "examples").glob("*.flow"))
    if [s.shape.kind for s in load(path.read_text(), path.stem).states] == [Kind.MATRIX]
]
STEPPED = ("longhorn", "mamba", "squashed_fast_weights")  # taken token by token, without a product of matrices
SAMPLED = ("gated_deltanet", "kda", "gated_lowrank_delta")
RANK_FOUR = """flow rank_four(K, V)
input q : K; input A, B : K x 4; input W : V x 4; input g : scalar <= 0
state S : K x V
S[t] = exp(g) * S[t-1] + A @ (W.T - B.T @ S[t-1])
o[t] = S[t].T @ q
"""


def launches(name, target, dtype=torch.bfloat16, text=None):
    text = text or (ROOT / f"examples/{name}.flow").read_text()
    return offline.launches(flowc.compile(text)._module, load(text, name), target, 128, 128, dtype)


def check(found, target):
    assert found
    for launch in found:
        made = offline.make(launch, target)
        assert made.spilled == 0, (launch.name, made.registers, made.spilled)
        assert not offline.trapped(made.texts), launch.name
        yield len(offline.left_operands(made.texts))


@pytest.mark.parametrize("name", [*STEPPED, "momentum_delta"])
def test_loops_on_hopper(name):
    """Nothing spills where a program has a block of the state's columns."""
    found = launches(name, "sm_90")
    assert {launch.name for launch in found} == {"_tokens_forward", "_tokens_backward"}
    assert not any(offline.make(launch, "sm_90").spilled for launch in found)


@pytest.mark.parametrize("name", ["gated_deltanet", "kda", "rwkv7", "mlstm", "gated_delta_product", "mamba"])
@pytest.mark.parametrize(("state", "turned"), [(torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)])
def test_a_step_takes_states_in_16_bytes(name, state, turned):
    """As they lie in memory, each entry once in and once out; at a rank of 2 nothing spills."""
    text = (ROOT / f"examples/{name}.flow").read_text()
    module, model = flowc.compile(text)._module, load(text, name)
    sizes = {d.name: d.value or {"K": 128, "V": 128}.get(d.name, 2) for d in model.dimensions}
    first, *others = offline.step_launches(module, offline.pooled(model, sizes, state, turned))
    made = offline.make(first, "sm_90")
    assert made.spilled == 0, made.registers
    columns = first.arguments.get("BLOCK", first.arguments.get("VALUE_TILE"))
    accesses = 128 * columns * state.itemsize // (16 * 32 * first.options["num_warps"])
    assert made.texts["ptx"].count("ld.global.v4.b32") >= accesses
    assert made.texts["ptx"].count("st.global.v4.b32") == accesses
    assert all(offline.make(launch, "sm_90").spilled == 0 for launch in others)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in STEPPED])
def test_on_hopper(name):
    """Nothing spills or has a left operand in registers; some products are a warp group's.

    Those are where chunks have 64 rows.
    """
    groups = sum(check(launches(name, "sm_90"), "sm_90"))
    assert groups > 0


@pytest.mark.parametrize("target", ["sm_80", "sm_100", "gfx942"])
@pytest.mark.parametrize("name", SAMPLED)
def test_elsewhere(name, target):
    assert sum(check(launches(name, target), target)) == 0


def test_in_float32_products_are_no_warp_group_s():
    """Three products stand for one, of parts that are computed."""
    for launch in launches("gated_deltanet", "sm_90", torch.float32):
        assert not offline.left_operands(offline.make(launch, "sm_90").texts), launch.name


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_a_step_s_short_products_stay_in_float32(target):
    """Triton makes products in tf32 of sums of products, if it may."""
    (step,) = (launch for launch in launches("rank_four", target, text=RANK_FOUR) if launch.name == "_step")
    made = offline.make(step, target)
    assert "tt.dot" not in made.texts["ttgir"]
    assert made.spilled == 0


def test_rank_four_compiles():
    for launch in launches("rank_four", "sm_90", text=RANK_FOUR):
        assert not offline.trapped(offline.make(launch, "sm_90").texts), launch.name


def test_the_trap_is_found_where_it_is_set():
    """A computed left operand that is not multiplied in blocks of 16 rows."""
    text = (ROOT / "examples/gated_deltanet.flow").read_text()
    artifact = flowc.compile(text).compilation.artifact
    source, guard = artifact.source, "if M < 64:"
    assert source.count(guard) == 1
    module = load_module(replace(artifact, source=source.replace(guard, "if M < 4096:")))
    found = offline.launches(module, load(text, "gated_deltanet"), "sm_90", 128, 128, torch.float32)
    assert any(offline.trapped(offline.make(launch, "sm_90").texts) for launch in found)

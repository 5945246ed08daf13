"""Every emitted kernel compiled for sm_90 without a GPU: no spill, tensor cores, no left operand in registers.

The last is a trap (design/performance.md): the ptxas of Triton 3.6 - 3.8 can corrupt a warp group's product whose left
operand was computed in registers; in TTGIR it is a `warp_group_dot` on a `dot_op` tensor.
"""

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import torch

import flowc

triton = pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.backends.nvidia.compiler import get_ptxas  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ("linear_attention", "retnet", "simple_gla", "mamba2")
SPECS = {
    **{n: ROOT / "examples" / f"{n}.flow" for n in EXAMPLES},
    **{p.stem: p for p in sorted((ROOT / "tests" / "cases" / "triton").glob("*.flow"))},
}
SINGLE = (
    "states_ptr",
    "start_ptr",
    "final_ptr",
    "g_ptr",
    "f_ptr",
    "dt_ptr",
    "A_log_ptr",
    "D_ptr",
    "DOT_ptr",
    "head__ptr",
)
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@cache
def module_of(name):
    return flowc.compile(SPECS[name])._module


@cache
def compiled(name, kernel, dtype, keys, values):
    """The kernel as the launcher configures it; with it the number of columns in a block."""
    module = module_of(name)
    function = getattr(module, kernel)
    tokens = module._TRITON_TOKENS[dtype.itemsize]
    block, warps, stages = module._tiling(module._TILINGS[kernel], dtype, module._tile(tokens), keys)
    sizes = {"KEYS": keys, "VALUES": values, "TOKENS": tokens, "ROWS": module._tile(tokens), "tau": keys, "K": keys}
    sizes |= {"KEY_TILE": module._tile(keys), "VALUE_TILE": min(block, module._tile(values))}
    sizes["DOT"] = getattr(triton.language, str(dtype).removeprefix("torch."))
    signature, constants, attributes = {}, {}, {}
    for at, argument in enumerate(function.arg_names):
        if argument in sizes:
            signature[argument], constants[argument] = "constexpr", sizes[argument]
        elif argument.endswith("_ptr"):
            signature[argument] = "*fp32" if argument in SINGLE else f"*{NAMES[dtype]}"
            attributes[(at,)] = [["tt.divisibility", 16]]
        else:
            signature[argument] = "i32"
    source = ASTSource(function, signature, constants, attributes)
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def registers(made, folder):
    """Registers and spilled bytes per thread, as ptxas reports them."""
    path = folder / "kernel.ptx"
    path.write_text(made.asm["ptx"])
    command = [get_ptxas(90).path, "-v", "--gpu-name=sm_90a", str(path), "-o", str(folder / "kernel.cubin")]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    stores, loads = map(int, re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log).groups())
    return int(re.search(r"Used (\d+) registers", log)[1]), stores + loads


def left_operands(made):
    """The types of the left operands of all warp-group products."""
    lines = [line for line in made.asm["ttgir"].splitlines() if "ttng.warp_group_dot " in line]
    return [line.rsplit(" : ", 1)[1].split(" * ")[0] for line in lines]


def judge(made, folder):
    used, spilled = registers(made, folder)
    assert spilled == 0, f"{used} registers and {spilled} spilled bytes"
    assert not [left for left in left_operands(made) if "dot_op" in left]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=NAMES.get)
@pytest.mark.parametrize("kernel", ["_walk", "_output"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_spill_and_no_left_operand_in_registers(name, kernel, dtype, tmp_path):
    judge(compiled(name, kernel, dtype, 128, 128), tmp_path)


@pytest.mark.parametrize("kernel", ["_walk", "_output"])
@pytest.mark.parametrize("name", sorted(set(SPECS) - set(EXAMPLES)))
def test_other_specs(name, kernel, tmp_path):
    size = 64 if name == "functions" else 128  # sine and cosine of any argument take registers of their own
    judge(compiled(name, kernel, torch.bfloat16, size, size), tmp_path)


@pytest.mark.parametrize(("keys", "values"), [(100, 72), (256, 128)])
@pytest.mark.parametrize("kernel", ["_walk", "_output"])
@pytest.mark.parametrize("name", ["mamba2", "norms", "features"])
def test_other_sizes(name, kernel, keys, values, tmp_path):
    judge(compiled(name, kernel, torch.bfloat16, keys, values), tmp_path)


@pytest.mark.parametrize("kernel", ["_walk", "_output"])
def test_float32(kernel, tmp_path):
    judge(compiled("simple_gla", kernel, torch.float32, 64, 64), tmp_path)


@pytest.mark.parametrize("name", ["linear_attention", "retnet", "simple_gla", "mamba2", "norms"])
def test_every_product_is_a_warp_group_s(name):
    for kernel, products in (("_walk", 1), ("_output", 3)):
        made = compiled(name, kernel, torch.bfloat16, 128, 128)
        assert len(left_operands(made)) == products
        assert "tt.dot " not in made.asm["ttgir"]
        assert "wgmma.mma_async" in made.asm["ptx"]


def test_no_atomics():
    for kernel in ("_walk", "_output"):
        ptx = compiled("mamba2", kernel, torch.bfloat16, 128, 128).asm["ptx"]
        assert not re.search(r"^\s*(atom|red)\.", ptx, re.MULTILINE)

"""Emitted kernels compiled without a GPU: every launch of a call, its registers, spills and what its products are.

In: an emitted module and the inputs of its spec. Out: a `Launch` for every kernel that a call and its backward would
run, found by running the launcher on tensors without storage, and what a compiler makes of one for a target. Refuses
to work under TRITON_INTERPRET, where nothing is compiled.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from flowc.chunk.cost import Sizes
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.schedule.schedule import rows_per_token
from flowc.schedule.tile_cost import power_of_two
from flowc.semantics.model import Input, Model
from flowc.source import Source

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
FAMILIES = {"sm_80": "ampere", "sm_90": "any", "sm_100": "blackwell", "gfx942": "amd"}
NUMBERS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.int32: "i32", torch.int64: "i64"}
LENGTH, HEADS = 4096, 4

FEATURES = 16  # the size of which features are made


@dataclass(frozen=True)
class Launch:
    """One kernel of a call: the function, its arguments by name, and how it is configured."""

    name: str
    kernel: JITFunction
    arguments: Mapping[str, Any]
    options: Mapping[str, int]


@dataclass(frozen=True)
class Made:
    """A compiled kernel: what it takes, and the compiler's texts by name."""

    registers: int
    spilled: int
    shared: int
    seconds: float
    texts: Mapping[str, Any]


class _Recorder:
    """Stands where a kernel stands in its module, and notes launches instead of doing them."""

    def __init__(self, name: str, kernel: JITFunction, found: list[Launch]) -> None:
        self.name, self.kernel, self.found = name, kernel, found

    def __getitem__(self, grid: object) -> Any:
        options = ("num_warps", "num_stages", "enable_fp_fusion")

        def launch(*placed: Any, **given: Any) -> None:
            named = dict(zip((p.name for p in self.kernel.params), placed, strict=False))
            arguments = named | {k: v for k, v in given.items() if k not in options}
            self.found.append(Launch(self.name, self.kernel, arguments, {k: given[k] for k in options if k in given}))

        return launch


@contextmanager
def _recorded(module: ModuleType, family: str) -> Iterator[list[Launch]]:
    """A module whose kernels are noted instead of launched, whatever device its tensors are on."""
    found: list[Launch] = []
    before = dict(vars(module))
    for name, value in before.items():
        if isinstance(value, JITFunction):
            setattr(module, name, _Recorder(name, value, found))
    vars(module).update(_on_triton=lambda *_: True, _family=lambda *_: family)
    try:
        yield found
    finally:
        vars(module).update(before)


def launches(
    module: ModuleType, model: Model, target: str, keys: int, values: int, dtype: torch.dtype,
    rows: int | None = None, **options: Any,
) -> list[Launch]:  # fmt: skip
    """The launches of a call, of its backward and of a step on a target; dimensions that no state has are 2.

    Rows of states are `keys`, columns `values`; dimensions of which rows are a polynomial (features) are 16. Gates and
    params are float32, everything else is of `dtype`. `rows`: of a chunk, which otherwise the module chooses.
    """
    sizes: dict[str, int] = {}
    for state in model.states:
        for size, number in zip(state.shape.sizes, (keys, values), strict=False):
            sizes |= {n: number if size.symbol else FEATURES for n in size.names if n not in sizes}
    sizes = {d.name: d.value or sizes.get(d.name, 2) for d in model.dimensions}
    given = {i.name: _empty(i, sizes, dtype) for i in model.inputs}
    if rows is not None:
        options["chunk_size"] = max(1, rows // token_rows(model, sizes))
    with _recorded(module, FAMILIES[target]) as found:
        for trained in (False, True):
            with torch.set_grad_enabled(trained):
                getattr(module, model.name)(**given, **options, schedule="auto")
        found[:] = [launch for launch in found if launch.name.startswith("_fused")]
        result = getattr(module, model.name)(**given, output_final_state=True, **options, schedule="split")
        flat = [x for part in result for x in (part if isinstance(part, tuple) else (part,)) if x.requires_grad]
        torch.autograd.grad(flat, list(given.values()), [torch.empty_like(x) for x in flat], allow_unused=True)
        with torch.no_grad():
            module.step(**{i.name: given[i.name] if i.is_param else given[i.name][:, 0] for i in model.inputs})
    return found


def token_rows(model: Model, sizes: Mapping[str, int]) -> int:
    """The rows of a token in tiles: a power of two."""
    plan = compile_text(Source(model.name, model.source.text), Options(), Stage.PLAN).plan
    assert plan is not None
    return power_of_two(rows_per_token(plan.forward.program, Sizes(sizes, 1)))


def _empty(i: Input, sizes: Mapping[str, int], dtype: torch.dtype) -> torch.Tensor:
    wide = i.is_param or (i.range is not None and i.range.high == 0)
    shape = (HEADS, *(s.value(sizes) for s in i.shape.sizes))
    if not i.is_param:
        shape = (1, LENGTH, *shape)
    return torch.empty(shape, dtype=torch.float32 if wide else dtype, device="meta", requires_grad=True)


def make(launch: Launch, target: str) -> Made:
    """Compile a launch."""
    constants: dict[str, Any] = {}
    signature: dict[str, str] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    arguments = dict(launch.arguments)
    if "PRECISION" in arguments:
        arguments["PRECISION"] = "ieee" if target.startswith("gfx") else "tf32x3"
    for at, parameter in enumerate(launch.kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = f"*{NUMBERS[value.dtype]}"
            attributes[at,] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "i32"
    source = ASTSource(launch.kernel, signature, constants, attributes)
    began = time.perf_counter()
    made = triton.compile(source, target=TARGETS[target], options=dict(launch.options))
    seconds = time.perf_counter() - began
    registers, spilled = (_of_amd if target.startswith("gfx") else _of_nvidia)(made.asm, target)
    return Made(registers, spilled, made.metadata.shared, seconds, made.asm)


def _of_nvidia(texts: Mapping[str, Any], target: str) -> tuple[int, int]:
    """Registers and spilled bytes (stored and loaded) per thread, as ptxas reports them."""
    from triton.backends.nvidia.compiler import get_ptxas

    number = int(target.removeprefix("sm_"))
    named = re.search(r"\.target (sm_\w+)", texts["ptx"])
    assert named
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(texts["ptx"])
        command = [get_ptxas(number).path, "-v", f"--gpu-name={named[1]}", str(path), "-o", f"{folder}/kernel.cubin"]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    used, spills = re.search(r"Used (\d+) registers", log), re.findall(r"(\d+) bytes spill", log)
    assert used
    return int(used[1]), sum(map(int, spills))


def _of_amd(texts: Mapping[str, Any], target: str) -> tuple[int, int]:
    """Vector registers and spilled bytes per thread, as the assembly notes them."""
    used, spilled = (re.search(rf"\.{n}:\s+(\d+)", texts["amdgcn"]) for n in ("vgpr_count", "vgpr_spill_count"))
    assert used
    assert spilled
    return int(used[1]), 4 * int(spilled[1])


def left_operands(texts: Mapping[str, Any]) -> list[str]:
    """The types of the left operands of all products of a warp group."""
    lines = [line for line in texts["ttgir"].splitlines() if "ttng.warp_group_dot " in line]
    return [line.rsplit(" : ", 1)[1].split(" * ")[0] for line in lines]


def trapped(texts: Mapping[str, Any]) -> list[str]:
    """Left operands in registers: Hopper's trap (design/performance.md)."""
    return [left for left in left_operands(texts) if "dot_op" in left]


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows in columns."""
    shown = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in shown)

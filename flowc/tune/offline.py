"""Emitted kernels compiled without a GPU: what a call would launch, what its kernels take of registers and spill.

In: an emitted module, a call on tensors without storage. Out: `Launch`es, noted instead of done, what a compiler makes
of one for a target, and what speaks against a configuration. Refuses to work under TRITON_INTERPRET, where nothing
is compiled.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from flowc.compiler import Compilation
from flowc.fuzz.cases import Case, type_of
from flowc.runtime.load import load
from flowc.schedule.tilings import Tiling
from flowc.schedule.tuned import Place
from flowc.semantics.model import Input
from flowc.tune.trial import BLANK, Workload, row

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
FAMILIES = {"sm_80": "ampere", "sm_90": "any", "sm_100": "blackwell", "gfx942": "amd"}
NUMBERS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.int32: "i32", torch.int64: "i64"}


SHARED = {"sm_80": 166_912, "sm_90": 232_448, "sm_100": 232_448, "gfx942": 65_536}
"""Bytes of shared memory that a program may have."""


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


@dataclass(frozen=True, slots=True)
class Taken:
    """What a kernel takes: bytes spilled and shared, and whether it is in Hopper's trap."""

    spilled: int
    shared: int
    trapped: bool


class Recorder:
    """Stands where a kernel stands in its module, and notes launches instead of doing them."""

    def __init__(self, name: str, kernel: JITFunction, found: list[Launch]) -> None:
        """Under a name, for a list."""
        self.name, self.kernel, self.found = name, kernel, found

    def __getitem__(self, grid: object) -> Any:
        """What notes a launch of any grid."""
        options = ("num_warps", "num_stages", "enable_fp_fusion")

        def launch(*placed: Any, **given: Any) -> None:
            named = dict(zip((p.name for p in self.kernel.params), placed, strict=False))
            arguments = named | {k: v for k, v in given.items() if k not in options}
            self.found.append(Launch(self.name, self.kernel, arguments, {k: given[k] for k in options if k in given}))

        return launch


@contextmanager
def recorded(module: ModuleType, family: str) -> Iterator[list[Launch]]:
    """A module whose kernels are noted instead of launched, whatever device its tensors are on."""
    found: list[Launch] = []
    before = dict(vars(module))
    for name, value in before.items():
        if isinstance(value, JITFunction):
            setattr(module, name, Recorder(name, value, found))
    vars(module).update(_on_triton=lambda *_: True, _family=lambda *_: family)
    try:
        yield found
    finally:
        vars(module).update(before)


def special(launch: Launch) -> dict[str, int]:
    """The integers that a launch is compiled for, as at a call: 1 where one is 1, 16 where it is a multiple of 16."""
    found = {}
    for p in launch.kernel.params:
        value = launch.arguments[p.name]
        if type(value) is int and not p.is_constexpr and not p.do_not_specialize and (value == 1 or value % 16 == 0):
            found[p.name] = 1 if value == 1 else 16
    return found


def make(launch: Launch, target: str) -> Made:
    """Compile a launch."""
    constants: dict[str, Any] = {}
    signature: dict[str, str] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    arguments, known = dict(launch.arguments), special(launch)
    if "PRECISION" in arguments:
        arguments["PRECISION"] = "ieee" if target.startswith("gfx") else "tf32x3"
    for at, parameter in enumerate(launch.kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = f"*{NUMBERS[value.dtype]}"
            attributes[at,] = [["tt.divisibility", 16]]
        elif known.get(parameter.name) == 1:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        else:
            signature[parameter.name] = "i32"
            if parameter.name in known:
                attributes[at,] = [["tt.divisibility", 16]]
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


class Compiler:
    """What speaks against configurations of a call's kernels, on a device that is not there."""

    def __init__(self, compilation: Compilation, work: Workload, family: str) -> None:
        """Make the module, with a table of configurations to write to."""
        self.work, self.family, self.model = work, family, compilation.model
        self.target = next(t for t, f in FAMILIES.items() if f == family)
        artifact = compilation.configured((BLANK,)).artifact
        self.module, self.function = load(artifact), artifact.function
        self.found: dict[tuple[str, Tiling | None], Taken] = {}

    def against(self, place: Place, tiling: Tiling, schedule: str) -> str | None:
        """Why a kernel cannot be configured so, or had better not; None: nothing speaks against it."""
        own, rule = self._made(place, tiling, schedule), self._made(place, None, schedule)
        if own.spilled > rule.spilled:
            return f"it spills {own.spilled} bytes a thread, by the rules {rule.spilled}"
        if own.shared > SHARED[self.target]:
            return f"it takes {own.shared:,} bytes of shared memory; a program has {SHARED[self.target]:,}"
        if own.trapped and not rule.trapped:
            return "a product of a warp group takes its left operand from registers, which some ptxas get wrong"
        return None

    def _made(self, place: Place, tiling: Tiling | None, schedule: str) -> Taken:
        """What a kernel takes, the most of its launches; by the rules for None."""
        if (place.role, tiling) not in self.found:
            rows = () if tiling is None else (astuple(row(place, tiling)),)
            made = [make(launch, self.target) for launch in self._launches(place, rows, schedule)]
            spilled, shared = (max(getattr(m, what) for m in made) for what in ("spilled", "shared"))
            is_trapped = self.target == "sm_90" and any(trapped(m.texts) for m in made)
            self.found[place.role, tiling] = Taken(spilled, shared, is_trapped)
        return self.found[place.role, tiling]

    def _launches(self, place: Place, rows: tuple[object, ...], schedule: str) -> list[Launch]:
        """Those of a kernel in a call on tensors without storage."""
        found: list[Launch] = []
        run, module = self.module._Kernels.run, self.module

        def watched(call: Any, kernel: Any, role: str, *given: Any, **named: Any) -> None:
            own = Recorder(role, kernel.kernel, found if role == place.role else [])
            run(call, own, role, *given, **named)

        with recorded(module, self.family):
            vars(module).update(_TUNED=rows, _place=lambda _: (place.family, place.device))
            module._found.cache_clear()
            module._Kernels.run = watched
            try:
                self._call(schedule)
            finally:
                module._Kernels.run = run
                module._found.cache_clear()
        return found

    def _call(self, schedule: str) -> None:
        given = {i.name: self._empty(i) for i in self.model.inputs}
        with torch.set_grad_enabled(self.work.trained):
            made = getattr(self.module, self.function)(**given, schedule=schedule)
            outputs = list(made) if isinstance(made, tuple) else [made]
            if self.work.trained:
                ones = [torch.empty_like(o) for o in outputs]
                torch.autograd.grad(outputs, list(given.values()), ones, allow_unused=True)

    def _empty(self, i: Input) -> torch.Tensor:
        shape = self.work.shape
        lead = (shape.heads,) if i.is_param else (shape.batch, shape.length, shape.heads)
        sizes = (*lead, *(s.value(self.work.sizes) for s in i.shape.sizes))
        dtype = type_of(i, Case(), self.work.dtype)
        return torch.empty(sizes, dtype=dtype, device="meta", requires_grad=self.work.trained)

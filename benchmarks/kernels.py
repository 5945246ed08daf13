"""Emitted kernels compiled for devices that are not there: registers, spills, shared memory, how products are made.

    .venv/bin/python benchmarks/kernels.py [NAMES] [--golden] [--json benchmarks/results/kernels.json] [--workers 2]

In: examples, all of them without names; with `--golden` the modules of tests/golden as they lie. Out: a table with a
line for every kernel that something is amiss with and a sum per setting, and every kernel as JSON. All are compiled at
K = V = 128 in bfloat16 for every target; other types, sizes and aggregations are sampled on three examples. Exits with
1 where a kernel does not compile or has a product of a warp group whose left operand is in registers; where an
example's spills at K = V = 128 in half precision with what the plan chooses.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import offline
import torch
import triton
from processes import ROOT, commit, machine
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import flowc
from flowc.semantics import load

SAMPLED = ("gated_deltanet", "kda", "gated_lowrank_delta")
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Setting:
    """What a call's kernels are compiled for."""

    target: str
    keys: int = 128
    values: int = 128
    dtype: str = "bf16"
    aggregation: str = "auto"

    def __str__(self) -> str:
        """As the table names it."""
        return f"{self.target} K {self.keys} V {self.values} {self.dtype} {self.aggregation}"

    @property
    def is_chosen(self) -> bool:
        """Whether the plan promises that nothing spills."""
        return self.keys == self.values == 128 and self.dtype != "fp32" and self.aggregation == "auto"


MAIN = tuple(Setting(target) for target in offline.TARGETS)
SAMPLES = (
    *(Setting("sm_90", dtype=dtype) for dtype in ("fp16", "fp32")),
    *(Setting("sm_90", keys, values) for keys, values in ((64, 64), (128, 256), (256, 256))),
    *(Setting("sm_90", aggregation=aggregation) for aggregation in ("tensorinv", "signature")),
    *(Setting(target, dtype="fp32") for target in offline.TARGETS if target != "sm_90"),
)


@dataclass(frozen=True)
class Row:
    """One kernel of one example; `error` is what the compiler said where there is none."""

    example: str
    kernel: str
    setting: str
    configuration: dict[str, int]
    registers: int = 0
    spilled: int = 0
    shared: int = 0
    warp_group_products: int = 0
    products: int = 0
    left_in_registers: int = 0
    error: str = ""


def module_of(name: str, golden: bool) -> ModuleType:
    """An example's module: compiled, or as it lies in tests/golden."""
    if not golden:
        return flowc.compile(ROOT / f"examples/{name}.flow")._module
    path = ROOT / f"tests/golden/{name}.py"
    found = importlib.util.spec_from_file_location(f"golden_{name}", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


def rows(name: str, setting: Setting, golden: bool) -> list[Row]:
    """Every kernel of an example."""
    model = load((ROOT / f"examples/{name}.flow").read_text(), name)
    made = offline.launches(
        module_of(name, golden), model, setting.target, setting.keys, setting.values, TYPES[setting.dtype],
        aggregation=setting.aggregation,
    )  # fmt: skip
    return [row(name, setting, launch) for launch in made]


def row(name: str, setting: Setting, launch: offline.Launch) -> Row:
    """One kernel."""
    sizes = {
        n.lower(): launch.arguments[n] for n in ("TOKENS", "KEY_TILE", "VALUE_TILE", "WIDTH") if n in launch.arguments
    }
    where = (name, launch.name.removeprefix("_"), str(setting), sizes | dict(launch.options))
    try:
        made = offline.make(launch, setting.target)
    except Exception as error:  # whatever a compiler raises is the result here
        return Row(*where, error=f"{type(error).__name__}: {error}"[:500])
    groups = len(offline.left_operands(made.texts))
    others = made.texts["ttgir"].count("tt.dot ") + made.texts["ttgir"].count("tc_gen5_mma")
    trapped = len(offline.trapped(made.texts))
    return Row(*where, made.registers, made.spilled, made.shared, groups, others, trapped)


def compiled(tasks: Sequence[tuple[str, Setting, bool]], workers: int) -> Iterator[Row]:
    """All of them, with progress."""
    with Progress(console=Console(stderr=True)) as progress, ProcessPoolExecutor(workers) as pool:
        bar = progress.add_task("compiling", total=len(tasks))
        for done in as_completed([pool.submit(rows, *task) for task in tasks]):
            progress.advance(bar)
            yield from done.result()


def show(found: Sequence[Row]) -> None:
    """A line per kernel that something is amiss with, then a line per setting."""
    amiss = [r for r in found if r.spilled or r.left_in_registers or r.error]
    table = Table(title="kernels that spill, or worse")
    for name in ("example", "kernel", "setting", "registers", "spilled bytes", "shared bytes", "amiss"):
        table.add_column(name, justify="right" if name.endswith(("s", "bytes")) else "left")
    for r in amiss:
        what = r.error.splitlines()[0] if r.error else "left operand in registers" if r.left_in_registers else ""
        table.add_row(r.example, r.kernel, r.setting, *map(str, (r.registers, r.spilled, r.shared)), what)
    sums = Table(title=f"Triton {triton.__version__}")
    for name in (
        "setting",
        "kernels",
        "spill",
        "most spilled bytes",
        "most shared bytes",
        "on warp groups",
        "other products",
    ):
        sums.add_column(name, justify="left" if name == "setting" else "right")
    for setting in dict.fromkeys(r.setting for r in found):
        own = [r for r in found if r.setting == setting]
        sums.add_row(
            setting, str(len(own)), str(sum(r.spilled > 0 for r in own)), str(max(r.spilled for r in own)),
            str(max(r.shared for r in own)), str(sum(r.warp_group_products for r in own)),
            str(sum(r.products for r in own)),
        )  # fmt: skip
    console = Console(width=160)
    if amiss:
        console.print(table)
    console.print(sums)


def main() -> int:
    """Compile, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="examples; all of them if none are named")
    parser.add_argument("--golden", action="store_true", help="the modules of tests/golden, for every target")
    parser.add_argument("--json", type=Path, help="save every kernel there, with versions, commit and command")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    known = sorted(p.stem for p in (ROOT / "tests/golden").glob("*.py")) if args.golden else None
    known = known or sorted(p.stem for p in (ROOT / "examples").glob("*.flow"))
    if unknown := set(args.names) - set(known):
        parser.error(f"no example {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    names = args.names or known
    tasks = [(n, setting, args.golden) for setting in MAIN for n in names]
    if not args.golden:
        tasks += [(n, setting, False) for setting in SAMPLES for n in names if n in SAMPLED]
    found = sorted(compiled(tasks, args.workers), key=lambda r: (r.setting, r.example))
    show(found)
    if args.json is not None:
        where: dict[str, Any] = {"machine": machine(), "commit": commit(), "command": shlex.join(sys.argv)}
        where["versions"] = {"torch": torch.__version__, "triton": triton.__version__}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**where, "kernels": [asdict(r) for r in found]}, indent=1) + "\n")
    # What spills is chosen for the Triton that is pinned; others compile the golden modules.
    chosen = set() if args.golden else {str(s) for s in (*MAIN, *SAMPLES) if s.is_chosen}
    return int(any(r.error or r.left_in_registers or (r.spilled and r.setting in chosen) for r in found))


if __name__ == "__main__":
    sys.exit(main())

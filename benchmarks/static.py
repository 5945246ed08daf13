"""Every kernel of every example, compiled for devices that are not there: what it holds, what it spills.

    .venv/bin/python benchmarks/static.py [NAME ...] [--json benchmarks/results/static.json] [--workers 2]

In: examples, all of them without names. Out: a row for every launch, in bfloat16: with the configuration that is chosen
for Hopper at K = V of 64, 128 and 256 and at K 128, V 256, in chunks of 32 and 64 rows, for all other families at K = V
= 128 in chunks of 64; backward kernels and those of segments for Hopper there; and, for Hopper there, walks in all
other configurations that are chosen from. A row's key is a hash of the kernel's text, its arguments and options, the
target and Triton's version: what the file has already is not compiled again. Exits with 1 where a kernel that is chosen
spills, does not compile, makes a product of 16 or more rows without matrix units, or has the left operand of a warp
group's in registers; and where a walk is predicted to take over 1.25 times as long as it would in the best of those
configurations that spills nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
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
from flowc.compiler import Stage, compile_text
from flowc.files import write_whole
from flowc.options import Options
from flowc.schedule.devices import DEVICES
from flowc.schedule.plan import Plan
from flowc.schedule.predict import HALF, Shape, kernel_model, nominal
from flowc.schedule.staged import kernel_plan
from flowc.schedule.tilings import FUSED
from flowc.semantics import load
from flowc.source import Source

RESULTS = ROOT / "benchmarks/results/static.json"
SIZES = ((64, 64), (128, 128), (256, 256), (128, 256))


@dataclass(frozen=True)
class Setting:
    """What a call's kernels are compiled for: device, the state's rows and columns, a chunk's rows.

    `columns` and `warps` stand for what is chosen: as `None` for all kernels, or a number that other ones have. `rows`
    of None are those that a call chooses, where backward kernels are looked at.
    """

    target: str
    keys: int = 128
    values: int = 128
    rows: int | None = 64
    columns: int | None = None
    warps: int | None = None

    @property
    def is_chosen(self) -> bool:
        """Whether kernels are configured as they would be at a call."""
        return self.columns is None


CHOSEN = (
    *(Setting("sm_90", k, v, rows) for k, v in SIZES for rows in (32, 64)),
    *(Setting(target) for target in offline.TARGETS if target != "sm_90"),
    Setting("sm_90", rows=None),
)
OTHERS = tuple(Setting("sm_90", columns=columns, warps=warps) for columns, warps in FUSED)


@dataclass(frozen=True)
class Row:
    """One launch; `elsewhere` are products that no matrix unit makes; `error` is what the compiler said, if it did."""

    key: str
    example: str
    kernel: str
    setting: str
    configuration: dict[str, int]
    registers: int = 0
    spilled: int = 0
    shared: int = 0
    warp_groups: int = 0
    products: int = 0
    elsewhere: int = 0
    trapped: int = 0
    error: str = ""


def key_of(launch: offline.Launch, target: str) -> str:
    """A hash of all that the compiler goes by, but for the lines that a kernel stands on."""
    arguments = {n: str(getattr(v, "dtype", v)) for n, v in launch.arguments.items() if _is_fixed(launch, n, v)}
    text: list[Any] = [sources(launch), sorted(arguments.items()), sorted(launch.options.items()), target]
    if known := offline.special(launch):
        text.append(sorted(known.items()))
    return hashlib.sha256(repr([*text, triton.__version__]).encode()).hexdigest()[:24]


def sources(launch: offline.Launch) -> list[str]:
    """The texts of a kernel and of the device functions that it calls, in turn."""
    found: dict[str, str] = {}
    todo = [launch.kernel]
    while todo:
        kernel = todo.pop()
        if kernel.__name__ not in found:
            found[kernel.__name__] = kernel.src
            names = sorted(set(re.findall(r"\b_tl_\w+", kernel.src)))
            todo += [kernel.__globals__[n] for n in names if n in kernel.__globals__]
    return [found[n] for n in sorted(found)]


def _is_fixed(launch: offline.Launch, name: str, value: object) -> bool:
    """Whether an argument is part of the compilation: a type, a constant, or nothing."""
    constant = next(p for p in launch.kernel.params if p.name == name).is_constexpr
    return constant or value is None or isinstance(value, torch.Tensor)


@contextmanager
def configured(module: ModuleType, setting: Setting) -> Iterator[None]:
    """A module whose kernels are configured as a setting says."""
    if setting.is_chosen or not hasattr(module, "_tiling"):
        yield
        return
    before, tiles = module._tiling, module._tiles

    def tiling(role: str, *given: Any) -> tuple[int, int, int, int]:
        columns, rows, warps, stages = before(role, *given)
        return setting.columns or columns, rows, setting.warps or warps, stages

    vars(module).update(_tiling=tiling, _tiles=tiles.__wrapped__)
    try:
        yield
    finally:
        vars(module).update(_tiling=before, _tiles=tiles)


@cache
def _module(name: str) -> ModuleType:
    return flowc.compile(ROOT / f"examples/{name}.flow")._module


@cache
def _plan(name: str) -> Plan:
    text = (ROOT / f"examples/{name}.flow").read_text()
    plan = compile_text(Source(name, text), Options(), Stage.PLAN).plan
    assert plan is not None
    return plan


def launches(name: str, setting: Setting) -> list[offline.Launch]:
    """The forward launches of an example, by both schedules, and its step; or the backward ones."""
    module, model = _module(name), load((ROOT / f"examples/{name}.flow").read_text(), name)
    if not setting.is_chosen and not hasattr(module, "_tiling"):
        return []
    with configured(module, setting):
        found = offline.launches(
            module, model, setting.target, setting.keys, setting.values, torch.bfloat16, rows=setting.rows
        )
    own = [f for f in found if ("_backward" in f.name or f.name in offline.SEGMENTS) == (setting.rows is None)]
    return own if setting.is_chosen else [f for f in own if f.name.startswith(("_fused", "_walk"))]


def row(name: str, setting: Setting, launch: offline.Launch) -> Row:
    """One launch, compiled."""
    sizes = {
        n.lower(): launch.arguments[n] for n in ("TOKENS", "KEY_TILE", "VALUE_TILE", "WIDTH") if n in launch.arguments
    }
    options = {n: v for n, v in launch.options.items() if n != "enable_fp_fusion"}
    about = f"{setting.target} K {setting.keys} V {setting.values} rows {setting.rows or 'as chosen'}"
    where = (key_of(launch, setting.target), name, launch.name.removeprefix("_"), about, sizes | options)
    try:
        made = offline.make(launch, setting.target)
    except Exception as error:  # whatever a compiler raises is the result here
        return Row(*where, error=f"{type(error).__name__}: {error}"[:500])
    text = made.texts["ttgir"]
    groups, dots = len(offline.left_operands(made.texts)), re.findall(r"tt\.dot .*-> tensor<[^#]*(#\w+)>", text)
    units = {
        n for n, kind in re.findall(r"^(#\w+) = #ttg\.(\w+)<", text, re.MULTILINE) if "mma" in kind or "mfma" in kind
    }
    elsewhere = sum(d not in units for d in dots)
    tensors = len(re.findall(r"tc_gen5_mma ", text))
    return Row(
        *where, made.registers, made.spilled, made.shared, groups, len(dots) - elsewhere + tensors, elsewhere,
        len(offline.trapped(made.texts)),
    )  # fmt: skip


def rows(name: str, setting: Setting, known: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Every launch of an example in one setting, as known or compiled."""
    found = {key_of(launch, setting.target): launch for launch in launches(name, setting)}
    return [Row(**known[k]) if k in known else row(name, setting, launch) for k, launch in found.items()]


def compiled(names: Sequence[str], workers: int, known: Mapping[str, Mapping[str, Any]]) -> Iterator[list[Row]]:
    """All of them, with progress."""
    tasks = [(n, setting) for n in names for setting in (*CHOSEN, *OTHERS)]
    with Progress(console=Console(stderr=True)) as progress, ProcessPoolExecutor(workers) as pool:
        bar = progress.add_task("compiling", total=len(tasks))
        for done in as_completed([pool.submit(rows, *task, known) for task in tasks]):
            progress.advance(bar)
            yield done.result()


def read(path: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The rows of a file by their keys; none where there is no file."""
    return {r["key"]: r for r in json.loads(path.read_text())["rows"]} if path.exists() else {}


def chosen_keys(names: Sequence[str]) -> dict[str, tuple[str, Setting, offline.Launch]]:
    """The launches of examples as they are configured, by their keys."""
    found = {}
    for name in names:
        for setting in CHOSEN:
            for launch in launches(name, setting):
                found.setdefault(key_of(launch, setting.target), (name, setting, launch))
    return found


def amiss(row: Mapping[str, Any]) -> str:
    """What is wrong with a kernel that is chosen."""
    faults = {
        row["error"].splitlines()[0] if row["error"] else "": bool(row["error"]),
        f"{row['spilled']} bytes spilled": row["spilled"] > 0,
        f"{row['elsewhere']} products without matrix units": row["elsewhere"] > 0,
        "left operand in registers": row["trapped"] > 0,
    }
    return ", ".join(n for n, there in faults.items() if there)


JUDGED = {"fused": Shape(8, 4096, 16), "walk": Shape(1, 8192, 4)}
"""Where each kind of walk is chosen: the one that makes outputs where heads are many, the other where they are few."""

SLOWEST = 1.25


def against_best(name: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The walks of an example on Hopper at K = V = 128: times predicted as configured, of the best that spills nothing.

    `found` are rows by their keys.
    """
    times: dict[tuple[str, bool], float] = {}
    for setting in (Setting("sm_90"), *OTHERS):
        for launch in launches(name, setting):
            row, time = found.get(key_of(launch, setting.target)), predicted(name, launch)
            if row is not None and time is not None and (setting.is_chosen or not row["spilled"]):
                at = launch.name.removeprefix("_"), setting.is_chosen
                times[at] = min(time, times.get(at, time))
    return {role: time / times[role, False] for (role, own), time in times.items() if own and (role, False) in times}


def predicted(name: str, launch: offline.Launch) -> float | None:
    """Seconds that a walk is predicted to take as it is launched; None for what is no walk."""
    stages, (dimensions, _) = getattr(kernel_plan(_plan(name)), "stages", ()), nominal(_plan(name))
    role = launch.name.removeprefix("_")
    for stage in stages:
        for kernel in (*stage.cuts.forward.kernels, stage.cuts.fused):
            if kernel is not None and kernel.name in JUDGED and f"{kernel.name}{stage.suffix}" == role:
                tokens, options = launch.arguments["TOKENS"], launch.options
                tiles = launch.arguments["VALUE_TILE"], launch.arguments["KEY_TILE"]
                how = *tiles, options["num_warps"], options["num_stages"]
                model = kernel_model(kernel, stage, dimensions, tokens, "any", configured=how)
                return model.at(JUDGED[kernel.name], tokens, DEVICES["h200"], HALF).seconds
    return None


def show(found: Sequence[Mapping[str, Any]]) -> None:
    """A line for every kernel that something is amiss with, then one for every setting."""
    console = Console(width=150)
    table = Table(title="kernels that something is amiss with")
    for name in ("example", "kernel", "setting", "configuration", "registers", "amiss"):
        table.add_column(name)
    for r in sorted(found, key=lambda r: (r["setting"], r["example"], r["kernel"])):
        if amiss(r):
            own = r["configuration"]
            how = f"{own.get('value_tile', '-')} x {own.get('key_tile', '-')}, {own['num_warps']} warps"
            table.add_row(r["example"], r["kernel"], r["setting"], how, str(r["registers"]), amiss(r))
    sums = Table(title=f"chosen kernels, Triton {triton.__version__}")
    for name in (
        "setting",
        "kernels",
        "spill",
        "most bytes spilled",
        "most registers",
        "warp groups",
        "other products",
    ):
        sums.add_column(name, justify="left" if name == "setting" else "right")
    for setting in dict.fromkeys(r["setting"] for r in found):
        own = [r for r in found if r["setting"] == setting]
        numbers = (
            len(own), sum(r["spilled"] > 0 for r in own), *(max(r[n] for r in own) for n in ("spilled", "registers")),
            *(sum(r[n] for r in own) for n in ("warp_groups", "products")),
        )  # fmt: skip
        sums.add_row(setting, *(f"{n:,}" for n in numbers))
    if table.row_count:
        console.print(table)
    console.print(sums)


def main() -> int:
    """Compile, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="examples; all of them if none are named")
    parser.add_argument("--json", type=Path, help="keep every row there, with versions, commit and command")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    known = sorted(p.stem for p in (ROOT / "examples").glob("*.flow"))
    if unknown := set(args.names) - set(known):
        parser.error(f"no example {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    names = args.names or known
    found = read(args.json) if args.json is not None else {}
    about: dict[str, Any] = {"machine": machine(), "commit": commit(), "command": shlex.join(sys.argv)}
    about["versions"] = {"torch": torch.__version__, "triton": triton.__version__}
    made: dict[str, dict[str, Any]] = {}
    for part in compiled(names, args.workers, found):
        made |= {r.key: asdict(r) for r in part}
        if args.json is not None:
            keep = found | made if args.names else made
            write_whole(args.json, json.dumps({**about, "rows": list(keep.values())}, indent=0) + "\n")
    chosen = [made[k] for k in chosen_keys(names)]
    show(chosen)
    slow = {(n, role): ratio for n in names for role, ratio in against_best(n, made).items() if ratio > SLOWEST}
    for (name, role), ratio in slow.items():
        print(f"{name}: {role} is predicted to take {ratio:.2f} times as long as the best that spills nothing")
    return int(bool(slow) or any(map(amiss, chosen)))


if __name__ == "__main__":
    sys.exit(main())

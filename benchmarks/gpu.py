"""Passes on a GPU beside flash-linear-attention's, in one process: values against float64 first, then times.

    .venv/bin/python benchmarks/gpu.py [NAME ...] [--passes forward|both] [--json FILE] [--svg FILE]
        [--ops A,B] [--budget MINUTES] [--again] [--tiny] [--tools DIR]

Forward passes without gradients, and forward and backward together (both); without `--passes` first all of the one,
then all of the other. Values are outputs and gradients, on rounded inputs. Times are medians of
`triton.testing.do_bench` with 25 ms to warm up and 100 ms of repetitions, in bfloat16, arguments ready, at the six
shapes that the peer measures itself by; gated_deltanet at B 8, T 4096, H 16, K = V = 128 as well. The peer runs twice:
its own Triton kernels, then whatever backend it chooses. Beside each time stands the least that the device takes to
read the inputs and write the outputs, and for a backward pass to read inputs and cotangents and write gradients; and
what the cost model predicts; FILE has what every kernel of flowc's took as well (`kernel_times`), for
benchmarks/model.py. Without the peer its columns are empty. FILE is written after every row; what it has of
this commit, these versions and this device is not measured again, unless `--again`, and nothing is begun after MINUTES.
`--tiny` takes small shapes in float16, under TRITON_INTERPRET=1 without a GPU, where times mean nothing; DIR,
../shared/tools of this project, lets the peer run there too. Exits with 1 where a value is wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from command import device_name, known_device, names_in
from gpu_peers import PEERS, Ready, absent, is_there, peer_versions, triton_path
from inputs import drawn, sizes_of
from kernel_times import UnprofiledError, kernel_times
from ledger import SAME, read
from processes import ROOT, commit, machine
from rich.console import Console
from rich.table import Table

import flowc
from flowc.files import write_whole
from flowc.report.curves import Panel, svg
from flowc.report.shape import shape_facts
from flowc.schedule.devices import Device
from flowc.schedule.predict import Shape
from flowc.semantics import load
from flowc.semantics.model import Model

SHAPES = (  # B, T, H, K = V
    (1, 8192, 96, 128),
    (2, 16384, 16, 128),
    (4, 2048, 16, 128),
    (4, 4096, 64, 128),
    (8, 2048, 32, 256),
    (8, 1024, 8, 64),
)
ANCHOR = "gated_deltanet", (8, 4096, 16, 128)
VALUES = (2, 512, 4, 128)
TINY = ((1, 64, 2, 16), (2, 48, 1, 32))
GOALS = {
    "forward": {"geometric mean": 2.0, "least": 1.0, "anchor, ms": 0.40},
    "both": {"geometric mean": 1.5, "least": 1.0, "anchor, ms beyond forward": 1.5},
}
"""Of the peer's Triton path; measured on an H200."""

ERROR = {torch.bfloat16: 8 * 2.0**-8, torch.float16: 8 * 2.0**-11}
"""Of the largest output: operands of products are rounded, and at most eight products follow one another."""


@dataclass(frozen=True)
class Row:
    """One op at one shape; times in milliseconds, None where there is none.

    `kernels` are flowc's by name; empty where `unprofiled` says why.
    """

    name: str
    passes: str
    shape: tuple[int, int, int, int]
    limit: float | None
    predicted: float | None
    flowc: float
    peer: float | None
    peer_default: float | None
    kernels: dict[str, float]
    unprofiled: str | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as long the peer's Triton path takes."""
        return None if self.peer is None else self.peer / self.flowc


def errors(name: str, shape: Sequence[int], dtype: torch.dtype, device: str) -> dict[str, dict[str, float]]:
    """The largest difference from float64 step by step, over the largest number of the same output or gradient."""
    op, model = example(name)
    x = drawn(model, shape[:3], sizes_of(model, shape[3]), dtype, device)
    exact = results(op.reference, {n: v.double() for n, v in x.items()})
    found = {"flowc": results(lambda **given: op(**given, backend="triton"), x)}
    if is_there():
        with triton_path():
            found["peer"] = results(lambda **given: PEERS[name].called(given), x)
    return {side: {n: _apart(v, exact[n]) for n, v in made.items()} for side, made in found.items()}


def results(call: Callable[..., torch.Tensor], inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The output `o` of a call, and the gradient of every input for the sum of squares."""
    leaves = {n: v.detach().requires_grad_() for n, v in inputs.items()}
    o = call(**leaves)
    grads = torch.autograd.grad(o, list(leaves.values()), 2 * o.detach(), allow_unused=True)
    return {"o": o.detach(), **{f"d{n}": g for n, g in zip(leaves, grads, strict=True) if g is not None}}


def _apart(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).abs().max() / exact.abs().max())


def measured(
    name: str, passes: str, shape: tuple[int, int, int, int], dtype: torch.dtype, device: str, tiny: bool
) -> Row:
    """The times of one op at one shape."""
    op, model = example(name)
    x = drawn(model, shape[:3], sizes_of(model, shape[3]), dtype, device)
    known = known_device()
    trained = passes == "both"
    leaves = {n: v.requires_grad_(trained) for n, v in x.items()}
    ours = Ready(lambda: op(**leaves, backend="triton"), tuple(leaves.values()))
    with torch.set_grad_enabled(trained):
        call = ours.both if trained else ours.call
        own = milliseconds(call, tiny)
        kernels, unprofiled = profiled(call, device)
        peers: list[float | None] = [None, None]
        if is_there():
            for at, path in enumerate((triton_path, nullcontext)):
                with path():
                    ready = PEERS[name].ready(x, trained)
                    peers[at] = milliseconds(ready.both if trained else ready.call, tiny)
    inputs = sum(v.numel() * v.element_size() for v in x.values())
    moved = inputs * (3 if trained else 1) + x["v"].numel() * x["v"].element_size() * (2 if trained else 1)
    limit = None if known is None else 1e3 * moved / known.bandwidth
    predicted = _predicted(op, shape, known, trained)
    return Row(name, passes, shape, limit, predicted, own, *peers, kernels=kernels, unprofiled=unprofiled)


def profiled(call: Callable[[], object], device: str) -> tuple[dict[str, float], str | None]:
    """What every kernel takes, or why nothing tells."""
    try:
        return kernel_times(call, device == "cuda"), None
    except UnprofiledError as error:
        return {}, str(error)


def _predicted(op: Any, shape: Sequence[int], device: Device | None, trained: bool) -> float | None:
    """What the cost model says, in milliseconds."""
    if device is None:
        return None
    batch, length, heads, side = shape
    found = shape_facts(op.compilation, Shape(batch, length, heads), (side, side), device, trained)
    return 1e3 * found.seconds


def milliseconds(call: Callable[[], object], tiny: bool) -> float:
    """The median of many; of tiny shapes that of one."""
    if not tiny:
        return float(triton.testing.do_bench(call, warmup=25, rep=100, return_mode="median"))
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def example(name: str) -> tuple[Any, Model]:
    """An op and its model."""
    text = (ROOT / f"examples/{name}.flow").read_text()
    return flowc.compile(text), load(text, name)


def shapes(name: str, tiny: bool) -> tuple[tuple[int, int, int, int], ...]:
    """Where an op is measured."""
    return TINY if tiny else (*SHAPES, *([ANCHOR[1]] if name == ANCHOR[0] else []))


def table(rows: Sequence[Row]) -> Table:
    """A line for every op and shape."""
    made = Table(title="milliseconds")
    for column in ("op", "passes", "B, T, H, D"):
        made.add_column(column)
    for column in ("limit", "predicted", "flowc", "of the limit", "peer, Triton", "peer, default", "peer / flowc"):
        made.add_column(column, justify="right")
    for r in rows:
        part = None if r.limit is None else f"{r.limit / r.flowc:.0%}"
        ratio = None if r.ratio is None else f"{r.ratio:.2f}"
        times = [None if t is None else f"{t:.3f}" for t in (r.limit, r.predicted, r.flowc, r.peer, r.peer_default)]
        cells = [*times[:3], part, *times[3:], ratio]
        made.add_row(r.name, r.passes, ", ".join(map(str, r.shape)), *(c or "-" for c in cells))
    return made


def goals(rows: Sequence[Row]) -> dict[str, dict[str, tuple[float, float]]]:
    """What was reached of each goal of either kind of passes, and the goal."""
    found: dict[str, dict[str, float]] = {kind: {} for kind in GOALS}
    for kind, reached in found.items():
        ratios = [r.ratio for r in rows if r.passes == kind and r.ratio is not None]
        if ratios:
            reached |= {"geometric mean": math.exp(sum(map(math.log, ratios)) / len(ratios)), "least": min(ratios)}
    anchor = {r.passes: r.flowc for r in rows if (r.name, r.shape) == ANCHOR}
    if "forward" in anchor:
        found["forward"]["anchor, ms"] = anchor["forward"]
    if len(anchor) > 1:
        found["both"]["anchor, ms beyond forward"] = anchor["both"] - anchor["forward"]
    return {kind: {n: (value, GOALS[kind][n]) for n, value in reached.items()} for kind, reached in found.items()}


def picture(rows: Sequence[Row]) -> str:
    """Time against the limit, or where there is none against the tokens and heads: a panel for every op."""
    panels = []
    for name, passes in dict.fromkeys((r.name, r.passes) for r in rows):
        own = sorted((r for r in rows if (r.name, r.passes) == (name, passes)), key=lambda r: _across(r)[0])
        series = {
            label: [(_across(r)[0], value) for r in own if (value := getattr(r, of)) is not None]
            for label, of in (
                ("limit", "limit"),
                ("flowc", "flowc"),
                ("peer, Triton", "peer"),
                ("peer", "peer_default"),
            )
        }
        panels.append(Panel(f"{name}, {passes}", _across(own[0])[1], {n: s for n, s in series.items() if s}))
    return svg(panels, "milliseconds")


def _across(r: Row) -> tuple[float, str]:
    """Where a row stands, and what that axis says."""
    if r.limit is not None:
        return r.limit, "limit, ms"
    return float(math.prod(r.shape[:3])), "tokens and heads"


def prepared(tools: Path | None) -> None:
    """Let the peer run without a GPU, by what is in `tools`."""
    if tools is not None:
        sys.path.append(str(tools.resolve()))
        import interp_compat  # type: ignore[import-not-found]  # noqa: F401  mends the interpreter before kernels are read
        import fakegpu  # type: ignore[import-not-found]  # isort: skip

        fakegpu.import_fla()


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for; ends with 2 where it cannot be done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(PEERS))
    parser.add_argument("--ops", help="names with commas between them, without those that the peer has not")
    parser.add_argument("--passes", choices=list(GOALS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--budget", type=float, default=math.inf, help="minutes after which nothing is begun")
    parser.add_argument("--again", action="store_true", help="measure again what FILE has")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tools", type=Path)
    found = parser.parse_args(given)
    if unknown := set(found.names) - set(PEERS):
        parser.error(f"the peer has no {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if not found.tiny and not torch.cuda.is_available():
        parser.error("there is no GPU; --tiny runs it small under TRITON_INTERPRET=1")
    if not torch.cuda.is_available() and not triton.knobs.runtime.interpret:
        parser.error("there is no GPU; set TRITON_INTERPRET=1 as well")
    if found.ops is not None:
        found.names = [n for n in PEERS if n in names_in(found.ops)]
    return found


@dataclass
class Found:
    """What has been measured: rows, errors by name and side, and what was left where the time was over."""

    device: str
    rows: list[Row]
    wrong: dict[str, dict[str, dict[str, float]]]
    left: list[str]

    @staticmethod
    def opened(path: Path | None, device: str, again: bool) -> Found:
        """What a file has of this commit, these versions and this device."""
        made = Found(device, [], {}, [])
        known = {} if path is None or again else read(path)
        if known and all(known.get(n) == record(made)[n] for n in SAME):
            made.wrong = known["errors"]
            rows = [{n: v for n, v in row.items() if n != "ratio"} for row in known["rows"]]
            made.rows = [Row(**row | {"shape": tuple(row["shape"])}) for row in rows]
        return made

    def run(self, asked: argparse.Namespace, until: float, console: Console) -> None:
        """Measure what is not there yet, and write it after every row."""
        dtype = torch.float16 if asked.tiny else torch.bfloat16
        kinds = GOALS if asked.passes is None else [asked.passes]
        todo: list[tuple[str, str, Any]] = [(n, "values", TINY[0] if asked.tiny else VALUES) for n in asked.names]
        todo += [(n, p, s) for p in kinds for n in asked.names for s in shapes(n, asked.tiny)]
        there: set[Any] = {(r.name, r.passes, r.shape) for r in self.rows}
        there |= {t for t in todo if t[1] == "values" and t[0] in self.wrong}
        for name, passes, shape in (t for t in todo if t not in there):
            if time.monotonic() >= until:
                self.left.append(f"{name}, {passes}, {shape}")
            elif passes == "values":
                self.wrong[name] = errors(name, shape, dtype, self.device)
                told = (f"{side} {max(e.values()):.1e}" for side, e in self.wrong[name].items())
                console.print(f"{name}: {', '.join(told)} from float64")
            else:
                self.rows.append(measured(name, passes, shape, dtype, self.device, asked.tiny))
                row = self.rows[-1]
                console.print(f"{name}, {passes}, {shape}: {row.flowc:.3f} ms")
                if row.unprofiled is not None:
                    console.print(f"its kernels were not timed: {row.unprofiled}", markup=False)
            self.save(asked.json)
        self.save(asked.json)

    def save(self, path: Path | None) -> None:
        """Write the file, if there is to be one."""
        if path is not None:
            write_whole(path, json.dumps(record(self), indent=1) + "\n")


def main(given: Sequence[str] | None = None) -> int:
    """Compare values, measure, save, print."""
    asked = arguments(given)
    until, console = time.monotonic() + 60 * asked.budget, Console(stderr=True)
    prepared(asked.tools)
    if (why := absent()) is not None:
        console.print(f"nothing of the peer's is timed: {why}", markup=False)
    found = Found.opened(asked.json, "cuda" if torch.cuda.is_available() else "cpu", asked.again)
    found.run(asked, until, console)
    Console(width=140).print(table(found.rows))
    for passes, reached in goals(found.rows).items():
        for name, (value, goal) in reached.items():
            console.print(f"{passes}, {name}: {value:.3f}, the goal is {goal}")
    if found.left:
        console.print(f"the time was over: not run are {'; '.join(found.left)}")
    if asked.svg is not None and found.rows:
        write_whole(asked.svg, picture(found.rows))
    bar = ERROR[torch.float16 if asked.tiny else torch.bfloat16]
    return int(any(max(e["flowc"].values()) > bar for e in found.wrong.values()))


def record(found: Found) -> dict[str, Any]:
    """What is kept."""
    return {
        "device": device_name(),
        "machine": machine(),
        "commit": commit(),
        "command": shlex.join(sys.argv),
        "versions": {"torch": torch.__version__, "triton": triton.__version__, **peer_versions()},
        "peer_absent": absent(),
        "errors": found.wrong,
        "goals": goals(found.rows),
        "left": found.left,
        "rows": [{**asdict(r), "ratio": r.ratio} for r in found.rows],
    }


if __name__ == "__main__":
    sys.exit(main())

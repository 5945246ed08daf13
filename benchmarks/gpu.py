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
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import triton
from command import device_name, known_device, names_in
from gpu_peers import PEERS, Ready, absent, is_there, tried, triton_path
from gpu_rows import ANCHOR, GOALS, Row, goals, picture, table
from inputs import drawn, sizes_of
from kernel_times import UnprofiledError, kernel_times
from ledger import LOST, about, is_lost, read, same
from processes import ROOT
from rich.console import Console

import flowc
from flowc.files import write_whole
from flowc.fuzz.find import last
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
VALUES = (2, 512, 4, 128)
TINY = ((1, 64, 2, 16), (2, 48, 1, 32))
ERROR = {torch.bfloat16: 8 * 2.0**-8, torch.float16: 8 * 2.0**-11}
"""Of the largest output: operands of products are rounded, and at most eight products follow one another."""


def errors(
    name: str, shape: Sequence[int], dtype: torch.dtype, device: str
) -> tuple[dict[str, dict[str, float]], str | None]:
    """The largest difference from float64 step by step, over the largest number of the same output or gradient.

    Behind it what the peer said where it did not run.
    """
    op, model = example(name)
    x = drawn(model, shape[:3], sizes_of(model, shape[3]), dtype, device)
    exact = results(op.reference, {n: v.double() for n, v in x.items()})
    found, refused = {"flowc": results(lambda **given: op(**given, backend="triton"), x)}, None
    if is_there():
        with triton_path():
            made, refused = tried(lambda: results(lambda **given: PEERS[name].called(given), x))
        found |= {} if made is None else {"peer": made}
    return {side: {n: _apart(v, exact[n]) for n, v in made.items()} for side, made in found.items()}, refused


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
    peers: list[float | None] = [None, None]
    refused = None
    with torch.set_grad_enabled(trained):
        call = ours.both if trained else ours.call
        own = milliseconds(call, tiny)
        if is_there():
            peers[0], refused = tried(lambda: _peers(name, x, trained, tiny, triton_path()))
            peers[1], _ = tried(lambda: _peers(name, x, trained, tiny))
    inputs = sum(v.numel() * v.element_size() for v in x.values())
    moved = inputs * (3 if trained else 1) + x["v"].numel() * x["v"].element_size() * (2 if trained else 1)
    limit = None if known is None else 1e3 * moved / known.bandwidth
    predicted = _predicted(op, shape, known, trained)
    return Row(name, passes, shape, limit, predicted, own, *peers, refused=refused)


def _peers(
    name: str, inputs: dict[str, torch.Tensor], trained: bool, tiny: bool,
    path: AbstractContextManager[None] = nullcontext(),  # noqa: B008  it does nothing
) -> float:  # fmt: skip
    """What the peer's call takes, by a path of its own if not by what it chooses."""
    with path:
        ready = PEERS[name].ready(inputs, trained)
        return milliseconds(ready.both if trained else ready.call, tiny)


def profiled(row: Row, dtype: torch.dtype, device: str) -> Row:
    """A row with what every kernel of flowc's takes, or why nothing tells.

    When all times are taken: what a profiler hooks into the driver stays there, and costs launches.
    """
    op, model = example(row.name)
    trained = row.passes == "both"
    x = drawn(model, row.shape[:3], sizes_of(model, row.shape[3]), dtype, device)
    leaves = {n: v.requires_grad_(trained) for n, v in x.items()}
    ours = Ready(lambda: op(**leaves, backend="triton"), tuple(leaves.values()))
    try:
        with torch.set_grad_enabled(trained):
            found = kernel_times(ours.both if trained else ours.call, device == "cuda")
    except UnprofiledError as error:
        return replace(row, unprofiled=str(error))
    return replace(row, kernels=found)


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
    failed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def opened(path: Path | None, device: str, again: bool) -> Found:
        """What a file has of this commit, these versions and this device."""
        made = Found(device, [], {}, [])
        known = {} if path is None or again else read(path)
        if same(known, about(device_name())):
            made.wrong, made.failed, made.refused = known["errors"], known["failed"], known["refused"]
            rows = [{n: v for n, v in row.items() if n != "ratio"} for row in known["rows"]]
            made.rows = [Row(**row | {"shape": tuple(row["shape"])}) for row in rows]
        return made

    def run(self, asked: argparse.Namespace, until: float, console: Console) -> int:
        """Measure what is not there yet, and write it after every row; the exit code."""
        dtype = torch.float16 if asked.tiny else torch.bfloat16
        kinds = GOALS if asked.passes is None else [asked.passes]
        todo: list[tuple[str, str, Any]] = [(n, "values", TINY[0] if asked.tiny else VALUES) for n in asked.names]
        todo += [(n, p, s) for p in kinds for n in asked.names for s in shapes(n, asked.tiny)]
        there: set[Any] = {(r.name, r.passes, r.shape) for r in self.rows}
        there |= {t for t in todo if (t[1] == "values" and t[0] in self.wrong) or _key(*t) in self.failed}
        for name, passes, shape in (t for t in todo if t not in there):
            if time.monotonic() >= until:
                self.left.append(_key(name, passes, shape))
                continue
            try:
                told = self._one(name, passes, shape, dtype, asked.tiny)
            except Exception as error:  # whatever an op or a driver raises is what was found
                told = self.failed[_key(name, passes, shape)] = last(error)
                if is_lost(error):
                    self.save(asked.json)
                    return LOST
            console.print(f"{_key(name, passes, shape)}: {told}", markup=False)
            self.save(asked.json)
        for at, row in enumerate(self.rows):
            if row.kernels or row.unprofiled is not None:
                continue
            if time.monotonic() >= until:
                self.left.append(f"kernels of {_key(row.name, row.passes, row.shape)}")
            else:
                self.rows[at] = profiled(row, dtype, self.device)
                if self.rows[at].unprofiled is not None:
                    console.print(f"kernels were not timed: {self.rows[at].unprofiled}", markup=False)
                self.save(asked.json)
        self.save(asked.json)
        return int(
            any(not e <= ERROR[dtype] for found in self.wrong.values() for e in found["flowc"].values())
            or bool(self.failed)
        )

    def _one(self, name: str, passes: str, shape: Any, dtype: torch.dtype, tiny: bool) -> str:
        """A row, or the values of an op, in words."""
        if passes != "values":
            self.rows.append(measured(name, passes, shape, dtype, self.device, tiny))
            return f"{self.rows[-1].flowc:.3f} ms"
        self.wrong[name], refused = errors(name, shape, dtype, self.device)
        if refused is not None:
            self.refused[name] = refused
        told = ", ".join(f"{side} {max(e.values()):.1e}" for side, e in self.wrong[name].items())
        return f"{told} from float64" + (f"; the peer: {refused}" if refused else "")

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
    code = found.run(asked, until, console)
    Console(width=140).print(table(found.rows))
    for passes, reached in goals(found.rows).items():
        for name, (value, goal) in reached.items():
            console.print(f"{passes}, {name}: {value:.3f}, the goal is {goal}")
    if found.left:
        console.print(f"the time was over: not run are {'; '.join(found.left)}")
    if asked.svg is not None and found.rows:
        write_whole(asked.svg, picture(found.rows))
    return code


def _key(name: str, passes: str, shape: object) -> str:
    return f"{name}, {passes}, {shape}"


def record(found: Found) -> dict[str, Any]:
    """What is kept."""
    return about(device_name()) | {
        "peer_absent": absent(),
        "errors": found.wrong,
        "goals": goals(found.rows),
        "left": found.left,
        "failed": found.failed,
        "refused": found.refused,
        "rows": [{**asdict(r), "ratio": r.ratio} for r in found.rows],
    }


if __name__ == "__main__":
    sys.exit(main())

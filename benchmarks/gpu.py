"""Forward passes on a GPU beside flash-linear-attention's, in one process: values against float64 first, then times.

    .venv/bin/python benchmarks/gpu.py [NAME ...] [--json FILE] [--svg FILE] [--tiny] [--tools DIR]

Times are medians of `triton.testing.do_bench` with 25 ms to warm up and 100 ms of repetitions, in bfloat16, arguments
ready, at the six shapes that the peer measures itself by; gated_deltanet at B 8, T 4096, H 16, K = V = 128 as well. The
peer runs twice: its own Triton kernels, then whatever backend it chooses. Beside each time stands the least that the
device takes to read the inputs and write the outputs, and what the cost model predicts. Without the peer its columns
are empty. `--tiny` takes small shapes in float16, under TRITON_INTERPRET=1 without a GPU, where times mean nothing;
DIR, ../shared/tools of this project, lets the peer run there too. Exits with 1 where a value is wrong.
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
from gpu_peers import PEERS, is_there, peer_versions, triton_path
from processes import ROOT, commit, machine
from rich.console import Console
from rich.table import Table
from torch import Tensor

import flowc
from flowc.files import write_whole
from flowc.report.curves import Panel, svg
from flowc.report.shape import shape_facts
from flowc.schedule.devices import DEVICES, Device
from flowc.schedule.predict import Shape
from flowc.semantics import load
from flowc.semantics.model import Input, Model

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
RANK = 2
GOALS = {"geometric mean": 2.0, "least": 1.0, "anchor, ms": 0.40}
"""Of the peer's Triton path; measured on an H200."""

ERROR = {torch.bfloat16: 8 * 2.0**-8, torch.float16: 8 * 2.0**-11}
"""Of the largest output: operands of products are rounded, and at most eight products follow one another."""


@dataclass(frozen=True)
class Row:
    """One op at one shape; times in milliseconds, None where there is none."""

    name: str
    shape: tuple[int, int, int, int]
    limit: float | None
    predicted: float | None
    flowc: float
    peer: float | None
    peer_default: float | None

    @property
    def ratio(self) -> float | None:
        """How many times as long the peer's Triton path takes."""
        return None if self.peer is None else self.peer / self.flowc


def drawn(model: Model, shape: Sequence[int], dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Random inputs: log gates and params in float32, vectors over the state's rows of length one."""
    batch, length, heads, side = shape
    sizes = {d.name: d.value or (RANK if d.name == "R" else side) for d in model.dimensions}
    rng = torch.Generator(device).manual_seed(0)
    return {i.name: _input(i, (batch, length, heads), sizes, dtype, rng) for i in model.inputs}


def _input(i: Input, lead: tuple[int, ...], sizes: dict[str, int], dtype: torch.dtype, rng: torch.Generator) -> Tensor:
    own = (*(lead[-1:] if i.is_param else lead), *(s.value(sizes) for s in i.shape.sizes))
    if i.range is not None:
        x = torch.rand(own, generator=rng, device=rng.device)
        if i.range.low is None:
            return float(i.range.high or 0) - 0.2 * x
        return (float(i.range.low) + (0.05 + 0.9 * x) * float((i.range.high or 1) - i.range.low)).to(dtype)
    x = torch.randn(own, generator=rng, device=rng.device)
    if i.is_param:
        return 0.3 * x
    rows = any("K" in s.names for s in i.shape.sizes)
    return (x / x.norm(dim=-1, keepdim=True) if rows else x).to(dtype)


def errors(name: str, shape: Sequence[int], dtype: torch.dtype, device: str) -> dict[str, float]:
    """The largest difference from float64 step by step, on the rounded inputs, over the largest output."""
    op, model = _op(name)
    x = drawn(model, shape, dtype, device)
    exact = op.reference(**{n: v.double() for n, v in x.items()})
    found = {"flowc": op(**x, backend="triton")}
    if is_there():
        with triton_path():
            found["peer"] = PEERS[name].called(x)()
    return {side: float((o.double() - exact).abs().max() / exact.abs().max()) for side, o in found.items()}


def measured(name: str, shape: tuple[int, int, int, int], dtype: torch.dtype, device: str, tiny: bool) -> Row:
    """The times of one op at one shape."""
    op, model = _op(name)
    x = drawn(model, shape, dtype, device)
    known = next(
        (d for n, d in DEVICES.items() if device == "cuda" and n in torch.cuda.get_device_name().lower()), None
    )
    with torch.no_grad():
        out = op(**x, backend="triton")
        own = milliseconds(lambda: op(**x, backend="triton"), tiny)
        peers: list[float | None] = [None, None]
        if is_there():
            for at, path in enumerate((triton_path, nullcontext)):
                with path():
                    peers[at] = milliseconds(PEERS[name].called(x), tiny)
    moved = sum(v.numel() * v.element_size() for v in (*x.values(), out))
    limit = None if known is None else 1e3 * moved / known.bandwidth
    return Row(name, shape, limit, _predicted(op, shape, known), own, *peers)


def _predicted(op: Any, shape: Sequence[int], device: Device | None) -> float | None:
    """What the cost model says, in milliseconds."""
    if device is None:
        return None
    batch, length, heads, side = shape
    found = shape_facts(op.compilation, Shape(batch, length, heads), (side, side), device, False)
    return 1e3 * next(c.seconds for c in found.candidates if c.schedule == found.taken)


def milliseconds(call: Callable[[], object], tiny: bool) -> float:
    """The median of many; of tiny shapes that of one."""
    if not tiny:
        return float(triton.testing.do_bench(call, warmup=25, rep=100, return_mode="median"))
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def _op(name: str) -> tuple[Any, Model]:
    text = (ROOT / f"examples/{name}.flow").read_text()
    return flowc.compile(text), load(text, name)


def table(rows: Sequence[Row]) -> Table:
    """A line for every op and shape."""
    made = Table(title="forward, milliseconds")
    for column in ("op", "B, T, H, D"):
        made.add_column(column)
    for column in ("limit", "predicted", "flowc", "of the limit", "peer, Triton", "peer, default", "peer / flowc"):
        made.add_column(column, justify="right")
    for r in rows:
        part = None if r.limit is None else f"{r.limit / r.flowc:.0%}"
        ratio = None if r.ratio is None else f"{r.ratio:.2f}"
        times = [None if t is None else f"{t:.3f}" for t in (r.limit, r.predicted, r.flowc, r.peer, r.peer_default)]
        cells = [*times[:3], part, *times[3:], ratio]
        made.add_row(r.name, ", ".join(map(str, r.shape)), *(c or "-" for c in cells))
    return made


def goals(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """What was reached of each goal, and the goal."""
    ratios = [r.ratio for r in rows if r.ratio is not None]
    found = {}
    if ratios:
        found["geometric mean"] = math.exp(sum(map(math.log, ratios)) / len(ratios))
        found["least"] = min(ratios)
    found |= dict([("anchor, ms", r.flowc) for r in rows if (r.name, r.shape) == ANCHOR])
    return {n: (value, GOALS[n]) for n, value in found.items()}


def picture(rows: Sequence[Row]) -> str:
    """Time against the limit, or where there is none against the tokens and heads: a panel for every op."""
    panels = []
    for name in dict.fromkeys(r.name for r in rows):
        own = sorted((r for r in rows if r.name == name), key=lambda r: _across(r)[0])
        series = {
            label: [(_across(r)[0], value) for r in own if (value := getattr(r, of)) is not None]
            for label, of in (
                ("limit", "limit"),
                ("flowc", "flowc"),
                ("peer, Triton", "peer"),
                ("peer", "peer_default"),
            )
        }
        panels.append(Panel(name, _across(own[0])[1], {n: s for n, s in series.items() if s}))
    return svg(panels, "forward, milliseconds")


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


def main(given: Sequence[str] | None = None) -> int:
    """Compare values, measure, save, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(PEERS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tools", type=Path)
    arguments = parser.parse_args(given)
    if unknown := set(arguments.names) - set(PEERS):
        parser.error(f"the peer has no {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if not arguments.tiny and not torch.cuda.is_available():
        parser.error("there is no GPU; --tiny runs it small under TRITON_INTERPRET=1")
    prepared(arguments.tools)
    tiny, device = arguments.tiny, "cuda" if torch.cuda.is_available() else "cpu"
    dtype, console, rows = torch.float16 if tiny else torch.bfloat16, Console(stderr=True), []
    wrong = {n: errors(n, TINY[0] if tiny else VALUES, dtype, device) for n in arguments.names}
    for name in arguments.names:
        console.print(f"{name}: " + ", ".join(f"{side} {e:.1e}" for side, e in wrong[name].items()) + " from float64")
        shapes = TINY if tiny else (*SHAPES, *([ANCHOR[1]] if name == ANCHOR[0] else []))
        for shape in shapes:
            rows.append(measured(name, shape, dtype, device, tiny))
            console.print(f"  {shape}: {rows[-1].flowc:.3f} ms")
    Console(width=140).print(table(rows))
    reached = goals(rows)
    for name, (value, goal) in reached.items():
        console.print(f"{name}: {value:.3f}, the goal is {goal}")
    if arguments.json is not None:
        write_whole(arguments.json, json.dumps(record(rows, wrong, device), indent=1) + "\n")
    if arguments.svg is not None:
        write_whole(arguments.svg, picture(rows))
    return int(any(e["flowc"] > ERROR[dtype] for e in wrong.values()))


def record(rows: Sequence[Row], wrong: dict[str, dict[str, float]], device: str) -> dict[str, Any]:
    """What is kept."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "interpreted, times mean nothing",
        "machine": machine(),
        "commit": commit(),
        "command": shlex.join(sys.argv),
        "versions": {"torch": torch.__version__, "triton": triton.__version__, **peer_versions()},
        "errors": wrong,
        "goals": goals(rows),
        "rows": [{**asdict(r), "ratio": r.ratio} for r in rows],
    }


if __name__ == "__main__":
    sys.exit(main())

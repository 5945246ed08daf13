"""The cost model against every measured time there is: predicted, measured, ratio, and how far off it is.

    .venv/bin/python benchmarks/model.py [--results FOLDER] [--json FILE] [--package FILE]

Times of flowc are those that the parts of `make gpu` left in FOLDER, benchmarks/results if not given, or in its gpu:
of calls (bench.json, long.json, tune.json by the rules), of each of their kernels (bench.json), of steps (decode.json).
Each is predicted anew by the model as it is; of a kernel without the launch, which its time has not; of a step by its
bytes and its launch. Until there are any, times that others published of their own kernels serve
(benchmarks/data/published.json), where what those kernels move was counted (traffic.json): the model's function of time
gets their launches, bytes and flops. What waits for what in them is not known, so it is the least that the model can
say. The error is exp(mean |log ratio|), a factor of either side, of calls and, apart, of kernels; the bias
exp(mean log ratio) says on which side, below 1 where predicted times are too short. Ratios are of predicted to measured
times.

`--package` writes what `flowc explain --shape` tells of it, flowc/schedule/accuracy.json. Refuses nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from command import known_device
from ledger import read
from processes import ROOT, commit, machine
from rich.console import Console
from rich.table import Table

from flowc.compiler import Compilation, Stage, compile_text
from flowc.files import write_whole
from flowc.options import Options
from flowc.report.accuracy import PATH, Accuracy
from flowc.report.shape import shape_facts
from flowc.schedule.devices import DEVICES, Device
from flowc.schedule.predict import KernelTime, Shape, seconds
from flowc.schedule.tile_cost import TileCost
from flowc.source import Source

RESULTS = ROOT / "benchmarks/results"
PUBLISHED = ROOT / "benchmarks/data/published.json"
SIDE = 128
"""K = V of long.json."""

MANY = 1 << 20
"""Programs of a launch of which no number is known: enough that processors are never idle."""


@dataclass(frozen=True)
class Row:
    """A time in milliseconds beside what is predicted; no prediction where `why` says what is missing for one.

    `kernel` is the one that took it, None for a whole call; `schedule` what was asked for, None where it was open.
    """

    of: str
    op: str
    passes: str
    shape: tuple[int, ...]
    device: str
    predicted: float | None
    measured: float
    source: str
    why: str | None = None
    schedule: str | None = None
    kernel: str | None = None

    @property
    def ratio(self) -> float | None:
        """Of predicted to measured."""
        return None if self.predicted is None else self.predicted / self.measured


def of_flowc(results: Path) -> list[Row]:
    """Every time of flowc's own kernels that was measured on a device that the model knows."""
    rows: list[Row] = []
    for path in (folder / f"{part}.json" for folder in (results, results / "gpu") for part in PARTS):
        found = read(path)
        device = known_device(found.get("device", ""))
        if device is not None:
            source = f"{path.name}, {found['commit'][:7]}"
            own = (r for row in found["rows"] for r in PARTS[path.stem](row, device, source))
            rows += dict.fromkeys(own)  # a call that tunes several kernels has a row for each
    return rows


@cache
def _compiled(name: str) -> Compilation:
    source = Source(name, (ROOT / f"examples/{name}.flow").read_text())
    return compile_text(source, Options(), Stage.PLAN)


def kernels(name: str, passes: str, shape: Sequence[int], device: Device, schedule: str | None) -> list[KernelTime]:
    """The launches of a call of B, T, H, K = V, and of its backward pass if passes are both."""
    batch, length, heads, side = shape
    facts = shape_facts(_compiled(name), Shape(batch, length, heads), (side, side), device, passes == "both")
    taken = schedule or facts.taken
    at = next(n for n, c in enumerate(facts.candidates) if c.schedule == taken)
    return [k for own in (facts.candidates, facts.backward) if own for k in own[at].kernels]


def _bench(row: dict[str, Any], device: Device, source: str) -> Iterator[Row]:
    shape = tuple(row["shape"])
    found = kernels(row["name"], row["passes"], shape, device, None)
    about = Row("flowc", row["name"], row["passes"], shape, device.name, None, 0.0, source)
    yield replace(about, predicted=1e3 * sum(k.seconds for k in found), measured=row["flowc"])
    for name, taken in row["kernels"].items():
        own = [k for k in found if name == f"_{k.name}"]
        at = 1e3 * sum(k.seconds - device.launch for k in own) if own else None
        why = None if own else "the plan has no such kernel: torch made it, or a scan"
        yield replace(about, predicted=at, measured=taken, why=why, kernel=name)


def _long(row: dict[str, Any], device: Device, source: str) -> Iterator[Row]:
    if row.get("measured") is not None:
        shape = (1, row["length"], row["heads"], SIDE)
        yield _call(row, shape, row["schedule"], row["measured"], device, source)


def _tune(row: dict[str, Any], device: Device, source: str) -> Iterator[Row]:
    """The call by the rules, of which every kernel that was searched has the time."""
    if row.get("seconds_by_rules") is not None:
        shape = tuple(row["shape"][n] for n in "BTHK")
        yield _call(row, shape, row["schedule"], 1e3 * row["seconds_by_rules"], device, source)


def _call(row: dict[str, Any], shape: tuple[int, ...], schedule: str, taken: float, device: Device, source: str) -> Row:
    found = kernels(row["name"], row["passes"], shape, device, schedule)
    at = 1e3 * sum(k.seconds for k in found)
    return Row("flowc", row["name"], row["passes"], shape, device.name, at, taken, source, schedule=schedule)


def _decode(row: dict[str, Any], device: Device, source: str) -> Iterator[Row]:
    """A step as a graph, which does not wait for the host."""
    if row["graph"] is not None:
        shape = (row["batch"], 1, row["heads"], row["side"])
        at = 1e3 * seconds(TileCost(distinct=row["bytes"]), MANY, 0.0, 4, device)
        passes = f"step, states of {row['state']}"
        yield Row("flowc", row["name"], passes, shape, device.name, at, 1e-3 * row["graph"], source)


PARTS: dict[str, Callable[[dict[str, Any], Device, str], Iterator[Row]]] = {
    "bench": _bench, "long": _long, "tune": _tune, "decode": _decode,
}  # fmt: skip
"""What reads the rows of a part."""


def of_others() -> list[Row]:
    """What others published of their kernels."""
    given = json.loads(PUBLISHED.read_text())
    counted = json.loads((RESULTS / "traffic.json").read_text())
    peers = {row["name"]: row["peer"]["forward"] for row in counted["rows"] if "peer" in row}
    return [_of_others(figure, given, peers, counted["length"]) for figure in given["figures"]]


def _of_others(figure: dict[str, Any], given: dict[str, Any], peers: dict[str, Any], length: int) -> Row:
    batch, tokens, heads = figure["shape"]
    name, why, predicted = figure["traffic"], figure["why"], None
    if name is not None and name not in peers:
        why = f"benchmarks/results/traffic.json has no peer's row of {name}"
    elif name is not None:
        predicted = 1e3 * least(peers[name], batch * tokens * heads / length, given["device"])
    shape = (batch, tokens, heads, given["side"])
    source = "published, of others' kernels"
    return Row(figure["of"], figure["op"], "forward", shape, given["device"], predicted, figure["ms"], source, why)


def least(counted: dict[str, Any], times: float, device: str) -> float:
    """The least seconds of launches that together move and multiply so many times what was counted."""
    dots, through, distinct = (round(times * counted[what]) for what in ("dot_flops", "l2", "distinct"))
    own = DEVICES[device]
    whole = seconds(TileCost(dots=dots, read=through, distinct=distinct), MANY, 0.0, 4, own)
    return whole + (sum(counted["kernels"].values()) - 1) * own.launch


def accuracy(rows: Sequence[Row]) -> Accuracy:
    """How far off the model is: by flowc's own times, and only where there are none by others'."""
    own = [r for r in rows if r.of == "flowc" and r.ratio is not None]
    used = own or [r for r in rows if r.ratio is not None]
    calls, single = ([r for r in used if (r.kernel is None) == whole] for whole in (True, False))
    devices = tuple(dict.fromkeys(r.device for r in used))
    of = "measured" if own else "published"
    return Accuracy(of, len(calls), *_off(calls), devices, len(single), *_off(single))


def _off(rows: Sequence[Row]) -> tuple[float | None, float | None]:
    """The error and the bias."""
    logs = [math.log(r.ratio) for r in rows if r.ratio is not None]
    if not logs:
        return None, None
    error, bias = (math.exp(sum(x) / len(logs)) for x in (map(abs, logs), logs))
    return round(error, 3), round(bias, 3)


def table(rows: Sequence[Row]) -> Table:
    """A line for every time."""
    made = Table(title="milliseconds")
    for name in ("of", "op", "passes", "kernel", "B, T, H, D", "device"):
        made.add_column(name)
    for name in ("predicted", "measured", "ratio"):
        made.add_column(name, justify="right")
    made.add_column("source")
    for r in rows:
        cells = ["-" if x is None else f"{x:.3f}" for x in (r.predicted, r.measured)]
        ratio = "-" if r.ratio is None else f"{r.ratio:.2f}"
        where = ", ".join(map(str, r.shape))
        what = r.kernel or (f"all, {r.schedule}" if r.schedule else "all")
        made.add_row(r.of, r.op, r.passes, what, where, r.device, *cells, ratio, r.why or r.source)
    return made


def record(rows: Sequence[Row], found: Accuracy) -> dict[str, Any]:
    """What is kept."""
    listed: Iterator[dict[str, Any]] = ({**asdict(r), "ratio": r.ratio} for r in rows)
    about = {"machine": machine(), "commit": commit(), "command": shlex.join(sys.argv)}
    return {**about, "accuracy": asdict(found), "rows": list(listed)}


def main(given: Sequence[str] | None = None) -> int:
    """Compare, save, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--package", type=Path, nargs="?", const=PATH)
    arguments = parser.parse_args(given)
    rows = [*of_flowc(arguments.results), *of_others()]
    found = accuracy(rows)
    Console(width=150).print(table(rows))
    print(found)
    if arguments.json is not None:
        write_whole(arguments.json, json.dumps(record(rows, found), indent=1) + "\n")
    if arguments.package is not None:
        write_whole(arguments.package, found.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())

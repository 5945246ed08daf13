"""The cost model against every measured time there is: predicted, measured, ratio, and how far off it is.

    .venv/bin/python benchmarks/model.py [--results FOLDER] [--json FILE] [--package FILE]

Times of flowc are those that benchmarks/gpu.py left in `*gpu*.json` of the results, each predicted anew by the model as
it is. Until there are any, times that others published of their own kernels serve (benchmarks/data/published.json),
where what those kernels move was counted (traffic.json): the model's function of time gets their launches, bytes and
flops. What waits for what in them is not known, so it is the least that the model can say. The error is
exp(mean |log ratio|), a factor of either side; the bias exp(mean log ratio) says on which side, below 1 where predicted
times are too short. Ratios are of predicted to measured times.

`--package` writes what `flowc explain --shape` tells of it, flowc/schedule/accuracy.json. Refuses nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from processes import ROOT, commit, machine
from rich.console import Console
from rich.table import Table

from flowc.compiler import Stage, compile_text
from flowc.files import write_whole
from flowc.options import Options
from flowc.report.accuracy import PATH, Accuracy
from flowc.report.shape import shape_facts
from flowc.schedule.devices import DEVICES
from flowc.schedule.predict import Shape, seconds
from flowc.schedule.tile_cost import TileCost
from flowc.source import Source

RESULTS = ROOT / "benchmarks/results"
PUBLISHED = ROOT / "benchmarks/data/published.json"
MANY = 1 << 20
"""Programs of a launch of which no number is known: enough that processors are never idle."""


@dataclass(frozen=True)
class Row:
    """A time in milliseconds beside what is predicted; no prediction where `why` says what is missing for one."""

    of: str
    op: str
    passes: str
    shape: tuple[int, ...]
    device: str
    predicted: float | None
    measured: float
    source: str
    why: str | None = None

    @property
    def ratio(self) -> float | None:
        """Of predicted to measured."""
        return None if self.predicted is None else self.predicted / self.measured


def of_flowc(results: Path) -> list[Row]:
    """Every time of flowc's own kernels that was measured on a device that the model knows."""
    rows: list[Row] = []
    for path in sorted(results.glob("*gpu*.json")):
        found = json.loads(path.read_text())
        device = next((n for n in DEVICES if n in found["device"].lower()), None)
        if device is not None:
            rows += (_of_flowc(row, device, f"{path.name}, {found['commit'][:7]}") for row in found["rows"])
    return rows


def _of_flowc(row: dict[str, Any], device: str, source: str) -> Row:
    text = (ROOT / f"examples/{row['name']}.flow").read_text()
    compilation = compile_text(Source(row["name"], text), Options(), Stage.PLAN)
    batch, length, heads, side = row["shape"]
    at = Shape(batch, length, heads)
    facts = shape_facts(compilation, at, (side, side), DEVICES[device], row["passes"] == "both")
    shape = tuple(row["shape"])
    return Row("flowc", row["name"], row["passes"], shape, device, 1e3 * facts.seconds, row["flowc"], source)


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
    own = [r for r in rows if r.of == "flowc"]
    ratios = [r.ratio for r in own or rows if r.ratio is not None]
    logs = [math.log(r) for r in ratios]
    error, bias = (math.exp(sum(x) / len(logs)) if logs else None for x in (map(abs, logs), logs))
    devices = tuple(dict.fromkeys(r.device for r in own or rows if r.ratio is not None))
    rounded = (None if x is None else round(x, 3) for x in (error, bias))
    return Accuracy("measured" if own else "published", len(ratios), *rounded, devices)


def table(rows: Sequence[Row]) -> Table:
    """A line for every time."""
    made = Table(title="milliseconds")
    for name in ("of", "op", "passes", "B, T, H, D", "device"):
        made.add_column(name)
    for name in ("predicted", "measured", "ratio"):
        made.add_column(name, justify="right")
    made.add_column("source")
    for r in rows:
        cells = ["-" if x is None else f"{x:.3f}" for x in (r.predicted, r.measured)]
        ratio = "-" if r.ratio is None else f"{r.ratio:.2f}"
        where = ", ".join(map(str, r.shape))
        made.add_row(r.of, r.op, r.passes, where, r.device, *cells, ratio, r.why or r.source)
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

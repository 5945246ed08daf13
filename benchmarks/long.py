"""Few heads and long sequences: every schedule, as predicted and, where a GPU is at hand, as measured.

    .venv/bin/python benchmarks/long.py [NAME ...] [--heads 1,4,16] [--passes forward|both] [--json FILE]
        [--svg FILE] [--budget MINUTES] [--again] [--tiny]

In: examples, of each B 1, K = V = 128, T from 16k to 1M. Out: a row for every example, number of heads, length and
schedule: milliseconds that the cost model predicts for the device at hand, for an H200 without one, and those of
`triton.testing.do_bench` where there is a GPU that holds the tensors; without one the rows say that they are
predictions. `--tiny` runs each schedule under TRITON_INTERPRET=1 at small size, where times mean nothing. Exits with 1
where outputs of schedules that ran are further apart than rounding explains, or one did not run; with 75 where the
device is lost. Sizes that FILE has of the same commit, versions and device are not run again. Refuses names of no
example.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import triton
from command import INTERPRETED, device_name, known_device, names_in
from gpu import ERROR, milliseconds
from inputs import drawn, sizes_of
from ledger import LOST, TRIES, Ledger, about, is_lost
from processes import ROOT
from rich.console import Console
from rich.progress import track
from rich.table import Table

import flowc
from flowc.files import write_whole
from flowc.fuzz.find import last
from flowc.options import choices
from flowc.report.curves import Panel, svg
from flowc.report.shape import shape_facts
from flowc.schedule.devices import DEVICES, Device
from flowc.schedule.predict import Shape
from flowc.semantics import load

NAMES = ("gated_deltanet", "kda", "simple_gla", "gla")
LENGTHS = (2**14, 2**16, 2**18, 2**20)
TINY_LENGTHS = (150,)
HEADS = (1, 4, 16)
SIDE = 128


@dataclass(frozen=True)
class Row:
    """One schedule of one example; milliseconds, `measured` None where there is no GPU. `taken`: by `auto`.

    `apart` is how far outputs are from those of the first schedule, over the largest of them.
    """

    name: str
    passes: str
    heads: int
    length: int
    schedule: str
    taken: bool
    predicted: float
    measured: float | None
    apart: float | None


def rows(name: str, passes: str, heads: int, length: int, device: Device, timed: bool, tiny: bool) -> list[Row]:
    """The schedules of one example at one size."""
    path, trained, side = ROOT / f"examples/{name}.flow", passes == "both", 16 if tiny else SIDE
    op, dtype = flowc.compile(path), torch.float16 if tiny else torch.bfloat16
    facts = shape_facts(op.compilation, Shape(1, length, heads), (SIDE, SIDE), device, trained)
    found: list[Row] = []
    if timed:
        model, place = load(path.read_text(), name), "cuda" if torch.cuda.is_available() else "cpu"
        x = drawn(model, (1, length, heads), sizes_of(model, side), dtype, place)
        leaves = {n: v.requires_grad_(trained) for n, v in x.items()}
        first = op(**leaves, schedule=_asked(facts.candidates[0].schedule), backend="triton").detach()
    for at, own in enumerate(facts.candidates):
        predicted, measured, apart = own.seconds, None, None
        predicted += facts.backward[at].seconds if facts.backward else 0.0
        if timed:
            made = op(**leaves, schedule=_asked(own.schedule), backend="triton").detach()
            apart = float((made - first).abs().max() / first.abs().max())
            del made  # a call at T 1M has no room for another output
            measured = milliseconds(partial(called, op, leaves, _asked(own.schedule), trained), tiny)
        taken = own.schedule == facts.taken
        found.append(Row(name, passes, heads, length, own.schedule, taken, 1e3 * predicted, measured, apart))
    return found


def _asked(schedule: str) -> str:
    """What a call takes as `schedule`: kernels that go from token to token have no other."""
    return schedule if schedule in choices()["schedule"] else "auto"


def called(op: Any, given: dict[str, torch.Tensor], schedule: str, trained: bool) -> None:
    """One call, and its backward pass if there is one."""
    made = op(**given, schedule=schedule, backend="triton")
    if trained:
        torch.autograd.grad(made, list(given.values()), torch.ones_like(made))


def _time(r: Row) -> float:
    return r.predicted if r.measured is None else r.measured


def _kind(found: Sequence[Row]) -> str:
    """What the times are."""
    if found[0].measured is None:
        return "predicted, not measured"
    return "measured" if torch.cuda.is_available() else "interpreted, times mean nothing"


def table(found: Sequence[Row]) -> Table:
    """A line for every size, a column for every schedule."""
    schedules = list(dict.fromkeys(r.schedule for r in found))
    made = Table(title=f"milliseconds, {_kind(found)}; * is what auto takes at K = V = {SIDE} in bfloat16")
    for column in ("op", "passes", "heads", "T", *schedules):
        made.add_column(column, justify="left" if column in ("op", "passes") else "right")
    for key in dict.fromkeys((r.name, r.passes, r.heads, r.length) for r in found):
        own = {r.schedule: r for r in found if (r.name, r.passes, r.heads, r.length) == key}
        shown = {s: f"{_time(r):.2f}{'*' * r.taken}" for s, r in own.items()}
        made.add_row(*key[:2], *(f"{n:,}" for n in key[2:]), *(shown.get(s, "-") for s in schedules))
    return made


def picture(found: Sequence[Row]) -> str:
    """Time against T: a panel for every op, pass and number of heads."""
    panels = []
    for key in dict.fromkeys((r.name, r.passes, r.heads) for r in found):
        own = [r for r in found if (r.name, r.passes, r.heads) == key]
        series = {
            s: [(float(r.length), _time(r)) for r in own if r.schedule == s]
            for s in dict.fromkeys(r.schedule for r in own)
        }
        panels.append(Panel(f"{key[0]}, {key[1]}, {key[2]} heads", "T", series))
    return svg(panels, f"milliseconds, {_kind(found)}")


def main(given: Sequence[str] | None = None) -> int:
    """Predict, measure where that can be, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--ops", help="the names, with commas between them")
    parser.add_argument("--heads", default=",".join(map(str, HEADS)))
    parser.add_argument("--passes", choices=("forward", "both"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument(
        "--budget", type=float, default=math.inf, metavar="MINUTES", help="begin no other size after so long"
    )
    parser.add_argument("--again", action="store_true", help="run again what the file has")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args(given)
    names = arguments.names or names_in(arguments.ops) or list(NAMES)
    if unknown := [n for n in names if not (ROOT / f"examples/{n}.flow").is_file()]:
        parser.error(f"there is no example {', '.join(unknown)}")
    there, tiny = torch.cuda.is_available(), arguments.tiny
    if tiny and not there and not triton.knobs.runtime.interpret:
        parser.error("there is no GPU; set TRITON_INTERPRET=1 as well")
    device = known_device() or DEVICES["h200"]
    passes = (arguments.passes,) if arguments.passes else ("forward", "both")
    lengths, heads = (TINY_LENGTHS, (1,)) if tiny else (LENGTHS, tuple(map(int, arguments.heads.split(","))))
    points = [(n, p, h, t) for n in names for p in passes for h in heads for t in lengths]
    where = device_name(INTERPRETED if tiny else "none: all predicted")
    book = Ledger.opened(arguments.json, about(where) | {"predicted_for": device.name}, arguments.again)
    until, lost = time.monotonic() + 60 * arguments.budget, False
    for at, point in enumerate(track(points, "sizes", console=Console(stderr=True))):
        key = " ".join(map(str, point))
        if any(known.startswith(f"{key} ") for known in book.rows):
            continue
        if time.monotonic() > until:
            book.leave([" ".join(map(str, left)) for left in points[at:]])
            break
        if not book.begin(key):
            book.end(f"{key} -", {"failed": f"the process ended in it {TRIES} times"})
            continue
        try:
            with book.begun(key):
                made = {r.schedule: asdict(r) for r in rows(*point, device, there or tiny, tiny)}
        except Exception as error:  # whatever an op raises is what was found
            made, lost = {"-": {"failed": last(error)}}, is_lost(error)
        book.tries.pop(key, None)
        for schedule, row in made.items():
            book.end(f"{key} {schedule}", row)
        if lost:
            return LOST
    return told(book, arguments, tiny)


def told(book: Ledger, arguments: argparse.Namespace, tiny: bool) -> int:
    """Print what was found, draw it; the exit code."""
    failed = {key: r["failed"] for key, r in book.rows.items() if "failed" in r}
    found = [Row(**{n: v for n, v in r.items() if n != "key"}) for key, r in book.rows.items() if key not in failed]
    for key, why in failed.items():
        print(f"{key}: {why}")
    if found:
        Console(width=120).print(table(found))
    if arguments.svg is not None and found:
        write_whole(arguments.svg, picture(found))
    bar = 2 * ERROR[torch.float16 if tiny else torch.bfloat16]
    return int(any(r.apart is not None and not r.apart <= bar for r in found) or bool(failed))


if __name__ == "__main__":
    sys.exit(main())

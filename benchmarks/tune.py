"""`flowc tune` of several examples on this GPU, each in its share of the time, into one table of rows.

    .venv/bin/python benchmarks/tune.py [--ops A,B] [--budget MINUTES] [--json FILE] [--again] [--tiny]

In: examples, those that the peer has without names. Out: for every kernel of a forward and backward pass what the rules
take, what was found, and how long the call takes with either; beside FILE the rows themselves, FILE.table.json, which
`FLOWC_TUNED` takes, or which is committed. `--tiny` searches forward passes at tiny size, under TRITON_INTERPRET=1
without a GPU, where times mean nothing. What FILE has of this commit, these versions and this device is not searched
again. Exits with 1 where a search ended by an error, with 75 where the device is lost.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ledger
import torch
import triton
from command import device_name, names_in
from gpu_peers import PEERS
from ledger import Ledger
from processes import ROOT
from rich.console import Console
from rich.table import Table

from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.runtime.tables import write_table
from flowc.schedule.predict import Shape
from flowc.source import Source
from flowc.tune.trial import DeviceLostError
from flowc.tune.tune import Request, measure, record, rows

AT = Request(Shape(8, 4096, 16), (128, 128), {})
TINY = Request(Shape(1, 40, 1), (16, 16), {}, "float16", "forward")


def once(call: Callable[[], object], _: object) -> float:
    """The time of one call, in seconds, where times mean nothing."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def searched(name: str, seconds: float, tiny: bool, console: Console) -> tuple[list[dict[str, Any]], list[Any]]:
    """What was found of an example: rows to look at, and rows of a table."""
    source = Source(name, (ROOT / f"examples/{name}.flow").read_text())
    compilation = compile_text(source, Options(), Stage.PLAN)

    def told(step: Any) -> None:
        if step.refused is not None:
            console.print(f"{name}: {step.refused}", markup=False)

    try:
        found = measure(compilation, [TINY if tiny else AT], seconds, told, once if tiny else None)
    except DeviceLostError:
        raise
    except (ValueError, RuntimeError) as error:
        return [{"name": name, "failed": str(error)}], []
    made = [
        {"name": name, "kernel": f.place.role, "how": "none: tiny" if tiny else tuning.how, "found": list(f.tiling),
         **record(tuning, f)}
        for tuning in found for f in tuning.findings
    ]  # fmt: skip
    return made, list(rows(compilation, found))


def table(found: Sequence[dict[str, Any]]) -> Table:
    """A line for every kernel."""
    made = Table(title="columns, rows, warps, stages")
    for name in ("op", "kernel", "by rules", "found", "tried", "ms by rules", "ms"):
        made.add_column(name, justify="left" if name in ("op", "kernel") else "right")
    for r in found:
        if "failed" in r:
            made.add_row(r["name"], r["failed"])
            continue
        times = ("-" if r[n] is None else f"{1e3 * r[n]:.3f}" for n in ("seconds_by_rules", "seconds"))
        shown = (", ".join(map(str, r[n])) for n in ("rule", "found"))
        made.add_row(r["name"], r["kernel"], *shown, f"{r['tried']} of {r['candidates']}", *times)
    return made


def main(given: Sequence[str] | None = None) -> int:
    """Search, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ops", help="examples, with commas between them")
    parser.add_argument("--budget", type=float, default=10.0, metavar="MINUTES")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--again", action="store_true", help="search again what FILE has")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args(given)
    there = torch.cuda.is_available()
    names = names_in(asked.ops) or list(PEERS)
    if unknown := [n for n in names if not (ROOT / f"examples/{n}.flow").is_file()]:
        parser.error(f"no example {', '.join(unknown)}")
    if not there and not (asked.tiny and triton.knobs.runtime.interpret):
        parser.error(
            "there is no GPU; --tiny under TRITON_INTERPRET=1 runs it small, `flowc tune --predicted` predicts"
        )
    console, until = Console(stderr=True), time.monotonic() + 60 * asked.budget
    book = Ledger.opened(asked.json, ledger.about(device_name()), asked.again)
    lost = all_of(names, asked, until, book, console)
    found = [{n: v for n, v in r.items() if n != "key"} for r in book.rows.values()]
    Console(width=150).print(table(found))
    return ledger.LOST if lost else int(any("failed" in r for r in found))


def all_of(names: Sequence[str], asked: argparse.Namespace, until: float, book: Ledger, console: Console) -> bool:
    """Search what is not there yet; whether the device is lost, of which another process then has one."""
    todo = [n for n in names if not any(key.startswith(f"{n} ") for key in book.rows)]
    for at, name in enumerate(todo):
        share, lost = (until - time.monotonic()) / (len(todo) - at), False
        if share <= 0:
            book.leave(todo[at:])
            return False
        if not book.begin(name):
            book.end(f"{name} -", {"name": name, "failed": f"the process ended in it {ledger.TRIES} times"})
            continue
        with book.begun(name):
            try:
                made, own = searched(name, share, asked.tiny, console)
            except DeviceLostError as error:
                made, own, lost = [{"name": name, "failed": str(error)}], [], True
        if asked.json is not None and own:
            write_table(asked.json.with_suffix(".table.json"), own)
        book.tries.pop(name, None)
        for row in made:
            book.end(f"{name} {row.get('kernel', '-')}", row)
        if lost:
            book.leave(todo[at + 1 :])
            return True
    book.leave([])
    return False


if __name__ == "__main__":
    sys.exit(main())

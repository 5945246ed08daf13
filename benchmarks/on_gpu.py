"""`make gpu`: what somebody with a GPU does first. Right, then fast, then tuned, in one command with one report.

    .venv/bin/python benchmarks/on_gpu.py [--only PART,PART] [--ops A,B] [--budget MINUTES] [--again] [--tiny]
        [--out DIR]

In: a machine. Out: DIR (benchmarks/results/gpu, with `--tiny` benchmarks/results/gpu-tiny) with report.txt, report.json
and report.html, and what every part wrote, PART.json. First `flowc doctor`: versions, devices, combinations known to
fail with the way out; a newer ptxas is taken where Triton's is known to go wrong and one is installed. Then the parts,
in the order of `PARTS`, each with a share of MINUTES (25) that grows by what others left over. Parts that are complete
for this commit, these versions and this device are not run again, unless `--again`; parts that ran out of time go on
where they were. Kernels that `ship.py` compiled ahead are used. `--tiny` runs all at tiny size, under Triton's
interpreter where there is no GPU; the report says which numbers mean nothing then. Exits with 1 where something is
wrong, with 2 where there is no GPU, with 130 where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import counted
import gpu_report
import ledger
import ptxas
import ship
from command import names_in
from processes import HERE, ROOT
from rich.console import Console

from flowc.doctor import Checkup, Facts, checkup, collect
from flowc.files import write_whole


@dataclass(frozen=True)
class Part:
    """A script with `main(argv)`, an exit code of 1 where something is wrong, and `--json FILE`; its share of the time.

    It is given those of --svg, --tiny, --ops, --budget, --again and --results (where parts leave theirs) that it has,
    too. Its record may have `left`: names of what it had no time for. One that `follows` is made of what others left,
    and run every time.
    """

    name: str
    script: str
    share: float
    title: str
    follows: bool = False

    @property
    def path(self) -> Path:
        """Where it is, if it is there."""
        return HERE / self.script


PARTS = (
    Part("correctness", "correctness.py", 11, "every example against float64, step by step"),
    Part("bench", "gpu.py", 7, "passes beside the peer's and the limit of the memory"),
    Part("tune", "tune.py", 3, "configurations, searched"),
    Part("decode", "decode.py", 2, "a token at a time"),
    Part("train", "train_step.py", 2, "a training step of a language model"),
    Part("long", "long.py", 2, "long sequences of few heads, by schedule"),
    Part("model", "model.py", 0.2, "the cost model against all times measured above", follows=True),
)

GRACE = 120
"""Seconds that a part may take beyond its time: it ends by itself after the row that it is in."""

TIMES_LOST = 3
"""How often a part is run again that has lost the device."""

NO_DEVICE = """\
There is no GPU that torch can use, so nothing can be measured here. What can be done without one:
    make gpu GPU_ARGS=--tiny    every part at tiny size, under Triton's interpreter: values count, times mean nothing
    make ship                   compile the kernels for a GPU ahead, to carry them to the machine that has one
    flowc doctor                what this machine has, and what of it is known to fail"""


def environment(facts: Facts, kernels: int) -> dict[str, str]:
    """What parts run in: a ptxas that is right, kernels that were shipped, the peer that was carried along."""
    found = dict(os.environ)
    peer = ROOT / ".gpu-peer"
    carried = [str(peer)] if facts.devices and peer.is_dir() else []  # which does not run without one
    found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), *carried, found.get("PYTHONPATH", "")]))
    if not facts.devices:
        return found | {"TRITON_INTERPRET": "1"}
    if (newer := ptxas.better(facts)) is not None:
        found["TRITON_PTXAS_PATH"] = newer.path
    if kernels:
        found |= {"TRITON_CACHE_DIR": str(ship.FOLDER), **ship.ENVIRONMENT}
    return found


def carried(facts: Facts, kernels: int) -> dict[str, Any]:
    """What was shipped, and why it would not be found here."""
    if not kernels:
        return {"kernels": 0, "why": "none were shipped: `make ship` compiles them ahead"}
    known = ledger.read(ship.FOLDER / ship.MANIFEST)
    here = {
        "target": facts.devices[0].architecture if facts.devices else "none",
        "Triton": facts.triton.version,
        "ptxas": facts.used_ptxas and facts.used_ptxas.version,
        "the build of Triton": ship.build(),
    }
    there = {
        "target": known.get("target"),
        "Triton": known.get("versions", {}).get("triton"),
        "ptxas": known.get("ptxas"),
        "the build of Triton": known.get("build"),
    }
    off = [f"for {n} {there[n]}, and here is {here[n]}" for n in here if there[n] != here[n]]
    return {"kernels": kernels, "why": "; ".join(off)}


@dataclass
class Run:
    """A run of all parts: what was asked for, where things go, and the report so far."""

    asked: argparse.Namespace
    environment: dict[str, str]
    report: dict[str, Any]
    console: Console
    until: float

    def all(self) -> None:
        """Every part that was asked for, with what time there is."""
        chosen = [p for p in PARTS if p.name in self.asked.only]
        for at, part in enumerate(chosen):
            known = self.report["parts"].get(part.name, {})
            left = self.until - time.monotonic()
            share = left * part.share / sum(p.share for p in chosen[at:])
            head = f"[{at + 1}/{len(chosen)}] {part.name}: {part.title}"
            if not part.path.is_file():
                made = {"status": "not there yet", "failed": False, "complete": False}
            elif known.get("complete") and not self.asked.again and not part.follows:
                made = known | {"kept": True}
            elif left <= 0:
                made = known | {"status": "not run: the time is over", "complete": False}
                made.setdefault("failed", False)
            else:
                self.console.print(f"{head}; {left / 60:.1f} minutes left, {share / 60:.1f} for this", markup=False)
                # Until it ends: a run that is killed must not leave what was known of it as if it still stood.
                begun = {"status": "begun, and not ended", "failed": True, "complete": False, "kept": False}
                self.keep(part, known | begun)
                made = self.one(part, share)
            self.keep(part, made)
            self.console.print(f"{head}: {made['status']}{', as before' if made.get('kept') else ''}", markup=False)

    def keep(self, part: Part, made: dict[str, Any]) -> None:
        """Write what is known of a part into the report."""
        self.report["parts"][part.name] = {"title": part.title, **made}
        self.save()

    def one(self, part: Part, seconds: float) -> dict[str, Any]:
        """Run a part; again where it lost the device, which rows that are there outlive."""
        began, code, again = time.monotonic(), None, self.asked.again
        try:
            for _ in range(TIMES_LOST):
                spare = seconds - (time.monotonic() - began)
                code = self.process(part, spare, again)
                again = False
                if code != ledger.LOST or spare <= 0:
                    break
        except KeyboardInterrupt:
            self.keep(part, self.outcome(part, counted.STOPPED, time.monotonic() - began))
            raise
        return self.outcome(part, code, time.monotonic() - began)

    def outcome(self, part: Part, code: int | None, seconds: float) -> dict[str, Any]:
        """What a part left, which ended with `code` after so long."""
        out: Path = self.asked.out
        record = ledger.read(out / f"{part.name}.json")
        if record.get("commit", self.report["commit"]) != self.report["commit"]:
            record = {}  # of another run, which this one did not come to replace
        left = record.get("left", [])
        known = {0: "held", 1: "something is wrong", counted.STOPPED: "stopped", None: "took too long, and was ended"}
        status = known.get(code, f"ended with exit code {code}")
        if left and code == 0:
            status = "not done: the time was over"
        text, said = out / f"{part.name}.txt", counted.raised(out / f"{part.name}.kernels.json")
        return {
            "status": status,
            "failed": code != 0,
            "complete": code in (0, 1) and not left,
            "seconds": round(seconds, 1),
            "left": len(left),
            "kernels": ledger.read(out / f"{part.name}.kernels.json"),
            "raised": said.read_text("utf-8", "replace") if said.is_file() else "",
            "text": text.read_text("utf-8", "replace") if text.is_file() else "",
            "svg": _svg(out / f"{part.name}.svg"),
            "record": record,
        }

    def process(self, part: Part, seconds: float, again: bool) -> int | None:
        """Its exit code; None where it had to be ended."""
        out, text = self.asked.out, part.path.read_text()
        given = {
            "--json": [str(out / f"{part.name}.json")],
            "--svg": [str(out / f"{part.name}.svg")],
            "--ops": None if self.asked.ops is None else [self.asked.ops],
            "--budget": [f"{max(seconds, 0) / 60:.3f}"],
            "--tiny": [] if self.asked.tiny else None,
            "--again": [] if again else None,
            "--results": [str(out)],
        }
        for name in (n for n in ("--ops", "--budget") if given[n] is not None and f'"{n}"' not in text):
            self.console.print(f"{part.name} takes no {name}: it runs all that it knows", markup=False)
        flags = [x for n, more in given.items() if more is not None and f'"{n}"' in text for x in (n, *more)]
        command = [sys.executable, str(HERE / "counted.py"), str(out / f"{part.name}.kernels.json")]
        with (out / f"{part.name}.txt").open("w") as said:
            # A group of its own, so that whatever it has started ends with it.
            process = subprocess.Popen(
                [*command, str(part.path), *flags],
                cwd=ROOT, env=self.environment, stdout=said, stderr=None, start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(max(seconds, 0) + GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return None
            except KeyboardInterrupt:
                os.killpg(process.pid, signal.SIGINT)
                process.wait()
                raise
        self.console.print((out / f"{part.name}.txt").read_text("utf-8", "replace"), markup=False, highlight=False)
        return code

    def save(self) -> None:
        """Write the report in its three forms."""
        out: Path = self.asked.out
        write_whole(out / "report.json", json.dumps(self.report, indent=1) + "\n")
        write_whole(out / "report.txt", gpu_report.text(self.report))
        write_whole(out / "report.html", gpu_report.html(self.report))


def _svg(path: Path) -> str:
    found = path.read_text() if path.is_file() else ""
    return found if found.startswith("<svg") else ""


def begun(asked: argparse.Namespace, found: Checkup, kernels: dict[str, Any]) -> dict[str, Any]:
    """The report before any part: with those of the same commit, versions and device, asked for in the same words."""
    devices = found.facts.devices
    about = ledger.about(devices[0].name if devices else "none: Triton's interpreter") | {
        "tiny": asked.tiny,
        "ops": asked.ops,
        "budget": asked.budget,
        "doctor": found.record(),
        "doctor_text": found.paragraphs(),
        "shipped": kernels,
    }
    known = ledger.read(asked.out / "report.json")
    keep = ledger.same(known, about) and all(known.get(n) == about[n] for n in ("tiny", "ops"))
    return about | {"parts": known.get("parts", {}) if keep else {}}


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for; ends with 2 where it cannot be done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [p.name for p in PARTS]
    parser.add_argument("--only", action="append", help="parts, with commas between them; all without it")
    parser.add_argument("--ops", help="examples, with commas between them; all that a part knows without it")
    parser.add_argument("--budget", type=float, default=25.0, metavar="MINUTES", help="in all; 25 if not given")
    parser.add_argument("--again", action="store_true", help="run again what is complete")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, interpreted where there is no GPU")
    parser.add_argument("--out", type=Path, help="where the report goes")
    found = parser.parse_args(given)
    found.only = [name for text in found.only or () for name in names_in(text)] or names
    if odd := [name for name in found.only if name not in names]:
        parser.error(f"there is no part {odd[0]}; there are {', '.join(names)}")
    known = {p.stem for p in (ROOT / "examples").glob("*.flow")}
    if unknown := set(names_in(found.ops)) - known:
        parser.error(f"no example {', '.join(sorted(unknown))}")
    found.out = (found.out or ROOT / "benchmarks/results" / ("gpu-tiny" if found.tiny else "gpu")).absolute()
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Check the machine, run the parts, report."""
    asked = arguments(given)
    until, console = time.monotonic() + 60 * asked.budget, Console(stderr=True, width=140)
    facts = collect()
    if not facts.devices and not asked.tiny:
        console.print(NO_DEVICE, markup=False, highlight=False)
        return 2
    kernels = ship.unpacked(ship.FOLDER, ship.PACK) if facts.devices else 0
    around = environment(facts, kernels)
    # With the ptxas that parts will have; that they are interpreted where there is no GPU is no finding.
    found = checkup(collect(around) if facts.devices else facts)
    console.print(found.table())
    console.print(found.paragraphs(), markup=False)
    run = Run(asked, around, begun(asked, found, carried(found.facts, kernels)), console, until)
    asked.out.mkdir(parents=True, exist_ok=True)
    run.save()
    try:
        run.all()
    except KeyboardInterrupt:
        console.print("stopped: run it again to go on")
        return counted.STOPPED
    finally:
        run.save()
        print(gpu_report.summary(run.report))
        print(f"the report: {asked.out / 'report.html'}")
    return int(any(p["failed"] for n, p in run.report["parts"].items() if n in asked.only))


if __name__ == "__main__":
    sys.exit(main())

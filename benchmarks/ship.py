"""Kernels compiled ahead, without a GPU, for `make gpu` on a machine that has one: none of its minutes goes into that.

    .venv/bin/python benchmarks/ship.py [--target sm_90] [--ops A,B] [--parts bench,peer] [--tiny] [--workers 2]
        [--folder .gpu-cache] [--pack build/gpu-kernels] [--part-size MIB] [--json FILE]

In: examples. Out: FOLDER, a cache of Triton's with every kernel that the parts of `make gpu` launch on the target,
those of flash-linear-attention too where its package lies in .gpu-peer; and archives PACK-001.tar.xz and so on, of at
most MIB (50) each: a carrier may take no more. Kernels are compiled by launching them on a device that is not there
(`pretended`), so that Triton finds them by its own keys: the source, the signature, the options, the ptxas. It has to
be the same Triton and the same ptxas there; FOLDER/manifest.json names both. What is there is not compiled again. Exits
with 1 where something of flowc's does not compile.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ledger
import ptxas
import triton
from command import names_in
from processes import ROOT
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from ship_parts import PARTS
from triton.runtime.cache import triton_key

from flowc.doctor import collect
from flowc.doctor.facts import Device
from flowc.files import write_whole
from flowc.fuzz.find import last

FOLDER, PACK = ROOT / ".gpu-cache", ROOT / "build/gpu-kernels"
MANIFEST = "manifest.json"
ENVIRONMENT = {"TRITON_DISABLE_LINE_INFO": "1"}
"""Of every process that compiles or launches these kernels: it is part of their keys, and halves them."""

KEPT = (".json", ".cubin")
"""What Triton reads of a kernel when it finds it; the texts on the way to it are ten times as long."""


@dataclass
class Shipped:
    """What became of an example: its kernels, how many of them were compiled now, seconds, and what went wrong.

    `refused` is what the peer said.
    """

    name: str
    kernels: int = 0
    compiled: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


# -- compiling --------------------------------------------------------------------------------------------------------


def shipped(name: str, parts: Sequence[str], target: str, tiny: bool, folder: Path) -> Shipped:
    """Compile what an example launches; in a process of its own."""
    from pretended import DEVICES, pretended

    sys.path.append(str(ROOT / ".gpu-peer"))  # what is installed goes before
    os.environ.update({"TRITON_CACHE_DIR": str(folder), **ENVIRONMENT})
    warnings.simplefilter("ignore")
    made, began = Shipped(name), time.monotonic()

    def heard(*, cache_hit: bool, **_: Any) -> None:
        made.kernels += 1
        made.compiled += not cache_hit

    triton.knobs.compilation.listener = heard
    for part in parts:
        for what, call in PARTS[part](name, tiny):
            try:
                with pretended(DEVICES[target]):
                    call()
            except Exception as error:  # whatever a compiler raises is the result here
                if not (isinstance(error, ValueError) and str(error).startswith(f"{name}: ")):  # not the op's refusal
                    (made.refused if part == "peer" else made.errors).append(f"{what}: {last(error)}")
    made.seconds = round(time.monotonic() - began, 1)
    return made


def compiled(
    names: Sequence[str], parts: Sequence[str], target: str, tiny: bool, folder: Path, workers: int
) -> list[Shipped]:
    """All examples, with progress."""
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    found: list[Shipped] = []
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        bar = progress.add_task("compiling for " + target, total=len(names))
        for done in as_completed([pool.submit(shipped, n, parts, target, tiny, folder) for n in names]):
            found.append(done.result())
            progress.advance(bar)
    return sorted(found, key=lambda s: s.name)


# -- the folder and its archives --------------------------------------------------------------------------------------


def kernels(folder: Path) -> list[Path]:
    """The folders of single kernels."""
    return sorted(p.parent for p in folder.glob("*/__grp__*.json"))


def pruned(folder: Path) -> None:
    """Leave of every kernel what Triton reads."""
    for path in folder.glob("*/*"):
        if path.is_file() and path.suffix not in KEPT:
            path.unlink()


def relocated(folder: Path) -> int:
    """Let Triton find the kernels where they lie now: it notes whole paths. How many there are."""
    own = kernels(folder)
    for kernel in own:
        for path in kernel.glob("__grp__*.json"):
            paths = {n: str(kernel / n) for n in json.loads(path.read_text())["child_paths"] if (kernel / n).is_file()}
            text = json.dumps({"child_paths": paths})
            if path.read_text() != text:
                write_whole(path, text)
    return len(own)


def packed(folder: Path, pack: Path, limit: float) -> list[Path]:
    """Archives of all kernels of at most `limit` bytes each, as few as there can be."""
    own, count = kernels(folder), 1
    for old in archives(pack):
        old.unlink()
    while True:
        paths = [pack.with_name(f"{pack.name}-{n + 1:03}.tar.xz") for n in range(count)]
        for n, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(path, "w:xz") as archive:
                for kernel in (*own[n::count], *([folder / MANIFEST] if n + 1 == count else [])):
                    archive.add(kernel, kernel.relative_to(folder))
        largest = max(p.stat().st_size for p in paths)
        if largest <= limit or count >= len(own):
            return paths
        count = max(count + 1, -(-count * largest // int(limit)))


def archives(pack: Path) -> list[Path]:
    """What `packed` wrote."""
    return sorted(pack.parent.glob(f"{pack.name}-*.tar.xz"))


def unpacked(folder: Path, pack: Path) -> int:
    """Fill a folder without a manifest, which archives end with, from them; how many kernels it has then."""
    if not (folder / MANIFEST).is_file():
        for path in archives(pack):
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
    return relocated(folder)


def build() -> str:
    """What Triton's keys have of Triton itself: its sources and its library, which differ between Pythons too."""
    return sha256(triton_key().encode()).hexdigest()[:16]


def manifest(target: str, ptxas: str, found: Sequence[Shipped], count: int) -> dict[str, Any]:
    """What the kernels were compiled with, and for what."""
    return ledger.about("none: compiled ahead") | {
        "target": target, "ptxas": ptxas, "build": build(), "kernels": count, "rows": [asdict(s) for s in found],
    }  # fmt: skip


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for; ends with 2 where it cannot be done."""
    from pretended import DEVICES

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = sorted(p.stem for p in (ROOT / "examples").glob("*.flow"))
    parser.add_argument("--target", choices=list(DEVICES), default="sm_90")
    parser.add_argument("--ops", default=",".join(known), help="examples, with commas between them")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--tiny", action="store_true", help="the kernels of --tiny")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--pack", type=Path, default=PACK)
    parser.add_argument("--part-size", type=float, default=50.0, metavar="MIB", help="the most that an archive has")
    parser.add_argument("--json", type=Path, help="the manifest, once more")
    found = parser.parse_args(given)
    found.ops, found.parts = map(names_in, (found.ops, found.parts))
    for what, names, there in (("example", found.ops, known), ("part", found.parts, PARTS)):
        if unknown := set(names) - set(there):
            parser.error(f"no {what} {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    if triton.knobs.runtime.interpret:
        parser.error("TRITON_INTERPRET is set: kernels are interpreted, and nothing is compiled")
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Compile, pack, print."""
    asked = arguments(given)
    folder: Path = asked.folder.absolute()
    facts = replace(collect(), devices=(Device("", asked.target, 0),))
    newer = ptxas.better(facts)
    if newer is not None:
        os.environ["TRITON_PTXAS_PATH"] = newer.path
    used = newer or facts.used_ptxas
    found = compiled(asked.ops, asked.parts, asked.target, asked.tiny, folder, asked.workers)
    pruned(folder)
    about = manifest(asked.target, str(used and used.version), found, len(kernels(folder)))
    for path in (folder / MANIFEST, asked.json):
        if path is not None:
            write_whole(path, json.dumps(about, indent=1) + "\n")
    console = Console(width=140)
    for row in found:
        for error in (*row.errors, *row.refused):
            console.print(f"{row.name}: {error}", markup=False)
    new = sum(s.compiled for s in found)
    console.print(f"{about['kernels']} kernels for {asked.target} in {folder}, {new} of them new")
    for path in packed(folder, asked.pack, asked.part_size * 2**20) if about["kernels"] else ():
        console.print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
    return int(any(s.errors for s in found))


if __name__ == "__main__":
    sys.exit(main())

"""Rows of a long run, on disk one by one: a run that ends, however it does, goes on where it was.

In: a file and what rows stand for (commit, versions, device). Out: `Ledger`. Rows of another commit, other versions or
another device are left out, and so is a file that holds no rows. A row in which the process ended twice is not begun
again. Refuses nothing but what the system does: OSError.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from processes import ROOT, commit, machine

from flowc.files import write_whole
from flowc.tune import trial

SAME = ("device", "commit", "code", "versions")
TRIES = 2
LOST = 75
"""The exit code of a process that cannot use its device any more, and has kept its rows."""


def is_lost(error: Exception) -> bool:
    """Whether a device that says so answers nothing more."""
    return trial.is_lost(str(error))


def about(device: str) -> dict[str, Any]:
    """What results stand for, and how they were made."""
    packages = ("torch", "triton", "numpy", "fla-core")
    versions = {"python": platform.python_version()} | {n: _version(n) for n in packages}
    versions["ptxas"] = os.environ.get("TRITON_PTXAS_PATH", "Triton's own")
    return {
        "device": device,
        "commit": commit(),
        "code": code(),
        "versions": versions,
        "machine": machine(),
        "command": shlex.join(sys.argv),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def code() -> str:
    """A number for all of flowc, its templates, the examples and these scripts, as they lie here."""
    found = sha256()
    for path in sorted(
        p for folder in ("flowc", "templates", "examples", "benchmarks") for p in (ROOT / folder).rglob("*")
    ):
        if path.is_file() and path.suffix in (".py", ".j2", ".flow"):
            found.update(f"{path.relative_to(ROOT)} ".encode() + path.read_bytes())
    return found.hexdigest()[:16]


@dataclass
class Ledger:
    """Rows by key. `tries` counts how often a row was begun that has not ended; `left` names what was not begun."""

    path: Path | None
    about: Mapping[str, Any]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    @staticmethod
    def opened(path: Path | None, about: Mapping[str, Any], again: bool = False) -> Ledger:
        """What is known of the same commit, versions and device; nothing if `again`."""
        made = Ledger(path, about)
        found = {} if path is None or again else read(path)
        if same(found, about) and isinstance(found.get("rows"), list):
            made.rows = {row["key"]: row for row in found["rows"]}
            made.tries = dict(found.get("tries", {}))
        return made

    def begin(self, key: str) -> bool:
        """Note that a row is begun; False where the process ended in it as often as it may."""
        if self.tries.get(key, 0) >= TRIES:
            return False
        self.tries[key] = self.tries.get(key, 0) + 1
        self.save()
        return True

    @contextmanager
    def begun(self, key: str) -> Iterator[None]:
        """While a row is run: one that somebody interrupts has not been tried."""
        try:
            yield
        except KeyboardInterrupt:
            self.tries.pop(key, None)
            self.save()
            raise

    def end(self, key: str, row: Mapping[str, Any]) -> None:
        """Keep a row."""
        self.rows[key] = {"key": key, **row}
        self.tries.pop(key, None)
        self.save()

    def leave(self, keys: Sequence[str]) -> None:
        """Name the rows that were not begun."""
        self.left = list(keys)
        self.save()

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**self.about, "left": self.left, "tries": self.tries, "rows": list(self.rows.values())}

    def save(self) -> None:
        """Write the file, if there is to be one."""
        if self.path is not None:
            write_whole(self.path, json.dumps(self.record(), indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """The object in a file; none where there is no file, or another thing in it."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def same(found: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Whether results are of the same commit, versions and device."""
    return all(found.get(name) == about.get(name) for name in SAME)

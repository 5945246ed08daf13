"""Workers as processes, driven line by line.

In: which interpreter, side and shape. Out: `Side`, whose `ask` hands over one command and waits for the answer. This
side of the pipe imports no torch: a child's maximum resident size would start from its parent's. Refuses a worker that
ends early: RuntimeError with what it wrote.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
os.environ.setdefault("FLOWC_TUNED", "")  # what is measured is what flowc ships, whatever a user has tuned


class Side:
    """A worker process; one thread unless OMP_NUM_THREADS says otherwise."""

    def __init__(self, side: str, inputs: str, length: int, heads: int, size: int) -> None:
        """Start it and read what it says of itself."""
        python = str(ROOT / ".venv-peers/bin/python") if side == "peer" else sys.executable
        # -P: files beside the worker are not modules of the peer's, which looks for one called `kernels`.
        command = [python, "-P", str(HERE / "worker.py"), side, inputs, str(length), str(heads), str(size)]
        environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", **os.environ}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        self.about = self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line of the worker, as JSON."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with exit code {self.process.wait()}; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: str) -> dict[str, Any]:
        """Hand over a command and wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def __enter__(self) -> Side:
        """The side itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End the worker."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def machine() -> dict[str, object]:
    """What a result was measured on."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.processor(), "cores": os.cpu_count(), "system": platform.platform()}


@cache
def commit() -> str:
    """The checkout's commit, with `+` after it where tracked files but results differ; of a bare copy FLOWC_COMMIT."""
    if not (ROOT / ".git").exists():
        return os.environ.get("FLOWC_COMMIT", "unknown: no checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    changed = subprocess.run(
        ["git", "status", "--porcelain", "-uno", ":!benchmarks/results"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return head.strip() + ("+" if changed.stdout else "")

"""What the training examples share: runs in processes with their progress, and results as JSON.

In: a function that trains one model, and what it is called with. Out: its results in order. Refuses nothing; an error
in a run ends the others.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import queue
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

Report = Callable[[int, str], None]
"""Called with the steps that are done and what to show beside them."""

ROOT = Path(__file__).parent.parent


def run_all(train: Callable[..., Any], runs: Sequence[tuple[Any, ...]], steps: int, workers: int) -> list[Any]:
    """`train(*run, report)` for every run, `workers` at a time, each with a bar."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, Progress() as progress:
        told = manager.Queue()
        names = [" ".join(str(part) for part in run if isinstance(part, str | int)) for run in runs]
        bars = [progress.add_task(name, total=steps) for name in names]
        with context.Pool(min(workers, len(runs)), initializer=_one_thread) as pool:
            waiting = [pool.apply_async(_run, (train, run, told, at)) for at, run in enumerate(runs)]
            while not all(w.ready() for w in waiting) or not told.empty():
                try:
                    at, done, text = told.get(timeout=0.2)
                except queue.Empty:  # look again whether all is done
                    continue
                progress.update(bars[at], completed=done, description=f"{names[at]}  {text}")
            return [w.get() for w in waiting]


def _one_thread() -> None:
    torch.set_num_threads(1)


def _run(train: Callable[..., Any], run: tuple[Any, ...], told: Any, at: int) -> Any:
    return train(*run, lambda done, text: told.put((at, done, text)))


def record(path: Path, results: dict[str, Any]) -> None:
    """Save results with the machine, versions, the commit and the command."""
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    where = {
        "machine": {"system": platform.platform(), "python": platform.python_version(), "torch": torch.__version__},
        "commit": done.stdout.strip() or None,
        "command": shlex.join(["python", *sys.argv]),
    }
    path.write_text(json.dumps({**where, **results}, indent=1) + "\n", encoding="utf-8")

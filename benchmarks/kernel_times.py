"""What every kernel of a call takes: on a GPU by torch's profiler, under Triton's interpreter by the clock.

In: a call that is ready. Out: milliseconds by the names of kernels, of one call; a name that is launched several times
stands for all of them. On a GPU the median of `CALLS`, before each of which a copy empties the caches; copies and fills
that no kernel makes, that one too, are left out. Refuses, with `UnprofiledError`, a profiler that tells of no kernel,
and calls that do not all launch the same.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile
from triton.runtime.interpreter import GridExecutor

CALLS = 10
WARM = 3
EMPTIED = 2**27
"""Bytes that are read, and as many written; the largest caches have that many."""


class UnprofiledError(RuntimeError):
    """Nothing tells what the kernels of a call took."""


def kernel_times(call: Callable[[], object], gpu: bool) -> dict[str, float]:
    """Milliseconds of one call by kernels' names, in the order of their first launches."""
    return profiled(call) if gpu else interpreted(call)


def profiled(call: Callable[[], object], calls: int = CALLS) -> dict[str, float]:
    """Those of the device's own clock."""
    ours, other = torch.empty(2, EMPTIED, dtype=torch.uint8, device="cuda")
    for _ in range(WARM):
        call()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(calls):
            ours.copy_(other)  # of what lies in one piece: no kernel
            call()
        torch.cuda.synchronize()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(path))
        trace = json.loads(path.read_text())
    return of_one(launches(trace), calls)


def launches(trace: Mapping[str, Any]) -> dict[str, list[float]]:
    """Of a Chrome trace: milliseconds of every launch by name, in the order of time; its own are microseconds."""
    kernels = [e for e in trace["traceEvents"] if e.get("cat") == "kernel" and e.get("ph") == "X"]
    found = defaultdict(list)
    for e in sorted(kernels, key=lambda e: float(e["ts"])):
        found[str(e["name"])].append(1e-3 * float(e["dur"]))
    return dict(found)


def of_one(found: Mapping[str, Sequence[float]], calls: int) -> dict[str, float]:
    """The median call, kernel by kernel."""
    if not found:
        raise UnprofiledError("the profiler tells of no kernel: is another profiler running, or CUPTI missing?")
    uneven = [f"{name} {len(times)} times" for name, times in found.items() if len(times) % calls]
    if uneven:
        raise UnprofiledError(f"{calls} calls launched {', '.join(uneven)}")
    made = {}
    for name, times in found.items():
        each = len(times) // calls
        made[name] = median(sum(times[n : n + each]) for n in range(0, len(times), each))
    return made


def interpreted(call: Callable[[], object]) -> dict[str, float]:
    """Those of the clock, which mean nothing: names count."""
    run, found = GridExecutor.__call__, defaultdict(list)

    def timed(kernel: Any, *given: Any, **named: Any) -> None:
        began = time.perf_counter()
        run(kernel, *given, **named)
        found[kernel.fn.__name__].append(1e3 * (time.perf_counter() - began))

    with patch.object(GridExecutor, "__call__", timed):
        call()
    return of_one(found, 1)

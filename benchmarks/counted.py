"""Runs a script and counts its kernels: how many were found compiled, how many were compiled.

    python benchmarks/counted.py FILE SCRIPT [ARGUMENT ...]

In: where to write, a script, what it is given. Out: FILE, `{"found": N, "compiled": N}`, as of the script's end however
it ends by itself; and `raised(FILE)`, what was raised, or where the process was when it was ended by a signal; empty
where neither. Exits as the script does, with 70 where it raises, with 130 where it is interrupted.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

from flowc.files import write_whole

BROKEN, STOPPED = 70, 130
"""Exit codes where the script itself fails, 1 being that of what it has found, and where somebody interrupts it."""


def raised(path: Path) -> Path:
    """Where it is told what a script has raised."""
    return path.with_name(f"{path.name.split('.')[0]}.raised.txt")


def main() -> None:
    """Listen, run, write."""
    path, script, *given = sys.argv[1:]
    said = raised(Path(path)).open("w")  # to the end of the process
    faulthandler.enable(said)
    counts = {"found": 0, "compiled": 0}

    def heard(*, cache_hit: bool, **_: Any) -> None:
        counts["found" if cache_hit else "compiled"] += 1

    try:
        import triton

        triton.knobs.compilation.listener = heard
    except ImportError:  # a script says so itself
        pass
    atexit.register(lambda: write_whole(Path(path), json.dumps(counts) + "\n"))
    sys.argv = [script, *given]
    sys.path[0] = str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except KeyboardInterrupt:  # somebody knows
        sys.exit(STOPPED)
    except Exception:
        traceback.print_exc()
        said.write(traceback.format_exc())
        said.flush()
        sys.exit(BROKEN)


if __name__ == "__main__":
    main()

"""Checking a spec needs neither torch nor sympy."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "gated_deltanet.flow"

PROGRAM = f"""
import sys
from pathlib import Path
from flowc.semantics import load, warnings
warnings(load(Path({str(EXAMPLE)!r}).read_text("utf-8")))
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(loaded & {{"torch", "sympy", "triton", "jinja2", "numpy"}}))
"""


def test_check_imports_neither_torch_nor_sympy() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

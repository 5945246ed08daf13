"""Runs tests/triton/interpreted where TRITON_INTERPRET is set before Triton is imported: in a process of its own.

Directly: `TRITON_INTERPRET=1 python -m pytest tests/triton/interpreted`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

pytest.importorskip("triton")


@pytest.mark.parametrize("name", sorted(p.name for p in (HERE / "interpreted").glob("test_*.py")))
def test_under_the_interpreter(name):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/triton/interpreted/{name}"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]

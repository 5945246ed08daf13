"""Runs tests where TRITON_INTERPRET is set before Triton is imported: in processes of their own.

These are tests/triton/interpreted, and of tests/differential those that have the interpreter as a target. Directly:

    TRITON_INTERPRET=1 python -m pytest tests/triton/interpreted
    TRITON_INTERPRET=1 python -m pytest tests/differential -k interpreter
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

pytest.importorskip("triton")


PARTS = 8  # of the differential tests, so that two workers are done at about the same time


def run(*arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.first
@pytest.mark.parametrize("name", sorted(p.name for p in (HERE / "interpreted").glob("test_*.py")))
def test_under_the_interpreter(name):
    run(f"tests/triton/interpreted/{name}")


@pytest.mark.first
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_the_differential_tests_under_the_interpreter(part):
    run("tests/differential", "-k", "interpreter", "--part", f"{part}/{PARTS}")

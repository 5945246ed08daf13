"""Where an op runs: torch operators, Triton kernels under the interpreter, Triton kernels on a GPU.

A test of several targets is parametrised over `TARGETS`. Which ones there are is a matter of the process: Triton looks
at TRITON_INTERPRET when kernels are made, so `tests/triton/test_interpreter.py` starts processes that have it set, and
in those the interpreter is the only target. The GPU's tests skip themselves where there is none.
"""

from __future__ import annotations

import os

import pytest

from flowc.fuzz.cases import HALVES
from flowc.fuzz.targets import GPU, INTERPRETER, TORCH, Target, placed, poisoned

__all__ = ["HALVES", "Target", "placed", "poisoned"]

MISSING = "backend='triton' has no kernels yet for: "


def skip_if_missing(error: ValueError) -> None:
    """Skip the test if an op says that it has no kernels yet, by that error only; test_missing.py pins which do."""
    if MISSING in str(error):
        pytest.skip(str(error))


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TARGETS = [INTERPRETER] if INTERPRETED else [TORCH, pytest.param(GPU, marks=pytest.mark.gpu)]
on_targets = pytest.mark.parametrize("target", TARGETS, ids=str)
on_kernels = pytest.mark.parametrize("target", TARGETS if INTERPRETED else TARGETS[1:], ids=str)

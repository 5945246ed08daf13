"""Emitted modules that are committed, tests/golden: the bytes that are emitted today, and what they compute.

They show what a change of the emitter does, and `make triton-matrix` compiles them. `pytest --update` rewrites them.
"""

import importlib.util
from functools import cache
from pathlib import Path

import pytest
from differential.harness import EXAMPLES, Case, check
from differential.targets import on_targets

import flowc
from flowc.files import write_whole

GOLDEN = Path(__file__).parent.parent / "golden"
NAMES = ("gated_deltanet", "gated_lowrank_delta", "kda")


@cache
def module(name):
    """The module as it lies, by its path and without flowc."""
    spec = importlib.util.spec_from_file_location(f"golden_{name}", GOLDEN / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes(name, update):
    text = flowc.compile(EXAMPLES[name]).source
    if update:
        write_whole(GOLDEN / f"{name}.py", text)
    assert (GOLDEN / f"{name}.py").read_text(encoding="utf-8") == text, "read the diff of `pytest --update`"


def test_there_are_no_others():
    assert sorted(path.stem for path in GOLDEN.glob("*.py")) == sorted(NAMES)


@on_targets
@pytest.mark.parametrize("name", NAMES)
def test_what_they_compute(name, target):
    """Values and gradients, two chunks and a part of one, from a given state."""
    case = Case(1, 37, 2, (20, 9, 2), 16, "mixed", start=True)
    check(name, case, target.types[0], getattr(module(name), name), target)

"""Compiled ops against the oracle, by the names of their specs; `flowc.fuzz.judge` derives the tolerances."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from differential.specs import SPECS
from differential.targets import TORCH, Target, skip_if_missing

import flowc
from flowc.fuzz import judge
from flowc.fuzz.cases import Case, Tensors, draw, draw_states, is_log_gate, shares_heads, sizes_of
from flowc.fuzz.judge import (
    BAR,
    FLOOR,
    Difference,
    cotangents,
    errors,
    given_states,
    rms,
    run_reference,
    states_of,
)
from flowc.semantics import load
from flowc.semantics.model import Kind, Model

__all__ = [
    "BAR",
    "FLOOR",
    "cotangents",
    "draw",
    "draw_states",
    "errors",
    "given_states",
    "is_log_gate",
    "rms",
    "run_reference",
    "several",
    "shares_heads",
    "sizes_of",
    "states_of",
]

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = {path.stem: path.read_text() for path in sorted((ROOT / "examples").glob("*.flow"))}
TEXTS = EXAMPLES | SPECS

# Those of one matrix state, which kernels make alone.
ON_KERNELS = [n for n, text in EXAMPLES.items() if [s.shape.kind for s in load(text, n).states] == [Kind.MATRIX]]

# Specs that use a log gate elsewhere than in the gate, where -inf has no meaning.
FINITE_GATES = frozenset({"negative_free_gate", "growing"})


def several(made):
    """What an op returns of outputs or of states: bare where there is one, a tuple where there are several."""
    return made if isinstance(made, tuple) else (made,)


@cache
def model_of(name: str) -> Model:
    return load(TEXTS[name], name)


@cache
def op_of(name: str) -> flowc.Op:
    return flowc.compile(TEXTS[name])


def run_op(
    op, model: Model, inputs: Tensors, start: Tensors, dtype: torch.dtype, case: Case, target: Target = TORCH
) -> Tensors:
    """`judge.run_op`; the test is skipped where there are no kernels yet."""
    try:
        return judge.run_op(op, model, inputs, start, dtype, case, target)
    except ValueError as error:
        skip_if_missing(error)
        raise


def differences(
    name: str, case: Case, dtype: torch.dtype = torch.float64, op=None, target: Target = TORCH
) -> list[Difference]:
    """The op's errors on a case with their tolerances; `op` replaces the one of `name`."""
    try:
        return judge.differences(model_of(name), op or op_of(name), case, dtype, target)
    except ValueError as error:
        skip_if_missing(error)
        raise


def check(
    name: str, case: Case, dtype: torch.dtype = torch.float64, op=None, target: Target = TORCH, beyond: float = 0.0
) -> None:
    """Assert that every error of a case is within its tolerance, and what it may be beyond that."""
    failed = [d for d in differences(name, case, dtype, op, target) if not d.error <= d.tolerance + beyond]
    assert not failed, "\n".join(f"{d.name}: error {d.error:.2e}, tolerance {d.tolerance:.2e}" for d in failed)

"""Differential verification of a compiled spec, as a user runs it.

In: an `Op`. Out: `Report`. Refuses nothing.
"""

from __future__ import annotations

from flowc.runtime.op import Op
from flowc.verify.compare import Finding, compare
from flowc.verify.report import Report

__all__ = ["Finding", "Report", "compare", "verify"]


def verify(op: Op, seed: int = 0) -> Report:
    """Compare `op` with the oracle, in float64 on inputs drawn within the ranges that its spec declares."""
    model = op.compilation.model
    return Report(model.name, seed, compare(model, op, seed, op.compilation.options.chunk_size))

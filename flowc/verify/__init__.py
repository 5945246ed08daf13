"""Differential verification of a compiled spec, as a user runs it.

In: a Compilation. Out: `Report`. Refuses what the compiler refuses, with its diagnostics.
"""

from __future__ import annotations

from flowc.compiler import Compilation
from flowc.runtime.op import Op
from flowc.verify.compare import Finding, compare
from flowc.verify.report import Report

__all__ = ["Finding", "Report", "compare", "verify"]


def verify(compilation: Compilation, seed: int = 0) -> Report:
    """Compare the op of `compilation` with the oracle on inputs drawn within the ranges that its spec declares.

    Raises:
        FlowError: what is wrong with the spec.
    """
    findings = compare(compilation.model, Op(compilation), seed, compilation.options.chunk_size)
    return Report(compilation.model.name, seed, findings)

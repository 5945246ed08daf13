"""Differential verification of a compiled spec, as a user runs it.

In: a Source and Options. Out: `Report`. Refuses what the compiler refuses, with its diagnostics.
"""

from __future__ import annotations

from flowc.compiler import compile_text
from flowc.options import Options
from flowc.runtime.op import Op
from flowc.source import Source
from flowc.verify.compare import Finding, compare
from flowc.verify.report import Report

__all__ = ["Finding", "Report", "compare", "verify"]


def verify(source: Source, options: Options, seed: int = 0) -> Report:
    """Compile `source` and compare the op with the oracle on inputs drawn within the declared ranges.

    Raises:
        FlowError: what is wrong with the spec.
    """
    compilation = compile_text(source, options)
    model = compilation.model
    return Report(model.name, seed, compare(model, Op(compilation), seed, options.chunk_size))

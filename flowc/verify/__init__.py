"""Differential verification of a compiled spec, as a user runs it.

In: a Source and Options. Out: `Report`. Refuses what the compiler refuses, with its diagnostics.
"""

from __future__ import annotations

from flowc.options import Options
from flowc.source import Source
from flowc.verify.compare import Finding, compare
from flowc.verify.report import Report

__all__ = ["Finding", "Report", "compare", "verify"]


def verify(source: Source, options: Options, seed: int = 0) -> Report:
    """Compile `source` and compare the op with the oracle on inputs drawn within the declared ranges.

    Raises:
        FlowError: what is wrong with the spec.
    """
    import flowc
    from flowc.semantics import load

    model = load(source.text, source.name)
    op = flowc.compile(source.text, **options.record())
    return Report(model.name, seed, compare(model, op, seed, options.chunk_size))

"""The op: an emitted module as a user holds it.

In: a `Compilation`. Out: `Op`, called like the module's own function, with its step, reference, source and
explanation. Refuses what the module's checks refuse.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from os import PathLike
from typing import Any

from flowc.certify import text
from flowc.compiler import Compilation, Stage, compile_text
from flowc.diagnostics import FlowError
from flowc.options import Options
from flowc.report.explain import explain_text
from flowc.runtime.load import load
from flowc.runtime.tables import compile_by_tables
from flowc.source import Source, opened

TOLD = ("W202", "W204")
"""Warnings that `compile` gives: of gradients that are wrong without a word, and of an op that is slow."""


class Op:
    """A compiled recurrence; see `help(op)` for its arguments and `op.source` for its code.

    `op.step` makes one token and the next state, `op.reference` runs step by step; `help(op.step)` has their arguments.

    It can be pickled and deep-copied, and so can a module that holds it.
    """

    def __init__(self, compilation: Compilation) -> None:
        """Load the module of a compilation."""
        artifact = compilation.artifact
        self.compilation = compilation
        self._module = load(artifact)
        self._call = getattr(self._module, artifact.function)
        self.__name__ = artifact.name
        self.__doc__ = self._call.__doc__
        self.__signature__ = inspect.signature(self._call)
        self.step: Callable[..., Any] = self._module.step
        self.reference: Callable[..., Any] = self._module.reference
        self.source: str = artifact.source
        self.spec: str = compilation.model.canonical

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the op on whole sequences."""
        return self._call(*args, **kwargs)

    def explain(self) -> str:
        """What was derived and chosen, and why."""
        return explain_text(self.compilation)

    def __copy__(self) -> Op:
        """The op itself: nothing in it changes."""
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Op:
        """The op itself: nothing in it changes."""
        return self

    def __reduce__(self) -> tuple[Callable[[Source, Options], Op], tuple[Source, Options]]:
        """Pickled as spec and options, and compiled again where it is loaded, by the flowc that is there."""
        return compiled, (self.compilation.source, self.compilation.options)

    def __repr__(self) -> str:
        """The op and its class."""
        return f"<flowc op {self.__name__}{self.__signature__}>"


def compile(
    spec: str | PathLike[str],
    *,
    chunk_size: int | None = None,
    aggregation: str = "auto",
    schedule: str = "auto",
    backend: str = "auto",
    save: str = "states",
    certify: bool = False,
) -> Op:
    """Compile a recurrence.

    Its kernels are configured by rules, and where `flowc tune` has left rows for this spec, by those.

    Args:
        spec: a path to a `.flow` file (a Path, or a str without a line break), or the spec's text.
        chunk_size: tokens per chunk; None leaves it to the cost model.
        aggregation: "auto", "wy", "tensorinv" or "signature".
        schedule: "auto", "split", "fused" or "two-level".
        backend: "auto", "torch" or "triton".
        save: "states" or "recompute": what is kept for the backward pass, or that it begins with a forward pass.
        certify: hold the chunk programs to the step first, in exact arithmetic, as `flowc compile` does; some tenths of
            a second. A recurrence that it cannot tell of is a warning.

    Returns:
        The op.

    Warns:
        UserWarning: W202, a plain gate that may come near 0; W204, a recurrence that is taken token by token. `flowc
            check` gives all. And a table of `flowc tune`, or a row of it, that cannot be read.

    Raises:
        FlowError: errors in the spec, or a recurrence without a compiled form.
        OSError: no such file.
        RuntimeError: with `certify`, programs that the step contradicts: a bug in flowc.
        TypeError: what is neither a path nor a text.
        ValueError: an option that is not allowed, or no spec in what was given.
    """
    options = Options(chunk_size=chunk_size, aggregation=aggregation, schedule=schedule, backend=backend, save=save)
    return compiled(opened(spec), options, certify)


def compiled(source: Source, options: Options, certify: bool = False) -> Op:
    """The op of a spec that is at hand."""
    if certify:
        _certify(compile_text(source, options, Stage.PLAN))
    compilation, problems = compile_by_tables(source, options, Stage.MODULE)
    for problem in problems:
        warnings.warn(problem, stacklevel=3)
    told = tuple(w for w in compilation.warnings if w.code in TOLD)
    if told:
        warnings.warn(str(FlowError(source, told)), stacklevel=3)
    return Op(compilation)


def _certify(compilation: Compilation) -> None:
    """Raise where the programs are wrong, warn where that cannot be told."""
    found = compilation.certify()
    if found.mismatch is not None:
        raise RuntimeError(text(found, compilation.source.name, compilation.model.canonical))
    if not found.holds:
        warnings.warn(text(found, compilation.source.name, compilation.model.canonical), stacklevel=4)

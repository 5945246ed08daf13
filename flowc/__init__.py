"""flowc: matrix-state recurrences, written as in a paper, compiled to chunked differentiable torch ops."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowc.diagnostics import FlowError as FlowError
    from flowc.runtime.jit import jit as jit
    from flowc.runtime.op import Op as Op
    from flowc.runtime.op import compile as compile
    from flowc.semantics.model import Model

__version__ = "0.1.0"
__all__ = ["FlowError", "Op", "__version__", "compile", "jit", "load", "nn", "reference", "verify"]

# What needs torch or sympy is loaded when it is first asked for: `flowc check` needs neither.
_HOMES = {
    "FlowError": "flowc.diagnostics",
    "Op": "flowc.runtime.op",
    "compile": "flowc.runtime.op",
    "jit": "flowc.runtime.jit",
}
_MODULES = ("nn", "reference", "verify")


def load(spec: str | PathLike[str] | Callable[..., Any]) -> Model:
    """Check a spec without compiling it: what `flowc.reference` runs step by step.

    Args:
        spec: a path to a `.flow` file (a Path, or a str without a line break), the spec's text, or a function as
            `flowc.jit` takes it.

    Raises:
        FlowError: all errors of the spec.
        OSError: no such file, or a function whose source is not at hand.
        TypeError: none of these.
        ValueError: no spec in what was given.
    """
    from flowc.semantics import loaded
    from flowc.source import opened

    if callable(spec):
        from flowc.syntax.python.locate import function_source

        return loaded(function_source(spec))
    return loaded(opened(spec))


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"flowc.{name}")
    raise AttributeError(f"module 'flowc' has no attribute {name!r}")


def __dir__() -> list[str]:
    """All names, those that are not loaded yet among them."""
    return sorted({*globals(), *__all__})

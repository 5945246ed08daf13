"""flowc: matrix-state recurrences, written as in a paper, compiled to chunked differentiable torch ops."""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowc.diagnostics import FlowError as FlowError
    from flowc.runtime.op import Op as Op
    from flowc.runtime.op import compile as compile
    from flowc.semantics.model import Model

__version__ = "0.1.0"
__all__ = ["FlowError", "Op", "__version__", "compile", "load", "reference", "verify"]

# What needs torch or sympy is loaded when it is first asked for: `flowc check` needs neither.
_HOMES = {"compile": "flowc.runtime.op", "Op": "flowc.runtime.op", "FlowError": "flowc.diagnostics"}
_MODULES = ("reference", "verify")


def load(spec: str | PathLike[str]) -> Model:
    """Check a spec without compiling it: what `flowc.reference` runs step by step.

    Args:
        spec: a path to a `.flow` file (a Path, or a str without a line break), or the spec's text.

    Raises:
        FlowError: all errors of the spec.
        OSError: no such file.
        TypeError: what is neither a path nor a text.
        ValueError: no spec in what was given.
    """
    from flowc.semantics import load as checked
    from flowc.source import opened

    source = opened(spec)
    return checked(source.text, source.name)


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

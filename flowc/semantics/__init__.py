"""Spec -> Model: names, shapes and sizes resolved, ranges and warnings on top. Imports neither torch nor sympy."""

from flowc.semantics.check import check, load, loaded, warnings

__all__ = ["check", "load", "loaded", "warnings"]

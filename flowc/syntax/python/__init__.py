"""A decorated Python function -> the same syntax tree that the language's own text gives. The function is never run."""

from flowc.syntax.python.function import read_function

__all__ = ["read_function"]

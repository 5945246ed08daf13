"""Symbolic sizes as Python expressions.

In: a `Size` and the emitted names of its dimensions. Out: an expression. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from flowc.emit.torch_functions import ATOM, PRODUCT, SUM, Code
from flowc.semantics.size import Size


def size_code(size: Size, names: Mapping[str, str]) -> Code:
    """The size as an expression of integers."""
    if size.constant is not None:
        return Code(str(size.constant), ATOM, True)
    parts: list[str] = []
    for monomial, c in sorted(size.terms, key=lambda term: (len(term[0]) == 0, term)):
        factors = [*([str(abs(c))] if abs(c) != 1 or not monomial else []), *(names[m] for m in monomial)]
        parts.append((" - " if c < 0 else " + " if parts else "") + " * ".join(factors))
    binding = SUM if len(parts) > 1 else PRODUCT if " * " in parts[0] else ATOM
    return Code("".join(parts), binding, True)

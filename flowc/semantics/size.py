"""Symbolic sizes: polynomials with integer coefficients in the names of a spec's dimensions.

In: names, integers, sums, differences and products. Out: `Size`, compared by value, so that `1 + K*K` equals
`K*K + 1`. Refuses nothing by itself; `Size.value` raises KeyError for a dimension that is not bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class Size:
    """A polynomial: sorted `(monomial, coefficient)` pairs, a monomial being a sorted tuple of dimension names."""

    terms: tuple[tuple[tuple[str, ...], int], ...]

    @staticmethod
    def of(value: int | str) -> Size:
        """The size `value`: an integer, or a dimension by its name."""
        return Size._collect([((value,), 1)] if isinstance(value, str) else [((), value)])

    @staticmethod
    def _collect(terms: Iterable[tuple[tuple[str, ...], int]]) -> Size:
        total: dict[tuple[str, ...], int] = {}
        for monomial, coefficient in terms:
            total[monomial] = total.get(monomial, 0) + coefficient
        return Size(tuple(sorted((m, c) for m, c in total.items() if c)))

    def __add__(self, other: Size) -> Size:
        """The sum of two sizes."""
        return Size._collect((*self.terms, *other.terms))

    def __sub__(self, other: Size) -> Size:
        """The difference of two sizes."""
        return Size._collect((*self.terms, *((m, -c) for m, c in other.terms)))

    def __mul__(self, other: Size) -> Size:
        """The product of two sizes."""
        return Size._collect((tuple(sorted(m + n)), c * d) for m, c in self.terms for n, d in other.terms)

    @property
    def names(self) -> frozenset[str]:
        """The dimensions this size depends on."""
        return frozenset(name for monomial, _ in self.terms for name in monomial)

    @property
    def constant(self) -> int | None:
        """The size as an integer where it is one, else None."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @property
    def symbol(self) -> str | None:
        """The dimension's name where the size is a single dimension, else None."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            return self.terms[0][0][0]
        return None

    def value(self, bound: Mapping[str, int]) -> int:
        """The integer this size is under `bound`; KeyError if a dimension is missing there."""
        return sum(c * prod(bound[name] for name in monomial) for monomial, c in self.terms)

    def __str__(self) -> str:
        """As a spec writes it: `1 + K + K*K`."""
        if not self.terms:
            return "0"
        parts = []
        for monomial, c in self.terms:
            factors = [*([str(abs(c))] if abs(c) != 1 or not monomial else []), *monomial]
            parts.append((" - " if c < 0 else " + ") + "*".join(factors))
        text = "".join(parts)
        return text[3:] if text.startswith(" + ") else "-" + text[3:]


ONE = Size.of(1)

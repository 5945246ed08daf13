"""Tiles of a program that takes tokens one by one: their shapes, where their entries lie, and which of those there are.

In: axes, and which of them programs divide. Out: expressions of Triton. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.semantics.size import Size

ROWS = "tokens"  # the axis of tiles that have several tokens


class Lane(NamedTuple):
    """An axis of a tile; `split`: programs hold a block of it."""

    name: str
    size: Size
    split: bool


@dataclass
class Tiles:
    """Sizes and indices of the kernels of a module, in the order in which they are first used."""

    names: Names
    sizes: list[Size] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    indices: dict[tuple[Size, bool], str] = field(default_factory=dict)

    def place(self, size: Size) -> int:
        """Which of the sizes it is."""
        if size not in self.sizes:
            self.sizes.append(size)
        return self.sizes.index(size)

    def number(self, size: Size) -> str:
        """A size as an expression of the kernel's constants."""
        if size.constant is not None:
            return str(size.constant)
        if size.symbol:
            return f"S{self.place(size)}"
        return f"({size_code(size, {n: f'S{self.place(Size.of(n))}' for n in size.names}).text})"

    def length(self, lane: Lane) -> str:
        """How many entries a tile has along an axis."""
        if lane.name == ROWS:
            return "TOKENS"
        return "BLOCK" if lane.split else f"T{self.place(lane.size)}"

    def index(self, lane: Lane) -> str:
        """The indices along an axis."""
        if lane.name == ROWS:
            return "row"
        key = lane.size, lane.split
        if key not in self.indices:
            own = self.indices[key] = self.names.fresh("column" if lane.split else f"i{self.place(lane.size)}")
            start = "block * BLOCK + " if lane.split else ""
            self.setup.append(f"{own} = {start}tl.arange(0, {self.length(lane)})")
        return self.indices[key]

    def along(self, lanes: Sequence[Lane], at: int) -> str:
        """The indices along one of several axes."""
        return f"{self.index(lanes[at])}{spot(len(lanes), at)}"

    def live(self, lanes: Sequence[Lane]) -> str:
        """Which entries of a tile there are."""
        ends = ["left" if a.name == ROWS else f"S{self.place(a.size)}" for a in lanes]
        parts = (
            f"({self.index(a)} < {e}){spot(len(lanes), n)}" for n, (a, e) in enumerate(zip(lanes, ends, strict=True))
        )
        return " & ".join(parts)

    def shape(self, lanes: Sequence[Lane]) -> str:
        """A tile's shape."""
        return f"({', '.join(self.length(a) for a in lanes)}{',' * (len(lanes) == 1)})"

    def offsets(self, lanes: Sequence[Lane], strides: Sequence[str]) -> str:
        """Where entries of a token lie, with a stride for every axis of its."""
        first = len(lanes) - len(strides)
        return "".join(f" + {self.along(lanes, first + n)} * {s}" for n, s in enumerate(strides))

    def packed(self, lanes: Sequence[Lane]) -> tuple[str, str]:
        """How many entries a token has, and where they lie one after another."""
        sizes = [f"S{self.place(a.size)}" for a in lanes if a.name != ROWS]
        strides = [" * ".join(sizes[n + 1 :]) or "1" for n in range(len(sizes))]
        return " * ".join(sizes) or "1", self.offsets(lanes, strides)

    def scratch(self, lanes: Sequence[Lane]) -> tuple[str, str]:
        """As `packed`, of a program's own tile, filled up."""
        sizes = [self.length(a) for a in lanes]
        own = [f"tl.arange(0, {n}){spot(len(lanes), at)}" for at, n in enumerate(sizes)]
        strides = [" * ".join(sizes[n + 1 :]) or "1" for n in range(len(lanes))]
        return " * ".join(sizes) or "1", "".join(f" + {i} * {s}" for i, s in zip(own, strides, strict=True))


def by_token(lanes: Sequence[Lane], text: str) -> str:
    """What every token has of its own, or all have, among axes."""
    return f"({text}){spot(len(lanes), 0)}" if lanes and lanes[0].name == ROWS else text


def spot(count: int, at: int) -> str:
    """What makes a vector one along an axis among several."""
    return "" if count < 2 else f"[{', '.join(':' if n == at else 'None' for n in range(count))}]"

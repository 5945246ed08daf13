"""Where rows stand in a step and in a chunk, as integers.

In: spaces and masks of a chunk program, sizes. Out: positions, masks as booleans, indices of gate sums, and the order
of the rows of one token. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowc.chunk.values import Mask, Position, Space, Where

Bound = Mapping[str, int]
Indices = NDArray[Any]


def row_order(space: Space, bound: Bound) -> list[tuple[int, int]]:
    """The rows of a token: (part, row of the part). Parts of one repeat take turns round by round."""
    rows: list[tuple[int, int]] = []
    numbered = list(enumerate(space.parts))
    for (count, _), members in groupby(numbered, lambda p: (p[1].count, p[1].segment if p[1].count else p[0])):
        group = list(members)
        for turn in range(1 if count is None else count.value(bound)):
            for number, part in group:
                rank = 1 if part.rank is None else part.rank.value(bound)
                rows += [(number, turn * rank + i) for i in range(rank)]
    return rows


def positions(space: Space, where: Where, bound: Bound) -> list[int]:
    """Where every row of a token reads or writes, counted in edits."""
    found = []
    for number, row in row_order(space, bound):
        part = space.parts[number]
        place = part.read if where is Where.READ else part.write
        if place is None:
            raise ValueError(f"rows of {space.name} have no such place")
        rank = 1 if part.rank is None else part.rank.value(bound)
        found.append(_at(place, row // rank, bound))
    return found


def _at(place: Position, turn: int, bound: Bound) -> int:
    return place.start.value(bound) + turn * place.stride + place.offset


def mask(mask: Mask, chunk: int, bound: Bound) -> Indices:
    """Whether a row of `columns` is written before a row of `rows` reads: [rows, columns]."""
    reads = [(t, p) for t in range(chunk) for p in positions(mask.rows, Where.READ, bound)]
    writes = [(t, p) for t in range(chunk) for p in positions(mask.columns, Where.WRITE, bound)]
    return np.array([[w < r for w in writes] for r in reads], dtype=bool).reshape(len(reads), len(writes))


def points(space: Space | None, where: Where, gates: Space, chunk: int, bound: Bound) -> Indices:
    """The gate sum that every row takes: how many of the chunk's gates stand before it."""
    own = positions(gates, Where.WRITE, bound)
    if space is None:
        return np.array([chunk * len(own)])
    here = positions(space, where, bound)
    return np.array([t * len(own) + sum(g < p for g in own) for t in range(chunk) for p in here], dtype=int)

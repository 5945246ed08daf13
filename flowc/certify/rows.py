"""Values between tokens and the rows of chunks.

In: numbers [T, H, ...] or [T / C, H, rows, ...]. Out: the other. Refuses nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from flowc.certify.draw import Sizes
from flowc.certify.number import Number, Oracles
from flowc.certify.places import row_order
from flowc.chunk.values import Space


def joined(parts: list[Number], axis: int) -> Number:
    """Numbers one after another."""
    exact = [p.exact for p in parts if p.exact is not None]
    return Number(
        parts[0].oracles,
        np.concatenate([p.value for p in parts], axis),
        np.concatenate([p.shadow for p in parts], axis),
        lambda: np.concatenate([p.exponent for p in parts], axis),
        np.concatenate(exact, axis) if len(exact) == len(parts) else None,
        any(p.opaque for p in parts),
    )


def zeros(oracles: Oracles, shape: tuple[int, ...]) -> Number:
    """Exact zeros."""
    return Number.fraction(oracles, 0, shape)


def to_rows(
    oracles: Oracles,
    parts: list[Number | None],
    space: Space,
    sizes: Sizes,
    shape: tuple[int, ...],
    several: list[bool],
) -> Number:
    """Values of tokens, one per part, as rows of chunks; `shape` is that of one row, [T, H, *tail]."""
    wide = []
    for part, own, many in zip(parts, space.parts, several, strict=True):
        rows = own.size.value(sizes.bound)
        full = (*shape[:2], rows, *shape[2:])
        number = zeros(oracles, full) if part is None else part
        if part is not None:
            number = number.moved(partial(_spread, full=full, many=many))
        wide.append(number)
    whole = joined(wide, 2)
    firsts = np.cumsum([0, *(p.size.value(sizes.bound) for p in space.parts)])
    order = [int(firsts[part]) + row for part, row in row_order(space, sizes.bound)]
    chunks = -(-sizes.length // sizes.chunk)

    def move(x: Any) -> Any:
        filled = np.zeros((chunks * sizes.chunk, *x.shape[1:2], len(order), *x.shape[3:]), dtype=x.dtype)
        filled[: sizes.length] = x[:, :, order]
        cut = filled.reshape(chunks, sizes.chunk, *filled.shape[1:])
        cut = np.moveaxis(cut, 2, 1)
        return cut.reshape(chunks, cut.shape[1], sizes.chunk * len(order), *cut.shape[4:])

    return whole.moved(move)


def _spread(x: Any, full: tuple[int, ...], many: bool) -> Any:
    """[T, H, *] or [H, *] as [T, H, rows, *]."""
    own = full[3:]
    expected = 1 + many + len(own)  # of a value per head
    lead = x if x.ndim == expected + 1 else x[None]
    return np.broadcast_to(lead if many else np.expand_dims(lead, 2), full)


def from_rows(number: Number, space: Space, part: int, sizes: Sizes) -> Number:
    """The rows of one part, [T, H, rows, *], or [T, H, *] for a part of one row: what was read from a state."""
    order = row_order(space, sizes.bound)
    own = [at for _, at in sorted((row, at) for at, (p, row) in enumerate(order) if p == part)]

    def move(x: Any) -> Any:
        cut = x.reshape(*x.shape[:2], sizes.chunk, len(order), *x.shape[3:])
        tokens = np.moveaxis(cut, 1, 2).reshape(-1, x.shape[1], len(order), *x.shape[3:])[: sizes.length]
        return tokens[:, :, own] if space.parts[part].several else tokens[:, :, own[0]]

    return number.moved(move).hidden()

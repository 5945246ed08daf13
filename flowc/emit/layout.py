"""Where rows stand: the step's layout as Python tuples, and values between tokens and rows.

In: spaces and masks of a chunk program. Out: expressions, and the lines that define the tuples they name. Refuses
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowc.algebra.term import Axis
from flowc.chunk.values import GATES, Mask, Part, Position, Space, Where
from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.emit.torch_functions import ATOM, Code
from flowc.semantics.size import Size


class Layout:
    """Names every tuple of positions once; `lines` define them."""

    def __init__(self, sizes: Mapping[str, str], names: Names) -> None:
        """Print sizes by `sizes`."""
        self.sizes, self.names = sizes, names
        self.lines: list[str] = []
        self.helpers: dict[str, None] = {}
        self._known: dict[tuple[str, str], str] = {}

    def size(self, size: Size, binding: int = 0) -> str:
        """A size as an expression."""
        return size_code(size, self.sizes).at(binding)

    def named(self, space: Space, where: Where) -> str:
        """The name of the positions at which a space's rows read or write."""
        key = (space.name, where.name)
        if key not in self._known:
            suffix = {Where.READ: "reads", Where.WRITE: "writes"}[where] if _bare(space) not in GATES else "positions"
            name = self.names.fresh(f"{space.name}_{suffix}")
            self.lines.append(f"{name} = {self.positions(space, where)}")
            self._known[key] = name
        return self._known[key]

    def points(self, space: Space, where: Where, gates: Space) -> str:
        """The name of the gate sums that a space's rows take."""
        key = (space.name, f"{where.name} point of {gates.name}")
        if key not in self._known:
            positions, own = self.named(space, where), self.named(gates, Where.WRITE)
            points = positions.replace("reads", "read_points").replace("writes", "write_points")
            name = self.names.fresh(points if _bare(gates) == GATES[0] else f"{GATES[1]}_{points}")
            self.helpers["points"] = None
            self.lines.append(f"{name} = _points({positions}, {own})")
            self._known[key] = name
        return self._known[key]

    def mask(self, mask: Mask) -> tuple[str, str]:
        """The names of a mask's reads and writes."""
        return self.named(mask.rows, Where.READ), self.named(mask.columns, Where.WRITE)

    def positions(self, space: Space, where: Where) -> str:
        """The positions of all rows of a step, in order."""
        pieces = []
        for group in rounds(space):
            found = [p.read if where is Where.READ else p.write for p in group]
            places = [p for p in found if p is not None]
            assert len(places) == len(group)
            first = group[0]
            if first.count is not None:
                one = ", ".join(self.position(p) for p in places) + ","
                pieces.append(f"tuple(p for r in range({self.size(first.count)}) for p in ({one}))")
                continue
            for part, place in zip(group, places, strict=True):
                times = "" if part.rank is None else f" * {self.size(part.rank, ATOM)}"
                pieces.append(f"({self.position(place)},){times}")
        return " + ".join(pieces)

    def position(self, position: Position) -> str:
        """A place in the step, `r` being the round of a repeat."""
        start = position.start + Size.of(position.offset)
        fixed = self.size(start)
        if position.stride == 0:
            return fixed
        moving = "r" if position.stride == 1 else f"{position.stride} * r"
        return moving if start.constant == 0 else f"{fixed} + {moving}"

    # -- tokens to rows and back --------------------------------------------------------------------------------------

    def to_rows(
        self, codes: Sequence[Code | None], space: Space, tail: tuple[Axis, ...], like: str, helpers: dict[str, None]
    ) -> Code:
        """Per-token values [B, T, H, J of the part, *], one per part, as rows of chunks."""
        pieces: list[str] = []
        at = 0
        for group in rounds(space):
            shown = []
            for part in group:
                code = codes[at]
                if code is None:
                    helpers["spread"] = None
                    sizes = ", ".join(self.size(s) for s in (part.size, *(a.size for a in tail)))
                    code = Code(f"_spread(0, {like}, (batch, length, heads, {sizes}))")
                shown.append(code.text)
                at += 1
            if group[0].count is not None and len(group) > 1:
                helpers["rounds"] = None
                shown = [f"_rounds([{', '.join(shown)}])"]
            pieces += shown
        whole = pieces[0] if len(pieces) == 1 else f"torch.cat([{', '.join(pieces)}], 3)"
        return Code(f"_to_rows({whole}, tokens)")

    def from_rows(self, code: Code, space: Space, part: int) -> Code:
        """The rows of one part, back per token: [B, T, H, *], or [B, T, H, J, *] for a part of several rows."""
        text = f"_from_rows({code.text}, batch, length, heads, tokens)"
        own = space.parts[part]
        start, seen, at = Size.of(0), 0, 0
        group: tuple[Part, ...] = (own,)
        for candidate in rounds(space):
            if seen <= part < seen + len(candidate):
                group, at = candidate, part - seen
                break
            seen += len(candidate)
            for p in candidate:
                start = start + p.size
        if own.count is not None and len(group) > 1:
            rows = self.size(own.count * Size.of(len(group)))
            if len(space.parts) > len(group):
                text = f"{text}.narrow(3, {self.size(start)}, {rows})"
            return Code(f"{text}.unflatten(3, ({self.size(own.count)}, {len(group)}))[:, :, :, :, {at}]")
        for p in group[:at]:
            start = start + p.size
        if not own.several:
            return Code(f"{text}[:, :, :, {self.size(start)}]")
        if len(space.parts) == 1:
            return Code(text)
        return Code(f"{text}.narrow(3, {self.size(start)}, {self.size(own.size)})")


def rounds(space: Space) -> list[tuple[Part, ...]]:
    """The parts of a space, those of one repeat together."""
    groups: list[list[Part]] = []
    for part in space.parts:
        together = groups and part.count is not None and groups[-1][0].segment == part.segment
        if together:
            groups[-1].append(part)
        else:
            groups.append([part])
    return [tuple(g) for g in groups]


def _bare(space: Space) -> str:
    """The name of a space without the number that tells it from others of its kind."""
    return space.name.rstrip("0123456789")

"""Where a kernel finds its numbers: row frames, sizes, arguments and scratch as Triton addresses.

In: lanes, sizes and names. Out: loads and stores with their masks, the parameters that they need, and the lines that
set up rows. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.emit.torch_functions import PRODUCT, Code
from flowc.schedule.tiles import Change, Kind, Lane, Load, Place, View
from flowc.semantics.size import ONE, Size

# names that the templates use
SKELETON = frozenset(
    (
        *("blocks", "block", "program", "programs", "head", "heads", "row", "key", "value", "key_live", "table_ptr"),
        *("value_live", "state_at", "state_live", "length", "left", "live", "token", "chunk", "c", "start_ptr"),
        *("states_ptr", "final_ptr", "KEYS", "VALUES", "TOKENS", "ROWS", "KEY_TILE", "VALUE_TILE", "DOT", "tl"),
        *(
            "levels",
            "level",
            "part",
            "parts",
            "AGGREGATION",
            "PRECISION",
            "chunks",
            "begin",
            "tokens",
            "place",
            "apart",
            "before",
            "entry",
            "START",
            *("slot", "slots_ptr", "start_at", "start_b", "start_h", "start_key", "start_value"),
        ),
    )
)
BLOCK = 16
"""Columns of triangular matrices that are in memory together: what memory hands over at once, in half precision."""

LENGTH = {Kind.KEY: "KEY_TILE", Kind.VALUE: "VALUE_TILE"}
EXTENT = {Kind.KEY: "KEYS", Kind.VALUE: "VALUES"}
SIGNS = {Change.ADD: "+", Change.LESS: "-", Change.OVER: "//", Change.WITHIN: "%"}


@dataclass(frozen=True, slots=True)
class Input:
    """How a kernel gets an input: `shared` where its heads may be fewer than the values'."""

    name: str
    shared: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """The names of a frame of rows: indices, their tokens, their numbers within them, and how many there are."""

    row: str
    token: str
    sub: str
    live: str
    length: str
    rank: str
    padded: str


@dataclass(frozen=True, slots=True)
class Vector:
    """The names of a vector that is neither the state's rows nor its columns: indices, which there are, how many."""

    index: str
    live: str
    length: str


class Memory:
    """Names and addresses of one kernel."""

    def __init__(
        self,
        names: Names,
        inputs: Sequence[Input],
        sizes: Mapping[str, int | None],
        state: tuple[Size, Size],
        adjoint: bool,
    ) -> None:
        """`sizes` are the spec's dimensions, with a number where one is fixed; `state` those of the state."""
        self.adjoint = adjoint
        self.names, self.inputs, self.state = names, {i.name: i for i in inputs}, state
        self.known = sizes
        self.sizes: dict[str, str] = {s: str(v) for s, v in sizes.items() if v is not None}
        self.used: dict[str, str] = {}  # dimensions that are parameters, by name
        self.pointers: dict[tuple[str, str], str] = {}
        self.heads: dict[str, tuple[str, str]] = {}
        self.frames: dict[Size, Frame] = {}
        self.wholes: dict[Size, tuple[str, str]] = {}
        self.vectors: dict[Size, Vector] = {}
        self.setup: list[str] = []
        self.rows: list[str] = []

    # -- sizes and frames ---------------------------------------------------------------------------------------------

    def size(self, size: Size) -> Code:
        """A size as an expression of constants."""
        if size.constant is None and size in self.state:
            return Code("KEYS" if size == self.state[0] else "VALUES")
        for name in sorted(size.names):
            if name not in self.sizes:
                self.sizes[name] = self.used[name] = self.names.fresh(f"{name}_size")  # no option of a launch
        return size_code(size, self.sizes)

    def frame(self, rows: Size) -> Frame:
        """The names of a frame; its rows are padded to a power of two for every token."""
        if rows not in self.frames:
            if rows == ONE:
                made = Frame("row", "row", "0", "live", "ROWS", "1", "1")
            else:
                own = {n: self.names.fresh(f"{n}{len(self.frames)}") for n in ("row", "at", "sub", "live")}
                rank, padded = (self.names.fresh(f"{n}{len(self.frames)}") for n in ("RANK", "PADDED"))
                count = self.names.fresh(f"ROWS{len(self.frames)}")
                made = Frame(own["row"], own["at"], own["sub"], own["live"], count, rank, padded)
                self.setup += [
                    f"{count}: tl.constexpr = ROWS * {padded}",
                    f"{made.row} = tl.arange(0, {count})",
                    f"{made.token}, {made.sub} = {made.row} // {padded}, {made.row} % {padded}",
                ]
                self.rows.append(f"{made.live} = ({made.sub} < {rank}) & ({made.token} < left)")
            self.frames[rows] = made
        return self.frames[rows]

    def vector(self, size: Size) -> Vector:
        """The names of another vector; it is padded to a power of two."""
        if size not in self.vectors:
            index, live, length = (self.names.fresh(n) for n in ("entry", "entry_live", "ENTRIES"))
            self.vectors[size] = Vector(index, live, length)
            self.setup.append(f"{index} = tl.arange(0, {length})")
            self.setup.append(f"{live} = {index} < {self.size(size).text}")
        return self.vectors[size]

    def length(self, lane: Lane) -> str:
        """How many entries a tile has along a lane."""
        if lane.kind is Kind.OTHER:
            return self.vector(lane.frame).length
        return self.frame(lane.frame).length if lane.over_rows else LENGTH[lane.kind]

    def live(self, lane: Lane) -> str:
        """Which entries along a lane there are."""
        if lane.kind is Kind.OTHER:
            return self.vector(lane.frame).live
        return {Kind.KEY: "key_live", Kind.VALUE: "value_live"}.get(lane.kind) or self.frame(lane.frame).live

    def mask(self, lanes: Sequence[Lane]) -> str:
        """Which entries of a tile there are."""
        return " & ".join(placed(self.live(lane), lane, lanes) for lane in lanes)

    # -- arguments ----------------------------------------------------------------------------------------------------

    def pointer(self, role: str, name: str) -> str:
        """The parameter that points to an argument, a result or scratch."""
        if (role, name) not in self.pointers:
            bar = "_bar" if role == "cotangent" or (role == "result" and self.adjoint) else ""
            self.pointers[role, name] = self.names.fresh(f"{name}{bar}_ptr")
        return self.pointers[role, name]

    def loaded(self, op: Load, lanes: Sequence[Lane]) -> Code:
        """An argument's entries, 0 where there are none."""
        pointer = self.pointer(op.role, op.name)
        count, own = "heads", "head"
        if op.role == "input" and self.inputs[op.name].shared:
            if op.name not in self.heads:
                self.heads[op.name] = self.names.fresh(f"{op.name}_heads"), self.names.fresh(f"{op.name}_head")
                count, own = self.heads[op.name]
                self.setup.append(f"{own} = head // (heads // {count})")
            count, own = self.heads[op.name]
        first = own if op.role == "param" else f"token * {count} + {own}"
        at = self.address(first, "" if op.role == "param" else count, op.stored, lanes)
        within = [self.within(place, size, lanes) for size, place in op.stored if isinstance(place, View)]
        mask = " & ".join([self.mask(lanes)] * bool(lanes) + within)
        return Code(f"tl.load({pointer} + {at}" + (f", mask={mask}, other=0.0)" if mask else ")"))

    def within(self, view: View, size: Size, lanes: Sequence[Lane]) -> str:
        """Where a view's index is one of an axis of some size."""
        index = self.index(view, lanes)
        return f"({index} >= 0) & ({index} < {self.size(size).text})"

    def stored(self, name: str, stored: Sequence[tuple[Size, Place]], lanes: Sequence[Lane], code: Code) -> str:
        """The statement that writes a result per token."""
        pointer = self.pointer("result", name)
        at = self.address("token * heads + head", "heads", stored, lanes)
        return f"tl.store({pointer} + {at}, {code.at(6)}.to({pointer}.dtype.element_ty), mask={self.mask(lanes)})"

    def address(self, first: str, heads: str, stored: Sequence[tuple[Size, Place]], lanes: Sequence[Lane]) -> str:
        """Offsets of an argument's entries: rows `heads` apart from row `first` on, then its own axes."""
        width = Size.of(1)
        terms = []
        for size, lane in reversed(stored):
            index = self.index(lane, lanes)
            if index != "0":
                terms.append(index if width == ONE else f"{index} * {self.size(width).at(PRODUCT + 1)}")
            width = width * size
        row = next((x for x in lanes if x.kind is Kind.ROW), None)
        whole = "" if width == ONE else f" * {self.size(width).at(PRODUCT + 1)}"
        if heads and row is not None:
            terms.append(f"{placed(self.frame(row.frame).token, row, lanes)} * ({heads}{whole})")
        terms.append(f"({first}){whole}" if whole and "+" in first else f"{first}{whole}")
        return " + ".join(reversed(terms))

    def index(self, place: Place, lanes: Sequence[Lane]) -> str:
        """The index along an argument's axis."""
        match place:
            case int():
                return str(place)
            case None:
                row = next(x for x in lanes if x.kind is Kind.ROW)
                return placed(self.frame(row.frame).sub, row, lanes) if row.frame != ONE else "0"
            case View(base, change, size):
                index, shown = self.index(base, lanes), self.size(size).at(PRODUCT + 1)
                return f"({index} {SIGNS[change]} {shown})"
            case Lane(Kind.OTHER, size):
                return placed(self.vector(size).index, place, lanes)
            case _:
                return placed("key" if place.kind is Kind.KEY else "value", place, lanes)

    # -- scratch ------------------------------------------------------------------------------------------------------

    def scratch(self, name: str, lanes: Sequence[Lane], lower: bool = False) -> tuple[str, str]:
        """Where a chunk's value lies, and which of its entries there are in memory.

        A matrix over rows is there as a whole, 0 past the sequence's end: by a mask of constants alone, entries beside
        one another are read together. `lower`: blocks of 16 columns that begin after a row's token are not there.
        """
        matrix = len(lanes) == 2 and all(lane.over_rows for lane in lanes)
        terms: list[str] = []
        extents: list[str] = []
        for lane in reversed(lanes):
            if lane.over_rows:
                frame = self.frame(lane.frame)
                ranked = lane.frame != ONE
                token, sub = (placed(x, lane, lanes) for x in (frame.token, frame.sub))
                index = f"({token} * {frame.rank} + {sub})" if ranked else token
                index = placed(self.whole(lane.frame)[0], lane, lanes) if matrix else index
                extent = f"(TOKENS * {frame.rank})" if ranked else "TOKENS"
            else:
                index, extent = self.index(lane, lanes), EXTENT[lane.kind]
            terms.append(" * ".join((index, *reversed(extents))))
            extents.append(extent)
        whole = " * ".join(("chunk", *reversed(extents)))
        at = f"{self.pointer('scratch', name)} + " + " + ".join((whole, *reversed(terms)))
        if not matrix:
            return at, self.mask(lanes)
        masks = [placed(f"({self.whole(lane.frame)[1]})", lane, lanes) for lane in lanes]
        if lower:
            row, column = (self.frame(lane.frame) for lane in lanes)
            first = f"{column.row} // {BLOCK} * {BLOCK}" + (f" // {column.padded}" if column.padded != "1" else "")
            masks.append(f"({row.token}[:, None] >= ({first})[None, :])")
        return at, " & ".join(masks)

    def whole(self, rows: Size) -> tuple[str, str]:
        """Where rows lie in a chunk's memory, and which of a tile's rows do, whatever the sequence's end."""
        if rows == ONE:
            return "row", "row < TOKENS"
        if rows not in self.wholes:
            frame = self.frame(rows)
            at, held = (self.names.fresh(f"{n}{len(self.wholes)}") for n in ("place", "held"))
            apart = f"({frame.sub} < {frame.rank}) & ({frame.token} < TOKENS)"
            self.setup += [
                f"{at} = {frame.row} if {frame.rank} == {frame.padded} else {frame.token} * {frame.rank} + {frame.sub}",
                f"{held} = {frame.row} < TOKENS * {frame.rank} if {frame.rank} == {frame.padded} else {apart}",
            ]
            self.wholes[rows] = at, held
        return self.wholes[rows]

    def system(self, name: str, lane: Lane) -> tuple[str, ...]:
        """Where a chunk's square matrix over rows lies, and how many tokens, rows of them and of tiles there are."""
        frame = self.frame(lane.frame)
        extent = "TOKENS" if lane.frame == ONE else f"(TOKENS * {frame.rank})"
        at = f"{self.pointer('scratch', name)} + chunk * {extent} * {extent}"
        return at, "TOKENS", frame.rank, frame.padded


def placed(text: str, lane: Lane, lanes: Sequence[Lane]) -> str:
    """A vector along one lane among the lanes of a tile."""
    if len(lanes) < 2:
        return text
    return f"{text}[{', '.join(':' if x == lane else 'None' for x in lanes)}]"

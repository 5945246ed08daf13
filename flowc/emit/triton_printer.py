"""A kernel's steps as Triton statements.

In: a `TileKernel`, and which inputs may have heads of their own number. Out: a `KernelView` for the template of the
kernel's kind; loops over blocks of the state are as `schedule.loops` finds them. Refuses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from flowc.emit.names import Names
from flowc.emit.torch_functions import Code
from flowc.emit.triton_expressions import Expressions
from flowc.emit.triton_memory import SKELETON, Input, Memory
from flowc.schedule import tiles
from flowc.schedule.loops import Levels, Loop, Part, added, looped, nested, splits_rows
from flowc.schedule.plan import Role
from flowc.schedule.tile_plan import Step, Store, TileKernel
from flowc.schedule.tiles import KEY, VALUE, Lane, Tile, Within
from flowc.semantics.size import ONE, Size

INLINED = (
    tiles.Number, tiles.Extent, tiles.HeadNumber, tiles.SubNumber, tiles.Function, tiles.Decay, tiles.Turned,
    tiles.Transposed, tiles.Masked,
)  # fmt: skip
LOOPS = {KEY: ("part", "key", "KEY_TILE", "KEYS"), VALUE: ("block", "value", "VALUE_TILE", "VALUES")}
"""Of a loop: its counter, the indices, how many of them a block has, how many there are."""


MADE_FROM = {"key_live": {"key"}, "live": {"row", "left"}, "left": {"c"}, "token": {"c"}, "chunk": {"c"}}
"""In the order in which what is made of one may make another."""


@dataclass(frozen=True, slots=True)
class KernelView:
    """What a kernel's template gets: printed strings.

    `blocked`: one program per block of the state's columns; `parts`: it goes through blocks of the state's rows, or
    (`split`) holds one of them.
    `words` are the names that its lines mention and that are set before them. `place` is where a state's entries lie.
    `chunks` is what a walk goes through.
    """

    name: str
    title: str
    parameters: tuple[str, ...]
    setup: tuple[str, ...]
    rows: tuple[str, ...]
    body: tuple[str, ...]
    state: str
    blocked: bool
    parts: bool
    split: bool
    words: frozenset[str]
    reverse: bool
    place: str
    chunks: str


class TritonPrinter:
    """Prints one kernel."""

    def __init__(
        self,
        kernel: TileKernel,
        inputs: tuple[Input, ...],
        sizes: Mapping[str, int | None],
        state: tuple[Size, Size],
        states: str | None,
        adjoint: bool,
    ) -> None:
        """Print `kernel`, loading `inputs`; `states` is what the carried states are stored as, if they are."""
        self.kernel, self.states = kernel, states
        self.names = Names(SKELETON)
        self.memory = Memory(self.names, inputs, sizes, state, adjoint)
        self.memory.frame(ONE)
        self.carry = self.names.fresh("S")
        self.print = Expressions(kernel.steps, self.memory, self.carry)
        self.fixed: set[Tile] = set()
        self.uses: dict[Tile, int] = {}
        for step in kernel.steps:
            for tile in tiles.tile_operands(step.op):
                self.uses[tile] = self.uses.get(tile, 0) + 1
        self.shown: dict[Tile, str] = {}
        self.pending: dict[Tile, None] = {}  # expressions of accumulated tiles that no statement holds yet
        self.accumulated: set[Tile] = set()
        self.started: set[Tile] = set()  # of the loop that is being printed
        self.body: list[str] = []

    def view(self, name: str, title: str, turned: bool) -> KernelView:
        """Print everything; `turned`: rows of the kernel's state are columns of the caller's."""
        kernel = self.kernel
        if kernel.role is Role.WALK:
            self.walk()
        else:
            self.parts(nested(kernel))
        memory = self.memory
        frames = [f for size, f in memory.frames.items() if size != ONE]
        constants = [f"{x}: tl.constexpr" for f in frames for x in (f.rank, f.padded)]
        constants += [f"{v.length}: tl.constexpr" for v in memory.vectors.values()]
        constants += [f"{s}: tl.constexpr" for s in memory.used.values()]
        parameters = (*memory.pointers.values(), *(count for count, _ in memory.heads.values()), *constants)
        setup, rows, body = tuple(memory.setup), tuple(memory.rows), tuple(self.body)
        parts = KEY in looped(kernel)
        words = _mentioned((*setup, *rows, *body)) - ({"key", "key_live"} if parts else set())
        place = "key[:, None] + value[None, :] * KEYS" if turned else "key[:, None] * VALUES + value[None, :]"
        split = splits_rows(kernel) and not self.steps
        how = kernel.blocked, parts, split, words, memory.adjoint, place, counted("chunks", self.outputs)
        return KernelView(name, title, parameters, setup, rows, body, self.carry, *how)

    @property
    def steps(self) -> bool:
        """Whether the kernel makes one token."""
        return self.kernel.name == "step"

    @property
    def outputs(self) -> bool:
        """Whether the kernel is a walk that makes outputs too."""
        return self.kernel.role is Role.WALK and any(not s.fetched for s in self.kernel.stores[1:])

    # -- loops ---------------------------------------------------------------------------------------------------------

    def walk(self) -> None:
        """The state where a chunk begins is stored if a kernel needs it, the chunk is made, then the state moves."""
        first, *_ = self.kernel.stores
        if self.states is not None:
            self.keep(first.tile.lanes)
        self.parts([p for p in nested(self.kernel) if p != first])
        self.body.append(f"{self.carry} = {self.print.code[first.tile].text}")

    def keep(self, lanes: tuple[Lane, ...]) -> None:
        """Store the state where a chunk begins."""
        assert self.states is not None
        at, mask = self.memory.scratch(self.states, lanes)
        pointer = self.memory.pointer("scratch", self.states)
        text = f"tl.store({at}, {self.carry}.to({pointer}.dtype.element_ty), mask={mask})"
        self.given(pointer, text, self.kernel.stores[0].kept)

    def given(self, pointer: str, text: str, kept: bool) -> None:
        """A value's store; of what is kept for a backward pass, where there is memory for it."""
        self.body += [f"if {pointer} is not None:", f"    {text}"] if kept else [text]

    def parts(self, parts: Iterable[Part]) -> None:
        """Statements and loops."""
        for part in parts:
            match part:
                case Step():
                    self.step(part)
                case Store() if part.fetched:
                    self.given(self.memory.pointer("scratch", part.name), self.store(part), part.kept)
                case Store():
                    self.body.append(self.store(part))
                case Levels():
                    self.settle()
                    for step in part.steps:
                        self.start(step)
                    self.levels(part)
                case Loop():
                    self.loop(part)
                case _:
                    assert_never(part)

    def loop(self, loop: Loop) -> None:
        """One loop over blocks: what is accumulated, and what is stored of each."""
        name, index, tile, extent = LOOPS[loop.lane]
        self.settle()
        self.started.clear()
        for part in loop.sums:
            for step in part.steps if isinstance(part, Levels) else (part,):
                self.start(step)
        outer, self.body = self.body, []
        self.body.append(f"{index} = {name} * {tile} + tl.arange(0, {tile})")
        self.body.append(f"{index}_live = {index} < {extent}")
        self.parts(loop.body)
        for part in loop.sums:
            if isinstance(part, Levels):
                self.levels(part)
            else:
                assert isinstance(part.op, tiles.Product | tiles.Total)
                total = self.shown[part.tile]
                self.body.append(f"{total} = {self.print.summed(part.op, total).text}")
        self.pending.clear()
        inner, self.body = self.body, outer
        self.body += [f"for {name} in {counted(f'{name}s', loop.nests)}:", *(f"    {line}" for line in inner)]

    def start(self, step: Step) -> None:
        """What an accumulator holds before its loop."""
        op, lanes = step.op, step.tile.lanes
        begun = added(step)
        goes_on = begun is not None and begun in self.started
        self.started.add(step.tile)
        self.accumulated.add(step.tile)
        if begun is not None and goes_on:
            self.shown[step.tile] = self.shown[begun]
            self.print.code[step.tile] = Code(self.shown[begun])
            return
        start = self.print.zeros(lanes) if lanes else "0.0"
        if isinstance(op, tiles.Product) and op.added is not None:
            start = self.print.spread(op.added, op.added.lanes).text
        if isinstance(op, tiles.Total) and op.largest:
            start = f'{start} + float("-inf")'
        total = self.shown.setdefault(step.tile, "") or self.names.fresh(step.tile.name or "total")
        self.shown[step.tile] = total
        self.body.append(f"{total} = {start}")
        self.print.code[step.tile] = Code(total)

    def levels(self, levels: Levels) -> None:
        """Gated primitives are accumulated: rows of their own token, then halves of ever larger blocks of tokens.

        With one row a token, blocks of up to 16 are products of 16 rows each.
        """
        e = levels.exponents
        above, below = (self.memory.frame(size).padded for size in (e.rows, e.columns))
        for step in levels.steps:
            self.own(step, above, below)
        if self.steps:
            return  # one token has no halves
        self.print.helpers |= {"halves": None, "pairs": None, "prefix": None}
        gates = self.print.operand(e.gates, e.gates.lanes).text
        before, after = ("0.0" if t is None else self.print.operand(t, t.lanes).text for t in (e.before, e.after))
        whole, rest, up = (self.names.fresh(n) for n in ("prefix_whole", "prefix_rest", "decay"))
        low = up if e.rows == e.columns else self.names.fresh("decay")
        self.body.append(f"{whole}, {rest} = _tl_prefix({gates}, DOT)")
        parts = [(up, before, after, above)] if low == up else [(up, before, "0.0", above), (low, "0.0", after, below)]
        halves = [
            f"{name} = _tl_halves({gates}, {whole}, {rest}, {first}, {last}, level, ROWS, {padded}, DOT, PRECISION)"
            for name, first, last, padded in parts
        ]
        ranges = [("0, tl.minimum(levels, 4)", True), ("4, levels", False)] if levels.near else [("0, levels", False)]
        for bounds, near in ranges:
            self.body += [f"for level in range({bounds}):", *(f"    {line}" for line in halves)]
            for step in levels.steps:
                made = self.print.gated(step.op, up, low, f"_tl_pairs(level, ROWS, {above}, {below})", near)
                self.body.append(f"    {self.shown[step.tile]} += {made}")

    def own(self, step: Step, above: str, below: str) -> None:
        """What rows see of their own token."""
        assert isinstance(step.op, tiles.DecayDot | tiles.DecayApply)
        e = step.op.exponents
        if e.within is Within.NONE or (e.single and e.within is not Within.ALL):
            return
        same = "1.0" if e.same is None else self.print.operand(e.same, e.same.lanes).text
        if e.single:
            name = "own_dot" if isinstance(step.op, tiles.DecayDot) else "own_apply"
            first, second = (self.print.operand(t, t.lanes).text for t in tiles.tile_operands(step.op)[:2])
            self.print.helpers[name] = None
            self.body.append(f"{self.shown[step.tile]} += _tl_{name}({first}, {second}, {same})")
            return
        self.print.helpers["own_token"] = None
        seen = f"_tl_own_token(ROWS, {above}, {below}, {e.within is not Within.ALL})"
        made = self.print.gated(step.op, "1.0", same, seen)
        self.body.append(f"{self.shown[step.tile]} += {made}")

    def settle(self) -> None:
        """Make what is pending before a loop, so that what it reads need not be kept."""
        for tile in self.pending:
            name = self.shown[tile] = self.names.fresh(tile.name or "t")
            self.body.append(f"{name} = {self.print.code[tile].text}")
            self.print.code[tile] = Code(name)
        self.pending.clear()

    # -- statements ---------------------------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """One step: a statement, or an expression where it is used."""
        tile, op = step.tile, step.op
        if tile.sums:
            self.summed(tile, op)
            return
        if isinstance(op, tiles.Carry):
            self.print.code[tile] = Code(self.carry)
            return
        code = self.print.expression(tile, op)
        if self.is_fixed(tile, op):
            self.fixed.add(tile)
        kept = any(s.tile == tile for s in self.kernel.stores)
        operands = tiles.tile_operands(op)
        for operand in operands:
            self.pending.pop(operand, None)
        if self.accumulated.intersection(operands):
            self.accumulated.add(tile)
        once = self.uses.get(tile, 0) <= 1 and not tile.name and isinstance(op, INLINED) and not kept
        if once or isinstance(op, tiles.Turned | tiles.Number):
            self.print.code[tile] = code
            if tile in self.accumulated and isinstance(op, tiles.Function) and len(tile.lanes) > 1:
                self.pending[tile] = None
            return
        name = self.shown.setdefault(tile, "") or self.names.fresh(tile.name or "t")
        self.shown[tile] = name
        self.emit(tile, f"{name} = {code.text}")
        self.print.code[tile] = Code(name)

    def emit(self, tile: Tile, text: str) -> None:
        """A statement: before the walk's loop where it is the same for every chunk."""
        (self.memory.setup if tile in self.fixed else self.body).append(text)

    def is_fixed(self, tile: Tile, op: tiles.TileOp) -> bool:
        """Whether a walk's tile is the same for every chunk."""
        if self.kernel.role is not Role.WALK:
            return False
        match op:
            case tiles.Load(_, role, _):
                return role == "param" and not any(lane.over_rows for lane in tile.lanes)
            case tiles.Number() | tiles.Extent() | tiles.HeadNumber():
                return True
            case tiles.Function() | tiles.Spread() | tiles.Total():
                return all(t in self.fixed for t in tiles.tile_operands(op))
            case _:
                return False

    def summed(self, tile: Tile, op: tiles.TileOp) -> None:
        """Log gates and their sums: two names, of whole numbers and of what is left."""
        pairs = self.print.pairs
        parts: Iterable[str]
        match op:
            case tiles.Turned(argument):
                pairs[tile] = pairs[argument]
                return
            case tiles.Split(logs):
                self.print.helpers["split"] = None
                parts = (f"_tl_split({self.print.spread(logs, tile.lanes).text})",)
            case tiles.RunningSums(gates):
                parts = self.running(tile, gates)
            case tiles.WholeSums(gates):
                parts = (f"tl.sum({' + '.join(pairs[g][i] for g in gates)}, 0)" for i in (0, 1))
            case tiles.SumsBefore(sums, later):
                parts = (" - ".join((pairs[sums][i], *(pairs[g][i] for g in later))) for i in (0, 1))
            case _:
                raise TypeError(f"{type(op).__name__} makes no sums")
        base = tile.name or "sums"
        pairs[tile] = self.names.fresh(f"{base}_whole"), self.names.fresh(f"{base}_rest")
        self.body.append(f"{pairs[tile][0]}, {pairs[tile][1]} = {', '.join(parts)}")

    def running(self, tile: Tile, gates: tuple[Tile, ...]) -> list[str]:
        """Running sums: where a token has several rows, its gates count at the first."""
        parts = [" + ".join(self.print.pairs[g][i] for g in gates) for i in (0, 1)]
        row = tile.lanes[0]
        if row.frame != ONE:
            frame = self.memory.frame(row.frame)
            sub = f"{frame.sub}[:, None]" if len(tile.lanes) > 1 else frame.sub
            parts = [f"tl.where({sub} == 0, {p}, 0.0)" for p in parts]
        return [f"tl.cumsum({p}, 0)" for p in parts]

    def store(self, store: Store) -> str:
        """A result, or a chunk's value for other kernels, to memory."""
        self.pending.pop(store.tile, None)
        code = self.print.operand(store.tile, store.tile.lanes)
        if not store.fetched:
            return self.memory.stored(store.name, store.stored, store.tile.lanes, code)
        lanes = store.tile.lanes
        at, mask = self.memory.scratch(store.name, lanes, store.lower)
        if len(lanes) == 2 and all(lane.over_rows for lane in lanes):
            code = Code(f"tl.where({self.memory.mask(lanes)}, {code.text}, 0.0)")
        pointer = self.memory.pointer("scratch", store.name)
        return f"tl.store({at}, {code.at(6)}.to({pointer}.dtype.element_ty)" + (f", mask={mask})" if mask else ")")


def counted(count: str, again: bool) -> str:
    """The numbers below a count; `again`: what does not change in their loop is made in each pass anew.

    Addresses of all its loads and transposed tiles would be held in registers all along, which it has no room for.
    """
    return f"tl.range(0, {count}, disable_licm=True)" if again else f"range(0, {count})"


def _mentioned(lines: Iterable[str]) -> frozenset[str]:
    """The names that a kernel's lines use, and those that the template makes them from."""
    words = set(re.findall(r"\w+", "\n".join(lines)))
    for name, parts in MADE_FROM.items():
        words |= parts if name in words else set()
    return frozenset(words)

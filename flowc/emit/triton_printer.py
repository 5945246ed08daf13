"""A kernel's steps as Triton statements.

In: a `TileKernel`, and which inputs may have heads of their own number. Out: a `KernelView` for the template of the
kernel's role. One expression per operation; what broadcasts follows from the lanes. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.emit.torch_functions import ATOM, SUM, Code
from flowc.emit.triton_functions import call, exact_power, helpers, number, whole_power
from flowc.schedule import tiles
from flowc.schedule.plan import Role
from flowc.schedule.tiles import Lane, Step, Tile, TileKernel

# names that the templates use
SKELETON = frozenset(
    (
        *("blocks", "block", "program", "programs", "batch", "head", "heads", "row", "key", "value", "key_live"),
        *("value_live", "state_at", "state_live", "length", "first", "live", "token", "chunk", "c", "start_ptr"),
        *("states_ptr", "final_ptr", "KEYS", "VALUES", "TOKENS", "ROWS", "KEY_TILE", "VALUE_TILE", "DOT", "tl"),
    )
)
INDEX = {Lane.ROW: "row", Lane.COLUMN: "row", Lane.KEY: "key", Lane.VALUE: "value"}
LIVE = {Lane.ROW: "live", Lane.COLUMN: "live", Lane.KEY: "key_live", Lane.VALUE: "value_live"}
LENGTH = {Lane.ROW: "ROWS", Lane.COLUMN: "ROWS", Lane.KEY: "KEY_TILE", Lane.VALUE: "VALUE_TILE"}
EXTENT = {Lane.KEY: "KEYS", Lane.VALUE: "VALUES"}
INLINED = (tiles.Number, tiles.Extent, tiles.HeadNumber, tiles.Function, tiles.Decay, tiles.Turned, tiles.Masked)


@dataclass(frozen=True, slots=True)
class KernelView:
    """What a kernel's template gets: printed strings."""

    name: str
    title: str
    parameters: tuple[str, ...]
    setup: tuple[str, ...]
    body: tuple[str, ...]
    state: str


@dataclass(frozen=True, slots=True)
class Input:
    """How a kernel gets an input: `shared` where its heads may be fewer than the values'."""

    name: str
    shared: bool


class TritonPrinter:
    """Prints one kernel."""

    def __init__(self, kernel: TileKernel, inputs: tuple[Input, ...], sizes: Mapping[str, int | None]) -> None:
        """Print `kernel`, loading `inputs`; `sizes` are the spec's dimensions, with a number where one is fixed."""
        self.kernel, self.inputs = kernel, {i.name: i for i in inputs}
        self.names = Names(SKELETON)
        self.pointers: dict[str, str] = {}
        self.heads: dict[str, tuple[str, str]] = {}
        self.fixed_sizes = {s for s, value in sizes.items() if value is not None}
        self.sizes = {s: self.names.fresh(s) if value is None else str(value) for s, value in sizes.items()}
        self.used_sizes: dict[str, None] = {}
        self.helpers: dict[str, None] = {}
        self.code: dict[Tile, Code] = {}
        self.pairs: dict[Tile, tuple[str, str]] = {}
        self.shown = {s.tile: s.tile.name for s in kernel.steps}
        self.ops = {s.tile: s.op for s in kernel.steps}
        self.uses = self._uses()
        self.setup: list[str] = []
        self.body: list[str] = []
        self.fixed: set[Tile] = set()

    def _uses(self) -> dict[Tile, int]:
        uses: dict[Tile, int] = {}
        for step in self.kernel.steps:
            for tile in tiles.tile_operands(step.op):
                uses[tile] = uses.get(tile, 0) + 1
        return uses

    def view(self, name: str, outputs: Mapping[str, str]) -> KernelView:
        """Print everything; `outputs` names the results' pointers."""
        self.state = self.names.fresh("S")
        for step in self.kernel.steps:
            self.step(step)
        if self.kernel.role is Role.WALK:
            ((_, after),) = self.kernel.results
            self.body.append(f"{self.state} = {self.code[after].text}")
            title = "The walk: states at chunks' starts, and the final one."
        else:
            self.body += [self.store(outputs[n], tile) for n, tile in self.kernel.results]
            title = "The outputs of a chunk from the state at its start."
        given = tuple(outputs.values()) if self.kernel.role is Role.OUTPUT else ()
        sizes = tuple(f"{self.sizes[s]}: tl.constexpr" for s in self.used_sizes)
        parameters = (*self.pointers.values(), *given, *(count for count, _ in self.heads.values()), *sizes)
        return KernelView(name, title, parameters, tuple(self.setup), tuple(self.body), self.state)

    # -- statements ---------------------------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """One step: a statement, or an expression where it is used."""
        tile, op = step.tile, step.op
        if tile.sums:
            self.summed(tile, op)
            return
        if isinstance(op, tiles.Carry):
            self.code[tile] = Code(self.state)
            return
        code = self.expression(tile, op)
        if self.is_fixed(op, tile):
            self.fixed.add(tile)
        last = not self.uses.get(tile)
        once = self.uses.get(tile) == 1 and not self.shown[tile] and isinstance(op, INLINED)
        if last or once or isinstance(op, tiles.Turned | tiles.Number):
            self.code[tile] = code
            return
        name = self.names.fresh(self.shown[tile] or "t")
        self.emit(tile, f"{name} = {code.text}")
        self.code[tile] = Code(name)

    def emit(self, tile: Tile, text: str) -> None:
        """A statement: before the walk's loop where it is the same for every chunk."""
        (self.setup if tile in self.fixed else self.body).append(text)

    def is_fixed(self, op: tiles.TileOp, tile: Tile) -> bool:
        """Whether a tile is the same for every chunk."""
        match op:
            case tiles.Load(_, is_param):
                return is_param
            case tiles.Number() | tiles.Extent() | tiles.HeadNumber():
                return True
            case tiles.Function() | tiles.Spread() | tiles.Total():
                return all(t in self.fixed for t in tiles.tile_operands(op))
            case _:
                return False

    def summed(self, tile: Tile, op: tiles.TileOp) -> None:
        """Log gates and their sums: two names, of whole numbers and of what is left."""
        parts: tuple[str, ...]
        match op:
            case tiles.Turned(argument):
                self.pairs[tile] = self.pairs[argument]
                return
            case tiles.Split(logs):
                self.helpers["split"] = None
                made = f"_tl_split({self.spread(logs, tile.lanes).text})"
                parts = (made,)
            case tiles.RunningSums(gates):
                parts = tuple(f"tl.cumsum({' + '.join(self.pairs[g][i] for g in gates)}, 0)" for i in (0, 1))
            case tiles.WholeSums(gates):
                parts = tuple(f"tl.sum({' + '.join(self.pairs[g][i] for g in gates)}, 0)" for i in (0, 1))
            case tiles.SumsBefore(sums, later):
                parts = tuple(" - ".join((self.pairs[sums][i], *(self.pairs[g][i] for g in later))) for i in (0, 1))
            case _:
                raise TypeError(f"{type(op).__name__} makes no sums")
        base = self.shown[tile] or "sums"
        pair = self.names.fresh(f"{base}_whole"), self.names.fresh(f"{base}_rest")
        self.pairs[tile] = pair
        self.body.append(f"{pair[0]}, {pair[1]} = {', '.join(parts)}")

    # -- operands -----------------------------------------------------------------------------------------------------

    def operand(self, tile: Tile, lanes: tuple[Lane, ...]) -> Code:
        """A tile as float32, with axes of length one for the lanes that it lacks."""
        code = self.code[tile]
        if isinstance(self.ops[tile], tiles.Load) or self.is_turned_load(tile):
            code = Code(f"{code.at(ATOM)}.to(tl.float32)")
        return self.placed(code, tile.lanes, lanes)

    def is_turned_load(self, tile: Tile) -> bool:
        """Whether a tile is an input in its own type, rows called columns."""
        op = self.ops[tile]
        return isinstance(op, tiles.Turned) and isinstance(self.ops[op.argument], tiles.Load)

    def placed(self, code: Code, own: tuple[Lane, ...], lanes: tuple[Lane, ...]) -> Code:
        """A vector among the two lanes of a matrix."""
        if code.number or not own or own == lanes or len(lanes) < 2:
            return code
        return Code(f"{code.at(ATOM)}[{', '.join(':' if lane in own else 'None' for lane in lanes)}]")

    def spread(self, tile: Tile, lanes: tuple[Lane, ...]) -> Code:
        """A tile with all of `lanes`."""
        code = self.operand(tile, lanes)
        if tile.lanes == lanes:
            return code
        return Code(f"{code.at(SUM)} + tl.zeros(({', '.join(LENGTH[lane] for lane in lanes)},), tl.float32)", SUM)

    def factor(self, tile: Tile, straight: bool) -> str:
        """An operand of a product, in the type that products are made in."""
        text = f"{self.code[tile].at(ATOM)}.to(DOT)"
        return text if straight else f"tl.trans({text})"

    # -- expressions --------------------------------------------------------------------------------------------------

    def expression(self, tile: Tile, op: tiles.TileOp) -> Code:
        """The expression of a step."""
        match op:
            case tiles.Load(name, is_param):
                return self.loaded(name, is_param, tile.lanes)
            case tiles.Number(value):
                return number(value)
            case tiles.Extent(size):
                self.used_sizes |= dict.fromkeys(sorted(size.names - self.fixed_sizes))
                return Code(f"tl.full((), {size_code(size, self.sizes).text}, tl.float32)")
            case tiles.HeadNumber(count):
                return Code("heads.to(tl.float32)" if count else "head.to(tl.float32)")
            case tiles.Seen(same):
                return Code(f"tl.where({self.seen(same)}, 1.0, 0.0)")
            case tiles.Function():
                return self.applied(tile, op)
            case tiles.Spread(argument):
                return self.spread(argument, tile.lanes)
            case tiles.Turned(argument):
                return self.code[argument]
            case tiles.Masked(argument):
                live = self.placed(Code("live"), (Lane.ROW,), tile.lanes).text
                return Code(f"tl.where({live}, {self.operand(argument, tile.lanes).text}, 0.0)")
            case tiles.Total(argument, largest):
                keys = self.placed(Code("key_live"), (Lane.KEY,), argument.lanes).text
                fill, function = ('float("-inf")', "max") if largest else ("0.0", "sum")
                shown = self.operand(argument, argument.lanes).text
                return Code(f"tl.{function}(tl.where({keys}, {shown}, {fill}), {len(argument.lanes) - 1})")
            case tiles.Decay() | tiles.DecayMatrix():
                return self.decayed(tile, op)
            case tiles.Product():
                return self.product(op)
            case tiles.Carry() | tiles.Split() | tiles.RunningSums() | tiles.SumsBefore() | tiles.WholeSums():
                raise TypeError(f"{type(op).__name__} is no expression")
            case _:
                assert_never(op)

    def applied(self, tile: Tile, op: tiles.Function) -> Code:
        """An elementwise function, on a device of a tensor even where all are numbers."""
        arguments = [self.operand(a, tile.lanes) for a in op.arguments]
        if all(a.number for a in arguments):
            arguments[0] = Code(f"tl.full((), {arguments[0].text}, tl.float32)")
        if op.name == "pow":
            exponent = self.ops[op.arguments[1]]
            if isinstance(exponent, tiles.Number) and (2 * exponent.value).denominator == 1:
                code, used = whole_power(arguments[0], exponent.value)
                self.helpers |= dict.fromkeys(used)
                return code
            return exact_power(*arguments)
        self.helpers |= dict.fromkeys(helpers(op.name))
        return call(op.name, arguments)

    def seen(self, same: bool) -> str:
        """Which columns a row sees."""
        return f"row[:, None] {'>=' if same else '>'} row[None, :]"

    def decayed(self, tile: Tile, op: tiles.Decay | tiles.DecayMatrix) -> Code:
        """Powers of two of differences of sums: whole numbers cancel exactly."""
        upper, lower = (op.upper, op.lower) if isinstance(op, tiles.Decay) else (op.rows, op.columns)
        if lower is None:
            return Code(f"tl.exp2({' + '.join(self.pairs[upper])})")
        differences = []
        for i in (0, 1):
            high = self.placed(Code(self.pairs[upper][i]), upper.lanes, tile.lanes).text
            low = self.placed(Code(self.pairs[lower][i]), lower.lanes, tile.lanes).text
            differences.append(f"({high} - {low})")
        exponent = " + ".join(differences)
        if isinstance(op, tiles.Decay):
            return Code(f"tl.exp2({exponent})")
        seen = self.seen(op.same)
        return Code(f"tl.where({seen}, tl.exp2(tl.where({seen}, {exponent}, 0.0)), 0.0)")

    def product(self, op: tiles.Product) -> Code:
        """A product of matrices: operands in the operand type, sums in float32."""
        left = self.factor(op.left, op.left.lanes[-1] is op.lane)
        right = self.factor(op.right, op.right.lanes[0] is op.lane)
        added = "" if op.added is None else f"acc={self.spread(op.added, op.added.lanes).text}, "
        text = f'tl.dot({left}, {right}, {added}input_precision="ieee", out_dtype=tl.float32)'
        return Code(f"tl.trans({text})" if op.turned else text)

    # -- memory -------------------------------------------------------------------------------------------------------

    def loaded(self, name: str, is_param: bool, lanes: tuple[Lane, ...]) -> Code:
        """An input's entries, 0 where there are none."""
        if name not in self.pointers:
            self.pointers[name] = self.names.fresh(f"{name}_ptr")
            if self.inputs[name].shared:
                count, own = self.names.fresh(f"{name}_heads"), self.names.fresh(f"{name}_head")
                self.setup.append(f"{own} = head // (heads // {count})")
                self.heads[name] = count, own
        count, own = self.heads.get(name, ("heads", "head"))
        first = own if is_param else f"token * {count} + {own}"
        return self.access("tl.load", f"{self.pointers[name]} + ", first, count, lanes, other=", other=0.0")

    def store(self, pointer: str, tile: Tile) -> str:
        """A result to memory."""
        value = f", {self.code[tile].at(ATOM)}.to({pointer}.dtype.element_ty)"
        return self.access("tl.store", f"{pointer} + ", "token * heads + head", "heads", tile.lanes, value).text

    def access(
        self, call: str, pointer: str, first: str, heads: str, lanes: tuple[Lane, ...], value: str = "", other: str = ""
    ) -> Code:
        """A load or store of rows `heads` apart, from row `first` on, in the lanes' order."""
        last = lanes[-1] if lanes else Lane.ROW
        width = EXTENT.get(last)
        terms = [f"({first}) * {width}" if width and "+" in first else f"{first} * {width}" if width else first]
        for lane in lanes:
            index = self.placed(Code(INDEX[lane]), (lane,), lanes).text
            stride = "" if lane is not Lane.ROW else f" * ({heads} * {width})" if width else f" * {heads}"
            terms.append(index + stride)
        masks = [self.placed(Code(LIVE[lane]), (lane,), lanes).text for lane in lanes]
        mask = f", mask={' & '.join(masks)}{other}" if masks else ""
        return Code(f"{call}({pointer}{' + '.join(terms)}{value}{mask})")

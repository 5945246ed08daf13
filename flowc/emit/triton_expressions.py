"""A tile's operation as a Triton expression.

In: steps of a `TileKernel` and the kernel's `Memory`. Out: expressions, and the device functions that they call. One
expression per operation; what broadcasts follows from the lanes. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from flowc.emit.torch_functions import ATOM, SUM, Code
from flowc.emit.triton_functions import call, helpers, number, power
from flowc.emit.triton_memory import Memory, placed
from flowc.schedule import tiles
from flowc.schedule.tile_plan import Step
from flowc.schedule.tiles import Lane, Tile, Within


class Expressions:
    """Prints the operation of one tile; what it was printed as is in `code`, of sums in `pairs`."""

    def __init__(self, steps: Sequence[Step], memory: Memory, state: str) -> None:
        """Print `steps`; `state` is the carried tile."""
        self.memory, self.state = memory, state
        self.ops = {s.tile: s.op for s in steps}
        self.code: dict[Tile, Code] = {}
        self.pairs: dict[Tile, tuple[str, str]] = {}
        self.helpers: dict[str, None] = {}
        self.sizes_of_products: dict[str, None] = {}

    # -- operands -----------------------------------------------------------------------------------------------------

    def operand(self, tile: Tile, lanes: tuple[Lane, ...]) -> Code:
        """A tile as float32, with axes of length one for the lanes that it lacks."""
        code = self.code[tile]
        if self.is_stored_type(tile):
            code = Code(f"{code.at(ATOM)}.to(tl.float32)")
        return self.among(code, tile.lanes, lanes)

    def is_stored_type(self, tile: Tile) -> bool:
        """Whether a tile is in the type that it has in memory."""
        op = self.ops[tile]
        if isinstance(op, tiles.Turned | tiles.Transposed):
            return self.is_stored_type(op.argument)
        return isinstance(op, tiles.Load | tiles.Fetch)

    def among(self, code: Code, own: tuple[Lane, ...], lanes: tuple[Lane, ...]) -> Code:
        """A tile among the lanes of a wider one."""
        if code.number or not own or own == lanes or len(lanes) < 2:
            return code
        return Code(f"{code.at(ATOM)}[{', '.join(':' if lane in own else 'None' for lane in lanes)}]")

    def spread(self, tile: Tile, lanes: tuple[Lane, ...]) -> Code:
        """A tile with all of `lanes`."""
        code = self.operand(tile, lanes)
        if tile.lanes == lanes:
            return code
        return Code(f"{code.at(SUM)} + {self.zeros(lanes)}", SUM)

    def zeros(self, lanes: Sequence[Lane]) -> str:
        """A tile of zeros."""
        lengths = ", ".join(self.memory.length(lane) for lane in lanes)
        return f"tl.zeros(({lengths}{',' if len(lanes) == 1 else ''}), tl.float32)"

    def factor(self, tile: Tile, straight: bool, dtype: str = "DOT") -> str:
        """An operand of a product, in the type that products are made in, or as it is in memory."""
        text = f"{self.code[tile].at(ATOM)}.to({dtype})" if dtype else self.code[tile].text
        return text if straight else f"tl.trans({text})"

    # -- expressions --------------------------------------------------------------------------------------------------

    def expression(self, tile: Tile, op: tiles.TileOp) -> Code:
        """The expression of a step."""
        match op:
            case tiles.Load():
                return self.memory.loaded(op, tile.lanes)
            case tiles.Fetch(name, lower):
                at, mask = self.memory.scratch(name, tile.lanes, lower)
                return Code(f"tl.load({at}" + (f", mask={mask}, other=0.0)" if mask else ")"))
            case tiles.Number() | tiles.Extent() | tiles.HeadNumber() | tiles.SubNumber():
                return self.scalar(tile, op)
            case tiles.Seen(within):
                return Code(f"tl.where({self.seen(tile.lanes, within)}, 1.0, 0.0)")
            case tiles.Selected(view):
                (other,) = (x for x in tile.lanes if x != view.lane)
                first, second = (self.memory.index(x, tile.lanes) for x in (view, other))
                return Code(f"tl.where({first} == {second}, 1.0, 0.0)")
            case tiles.Function():
                return self.applied(tile, op)
            case tiles.Spread(argument):
                return self.spread(argument, tile.lanes)
            case tiles.Joined():
                return self.joined(tile, op)
            case tiles.Turned(argument):
                return self.code[argument]
            case tiles.Transposed(argument):
                return Code(f"tl.trans({self.code[argument].text})")
            case tiles.Masked(argument):
                return Code(f"tl.where({self.memory.mask(tile.lanes)}, {self.operand(argument, tile.lanes).text}, 0.0)")
            case tiles.PerToken(argument):
                self.helpers["per_token"] = None
                frame = self.memory.frame(argument.lanes[0].frame)
                return Code(f"_tl_per_token({self.operand(argument, argument.lanes).text}, ROWS, {frame.padded})")
            case tiles.Total() | tiles.Product():
                return self.summed(op)
            case tiles.SuffixSums():
                return self.suffix(tile, op)
            case tiles.Inverse(matrix):
                self.helpers["inverse"] = None
                shown = self.operand(matrix, matrix.lanes).text
                return Code(f"_tl_inverse({shown}, {self.memory.length(matrix.lanes[0])}, AGGREGATION, PRECISION)")
            case tiles.Solve():
                return self.solved(tile, op)
            case tiles.Decay() | tiles.DecayMatrix():
                return self.decayed(tile, op)
            case (
                tiles.DecayDot()
                | tiles.DecayApply()
                | tiles.Carry()
                | tiles.Split()
                | tiles.RunningSums()
                | tiles.SumsBefore()
                | tiles.WholeSums()
            ):
                raise TypeError(f"{type(op).__name__} is no expression")
            case _:
                assert_never(op)

    def scalar(self, tile: Tile, op: tiles.Number | tiles.Extent | tiles.HeadNumber | tiles.SubNumber) -> Code:
        """A number of the spec, or one that a row or a head has."""
        match op:
            case tiles.Number(value):
                return number(value)
            case tiles.Extent(size):
                return Code(f"tl.full((), {self.memory.size(size).text}, tl.float32)")
            case tiles.HeadNumber(count):
                return Code("heads.to(tl.float32)" if count else "head.to(tl.float32)")
            case tiles.SubNumber():
                return Code(f"{self.memory.frame(tile.lanes[0].frame).sub}.to(tl.float32)")
            case _:
                assert_never(op)

    def applied(self, tile: Tile, op: tiles.Function) -> Code:
        """An elementwise function, on a device of a tensor even where all are numbers."""
        arguments = [self.operand(a, tile.lanes) for a in op.arguments]
        if all(a.number for a in arguments):
            arguments[0] = Code(f"tl.full((), {arguments[0].text}, tl.float32)")
        if op.name == "pow":
            base, exponent = (self.ops[a] for a in op.arguments)
            known = exponent.value if isinstance(exponent, tiles.Number) else None
            positive = isinstance(base, tiles.Extent) or (isinstance(base, tiles.Number) and base.value > 0)
            code, used = power(arguments, known, positive)
            self.helpers |= dict.fromkeys(used)
            return code
        self.helpers |= dict.fromkeys(helpers(op.name))
        return call(op.name, arguments)

    def joined(self, tile: Tile, op: tiles.Joined) -> Code:
        """Parts one after another."""
        index = self.memory.index(op.place, tile.lanes)
        *first, last = (self.operand(part, tile.lanes).text for part in op.parts)
        for part, end in reversed(tuple(zip(first, op.ends, strict=True))):
            last = f"tl.where({index} < {self.memory.size(end).text}, {part}, {last})"
        return Code(last)

    def summed(self, op: tiles.Total | tiles.Product, added: str = "") -> Code:
        """What is summed over a lane; `added` is the accumulator of a loop over it."""
        if isinstance(op, tiles.Product):
            computed = not self.is_stored_type(op.left)
            left = self.factor(op.left, op.left.lanes[-1] == op.lane, "DOT" if computed else "")
            right = self.factor(op.right, op.right.lanes[0] == op.lane)
            if not added and op.added is not None:
                added = self.spread(op.added, op.added.lanes).text
            self.helpers["product" if computed else "dot"] = None
            if computed:
                text = f"_tl_product({left}, {right}, PRECISION)"
            else:
                text = f"_tl_dot({left}, {right}, {added if added and not op.turned else None}, PRECISION)"
            text = f"tl.trans({text})" if op.turned else text
            return Code(f"{added} + {text}", SUM) if added and (computed or op.turned) else Code(text)
        lanes = op.argument.lanes
        fill, function = ('float("-inf")', "max") if op.largest else ("0.0", "sum")
        shown = self.spread(op.argument, lanes).text
        if not op.lane.over_rows:  # rows past the end are 0 already
            shown = f"tl.where({placed(self.memory.live(op.lane), op.lane, lanes)}, {shown}, {fill})"
        text = f"tl.{function}({shown}, {lanes.index(op.lane)})"
        if not added:
            return Code(text)
        return Code(f"tl.maximum({added}, {text})" if op.largest else f"{added} + {text}", SUM)

    def solved(self, tile: Tile, op: tiles.Solve) -> Code:
        """The solution of a system."""
        self.helpers["solve"] = None
        at, *sizes = self.memory.system(op.inverse, tile.lanes[0])
        right = self.operand(op.right, tile.lanes).text
        return Code(f"_tl_solve({at}, left, {right}, {', '.join(sizes)}, AGGREGATION, {op.transposed}, DOT, PRECISION)")

    def seen(self, lanes: tuple[Lane, ...], within: Within) -> str:
        """Which columns a row sees."""
        row, column = (self.memory.frame(lane.frame) for lane in lanes)
        i, j = f"{row.token}[:, None]", f"{column.token}[None, :]"
        match within:
            case Within.NONE:
                return f"{i} > {j}"
            case Within.ALL:
                return f"{i} >= {j}"
            case Within.EARLIER:
                return f"{row.row}[:, None] > {column.row}[None, :]"
            case _:
                assert_never(within)

    def suffix(self, tile: Tile, op: tiles.SuffixSums) -> Code:
        """Sums over later tokens."""
        rows = tuple(x for t in (*op.own, *op.after) for x in t.lanes)
        lanes = tuple(sorted(set(rows) | set(tile.lanes)))
        terms = []
        if op.own or op.after:
            both = " + ".join(self.spread(t, lanes).at(SUM) for t in (*op.own, *op.after))
            terms.append(f"tl.cumsum({both}, 0, reverse=True)")
        terms += [self.operand(t, lanes).at(SUM) for t in op.whole]
        text = " + ".join(terms)
        for t in op.after:
            text += f" - {self.operand(t, lanes).at(SUM + 1)}"
        if not (op.own or op.after):
            text += f" + {self.zeros(lanes)}"
        return Code(text, SUM)

    # -- decays -------------------------------------------------------------------------------------------------------

    def decayed(self, tile: Tile, op: tiles.Decay | tiles.DecayMatrix) -> Code:
        """Powers of two of differences of sums: whole numbers cancel exactly."""
        upper, lower = (op.upper, op.lower) if isinstance(op, tiles.Decay) else (op.rows, op.columns)
        if lower is None:
            return Code(f"tl.exp2({' + '.join(self.pairs[upper])})")
        differences = []
        for i in (0, 1):
            high = self.among(Code(self.pairs[upper][i]), upper.lanes, tile.lanes).text
            low = self.among(Code(self.pairs[lower][i]), lower.lanes, tile.lanes).text
            differences.append(f"({high} - {low})")
        exponent = " + ".join(differences)
        if isinstance(op, tiles.Decay):
            return Code(f"tl.exp2({exponent})")
        seen = self.seen(tile.lanes, op.within)
        return Code(f"tl.where({seen}, tl.exp2(tl.where({seen}, {exponent}, 0.0)), 0.0)")

    def gated(self, op: tiles.TileOp, up: str, low: str, seen: str, near: bool = False) -> str:
        """A primitive with a gate over the state's rows, where `seen`; `up`, `low`: decays of rows, columns.

        `near`: what a row sees is among the same 16.
        """
        match op:
            case tiles.DecayDot(left, right):
                name = "near_dot" if near else "decay_dot"
                shown = [self.operand(t, t.lanes).text for t in (left, right)]
            case tiles.DecayApply(weights, vectors):
                name, shown = "decay_apply", [self.operand(t, t.lanes).text for t in (weights, vectors)]
            case _:
                raise TypeError(f"{type(op).__name__} has no gate")
        self.helpers[name] = None
        decays = [low, up] if isinstance(op, tiles.DecayApply) and op.transposed else [up, low]
        turned = [str(op.transposed)] if isinstance(op, tiles.DecayApply) else []
        return f"_tl_{name}({', '.join([*shown, *decays, seen, *turned])}, DOT, PRECISION)"

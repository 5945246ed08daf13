"""The program of a token as Triton statements.

In: a program of one token and what a kernel's programs hold of it (`Shares`). Out: statements before the loop over the
tokens, in it and after it, and the text of every value. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.ir import operands
from flowc.chunk.program import Program
from flowc.chunk.values import CHUNK_LENGTH, Level, Value
from flowc.emit.token_moves import MovePrinter
from flowc.emit.token_scans import ScanPrinter
from flowc.emit.token_tiles import ROWS, Lane, Tiles
from flowc.emit.torch_functions import ATOM, SUM, Code
from flowc.emit.triton_functions import call, helpers, number, power
from flowc.schedule.shares import Share, Shares, has_tokens, required, views

Load = Callable[[ir.Argument, int | None, tuple[Lane, ...], tuple[int, ...]], str]
ROW = Lane(ROWS, CHUNK_LENGTH, False)


class TokenPrinter:
    """Prints what values need, each once."""

    def __init__(
        self,
        program: Program,
        shares: Shares,
        tiles: Tiles,
        load: Load,
        states: Mapping[str, str],
        wanted: Iterable[Value],
        params: dict[str, str],
        rows: bool,
    ) -> None:
        """`load` prints an input, of a list one element, from its axes with their places in memory.

        `states` are what the states are called, and their cotangents; `wanted` are the values that are made; `params`
        is what other programs of the kernel have made of params; `rows`: tiles have several tokens.
        """
        self.program, self.shares, self.tiles, self.names = program, shares, tiles, tiles.names
        self.load, self.states = load, states
        self.rows, self.timed = rows, has_tokens(program) if rows else frozenset[Value]()
        self.used: dict[str, None] = {}  # support functions
        self.code: dict[Value, Code] = {}
        self.before: list[str] = []
        self.body: list[str] = []
        self.after: list[str] = []
        self.params, self.tokens = params, dict[str, str]()  # what was made, by its text
        self.late: set[Value] = set()  # what is made of sums over all tokens
        self.leaves, self.wanted = views(program), required(program, wanted)
        for node in program.nodes:
            self.node(node.value, node.op)

    def lanes(self, value: Value) -> tuple[Lane, ...]:
        """A value's axes, after that of the tokens where it has one."""
        return (*((ROW,) if value in self.timed else ()), *self.own(value))

    def own(self, value: Value) -> tuple[Lane, ...]:
        """A value's axes at a token."""
        return tuple(Lane(a.name, a.size, self.shares.split(value, a)) for a in value.axes)

    def every(self, value: Value) -> tuple[Lane, ...]:
        """A value's axes, of every token even where all have the same."""
        return (*((ROW,) if self.rows else ()), *self.own(value))

    def called(self, value: Value) -> list[str]:
        """What a value's axes are called."""
        return [a.name for a in self.lanes(value)]

    def whole(self, value: Value) -> str:
        """A value with all its axes there."""
        return self.operand(value, self.lanes(value)).text

    # -- statements ---------------------------------------------------------------------------------------------------

    def node(self, value: Value, op: ir.Op) -> None:
        """A statement for a value that is wanted."""
        if value not in self.wanted:
            return
        if isinstance(op, ir.Argument) and op.role == "carry":
            self.code[value] = Code(self.states[op.name])
            return
        if value.level is Level.HEAD and any(v in self.late or isinstance(op, ir.SumTokens) for v in operands(op)):
            self.late.add(value)
        if isinstance(op, ir.SumTokens):
            self.summed(value, op.argument)
            return
        code = Code(self.loaded(value)) if value in self.leaves else self.expression(value, op)
        if code.number or code.text.isidentifier():
            self.code[value] = code
            return
        lines = self.after if value in self.late else self.before if value.level is Level.HEAD else self.body
        made = self.params if lines is self.before else self.tokens
        if code.text not in made or lines is self.after:
            made[code.text] = self.names.fresh(value.name or "t")
            lines.append(f"{made[code.text]} = {code.text}")
        self.code[value] = Code(made[code.text])

    def loaded(self, value: Value) -> str:
        """An input from memory."""
        own = self.leaves[value]
        return self.load(own.argument, own.element, self.lanes(value), tuple(p for _, p in own.places))

    def summed(self, value: Value, argument: Value) -> None:
        """A sum over the tokens: begun before them, added to at each."""
        name = self.names.fresh(value.name or "sum")
        lanes, every = self.own(value), self.every(argument)
        zeros = f"tl.zeros({self.tiles.shape(lanes)}, tl.float32)" if lanes else "tl.full((), 0.0, tl.float32)"
        self.before.append(f"{name} = {zeros}")
        text = self.operand(argument, every).text
        if self.rows:
            text = f"tl.sum(tl.where({self.tiles.live(every)}, {text}, 0.0), 0)"
        self.body.append(f"{name} += {text}")
        self.code[value] = Code(name)

    # -- operands -----------------------------------------------------------------------------------------------------

    def operand(self, value: Value, lanes: tuple[Lane, ...]) -> Code:
        """A value among axes, all of them there."""
        code, own = self.among(value, lanes), self.called(value)
        if own and len(own) == len(lanes):
            return code
        tensor = self.tensor(code)
        return Code(f"tl.broadcast_to({tensor}, {self.tiles.shape(lanes)})" if lanes else tensor)

    def among(self, value: Value, lanes: tuple[Lane, ...]) -> Code:
        """A value that broadcasts to axes."""
        code, own = self.code[value], self.called(value)
        if code.number or not own or len(own) == len(lanes):
            return code
        return Code(f"{code.at(ATOM)}[{', '.join(':' if a.name in own else 'None' for a in lanes)}]")

    def tensor(self, code: Code) -> str:
        """A number as a tensor."""
        return f"tl.full((), {code.text}, tl.float32)" if code.number else code.text

    def once(self, value: Value, number_: int, code: Code) -> Code:
        """What is whole beside parts of a sum: added by the first block alone."""
        if (value, number_) not in self.shares.first or code.text == "0.0":
            return code
        return Code(f"tl.where(block == 0, {code.text}, 0.0)")

    # -- operations ---------------------------------------------------------------------------------------------------

    def expression(self, value: Value, op: ir.Op) -> Code:
        """The expression of an operation."""
        tiles = self.tiles
        match op:
            case ir.Literal(exact):
                return number(exact)
            case ir.Extent(size):
                return Code(f"tl.full((), {tiles.number(size)}, tl.float32)")
            case ir.Head(count):
                return Code("heads.to(tl.float32)" if count else "head.to(tl.float32)")
            case ir.Index():
                return Code(f"{tiles.index(self.own(value)[0])}.to(tl.float32)")
            case ir.Apply(function, arguments):
                return self.applied(value, function, arguments)
            case ir.Spread(argument, _):
                return self.operand(argument, self.lanes(value))
            case ir.Rename(argument):
                return self.code[argument]
            case ir.Relabel(argument, names):
                names = (*(n for n in self.called(argument) if n == ROWS), *names)
                return self.turned(self.code[argument].text, names, self.called(value))
            case ir.Sum(argument, axes):
                return self.reduced("sum", "0.0", argument, axes)
            case ir.Largest(argument, axis):
                return self.reduced("max", 'float("-inf")', argument, (axis,))
            case ir.Contract(left, right, axis):
                return self.contracted(value, left, right, axis)
            case ir.Scan() | ir.Earlier() | ir.Later() | ir.Final() | ir.First():
                return ScanPrinter(self).expression(value, op)
            case _:
                return MovePrinter(self).expression(value, op)

    def turned(self, text: str, names: Iterable[str], wanted: Iterable[str]) -> Code:
        """A tile with its axes in another order."""
        own = list(names)
        order = [own.index(n) for n in wanted]
        if order == sorted(order):
            return Code(text)
        return Code(f"tl.trans({text})" if len(order) == 2 else f"tl.permute({text}, {tuple(order)})")

    def reduced(self, function: str, fill: str, argument: Value, axes: tuple[Axis, ...]) -> Code:
        """What is summed, or the largest, over axes."""
        lanes = self.lanes(argument)
        text = f"tl.where({self.tiles.live(lanes)}, {self.operand(argument, lanes).text}, {fill})"
        for axis in reversed([a for a in argument.axes if a in axes]):
            text = f"tl.{function}({text}, {self.called(argument).index(axis.name)})"
        return Code(text)

    def contracted(self, value: Value, left: Value, right: Value, axis: Axis) -> Code:
        """A product of matrices, or with a vector."""
        one, other = self.lanes(left), self.lanes(right)
        if len(one) == len(other) == 2 and len({a.name for a in (*one, *other)}) == 3:
            both = ((one, left), (other, right))
            first, second = (f"tl.where({self.tiles.live(n)}, {self.code[v].text}, 0.0)" for n, v in both)
            first = first if one[1].name == axis.name else f"tl.trans({first})"
            second = second if other[0].name == axis.name else f"tl.trans({second})"
            names = [a.name for a in (*one, *other) if a.name != axis.name]
            self.used["matrices"] = None
            return self.turned(f"_tl_matrices({first}, {second})", names, self.called(value))
        lanes = tuple({a.name: a for a in sorted((*one, *other), key=lambda a: a.name != ROWS)}.values())
        names = [a.name for a in lanes]
        text = f"{self.among_of(left, lanes)} * {self.among_of(right, lanes)}"
        text = f"tl.sum(tl.where({self.tiles.live(lanes)}, {text}, 0.0), {names.index(axis.name)})"
        return self.turned(text, [n for n in names if n != axis.name], self.called(value))

    def among_of(self, value: Value, lanes: tuple[Lane, ...]) -> str:
        """A factor among axes that may lie in another order."""
        own = self.called(value)
        wanted = [a.name for a in lanes if a.name in own]
        code = self.code[value] if own == wanted else self.turned(self.code[value].text, own, wanted)
        if code.number or len(own) in (0, len(lanes)):
            return code.at(SUM + 1)
        return f"{code.at(ATOM)}[{', '.join(':' if a.name in own else 'None' for a in lanes)}]"

    def applied(self, value: Value, function: str, arguments: tuple[Value, ...]) -> Code:
        """An elementwise function."""
        lanes = self.lanes(value)
        found = [self.once(value, n, self.among(a, lanes)) for n, a in enumerate(arguments)]
        if all(a.number for a in found):
            found[0] = Code(self.tensor(found[0]))
        if function == "pow":
            base, exponent = (self.program.defined[a] for a in arguments)
            known = exponent.value if isinstance(exponent, ir.Literal) else None
            positive = isinstance(base, ir.Extent) or (isinstance(base, ir.Literal) and base.value > 0)
            code, used = power(found, known, positive)
            self.used |= dict.fromkeys(used)
            return code
        self.used |= dict.fromkeys(helpers(function))
        return call(function, found)

    def shared(self, value: Value) -> Share:
        """What a program has of a value."""
        return self.shares.shares[value]

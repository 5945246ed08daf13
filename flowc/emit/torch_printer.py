"""A pass of a Plan as PyTorch statements.

In: a `Pass`, names for sizes and arguments. Out: statements, the support functions they call, and the text of every
value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowc.chunk import ir
from flowc.chunk.ir import Node, Op
from flowc.chunk.values import Value
from flowc.emit.names import Names
from flowc.emit.torch_expressions import Expressions
from flowc.emit.torch_functions import Code
from flowc.schedule.plan import Kernel, Pass, Role
from flowc.schedule.share import exponent_key


@dataclass(frozen=True, slots=True)
class Statement:
    """A line of code, the gradients that need it (None: always), and the name in the chunk program of what it makes."""

    text: str
    needed_by: frozenset[str] | None
    name: str = ""


class TorchPrinter(Expressions):
    """Prints one pass."""

    def __init__(
        self,
        passed: Pass,
        sizes: Mapping[str, str],
        arguments: Mapping[str, str],
        names: Names,
        kept: frozenset[Value] = frozenset(),
    ) -> None:
        """Print `passed` with emitted names of sizes and of arguments; `kept` are values needed after it."""
        super().__init__(passed, sizes, arguments, names, kept)
        self.rows_of: dict[Value, str] = {}  # results that are rows of chunks, brought into tokens by the caller's copy
        self.role = Role.INTRA
        self.named = {n.value: n.value.name for n in self.program.nodes}
        self.stacks: dict[Value, str] = {}
        self.carry = names.fresh("states_bar" if self.program.adjoint else "states")
        self.statements: list[Statement] = []

    def run(self) -> None:
        """Print the three kernels."""
        for kernel in self.passed.kernels:
            self.kernel(kernel)

    def kernel(self, kernel: Kernel) -> None:
        """Print the nodes of a kernel."""
        self.role = kernel.role
        if kernel.role is Role.WALK:
            self.open_walk(kernel)
        for node in kernel.nodes:
            self.node(node)
        if kernel.role is Role.WALK:
            self.close_walk()

    def define(self, text: str, key: object) -> None:
        """A statement for every primitive of one gate, needed where any of them is."""
        uses = [
            self.usage.needs[n.value]
            for n in self.program.nodes
            if isinstance(n.op, (ir.DecayDot, ir.DecayApply))
            and exponent_key(self.program, n.op.upper, n.op.lower) == key
        ]
        wanted = [u for u in uses if u is not None]
        self.statements.append(Statement(text, frozenset().union(*wanted) if len(wanted) == len(uses) else None))

    def emit(self, text: str, value: Value | None = None) -> None:
        """One statement, guarded by what needs `value`."""
        indent = "    " if self.role is Role.WALK and self.in_walk else ""
        needed = None if value is None or indent else self.usage.needs.get(value)
        self.statements.append(Statement(indent + text, needed, "" if value is None else self.named[value]))

    def open_walk(self, kernel: Kernel) -> None:
        """Memory for the states and what else every chunk stores, and the head of the loop."""
        before = self.program.carry[0]
        shape = self.shape(before)
        self.emit(f"{self.carry} = {self.like()}.new_empty({self.lead_plus(1)}, {shape})")
        first = "-1" if self.program.adjoint else "0"
        self.emit(f"{self.carry}[{first}] = {self.arguments['carry']}")
        for value in kernel.stores:
            if value == self.program.carry[1]:
                continue
            name = self.names.fresh(self.named[value] or "t")
            self.stacks[value] = name
            self.emit(f"{name} = {self.like()}.new_empty(chunks, programs, {self.shape(value)})")
        loop = "reversed(range(chunks))" if self.program.adjoint else "range(chunks)"
        self.emit(f"for c in {loop}:")
        self.in_walk = True
        start = f"{self.carry}[c + 1]" if self.program.adjoint else f"{self.carry}[c]"
        self.code[before] = Code(start)

    def close_walk(self) -> None:
        """The end of the loop; what it stored is then read as a whole."""
        before, after = self.program.carry
        if before == after:  # nothing changes the state
            self.emit(
                "{0}[{1}] = {0}[{2}]".format(self.carry, *(("c", "c + 1") if self.program.adjoint else ("c + 1", "c")))
            )
        self.in_walk = False
        for value, name in self.stacks.items():
            self.code[value] = Code(name)
        before = self.program.carry[0]
        self.code[before] = Code(f"{self.carry}[1:]" if self.program.adjoint else f"{self.carry}[:-1]")

    def lead_plus(self, more: int) -> str:
        """The leading sizes of `more` states than there are chunks."""
        return f"chunks + {more}, programs"

    def node(self, node: Node) -> None:
        """Print a node, or note its code for where it is used."""
        value, op = node.value, node.op
        if isinstance(op, ir.Argument):
            if op.role != "carry":
                self.code[value] = Code(self.arguments[f"{op.role} {op.name}"])
            return
        if self.in_walk and value in self.stacks:
            self.stacked(value, op)
            return
        if value == self.program.carry[1]:
            self.next_state(value, op)
            return
        if self.direct(value, op):
            return
        code = self.expression(value, op)
        if isinstance(op, ir.ToRows) and self.usage.scaled_alone(value):
            self.waiting[value] = code
            return
        if code.number or self.usage.inlined(node):
            self.code[value] = code
            return
        name = self.names.fresh(self.named[value] or "t")
        self.emit(f"{name} = {code.text}", value)
        self.code[value] = Code(name)

    def direct(self, value: Value, op: Op) -> bool:
        """Note a result of one row a token: its rows go where the caller wants them, without a copy between."""
        if (
            not isinstance(op, ir.FromRows)
            or value in self.usage.users
            or value not in {v for _, v in self.program.results}
        ):
            return False
        if len(op.space.parts) != 1 or op.space.parts[0].several:
            return False
        self.rows_of[value] = self.base(op.argument).text
        self.code[value] = Code(self.rows_of[value])
        return True

    def stacked(self, value: Value, op: Op) -> None:
        """A walk value that is kept for every chunk: written in place."""
        target = f"{self.stacks[value]}[c]"
        self.written(target, value, op)
        self.code[value] = Code(target)

    def next_state(self, value: Value, op: Op) -> None:
        """The state after a chunk: written in place."""
        self.written(f"{self.carry}[c]" if self.program.adjoint else f"{self.carry}[c + 1]", value, op)

    def written(self, target: str, value: Value, op: Op) -> None:
        """A value computed into memory that is there, by one call where it is a product or a sum with one."""
        code = self.expression(value, op)
        if value in self.sums:
            first, left, right = self.sums[value]
            if isinstance(first, tuple):  # a product of its own is made in place
                self.emit(f"torch.mul({', '.join(first)}, out={target})")
                self.emit(f"{target}.baddbmm_({left}, {right})")
            else:
                self.emit(f"torch.baddbmm({first}, {left}, {right}, out={target})")
        elif value in self.products:
            self.emit(f"torch.bmm({', '.join(self.products[value])}, out={target})")
        elif isinstance(op, ir.Solve):
            self.emit(f"{code.text[:-1]}, out={target})")
        else:
            self.emit(f"{target} = {code.text}")

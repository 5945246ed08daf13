"""A pass of a Plan as PyTorch statements.

In: a `Pass`, names for sizes and arguments. Out: statements, the support functions they call, and the text of every
value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowc.chunk import ir
from flowc.chunk.ir import Node, Op
from flowc.chunk.program import Carry
from flowc.chunk.values import Level, Value
from flowc.emit.interface import mentions
from flowc.emit.labels import labels
from flowc.emit.names import Names
from flowc.emit.torch_expressions import Expressions
from flowc.emit.torch_functions import Code
from flowc.schedule.plan import Kernel, Pass, Role
from flowc.schedule.share import exponent_key


@dataclass(frozen=True, slots=True)
class Statement:
    """A line of code, the gradients that need it (None: always), and the name in the chunk program of what it makes.

    `walk` puts it into the loop over chunks.
    """

    text: str
    needed_by: frozenset[str] | None
    name: str = ""
    walk: bool = False


class TorchPrinter(Expressions):
    """Prints kernels of one pass."""

    def __init__(
        self,
        passed: Pass,
        sizes: Mapping[str, str],
        arguments: Mapping[str, str],
        names: Names,
        kernels: tuple[Kernel, ...],
        kept: frozenset[Value] = frozenset(),
    ) -> None:
        """Print `kernels` of `passed` with names of sizes and of arguments; `kept` are values needed after it."""
        super().__init__(passed, sizes, arguments, names, kernels, kept)
        self.rows_of: dict[Value, str] = {}  # results that are rows of chunks, brought into tokens by the caller's copy
        self.role = Role.INTRA
        self.named = labels(self.program)
        self.stacks: dict[Value, str] = {}
        self.statements: list[Statement] = []
        self.head = 0  # of the loop over chunks: its place among them
        self.loops: dict[tuple[object, ...], list[str]] = {}  # what the states of a loop are called

    def run(self) -> None:
        """Print the kernels."""
        for kernel in self.usage.kernels:
            self.kernel(kernel)
        if self.usage.kernels and self.usage.kernels[0].role is not Role.ONCE:
            self.scans()

    def scans(self) -> None:
        """The scanned states after a segment, in the memory of those before it."""
        for carry in (c for c in self.program.carries if c.scanned):
            state, final = self.arguments[f"carry {carry.name}"], self.program.defined[carry.after]
            if carry.before in self.usage.kept and isinstance(final, ir.Final):
                self.stacks[carry.before] = self.names.fresh(f"{self.named[carry.before]}_starts")
                starts = f"_chunk_starts({state}, {self.base(final.argument).text}, tokens) if keep else {state}"
                self.emit(f"{self.stacks[carry.before]} = {starts}")
            if carry.before != carry.after:
                self.emit(f"{state}.copy_({self.base(carry.after).text})")

    def give(self, names: Mapping[Value, str]) -> None:
        """What values that were made before are called."""
        self.code |= {value: Code(name) for value, name in names.items()}

    def kept(self, value: Value) -> str:
        """A value as it is kept for another pass, in the type to compute in."""
        if value.level is Level.TOKEN:
            return self.stacks[value]
        return self.code[value].text + ".to(dtype)" * (value in self.wide)

    def kernel(self, kernel: Kernel) -> None:
        """Print the nodes of a kernel."""
        self.role = kernel.role
        if kernel.role is Role.WALK:
            self.open_walk(kernel)
        carried = {c.after for c in self.program.walked}
        for node in kernel.nodes:
            if not (self.walking and node.value in carried):
                self.node(node)
        if kernel.role is Role.WALK:
            self.close_walk(kernel)

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

    def cast(self, text: str, value: Value, inside: bool) -> None:
        """A statement that makes an operand in another type: `inside` the loop over chunks, or once before it."""
        statement = Statement(text, self.usage.needs.get(value), walk=inside)
        if inside or not self.walking:
            self.statements.append(statement)
        else:
            self.statements.insert(self.head, statement)
            self.head += 1

    def emit(self, text: str, value: Value | None = None) -> None:
        """One statement, guarded by what needs `value`."""
        needed = None if value is None else self.usage.needs.get(value)
        name = "" if value is None else self.named[value]
        self.statements.append(Statement(text, needed, name, bool(self.walking)))

    def open_walk(self, kernel: Kernel) -> None:
        """Memory for what every chunk stores, and the head of the loop."""
        carries = self.carried(kernel)
        for value in (v for v in kernel.stores if v not in {c.after for c in carries}):
            self.stack(value, "chunks")
        for before in (c.before for c in carries):
            alone = before in self.passed.in_place
            if before in self.usage.kept or not alone:
                self.stack(before, "chunks if keep else 0" if alone else "chunks")
        self.head = len(self.statements)
        self.emit("for c in " + ("reversed(range(chunks)):" if self.program.adjoint else "range(chunks):"))
        self.walking = frozenset(n.value for n in kernel.nodes)
        for carry in carries:
            state, before = self.arguments[f"carry {carry.name}"], carry.before
            self.code[before] = Code(state)
            if before in self.stacks:
                kept = "if keep: " * (before in self.passed.in_place)
                self.emit(f"{kept}{self.stacks[before]}[c] = {state}")

    def carried(self, kernel: Kernel) -> list[Carry]:
        """The states that a kernel walks with."""
        own = {n.value for n in kernel.nodes}
        return [c for c in self.program.walked if c.before in own]

    def stack(self, value: Value, chunks: str) -> None:
        """Memory for a value of every chunk."""
        self.stacks[value] = self.names.fresh(self.named[value])
        self.emit(f"{self.stacks[value]} = {self.like()}.new_empty({chunks}, programs, {self.shape(value)})", value)

    def close_walk(self, kernel: Kernel) -> None:
        """The next states, last of all; what the loop stored is then read as a whole."""
        for carry in self.carried(kernel):
            if carry.before != carry.after:
                self.next_state(carry)
        self.narrow = {v: name for v, name in self.narrow.items() if v not in self.walking}
        self.walking = frozenset()
        for value, name in self.stacks.items():
            self.code[value] = Code(name)
            self.products.pop(value, None)

    def node(self, node: Node) -> None:
        """Print a node, or note its code for where it is used."""
        value, op = node.value, node.op
        if isinstance(op, ir.Argument):
            if value not in self.code and (op.role != "carry" or value.level is Level.TOKEN):
                self.code[value] = Code(self.arguments[f"{op.role} {op.name}"])
            return
        if isinstance(op, ir.Loop):
            self.loop(value, op)
            return
        if self.walking and value in self.stacks:
            self.stacked(value, op)
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
        name = self.names.fresh(self.named[value])
        self.emit(f"{name} = {code.text}", value)
        self.code[value] = Code(name)

    def loop(self, value: Value, op: ir.Loop) -> None:
        """A loop over the tokens: a function of one, and the call that runs it."""
        if op.together not in self.loops:
            self.helpers["loop"] = None
            made = self.loops[op.together] = [self.names.fresh(f"{c.name}_all") for c in op.body.carries]
            step, lines, given = self.token_function(op)
            for line in lines:
                self.emit(line, value)
            starts = ", ".join(self.base(s).text for s in op.starts)
            shown = "".join(f"{text}, " for text in given)
            reverse = ", reverse=True" * op.reverse
            self.emit(f"{', '.join(made)}, = _loop({step}, ({shown}), ({starts},), length{reverse})", value)
        self.code[value] = Code(self.loops[op.together][op.number])

    def token_function(self, op: ir.Loop) -> tuple[str, list[str], list[str]]:
        """The function of one token: its name, its lines, and what it is given of every token."""
        used = {n.op.name: n.value for n in op.body.nodes if isinstance(n.op, ir.Argument) and n.op.role != "carry"}
        known: dict[Value, Code] = {}
        parameters, given = [], []
        for number, value in enumerate(op.given):
            inner = used.get(f"given{number}")
            if inner is None:
                continue
            known[inner] = self.base(value)
            if not known[inner].number and value.level is not Level.HEAD:
                given.append(known[inner].text)
                parameters.append(self.names.fresh(self.named[value]))
                known[inner] = Code(parameters[-1])
        states = {c.name: self.names.fresh(c.name) for c in op.body.carries}
        arguments = {f"carry {name}": own for name, own in states.items()}
        after = tuple(c.after for c in op.body.carries)
        kernel = Kernel(Role.INTRA, op.body.nodes, after)
        passed = Pass(op.body, Kernel(Role.ONCE, (), ()), (kernel,), frozenset())
        printer = TorchPrinter(passed, self.sizes, arguments, self.names, (kernel,), frozenset(after))
        printer.code |= known
        printer.kernel(kernel)
        self.helpers |= printer.helpers
        results = ", ".join(printer.base(v).text for v in after)
        body = [*(s.text for s in printer.statements), f"return {results},"]
        name = self.names.fresh("token")
        length = ["length = 1"] * mentions("\n".join(body), "length")
        title = f'"""{"What reaches a token" if op.reverse else "The states after a token"}, [B, 1, H, *]."""'
        lines = [title, *length, *body]
        head = f"def {name}({', '.join((*parameters, *states.values()))}):"
        return name, [head, *(f"    {line}" for line in lines)], given

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
        rows = self.base(op.argument).text
        if sum(v == value for _, v in self.program.results) > 1:  # two inputs with one gradient
            rows = self.names.fresh(self.named[value])
            self.emit(f"{rows} = {self.base(op.argument).text}", value)
        self.rows_of[value] = rows
        self.code[value] = Code(rows)
        return True

    def stacked(self, value: Value, op: Op) -> None:
        """A walk value that is kept for every chunk: written in place."""
        target = f"{self.stacks[value]}[c]"
        self.written(target, value, op)
        self.code[value] = Code(target)

    def next_state(self, carry: Carry) -> None:
        """The state after a chunk, in the memory of the state before it."""
        state, value = self.arguments[f"carry {carry.name}"], carry.after
        code = self.expression(value, self.program.defined[value])
        added = self.sums.get(value)
        first, products = (self.factors.get(value, ""), ()) if added is None else (added.first, added.products)
        scale = [f for f in first if f != state] if isinstance(first, tuple) and state in first else []
        inside = [*scale, *(factor for product in products for factor in product)]
        own = (state, self.narrow.get(carry.before, state))
        if (first == state or len(scale) == 1) and not any(mentions(text, name) for text in inside for name in own):
            for factor in scale:
                self.emit(f"{state}.mul_({factor})", value)
            for left, right in products:
                self.emit(f"_add_product({state}, {left}, {right})", value)
        else:
            self.emit(f"{state}.copy_({code.text})", value)

    def written(self, target: str, value: Value, op: Op) -> None:
        """A value computed into memory that is there, by one call where it is a product or a sum with one."""
        code = self.expression(value, op)
        added = self.sums.get(value)
        if added is not None:
            first, products = added.first, added.products
            if isinstance(first, tuple):  # a product of its own is made in place
                self.emit(f"torch.mul({', '.join(first)}, out={target})", value)
            else:
                self.emit(f"_sum_product({', '.join((first, *products[0]))}, out={target})", value)
                products = products[1:]
            for left, right in products:
                self.emit(f"_add_product({target}, {left}, {right})", value)
        elif value in self.products:
            self.helpers["add_product"] = None
            self.emit(f"_product({', '.join(self.products[value])}, {target})", value)
        elif isinstance(op, ir.Solve):
            self.emit(f"{code.text[:-1]}, out={target})", value)
        else:
            self.emit(f"{target} = {code.text}", value)

"""What crosses from kernel to kernel, and is not made again where it is used.

In: a `Program` and what the forward pass kept. Out: the values that a kernel before the walk stores, those that the
walk stores, and the names of both. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, count

from flowc.chunk import ir
from flowc.chunk.program import Program
from flowc.chunk.values import GATES, Level, Value
from flowc.schedule.lower import lower_triangular
from flowc.schedule.plan import Role
from flowc.schedule.schedule import twin_key
from flowc.semantics.size import ONE, Size

PRODUCTS = (ir.Contract, ir.DecayDot, ir.DecayApply, ir.Inverse, ir.Solve)
SIDES = ("k", "v")  # the axes of the state
DEAR = (ir.DecayDot, ir.DecayApply, ir.Inverse)


@dataclass
class Crossing:
    """Goes through one pass. `kept` are values that the forward pass stored, by what they share with their twins here.

    `outside` are values that torch operators make before the kernels; `early` are those, by what they share with their
    twins, that the kernel before the walk stores for the backward pass, whose walk would need them made before it.
    `lower` are the names in memory of the forward pass's lower triangular matrices.
    """

    program: Program
    row: Size
    column: Size
    taken: frozenset[str]
    kept: Mapping[tuple[object, ...], str]
    outside: dict[Value, None] = field(default_factory=dict)
    early: frozenset[tuple[object, ...]] = frozenset()
    lower: frozenset[str] = frozenset()

    def cross(self) -> None:
        """Find everything that goes through memory."""
        self.ops = self.program.defined
        self.names = set(self.taken)
        self.fetched: dict[Value, str] = {}
        self.used: dict[str, None] = {}
        self.before: dict[Value, None] = {}
        self.walked: dict[Value, None] = {}
        self.visited: set[tuple[Value, Role]] = set()
        start, after = self.program.ends
        self.dependent = self._dependent()
        self.needed = self._needed((after,))
        self.twins = self._twins()
        self.again = self._again()
        self.deep = {c: self._holding(c) for c in (PRODUCTS, DEAR)}
        self.decayed = self._decayed()
        self.across = self._across()
        self.fetched[start] = self.fresh(start)
        for value in self.outside:
            self.fetched[value] = self.fresh(value)
            for v in self._needed((value,)):
                if v in self.twins:
                    self.used[self.twins[v]] = None
        for node in self.program.nodes:
            if node.value.name and twin_key(node) in self.early:
                self.fetched[node.value] = self.fresh(node.value)
                self.before[node.value] = None
                for v in ir.operands(node.op):
                    self.visit(v, Role.INTRA)
        self.visit(after, Role.WALK)
        for _, value in self.program.results:
            self.visit(value, Role.OUTPUT)
        found = lower_triangular(self.program)
        self.triangular = self.lower | {self.fetched[v] for v in (*self.before, *self.walked) if v in found}

    def by_torch(self, value: Value) -> bool:
        """Whether torch operators can make a value before the kernels, and kernels fetch it."""
        rows = {*GATES, "point"}.isdisjoint(a.name for a in value.axes)
        free = value.level is Level.CHUNK and value not in self.dependent and value not in self.outside
        made = not isinstance(self.ops[value], (ir.MaskMatrix, ir.Literal, ir.Extent, ir.Argument, ir.Inverse))
        return free and made and rows and not value.sums

    def fresh(self, value: Value) -> str:
        """A name in memory."""
        base = value.name or "t"
        name = next(n for n in chain((base,), (f"{base}{i}" for i in count(2))) if n not in self.names)
        self.names.add(name)
        return name

    def _dependent(self) -> set[Value]:
        found = {self.program.carries[0].before}
        for node in self.program.nodes:
            if any(v in found for v in ir.operands(node.op)):
                found.add(node.value)
        return found

    def _needed(self, values: Iterable[Value]) -> set[Value]:
        found = set(values)
        for node in reversed(self.program.nodes):
            if node.value in found:
                found.update(ir.operands(node.op))
        return found

    def _holding(self, kinds: tuple[type, ...]) -> set[Value]:
        """The values that an operation of some kind went into."""
        found: set[Value] = set()
        for node in self.program.nodes:
            made = isinstance(node.op, kinds) or any(v in found for v in ir.operands(node.op))
            if made and node.value not in self.twins:
                found.add(node.value)
        return found

    def _decayed(self) -> set[Value]:
        """What a walk would sum gates over the state for: factors of products, and decays of its state."""
        found: set[Value] = set()
        factors: set[Value] = set()
        for node in self.program.nodes:
            gated = isinstance(node.op, ir.Decay) and any(a.name in SIDES for a in node.value.axes)
            if gated or any(v in found for v in ir.operands(node.op)):
                found.add(node.value)
            if isinstance(node.op, ir.Contract):
                factors.update(ir.operands(node.op))
        rows = {v for v in found & factors if len(v.axes) == 2 and v.axes[1].name in SIDES}
        return rows | {v for v in found if len(v.axes) == 1 and v.axes[0].name in SIDES}

    def _across(self) -> set[Value]:
        """The values that a sum over the state's columns went into: no program of one block of them can make those."""
        found: set[Value] = set()
        if self.column == ONE:
            return found
        for node in self.program.nodes:
            match node.op:
                case ir.Contract(_, _, axis):
                    sums = axis.name == "v"
                case ir.Sum(argument, axes):
                    sums = any(
                        a.name == "v" or (argument.level is not Level.CHUNK and a.size == self.column) for a in axes
                    )
                case ir.Largest(_, axis):
                    sums = axis.size == self.column
                case _:
                    sums = False
            made = sums or any(v in found for v in ir.operands(node.op))
            if made and node.value not in self.twins:
                found.add(node.value)
        return found

    def _twins(self) -> dict[Value, str]:
        """The values that the forward pass stored."""
        found: dict[str, list[Value]] = {}
        for node in self.program.nodes:
            name = self.kept.get(twin_key(node)) if node.value.name else None
            if name is not None and node.value.level is Level.CHUNK:
                found.setdefault(name, []).append(node.value)
        return {values[0]: name for name, values in found.items() if len(values) == 1}

    def _again(self) -> set[Value]:
        """What was kept for the walk, and gradients are made of without fetching it: neither a state nor dear."""
        found: set[Value] = set()
        for node in self.program.nodes:
            op = node.op
            state = isinstance(op, ir.Argument) and op.role not in ("input", "param")
            if state or isinstance(op, DEAR) or any(v in found for v in ir.operands(op)):
                found.add(node.value)
        return {v for v in self.twins if v not in found}

    def visit(self, value: Value, role: Role) -> None:
        """Note what a kernel that needs `value` fetches, and what the kernels that store it do."""
        if value in self.fetched or (value, role) in self.visited:
            return
        self.visited.add((value, role))
        if value in self.twins and not (role is Role.OUTPUT and value in self.again):
            self.fetched[value] = self.twins[value]
            self.used[self.twins[value]] = None
            return
        if value.level is Level.CHUNK and value not in self.twins and self._stored(value, role):
            self.fetched[value] = self.fresh(value)
            walks = value in self.dependent
            (self.walked if walks else self.before)[value] = None
            role = Role.WALK if walks else Role.INTRA
        for v in ir.operands(self.ops[value]):
            self.visit(v, role)

    def _stored(self, value: Value, role: Role) -> bool:
        """Whether a kernel of some role fetches a value that it needs, and does not make it again."""
        axes = [a.name for a in value.axes]
        if value in self.dependent:
            made = value in self.needed and value in self.deep[PRODUCTS]
            return made and role is Role.OUTPUT and axes != ["k", "v"]
        op = self.ops[value]
        matrix = len(axes) == 2 and not {"k", "v"} & set(axes)
        if isinstance(op, ir.Rename) or role is Role.INTRA:
            return False
        if role is Role.WALK:
            across = value in self.across and axes != ["k", "v"]
            return across or value in self.decayed or (matrix and value in self.deep[PRODUCTS])
        there = self.before and not self.program.adjoint  # a kernel before the walk that makes it as well
        return matrix and value in self.deep[PRODUCTS if there else DEAR]

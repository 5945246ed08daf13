"""Who uses what: which values of a pass get a name, which are written where they are used, and which memory is free.

In: a `Pass` and the values needed after it. Out: answers by value. Refuses nothing.
"""

from __future__ import annotations

from flowc.chunk import ir
from flowc.chunk.ir import Node
from flowc.chunk.values import Level, Value
from flowc.schedule.plan import Pass, Role

VIEWS = (ir.Rename, ir.Relabel, ir.Literal, ir.Extent)
CHEAP = (ir.Apply, ir.Decay, ir.Spread, ir.Sum, ir.Head, ir.Element, ir.Cut, ir.Unflatten, ir.FromRows, ir.AtAdjoint)


class Usage:
    """The uses of a pass's values."""

    def __init__(self, passed: Pass, kept: frozenset[Value]) -> None:
        """Look at `passed`; `kept` are values needed after it."""
        self.passed, self.kept, self.program = passed, kept, passed.program
        self.roles = {n.value: k.role for k in passed.kernels for n in k.nodes}
        self.users = self._users()
        self.stored = frozenset(v for k in passed.kernels for v in k.stores)
        self.needs = self._needs()

    def _users(self) -> dict[Value, list[Value]]:
        users: dict[Value, list[Value]] = {}
        for node in self.program.nodes:
            for v in ir.operands(node.op):
                users.setdefault(v, []).append(node.value)
        return users

    def _needs(self) -> dict[Value, frozenset[str] | None]:
        """The results that depend on each value; None for a forward pass, where all are wanted."""
        if not self.program.adjoint:
            return {n.value: None for n in self.program.nodes}
        needs: dict[Value, set[str]] = {}
        for name, value in self.program.results:
            needs.setdefault(value, set()).add(name)
        everything = {name for name, _ in self.program.results} | {"initial_state"}
        needs.setdefault(self.program.carry[1], set()).add("initial_state")
        walked = {n.value for n in self.passed.walk.nodes}
        for node in reversed(self.program.nodes):
            if node.value in walked or isinstance(node.op, ir.At):  # gate sums are views that primitives share
                needs[node.value] = set(everything)
            for v in ir.operands(node.op):
                needs.setdefault(v, set()).update(needs.get(node.value, set()))
        return {v: None if n == everything else frozenset(n) for v, n in needs.items()}

    def inlined(self, node: Node) -> bool:
        """Whether a value is written where it is used: views, and cheap work with one user in the same kernel."""
        if isinstance(node.op, VIEWS):
            return True
        users = self.users.get(node.value, [])
        alone = len(users) == 1 and self.roles[users[0]] is self.roles[node.value] and node.value not in self.stored
        if isinstance(node.op, (ir.Contract, ir.DecayMatrix)):
            return alone and self.reusable(node.value, users[0])
        return alone and isinstance(node.op, CHEAP)

    def reusable(self, value: Value, user: Value) -> bool:
        """Whether `user` can be computed in the memory of `value`, its only operand of full shape."""
        op = self.program.defined[user]
        if not isinstance(op, ir.Apply) or value.axes != user.axes or value.level is not user.level:
            return False
        return op.function in ("add", "mul") or (op.function == "sub" and op.arguments[0] == value)

    def fresh(self, value: Value, user: Value) -> bool:
        """Whether an operand is a new tensor that nothing else reads, so that `user` may overwrite it."""
        op = self.program.defined[value]
        made = isinstance(op, (ir.Contract, ir.DecayMatrix, ir.Decay, ir.Apply))
        once = self.users[value] == [user] and self.roles[value] is self.roles[user] and value not in self.stored
        return made and once and not value.sums and self.reusable(value, user)

    def scaled_alone(self, rows: Value) -> bool:
        """Whether rows are used once, to be multiplied by a scalar per row."""
        users = self.users.get(rows, [])
        if (
            len(users) != 1
            or rows in self.stored
            or len(rows.axes) != 2
            or self.roles[users[0]] is not self.roles[rows]
        ):
            return False
        match self.program.defined[users[0]]:
            case ir.Apply("mul", (left, right)):
                scale = right if left == rows else left
                return scale.axes == rows.axes[:1] and scale.level is Level.CHUNK
            case _:
                return False

    def overwritable(self, value: Value, user: Value) -> bool:
        """Whether a value of every chunk is made for one user alone: a walk may add to it in place."""
        op = self.program.defined[value]
        made = isinstance(op, (ir.Apply, ir.Contract)) and self.roles[value] is Role.INTRA
        return made and self.users[value] == [user] and value not in self.kept

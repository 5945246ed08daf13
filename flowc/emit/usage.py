"""Who uses what: which values of a pass get a name, which are written where they are used, and which memory is free.

In: a `Pass`, those of its kernels that are printed together, and the values needed after it. Out: answers by value.
Refuses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flowc.chunk import ir
from flowc.chunk.ir import Node
from flowc.chunk.values import Level, Value
from flowc.schedule.plan import Kernel, Pass, Role

VIEWS = (ir.Rename, ir.Relabel, ir.Literal, ir.Extent)
CHEAP = (ir.Apply, ir.Decay, ir.Spread, ir.Sum, ir.Head, ir.Element, ir.Cut, ir.Unflatten, ir.FromRows, ir.AtAdjoint)


class Usage:
    """The uses of a pass's values."""

    def __init__(self, passed: Pass, kernels: Iterable[Kernel], kept: frozenset[Value]) -> None:
        """Look at `kernels` of `passed`; `kept` are values needed after it."""
        self.kernels, self.kept, self.program = tuple(kernels), kept, passed.program
        self.places = {n.value: (at, k.role) for at, k in enumerate(self.kernels) for n in k.nodes}
        self.users = self._users()
        self.stored = frozenset(v for k in self.kernels for v in k.stores)
        self.needs = self._needs()

    def _users(self) -> dict[Value, list[Value]]:
        """The users of each value, a view as often as it is used itself: written there, it writes its operand again."""
        users: dict[Value, list[Value]] = {}
        results = Counter(value for _, value in self.program.results)
        results.update(c.after for c in self.program.carries if c.scanned)
        for node in (n for kernel in reversed(self.kernels) for n in reversed(kernel.nodes)):
            times = len(users.get(node.value, ())) + results[node.value] if isinstance(node.op, VIEWS) else 1
            for v in ir.operands(node.op):
                users.setdefault(v, []).extend([node.value] * max(times, 1))
        return users

    def role(self, value: Value) -> Role:
        """The kernel that makes a value; what these kernels do not make is made once."""
        return self.places.get(value, (-1, Role.ONCE))[1]

    def together(self, one: Value, other: Value) -> bool:
        """Whether two values are made in one kernel."""
        return self.places.get(one, (-1, Role.ONCE)) == self.places.get(other, (-1, Role.ONCE))

    def _needs(self) -> dict[Value, frozenset[str] | None]:
        """The results that depend on each value; None for what is always made, such as all of a forward pass."""
        if not self.program.adjoint or any(k.role is Role.ONCE for k in self.kernels):
            return {n.value: None for n in self.program.nodes}
        needs: dict[Value, set[str]] = {}
        for name, value in self.program.results:
            needs.setdefault(value, set()).add(name)
        everything = {name for name, _ in self.program.results} | {"initial_state"}
        walked = {c.after for c in self.program.carries}
        for after in walked:
            needs.setdefault(after, set()).add("initial_state")
        for node in reversed(self.program.nodes):
            if node.value in walked or isinstance(node.op, ir.At):  # gate sums are views that primitives share
                needs[node.value] = set(everything)
            for v in ir.operands(node.op):
                needs.setdefault(v, set()).update(needs.get(node.value, set()))
                if node.value in walked and self.role(v) is Role.WALK:
                    walked.add(v)
        return {v: None if n == everything else frozenset(n) for v, n in needs.items()}

    def inlined(self, node: Node) -> bool:
        """Whether a value is written where it is used: views, and cheap work with one user in the same kernel."""
        if isinstance(node.op, VIEWS):
            return True
        users = self.users.get(node.value, [])
        alone = len(users) == 1 and self.together(users[0], node.value) and node.value not in self.stored
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
        here = self.together(value, user) and value not in self.stored
        walked = self.role(value) is Role.WALK and self.role(user) is Role.OUTPUT and value not in self.kept
        alone = self.users[value] == [user] and not value.sums
        return made and alone and (here or walked) and self.reusable(value, user)

    def scaled_alone(self, rows: Value) -> bool:
        """Whether rows are used once, to be multiplied by a scalar per row."""
        users = self.users.get(rows, [])
        if len(users) != 1 or rows in self.stored or len(rows.axes) != 2 or not self.together(users[0], rows):
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
        made = isinstance(op, (ir.Apply, ir.Contract)) and self.role(value) in (Role.INTRA, Role.OUTPUT)
        return made and self.users[value] == [user] and value not in self.kept

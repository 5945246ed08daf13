"""Cutting a program into kernels.

In: a `Program`. Out: a `Pass`: what does not depend on the carried state runs before the walk, what the next state
needs runs in it, the rest after it. Refuses nothing.
"""

from __future__ import annotations

from flowc.chunk.ir import Apply, Argument, Contract, Literal, Rename, operands
from flowc.chunk.program import Program
from flowc.chunk.values import Value
from flowc.schedule.plan import Kernel, Pass, Role


def partition(program: Program, kept: frozenset[Value] = frozenset()) -> Pass:
    """The three kernels of a program; `kept` are values needed beyond it."""
    before, after = program.carry
    dependent = {before}
    for node in program.nodes:
        if any(v in dependent for v in operands(node.op)):
            dependent.add(node.value)
    needed = {after}
    for node in reversed(program.nodes):
        if node.value in needed:
            needed.update(operands(node.op))
    roles: dict[Value, Role] = {}
    for node in program.nodes:
        walking = node.value in dependent and node.value in needed
        roles[node.value] = Role.WALK if walking else Role.OUTPUT if node.value in dependent else Role.INTRA
    _sink_views(program, roles)
    _sink_products(program, roles, kept)
    wanted = kept | {v for _, v in program.results}
    kernels = {role: _kernel(program, role, roles, wanted) for role in Role}
    return Pass(program, kernels[Role.INTRA], kernels[Role.WALK], kernels[Role.OUTPUT])


def _sink_views(program: Program, roles: dict[Value, Role]) -> None:
    """A renamed walk value that only later kernels use is renamed there, not stored twice."""
    users: dict[Value, set[Role]] = {}
    for node in reversed(program.nodes):
        if (
            isinstance(node.op, Rename)
            and roles[node.value] is Role.WALK
            and Role.WALK not in users.get(node.value, set())
        ):
            roles[node.value] = Role.OUTPUT
        for v in operands(node.op):
            users.setdefault(v, set()).add(roles[node.value])


def _sink_products(program: Program, roles: dict[Value, Role], kept: frozenset[Value]) -> None:
    """A product that the walk alone adds to something is made there: it is added in one call and never stored."""
    users: dict[Value, list[Value]] = {}
    for node in program.nodes:
        for v in operands(node.op):
            users.setdefault(v, []).append(node.value)
    results = {v for _, v in program.results}
    for node in program.nodes:
        own = users.get(node.value, [])
        if not isinstance(node.op, Contract) or len(own) != 1 or node.value in kept | results:
            continue
        user = program.defined[own[0]]
        if roles[own[0]] is Role.WALK and isinstance(user, Apply) and user.function == "add":
            roles[node.value] = Role.WALK


def _kernel(program: Program, role: Role, roles: dict[Value, Role], wanted: frozenset[Value]) -> Kernel:
    nodes = tuple(n for n in program.nodes if roles[n.value] is role)
    own = {n.value for n in nodes if not isinstance(n.op, (Argument, Literal))}
    used = {v for n in program.nodes if roles[n.value] is not role for v in operands(n.op)} | wanted
    return Kernel(role, nodes, tuple(n.value for n in nodes if n.value in own & used))

"""Cutting a program into kernels.

In: a `Program`, the values that are made for a whole sequence at once, and those that are kept beyond it. Out: a
`Pass`. Segment by segment, what does not depend on the carried state runs before the walk; what the next state needs,
and what products with the state leave of it, runs in it; the rest after it. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from flowc.chunk.ir import Apply, Argument, Contract, Literal, Node, Rename, Sum, operands
from flowc.chunk.program import Program
from flowc.chunk.values import Value
from flowc.schedule.plan import Kernel, Pass, Role


def partition(program: Program, once: frozenset[Value] = frozenset(), kept: frozenset[Value] = frozenset()) -> Pass:
    """The kernels of a program; values of `once` run before all segments, those `kept` are needed beyond the pass."""
    before, after = program.carry
    dependent = {before}
    for node in program.nodes:
        if any(v in dependent for v in operands(node.op)):
            dependent.add(node.value)
    needed = _needed(program.nodes, {after})
    roles: dict[Value, Role] = {}
    for node in program.nodes:
        walking = node.value in dependent and node.value in needed
        roles[node.value] = Role.WALK if walking else Role.OUTPUT if node.value in dependent else Role.INTRA
    _sink_views(program, roles)
    _sink_products(program, roles, kept)
    _raise_reductions(program, roles)
    kernels = _kernels(program, roles, once, kept | {v for _, v in program.results})
    alone = not any(before in operands(n.op) for n in kernels[-1].nodes)
    return Pass(program, *kernels, alone)


def _needed(nodes: Iterable[Node], wanted: set[Value], given: frozenset[Value] = frozenset()) -> set[Value]:
    """What `wanted` values depend on, themselves included; `given` are there already."""
    needed = set(wanted)
    for node in reversed(tuple(nodes)):
        if node.value in needed and node.value not in given:
            needed.update(operands(node.op))
    return needed


def _users(program: Program) -> dict[Value, list[Value]]:
    users: dict[Value, list[Value]] = {}
    for node in program.nodes:
        for v in operands(node.op):
            users.setdefault(v, []).append(node.value)
    return users


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
    users = _users(program)
    results = {v for _, v in program.results}
    for node in program.nodes:
        own = users.get(node.value, [])
        if not isinstance(node.op, Contract) or len(own) != 1 or node.value in kept | results:
            continue
        user = program.defined[own[0]]
        if roles[own[0]] is Role.WALK and isinstance(user, Apply) and user.function == "add":
            roles[node.value] = Role.WALK


def _raise_reductions(program: Program, roles: dict[Value, Role]) -> None:
    """What products with the state, or their sums, leave of it is made in the walk, where the state is at hand.

    If nothing else reads the state after the walk, the states of single chunks need not be stored.
    """
    before, _ = program.carry
    users = _users(program)

    def early(values: Iterable[Value]) -> bool:
        return all(v == before or roles[v] is Role.INTRA for v in values)

    for node in program.nodes:
        if before not in operands(node.op) or roles[node.value] is not Role.OUTPUT or not early(operands(node.op)):
            continue
        own = users.get(node.value, [])
        match node.op:
            case Contract():
                roles[node.value] = Role.WALK
            case Apply("mul", _) if len(own) == 1 and isinstance(program.defined[own[0]], Sum):
                roles[node.value] = roles[own[0]] = Role.WALK


def _kernels(
    program: Program, roles: dict[Value, Role], once: frozenset[Value], wanted: frozenset[Value]
) -> tuple[Kernel, Kernel, Kernel, Kernel]:
    """The nodes of every kernel; what tokens hold is made again where both a segment and `once` need it."""
    body = _needed(program.nodes, {*wanted, *program.carry}, once)
    nodes = {role: [n for n in program.nodes if n.value in body - once and roles[n.value] is role] for role in Role}
    before = _needed(program.nodes, set(once & body))
    nodes[Role.ONCE] = [n for n in program.nodes if n.value in before]
    found: list[Kernel] = []
    used = set(wanted)
    for role in reversed(Role):
        own = {n.value for n in nodes[role] if not isinstance(n.op, (Argument, Literal))}
        stores = own & used & once if role is Role.ONCE else own & used
        found.append(Kernel(role, tuple(nodes[role]), tuple(n.value for n in nodes[role] if n.value in stores)))
        used |= {v for n in nodes[role] for v in operands(n.op)}
    output, walk, intra, first = found
    return first, intra, walk, output

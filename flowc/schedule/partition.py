"""Cutting a program into kernels.

In: a `Program`, the values that are made for a whole sequence at once, and those that are kept beyond it. Out: a
`Pass`. Segment by segment, what does not depend on a carried state runs before the walks; what the next state needs,
and what products with the state leave of it, runs in its walk; the rest after it. States that need what others leave
are walked after those. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from flowc.chunk.ir import Apply, Argument, Contract, Literal, Node, Rename, Sum, operands
from flowc.chunk.program import Program, depths
from flowc.chunk.values import Value
from flowc.schedule.plan import Kernel, Pass, Role

Places = dict[Value, int]
"""The number of a value's kernel in a segment: 0 before any walk, 2 d - 1 the walk of depth d, 2 d what follows it."""


def partition(program: Program, once: frozenset[Value] = frozenset(), kept: frozenset[Value] = frozenset()) -> Pass:
    """The kernels of a program; values of `once` run before all segments, those `kept` are needed beyond the pass."""
    places = _places(program)
    _sink_views(program, places)
    _sink_products(program, places, kept)
    _raise_reductions(program, places)
    first, *others = _kernels(program, places, once, kept | {v for _, v in program.results})
    read = {v for k in others if k.role is not Role.WALK for n in k.nodes for v in operands(n.op)}
    alone = frozenset(c.before for c in program.walked if c.before not in read)
    return Pass(program, first, tuple(others), alone)


def _places(program: Program) -> Places:
    depth = depths(program)
    places: Places = {}
    for number in range(max((depth[c.before] for c in program.walked), default=0) + 1):
        needed = _needed(program.nodes, {c.after for c in program.walked if depth[c.before] == number})
        for node in program.nodes:
            if depth[node.value] == number:
                places[node.value] = 2 * number - (number > 0 and node.value in needed)
    return places


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


def _walks(place: int) -> bool:
    return place % 2 == 1


def _sink_views(program: Program, places: Places) -> None:
    """A renamed walk value that only later kernels use is renamed there, not stored twice."""
    users: dict[Value, set[int]] = {}
    for node in reversed(program.nodes):
        here = places[node.value]
        if isinstance(node.op, Rename) and _walks(here) and here not in users.get(node.value, set()):
            places[node.value] = here = here + 1
        for v in operands(node.op):
            users.setdefault(v, set()).add(here)


def _sink_products(program: Program, places: Places, kept: frozenset[Value]) -> None:
    """A product that a walk alone adds to something is made there: it is added in one call and never stored."""
    users = _users(program)
    results = {v for _, v in program.results}
    for node in program.nodes:
        own = users.get(node.value, [])
        if not isinstance(node.op, Contract) or len(own) != 1 or node.value in kept | results:
            continue
        user = program.defined[own[0]]
        if _walks(places[own[0]]) and isinstance(user, Apply) and user.function == "add":
            places[node.value] = places[own[0]]


def _raise_reductions(program: Program, places: Places) -> None:
    """What products with a state, or their sums, leave of it is made in its walk, where the state is at hand.

    If nothing else reads the state after the walk, the states of single chunks need not be stored.
    """
    users = _users(program)
    for carry in program.walked:
        walk = places[carry.before]
        for node in program.nodes:
            before = all(v == carry.before or places[v] < walk for v in operands(node.op))
            if carry.before not in operands(node.op) or places[node.value] != walk + 1 or not before:
                continue
            own = users.get(node.value, [])
            match node.op:
                case Contract():
                    places[node.value] = walk
                case Apply("mul", _) if len(own) == 1 and isinstance(program.defined[own[0]], Sum):
                    places[node.value] = places[own[0]] = walk


def _kernels(program: Program, places: Places, once: frozenset[Value], wanted: frozenset[Value]) -> tuple[Kernel, ...]:
    """The kernels in order; what tokens hold is made again where both a segment and `once` need it."""
    body = _needed(program.nodes, {*wanted, *program.ends}, once)
    before = _needed(program.nodes, set(once & body))
    last = max((places[c.before] for c in program.walked), default=-1) + 1
    found: list[Kernel] = []
    used = set(wanted)
    for place in reversed(range(last + 1)):
        nodes = [n for n in program.nodes if n.value in body - once and places[n.value] == place]
        found.append(_kernel(Role.WALK if _walks(place) else Role.OUTPUT if place else Role.INTRA, nodes, used))
    found.append(_kernel(Role.ONCE, [n for n in program.nodes if n.value in before], used & once))
    return tuple(reversed(found))


def _kernel(role: Role, nodes: list[Node], used: set[Value]) -> Kernel:
    """A kernel that stores what is used later; what it uses itself is added to that."""
    own = {n.value for n in nodes if not isinstance(n.op, (Argument, Literal))}
    stores = own & used
    used |= {v for n in nodes for v in operands(n.op)}
    return Kernel(role, tuple(nodes), tuple(n.value for n in nodes if n.value in stores))

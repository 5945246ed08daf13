"""ChunkProgram + Options -> Plan.

In: a `Recurrence`, its forward `Program` and `Options`. Out: a `Plan`. The choices (what to keep, how long a chunk
is, how to invert) follow from the cost of the program's own nodes on a `Machine`. Refuses a chunk of more than 256
rows, with ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from flowc.algebra.recurrence import Recurrence
from flowc.chunk.aggregation import AGGREGATIONS, formed, inverse_flops, inverse_products
from flowc.chunk.builder import Builder
from flowc.chunk.cost import BYTES, Cost, Sizes, cost, node_cost, solve_cost
from flowc.chunk.differentiate import differentiate
from flowc.chunk.ir import Argument, Inverse, Node, Solve, operands
from flowc.chunk.program import Program
from flowc.chunk.rewrite import renumbered, replaced
from flowc.chunk.values import Level, Value, per_token
from flowc.options import Options
from flowc.schedule.machine import CPU, Machine
from flowc.schedule.once import made_once
from flowc.schedule.partition import partition
from flowc.schedule.plan import Pass, Plan, Role, Segments, Threshold
from flowc.schedule.share import share_decays
from flowc.semantics.size import ONE, Size

MOST_ROWS = 256
CHUNK_SIZES = (16, 32, 64, 128)
HEAD_SIZE = 128  # the state's rows and columns at which choices are made
PROGRAMS = 8  # heads at a time, likewise
NARROW = 32  # rows below which products are slower, in proportion
CHAIN = 1.1  # what products one after another must win by: with fewer heads at a time they lose most
SYSTEM = 7e-7  # seconds that each of a batch of triangular systems takes beside its flops
SEGMENT = 32  # at most so many chunks times heads pass through all kernels together, where some values are kept
FORWARD_SEGMENT = 64  # the same where nothing is kept, which leaves more of a cache
SEGMENT_TOKENS = 2048  # at most so many tokens times heads
TRANSFERS = 4  # a number that is kept is fetched, written back, read again, and takes the place of another in a cache
ROOM = 2.5e-10  # seconds that a byte of memory is worth: a chunk half as long keeps twice as many states


def schedule(recurrence: Recurrence, program: Program, options: Options, machine: Machine = CPU) -> Plan:
    """The plan of a recurrence."""
    forward = solved(share_decays(program))
    backward = solved(share_decays(differentiate(program)))
    sizes = _sizes(recurrence, 1, 64)
    saved = _saved(forward, backward, sizes, machine)
    backward = _loaded(backward, {b for _, b in saved})
    saved = _present(saved, backward)
    kept = frozenset(f for f, _ in saved)
    passes = (
        partition(forward, made_once(forward, sizes, machine, SEGMENT), kept),
        partition(backward, made_once(backward, sizes, machine, SEGMENT)),
    )
    training = _chunk_sizes(recurrence, passes, options, machine, kept)
    forward_only = _chunk_sizes(recurrence, passes[:1], options, machine)
    solves = any(isinstance(n.op, Inverse) for n in forward.nodes)
    aggregations = _aggregations(options, machine) if solves else ()
    stepped = recurrence.stepped is not None  # then the states of all its tokens are at hand: one chunk at a time
    segments = Segments(1, 1, 1) if stepped else Segments(SEGMENT, FORWARD_SEGMENT, SEGMENT_TOKENS)
    return Plan(recurrence, options, *passes, saved, training, forward_only, aggregations, segments)


def solved(program: Program) -> Program:
    """Every Solve with an Inverse, which is formed before the walk; the aggregation says of what."""
    nodes, _ = renumbered(program.nodes)
    build = Builder()
    moved: dict[Value, Value] = {}
    for old, node in zip(program.nodes, nodes, strict=True):
        op = replaced(old.op, moved)
        if isinstance(op, Solve):
            op = replace(op, matrix=build.add(Inverse(op.matrix), "inverse"))
        new = build.add(op, node.value.name, node.value.axes, node.value.level)
        moved[old.value] = build.named(new, node.value.name)
    results = {name: moved[value] for name, value in program.results}
    carries = tuple(replace(c, before=moved[c.before], after=moved[c.after]) for c in program.carries)
    return build.program(results, carries, program.adjoint)


def _sizes(recurrence: Recurrence, rank: int, tokens: int) -> Sizes:
    """Nominal sizes: the state's sides at HEAD_SIZE, every other symbolic size at `rank`."""
    sides = recurrence.sides
    dimensions = {
        d.name: d.value if d.value is not None else HEAD_SIZE if d.name in sides else rank
        for d in recurrence.model.dimensions
    }
    return Sizes(dimensions, tokens)


def _saved(forward: Program, backward: Program, sizes: Sizes, machine: Machine) -> tuple[tuple[Value, Value], ...]:
    """What to keep: the state, and products dearer to repeat than to write and read again."""
    twins: dict[tuple[object, ...], list[Value]] = {}
    for node in forward.nodes:
        twins.setdefault(twin_key(node), []).append(node.value)
    pairs = []
    for node in backward.nodes:
        twin = twins.get(twin_key(node), [])
        starts = len(twin) == 1 and twin[0] in {c.before for c in forward.carries}
        if len(twin) != 1 or not (starts or node.value.level is Level.CHUNK):
            continue
        if starts or _dear(node, backward, sizes, machine):
            pairs.append((twin[0], node.value))
    return tuple(pairs)


def twin_key(node: Node) -> tuple[object, ...]:
    """What a node of the forward program and its copy in the adjoint share: name, operation and axes."""
    named = node.op.name if isinstance(node.op, Argument) else node.value.name
    return named, type(node.op), node.value.axes


def _dear(node: Node, program: Program, sizes: Sizes, machine: Machine) -> bool:
    """Whether a named value takes products to make, and longer than to write and read it."""
    if not node.value.name:
        return False

    def again(n: Node) -> Cost:
        total = node_cost(n, sizes, "wy")
        for v in operands(n.op):
            if not v.name and v in program.defined:
                total = total + again(Node(v, program.defined[v]))
        return total

    whole = again(node)
    alone = machine.seconds(replace(whole, launches=0), 1)
    if isinstance(program.defined[node.value], Inverse):
        alone = inverse_seconds("wy", sizes.of(node.value.axes[0]), machine)
    return whole.products > 0 and alone > 2 * BYTES * sizes.entries(node.value) / machine.bandwidth


def _loaded(program: Program, saved: set[Value]) -> Program:
    """The program with saved values as arguments, and without what only they needed."""
    nodes = [Node(n.value, Argument(saved_name(n.value), "saved")) if n.value in saved else n for n in program.nodes]
    needed: set[Value] = {*(v for _, v in program.results), *program.ends}
    for node in reversed(nodes):
        if node.value in needed:
            needed.update(operands(node.op))
    return replace(program, nodes=tuple(n for n in nodes if n.value in needed))


def saved_name(value: Value) -> str:
    """What a saved value is called as an argument; by its index too, since several outputs have a P each."""
    return f"{value.name or 't'}#{value.index}"


def _present(saved: tuple[tuple[Value, Value], ...], backward: Program) -> tuple[tuple[Value, Value], ...]:
    return tuple((f, b) for f, b in saved if b in backward.defined)


# -- choices by cost --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk size with its predicted seconds per token and head, and the bytes that it keeps for each."""

    tokens: int
    forward: float
    both: float
    kept: float


def seconds_per_token(
    passes: tuple[Pass, ...], sizes: Sizes, machine: Machine = CPU, kept: Iterable[Value] = ()
) -> float:
    """The predicted time of a token of a head in `passes`, the values `kept` from the first to the second."""
    total = TRANSFERS * BYTES * sum(_kept_entries(v, sizes) for v in kept) / machine.bandwidth
    segment = max(min(FORWARD_SEGMENT if len(passes) == 1 else SEGMENT, SEGMENT_TOKENS // sizes.tokens), 1)
    for passed in passes:
        for kernel in passed.of_segment:
            if kernel.role is Role.WALK:
                total += machine.seconds(cost(kernel.nodes, sizes), PROGRAMS, cached=True)
                continue
            flat = [n for n in kernel.nodes if not isinstance(n.op, Inverse)]
            total += machine.seconds(cost(flat, sizes), segment)
            for node in (n for n in kernel.nodes if isinstance(n.op, Inverse)):
                rows = sizes.of(node.value.axes[0])
                total += min(aggregation_seconds(a, rows, len(passes), machine) for a in AGGREGATIONS)
    return total / sizes.tokens


def _kept_entries(value: Value, sizes: Sizes) -> int:
    """The entries that are kept of a value for a chunk: of a state that is scanned, those at its start."""
    return sizes.entries(value) // (sizes.tokens if value.level is Level.TOKEN else 1)


def chunk_candidates(plan: Plan, dimensions: Mapping[str, int]) -> tuple[Candidate, ...]:
    """The chunk sizes that a choice is made from at given sizes."""
    rows = rows_per_token(plan.forward.program, Sizes(dimensions, 1))
    kept = [f for f, _ in plan.saved]
    found = []
    for tokens in _legal(rows):
        sizes = Sizes(dimensions, tokens)
        forward = seconds_per_token((plan.forward,), sizes)
        both = seconds_per_token((plan.forward, plan.backward), sizes, kept=kept)
        found.append(Candidate(tokens, forward, both, BYTES * sum(_kept_entries(v, sizes) for v in kept) / tokens))
    return tuple(found)


def _legal(rows: int) -> list[int]:
    """The chunk sizes to choose from with `rows` rows per token."""
    return [c for c in CHUNK_SIZES if c * rows <= MOST_ROWS] or [max(MOST_ROWS // rows, 1)]


def system_rows(program: Program) -> Size | None:
    """The rows per token of the solved system; None where nothing is solved."""
    return next((per_token(n.value.axes[0].size) for n in program.nodes if isinstance(n.op, Inverse)), None)


def rows_per_token(program: Program, sizes: Sizes) -> int:
    """The rows per token of the solved system; at least 1."""
    size = system_rows(program)
    return 1 if size is None else max(size.value(sizes.dimensions), 1)


def _chunk_sizes(
    recurrence: Recurrence,
    passes: tuple[Pass, ...],
    options: Options,
    machine: Machine,
    kept: frozenset[Value] = frozenset(),
) -> tuple[Threshold, ...]:
    """The cheapest legal chunk by rows per token, equal neighbours joined; what is kept costs memory too."""
    if options.chunk_size is not None:
        rows = rows_per_token(passes[0].program, _sizes(recurrence, 1, options.chunk_size))
        whole = rows * options.chunk_size
        if whole > MOST_ROWS:
            size = system_rows(passes[0].program) or ONE
            least = f" with {f'{size} >= ' if size.names else ''}{rows} rows per token" if size != ONE else ""
            raise ValueError(
                f"{recurrence.model.name}: chunk_size = {options.chunk_size}{least} makes {whole} rows a chunk,"
                f" at most {MOST_ROWS}; the largest legal chunk_size is {MOST_ROWS // rows}"
            )
        return (Threshold(None, options.chunk_size),)

    def price(rank: int, tokens: int) -> float:
        sizes = _sizes(recurrence, rank, tokens)
        room = ROOM * BYTES * sum(_kept_entries(v, sizes) for v in kept) / tokens
        return seconds_per_token(passes, sizes, machine, kept) + room

    table: list[Threshold] = []
    for rank in (1, 2, 3, 4, 8, 16):
        rows = rows_per_token(passes[0].program, _sizes(recurrence, rank, 16))
        best = min(_legal(rows), key=partial(price, rank))
        if table and table[-1].choice == best:
            table.pop()
        table.append(Threshold(rows, best))
        if rows != rank:
            break
    return (*table[:-1], Threshold(None, table[-1].choice))


def inverse_seconds(aggregation: str, rows: int, machine: Machine) -> float:
    """The predicted time of what an aggregation forms of `rows` rows, among many."""
    if aggregation != "tensorinv":  # a triangular solve takes the zeros of a triangle for numbers
        beside = BYTES * rows * rows / machine.bandwidth if aggregation == "signature" else 0.0  # what it leaves of N
        own = formed(aggregation, rows).count * SYSTEM
        return beside + own + 2 * inverse_flops(aggregation, rows) / machine.substitution
    total = 0.0
    for count, flops in inverse_products(aggregation, rows):
        half = round((flops / 4) ** (1 / 3))
        rate = machine.products * min(1.0, half / NARROW)
        total += max(count * flops / rate, 6 * 4 * count * half * half / machine.bandwidth * 4)
    return total


def solve_seconds(aggregation: str, rows: int, machine: Machine) -> float:
    """The predicted time of solving a system of `rows` rows, formed ahead, for the state's columns in the walk."""
    made = solve_cost(aggregation, rows, HEAD_SIZE)
    slower = NARROW / min(NARROW, formed(aggregation, rows).rows)
    return machine.seconds(replace(made, products=made.products * slower), PROGRAMS, cached=True)


def aggregation_seconds(aggregation: str, rows: int, solves: int, machine: Machine) -> float:
    """The predicted time that an aggregation takes for a system, beyond a product with an inverse for each solve."""
    more = solve_seconds(aggregation, rows, machine) - solve_seconds("wy", rows, machine)
    return inverse_seconds(aggregation, rows, machine) + solves * more


def _aggregations(options: Options, machine: Machine) -> tuple[Threshold, ...]:
    """The cheapest aggregation by rows per chunk, equal neighbours joined."""
    if options.aggregation != "auto":
        return (Threshold(None, options.aggregation),)

    def price(aggregation: str, rows: int) -> float:
        whole = inverse_seconds(aggregation, rows, machine) + 2 * solve_seconds(aggregation, rows, machine)
        return whole * (CHAIN if aggregation == "signature" else 1.0)

    table: list[Threshold] = []
    for rows in (16, 32, 64, 96, 128, 192, 256):
        best = min(AGGREGATIONS, key=lambda a: price(a, rows))
        if table and table[-1].choice == best:
            table.pop()
        table.append(Threshold(rows, best))
    return (*table[:-1], Threshold(None, table[-1].choice))

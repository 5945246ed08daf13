"""What the kernels of a `TokenPlan` cost, by going through their programs as they are printed.

In: a plan, sizes, how many tokens. Out: `TileCost`s of one sequence and head, all blocks of the states together, and a
`ScheduleModel`'s launch. Bytes are those of entries that are not masked; a number of a vector or a matrix takes
`TokenSizes.width`, a scalar and whatever is made of states 4. What every block loads again goes through L2; of
`distinct` bytes every address counts once for each launch. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from flowc.chunk import ir
from flowc.chunk.ir import operands
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Value
from flowc.schedule.devices import Device
from flowc.schedule.predict import Candidate, KernelTime, Shape, seconds
from flowc.schedule.shares import Share, Shares, View, required, views
from flowc.schedule.stepped import TokenPlan
from flowc.schedule.tile_cost import LEAST_TILE, TileCost, power_of_two
from flowc.semantics.size import Size

STATE = 4
"""Bytes of a state's number, of one per token, and of what blocks have a part of."""


@dataclass(frozen=True, slots=True)
class TokenSizes:
    """Dimensions by name, how many tokens are between states that are kept, bytes of a number."""

    dimensions: Mapping[str, int]
    tokens: int
    width: int = 2


@dataclass(frozen=True, slots=True)
class _Kernel:
    """Bytes and operations per token, per states that are kept, and per sequence and head."""

    token: TileCost
    kept: TileCost
    walk: TileCost
    turns: int


def launch_cost(plan: TokenPlan, at: TokenSizes, length: int, keep: bool, adjoint: bool = False) -> TileCost:
    """What a sequence of `length` tokens of a head costs; `keep`: a backward pass follows."""
    own = _backward(plan, at, length) if adjoint else _forward(plan, at, keep)
    return own.token.times(length) + own.kept.times(-(-length // at.tokens)) + own.walk


def predicted_tokens(
    plan: TokenPlan, at: TokenSizes, shape: Shape, device: Device, keep: bool, adjoint: bool = False
) -> Candidate:
    """The launch of a pass: a program waits for memory and for every sum, one after another, at each token or tile."""
    count = _Counter(plan, at)
    own = _backward(plan, at, shape.length) if adjoint else _forward(plan, at, keep)
    cost, programs = launch_cost(plan, at, shape.length, keep, adjoint).times(shape.walks), shape.walks * count.blocks
    passes = 2 if adjoint else 1  # states are made again before cotangents go back
    each = -(-shape.length // at.tokens) if plan.rows else shape.length * passes
    waits = each * (device.wait + own.turns * device.turn)
    time = seconds(cost, programs, waits, count.warps(adjoint), device, at.width)
    configured = count.columns, LEAST_TILE, count.warps(adjoint), 1
    held = STATE * sum(count.held(c.before, plan.forward_shares) for c in plan.forward.carries)
    name = "tokens_backward" if adjoint else "tokens_forward"
    launch = KernelTime(name, configured, programs, cost, held, time)
    return Candidate("backward" if adjoint else "scans" if plan.rows else "tokens", at.tokens, (launch,))


def _forward(plan: TokenPlan, at: TokenSizes, keep: bool) -> _Kernel:
    program, shares = plan.forward, plan.forward_shares
    count = _Counter(plan, at)
    results = [v for _, v in program.results]
    token, walk, turns = count.program(program, shares, [*results, *(c.after for c in program.carries)])
    token += count.written(results, shares)
    states = [c.before for c in program.carries]
    ends = count.once(states)
    walk += count.fetched(states, shares) + ends
    return _Kernel(token, ends if keep else TileCost(), walk, turns)


def _backward(plan: TokenPlan, at: TokenSizes, length: int) -> _Kernel:
    program, shares = plan.backward, plan.backward_shares
    count = _Counter(plan, at)
    states, bars = [c.before for c in plan.forward.carries], [c.before for c in program.carries]
    results = [v for _, v in program.results]
    token, walk, turns = count.program(program, shares, [*results, *(c.after for c in program.carries)])
    of_tokens = [v for v in results if v.level is not Level.HEAD]
    token += count.written(of_tokens, shares)
    walk += count.written([v for v in results if v.level is Level.HEAD], shares)
    walk += count.fetched(bars, shares) + count.states_written(bars, shares)
    if not plan.rows:
        again, params, own = count.program(plan.forward, plan.forward_shares, [c.after for c in plan.forward.carries])
        token, walk, turns = token + again, walk + params, max(turns, own)
        scratch = STATE * count.blocks * sum(count.held(v, plan.forward_shares) for v in states)
        token += TileCost(read=scratch, written=scratch)
        walk += TileCost(distinct=2 * scratch * min(length, at.tokens))
    return _Kernel(token, count.fetched(states, plan.forward_shares), walk, turns)


class _Counter:
    """Goes through programs of a plan at some sizes."""

    def __init__(self, plan: TokenPlan, at: TokenSizes) -> None:
        self.plan, self.at = plan, at
        carries = [c.before for c in plan.forward.carries]
        split = [a.size for v in carries for a in v.axes if plan.forward_shares.split(v, a)]
        size = self.size(split[0]) if split else 1
        self.columns = min(self.tile(split[0]), plan.columns) if split else 1
        self.blocks = -(-size // self.columns)
        self.addresses: set[object] = set()  # what was loaded once
        self.params: set[object] = set()  # the same of params, by their axes in tiles: before all tokens

    def size(self, size: Size) -> int:
        """A size."""
        return size.value(self.at.dimensions)

    def tile(self, size: Size) -> int:
        """The length of a tile along an axis."""
        return max(self.plan.least, power_of_two(self.size(size)))

    def live(self, value: Value) -> int:
        """How many entries there are at a token."""
        return prod(self.size(a.size) for a in value.axes)

    def every(self, value: Value, shares: Shares) -> int:
        """How many entries all blocks have of a value together."""
        return self.live(value) * (1 if any(shares.split(value, a) for a in value.axes) else self.blocks)

    def held(self, value: Value, shares: Shares) -> int:
        """How many entries a block's tile has."""
        return prod(self.columns if shares.split(value, a) else self.tile(a.size) for a in value.axes)

    def warps(self, adjoint: bool) -> int:
        """Of a program, as the launcher has them."""
        plan, found = self.plan, [0]
        share = plan.backward_share if adjoint else plan.share
        pairs = (plan.forward, plan.forward_shares), (plan.backward, plan.backward_shares)
        for program, shares in pairs:
            timed = self.at.tokens if plan.rows else 1
            found += [timed * self.held(n.value, shares) for n in program.nodes if len(n.value.axes) + plan.rows > 1]
        return min(plan.warps, 1 << max(2 if plan.rows else 0, (max(found) // share).bit_length() - 1))

    # -- what is loaded and made --------------------------------------------------------------------------------------

    def program(self, program: Program, shares: Shares, results: list[Value]) -> tuple[TileCost, TileCost, int]:
        """What a token costs, what all tokens cost together, and how many sums wait for one another."""
        wanted, loaded = required(program, results), views(program)
        costs = {True: TileCost(), False: TileCost()}
        tokens: set[object] = set()
        turns: dict[Value, int] = {}
        for value, op in program.defined.items():
            if value not in wanted:
                continue
            if value not in loaded:
                costs[value.level is Level.HEAD] += self.made(value, op, shares)
                sums = isinstance(op, ir.Sum | ir.Contract | ir.Largest | ir.Scan)
                turns[value] = max((turns.get(v, 0) for v in operands(op)), default=0) + sums
                continue
            own = loaded[value]
            axes = tuple((a.size, shares.split(value, a), p) for a, (_, p) in zip(value.axes, own.places, strict=True))
            param = own.argument.role == "param"
            known = self.params if param else tokens
            if (own.argument, own.element, axes) not in known:
                known.add((own.argument, own.element, axes))
                costs[param] += self.load(value, own, shares)
        return costs[False], costs[True], max(turns.values(), default=0)

    def load(self, value: Value, view: View, shares: Shares) -> TileCost:
        """What it takes to load an input; an address that was loaded before is none of the distinct ones."""
        address = view.argument.name, view.argument.role, view.element
        fresh = address not in self.addresses
        self.addresses.add(address)
        scalar = not value.axes or view.argument.role == "param"
        width = STATE if scalar else self.at.width
        return TileCost(read=width * self.every(value, shares), distinct=width * self.live(value) if fresh else 0)

    def made(self, value: Value, op: ir.Op, shares: Shares) -> TileCost:
        """What it takes to make a value: products of matrices, an operation for every entry that goes into others."""
        if isinstance(op, ir.Contract) and min(len(op.left.axes), len(op.right.axes)) > 1:
            rest = [a for a in (*op.left.axes, *op.right.axes) if a.name != op.axis.name]
            split = {n: shares.split(v, a) for v in (op.left, op.right) for a in v.axes for n in (a.name,)}
            sides = prod(self.columns if split[a.name] else self.tile(a.size) for a in rest)
            inner = self.columns if split[op.axis.name] else self.tile(op.axis.size)
            return TileCost(dots=2 * self.blocks * sides * inner)
        if not isinstance(op, ir.Apply | ir.Sum | ir.Contract | ir.Largest | ir.Scan):
            return TileCost()
        return TileCost(entries=max(self.every(v, shares) for v in (value, *operands(op))))

    # -- what is stored -----------------------------------------------------------------------------------------------

    def written(self, results: list[Value], shares: Shares) -> TileCost:
        """What results take: of parts every block writes all."""
        found = TileCost()
        for value in results:
            parts = shares.shares[value] is Share.PART
            width = STATE if parts or not value.axes or value.level is Level.HEAD else self.at.width
            own = width * self.live(value) * (self.blocks if parts else 1)
            found += TileCost(written=own, distinct=own)
        return found

    def once(self, states: list[Value]) -> TileCost:
        """States, written."""
        own = STATE * sum(self.live(v) for v in states)
        return TileCost(written=own, distinct=own)

    def states_written(self, states: list[Value], shares: Shares) -> TileCost:
        """States' cotangents: of parts every block writes all."""
        own = STATE * sum(self.live(v) * (self.blocks if shares.shares[v] is Share.PART else 1) for v in states)
        return TileCost(written=own, distinct=own)

    def fetched(self, states: list[Value], shares: Shares) -> TileCost:
        """States, read."""
        read = STATE * sum(self.every(v, shares) for v in states)
        return TileCost(read=read, distinct=STATE * sum(self.live(v) for v in states))

"""The kernels of a `TokenPlan`, forward and backward, or of a `StepPlan`: their parameters, how they load and store.

In: the names and sizes that both share. Out: a `KernelView` each, for templates/triton/token_kernel.py.j2. Refuses
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flowc.chunk import ir
from flowc.chunk.differentiate import cotangent
from flowc.chunk.program import Program
from flowc.chunk.values import Value
from flowc.emit.interface import Interface
from flowc.emit.names import Names
from flowc.emit.token_printer import ROW, TokenPrinter
from flowc.emit.token_tiles import Lane, Tiles, by_token
from flowc.schedule.shares import Share, Shares
from flowc.schedule.stepped import StepPlan, TokenPlan
from flowc.semantics.size import ONE, Size


@dataclass(frozen=True, slots=True)
class KernelView:
    """What the template of a kernel gets: printed strings.

    `keep` are the states at a chunk's start, stored or loaded, `again` makes those of its tokens, `body` is a token;
    with `rows` it is all tokens of a tile, with `single` the only one.
    """

    name: str
    title: str
    parameters: tuple[str, ...]
    setup: tuple[str, ...]
    keep: tuple[str, ...]
    again: tuple[str, ...]
    body: tuple[str, ...]
    after: tuple[str, ...]
    backward: bool
    blocked: bool
    rows: bool
    single: bool


@dataclass(frozen=True, slots=True)
class Store:
    """A result's memory: `parts` has one for every block of which it is the sum, `zeros` begins with 0."""

    parts: bool
    zeros: bool = False

    @property
    def row(self) -> str:
        """As the launcher looks it up."""
        return repr((self.parts, self.zeros))


@dataclass
class Common:
    """What both kernels share: names, sizes, what inputs and cotangents are called, and what makes no compilation."""

    plan: TokenPlan | StepPlan
    interface: Interface
    names: Names
    sizes: list[Size] = field(default_factory=list)
    runtime: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Name the arguments."""
        self.own = {i.name: self.names.fresh(i.name) for i in self.interface.model.inputs}
        self.bars = {name: self.names.fresh(f"{name}_bar") for name, _ in self.plan.forward.results}
        owned = ("ptr", "b", "t", "h", "group", *map(str, range(4)))
        states = range(len(self.plan.forward.carries))
        for name in (*self.own.values(), *self.bars.values(), *(f"start{n}" for n in states)):
            self.names.reserve(f"{name}_{part}" for part in owned)
        prefixes = ("start", "final", "kept", "end", "scratch", "begin")
        self.names.reserve(f"{prefix}{n}_ptr" for prefix in prefixes for n in states)
        nodes = [n for program in self.plan.programs for n in program.nodes]
        most = len({a.size for n in nodes for a in n.value.axes}) + len(self.interface.model.dimensions)
        self.names.reserve(f"{letter}{n}" for letter in "ST" for n in range(most))
        self.states = [c.name for c in self.plan.forward.carries]


class _Kernel:
    """One of the two: its parameters and how it loads and stores."""

    def __init__(self, kernels: Common) -> None:
        self.kernels, self.plan = kernels, kernels.plan
        self.tiles = Tiles(kernels.names, kernels.sizes)
        self.names = kernels.names
        self.parameters: list[str] = []
        self.printers: list[TokenPrinter] = []
        self.params: dict[str, str] = {}
        self.held: list[tuple[Lane, ...]] = []

    @property
    def split(self) -> list[Lane]:
        """The axis that is divided, if one is."""
        return [a for lanes in self.held for a in lanes if a.split][:1]

    def given(self) -> None:
        """Parameters of inputs and params: pointers with strides, and how many value heads share one of theirs."""
        for i in self.kernels.interface.model.inputs:
            own = self.kernels.own[i.name]
            lead = ("h",) if i.is_param else ("b", "t", "h")
            self.strided(own, lead, len(i.shape.sizes))
            if not i.is_param:
                self.parameters.append(f"{own}_group")
                self.kernels.runtime[f"{own}_group"] = None

    def strided(self, own: str, lead: tuple[str, ...], axes: int) -> None:
        """A pointer and its strides; only the last one's makes a compilation of its own."""
        strides = [f"{own}_{n}" for n in (*lead, *range(axes))]
        self.parameters += [f"{own}_ptr", *strides]
        self.kernels.runtime |= dict.fromkeys(strides[: len(lead)])

    def load(self, argument: ir.Argument, element: int | None, lanes: tuple[Lane, ...], places: tuple[int, ...]) -> str:
        """An input, param or cotangent of a token, or of those of a tile."""
        own = (self.kernels.bars if argument.role == "cotangent" else self.kernels.own)[argument.name]
        first = {
            "param": f"head * {own}_h",
            "input": f"batch * {own}_b + t * {own}_t + head // {own}_group * {own}_h",
            "cotangent": f"batch * {own}_b + t * {own}_t + head * {own}_h",
        }[argument.role]
        first = by_token(lanes, first) + ("" if element is None else f" + {element} * {own}_0")
        at = self.tiles.offsets(lanes, [f"{own}_{n}" for n in places])
        mask = f", mask={self.tiles.live(lanes)}, other=0.0" if lanes else ""
        return f"tl.load({own}_ptr + {first}{at}{mask}).to(tl.float32)"

    def lanes_of(self, shares: Shares, value: Value) -> tuple[Lane, ...]:
        """A value's axes at a token."""
        return tuple(Lane(a.name, a.size, shares.split(value, a)) for a in value.axes)

    def printer(self, program: Program, shares: Shares, states: dict[str, str], wanted: list[Value]) -> TokenPrinter:
        """Prints a program within this kernel."""
        made = TokenPrinter(program, shares, self.tiles, self.load, states, wanted, self.params, self.plan.rows)
        self.printers.append(made)
        return made

    def state(self, pointer: str, lanes: tuple[Lane, ...], first: str) -> str:
        """A state in memory."""
        size, at = self.tiles.packed(lanes)
        return f"{pointer} + {by_token(lanes, first)} * ({size}){at}"

    def fetched(self, pointer: str, lanes: tuple[Lane, ...], first: str) -> str:
        """A state from memory."""
        mask = f", mask={self.tiles.live(lanes)}, other=0.0" if lanes else ""
        return f"tl.load({self.state(pointer, lanes, first)}{mask})"

    def stored(self, pointer: str, lanes: tuple[Lane, ...], first: str, text: str, alone: bool) -> str:
        """A value into memory; `alone`: by the first block only, where all have it."""
        masks = [self.tiles.live(lanes)] if lanes else []
        masks += ["(block == 0)"] if alone else []
        mask = f", mask={' & '.join(masks)}" if masks else ""
        return f"tl.store({self.state(pointer, lanes, first)}, {text}{mask})"

    def result(self, printer: TokenPrinter, pointer: str, value: Value, first: str) -> tuple[bool, str]:
        """Whether a result is in parts, and the statement that stores it."""
        lanes = printer.every(value)
        parts = printer.shared(value) is Share.PART
        first = f"({first} * blocks + block)" if parts else first
        alone = self.plan.blocks and printer.shared(value) is Share.WHOLE
        return parts, self.stored(pointer, lanes, first, printer.operand(value, lanes).text, alone)

    def advanced(self, printer: TokenPrinter, program: Program, held: list[str]) -> list[str]:
        """The states' next values, all of them before any is overwritten."""
        after = []
        for carry in program.carries:
            text = printer.whole(carry.after)
            first = (carry.after, 0) in printer.shares.first and printer.shared(carry.before) is Share.PART
            after.append(f"tl.where(block == 0, {text}, 0.0)" if first else text)
        nexts = [self.names.fresh("after") for _ in after]
        lines = [f"{n} = {text}" for n, text in zip(nexts, after, strict=True)]
        return [*lines, *(f"{name} = {n}" for name, n in zip(held, nexts, strict=True))]

    def pointers(self, prefix: str) -> list[str]:
        """A pointer for every state."""
        names = [f"{prefix}{n}_ptr" for n in range(len(self.kernels.states))]
        self.parameters += names
        return names

    def made(self, name: str, title: str, **lines: list[str]) -> KernelView:
        """The kernel; indices stand first."""
        texts = {"keep": [], "again": [], **lines}
        texts["setup"] = [*self.tiles.setup, *(x for p in self.printers for x in p.before), *texts["setup"]]
        return KernelView(
            name,
            title,
            tuple(self.parameters),
            backward=isinstance(self, BackwardKernel),
            blocked=self.plan.blocks,
            rows=self.plan.rows,
            single=isinstance(self.plan, StepPlan),
            **{k: tuple(v) for k, v in texts.items()},
        )


STEPS = {
    True: ("_tokens_forward", "Outputs and final states; with `kept`, the states at every chunk's start."),
    False: ("_step", "The outputs and the next states of one token."),
}


class ForwardKernel(_Kernel):
    """Outputs and final states, and the states at every chunk's start where they are kept."""

    def view(self) -> KernelView:
        """Print it; a step keeps no state for a backward pass."""
        program, shares = self.plan.forward, self.plan.forward_shares
        keeps = isinstance(self.plan, TokenPlan)
        self.given()
        self.held = [self.lanes_of(shares, c.before) for c in program.carries]
        self.parameters.append("slots_ptr")
        starts = self.starts()
        finals = self.pointers("final")
        kept = self.pointers("kept") if keeps else [""] * len(starts)
        names = [self.names.fresh(n) for n in self.kernels.states]
        wanted = [*(v for _, v in program.results), *(c.after for c in program.carries)]
        printer = self.printer(program, shares, dict(zip(self.kernels.states, names, strict=True)), wanted)
        setup, keep, after = [], [], []
        for number, (name, lanes, start, final, place) in enumerate(
            zip(names, self.held, starts, finals, kept, strict=True)
        ):
            alone = self.plan.blocks and not any(a.split for a in lanes)
            setup.append(f"{name} = {start}")
            keep += [self.stored(place, lanes, "place", name, alone)] if keeps else []
            after += self.in_place(final, number, name, self.stored(final, lanes, "program", name, alone))
        body = list(printer.body)
        self.stores = []
        for name, value in program.results:
            pointer = self.names.fresh(f"{name}_out_ptr")
            self.parameters.append(pointer)
            parts, line = self.result(printer, pointer, value, "token")
            body.append(line)
            self.stores.append(Store(parts))
        body += self.advanced(printer, program, names)
        name, title = STEPS[keeps]
        return self.made(name, title, setup=setup, keep=keep, body=body, after=after)

    def starts(self) -> list[str]:
        """What loads the states before the first token, with strides and in any type; of a skipped sequence nothing."""
        found = []
        for number in range(len(self.held)):
            own, lanes = f"start{number}", self.held[number]
            strides = [f"{own}_{n}" for n in ("b", "h", *range(len(lanes)))]
            self.parameters += [f"{own}_ptr", *strides]
            self.kernels.runtime |= dict.fromkeys([] if lanes else strides)  # of a tile they say how wide accesses are
            found.append(f"tl.load({self.place(number)}, mask={self.lives(number)}, other=0.0).to(tl.float32)")
        return found

    def lives(self, number: int) -> str:
        """Which entries of a state there are."""
        lanes = self.held[number]
        return " & ".join([*([self.tiles.live(lanes)] if lanes else []), "live"])

    def place(self, number: int) -> str:
        """Where a state is before the token, and after it where it is updated in place."""
        own, lanes = f"start{number}", self.held[number]
        at = self.tiles.offsets(lanes, [f"{own}_{n}" for n in range(len(lanes))])
        return f"{own}_ptr + slot * {own}_b + head * {own}_h{at}"

    def in_place(self, final: str, number: int, text: str, written: str) -> list[str]:
        """A state into memory of its own (`written`), or where it was."""
        own = f"tl.store({self.place(number)}, {text}, mask={self.lives(number)})"
        return [f"if {final} is None:", f"    {own}", "else:", f"    {written}"]


class BackwardKernel(_Kernel):
    """The gradients: chunk after chunk from the end, its states made again first."""

    def __init__(self, kernels: Common, plan: TokenPlan) -> None:
        """Both passes are those of `plan`."""
        super().__init__(kernels)
        self.passes = plan

    def view(self) -> KernelView:
        """Print it."""
        plan, kernels = self.passes, self.kernels
        self.given()
        for name, value in plan.forward.results:
            self.strided(kernels.bars[name], ("b", "t", "h"), len(value.axes))
        ends, kept = self.pointers("end"), self.pointers("kept")
        states = {n: self.names.fresh(n) for n in kernels.states}
        bars = {cotangent(n): self.names.fresh(f"{n}_bar") for n in kernels.states}
        keep, again, fetch = self.remade(kept, states)
        begins = self.pointers("begin")
        results = dict(plan.backward.results)
        pieces = [(name, at, v) for name, value in results.items() for at, v in self.elements(value)]
        wanted = [*(v for _, _, v in pieces), *(c.after for c in plan.backward.carries)]
        printer = self.printer(plan.backward, plan.backward_shares, states | bars, wanted)
        setup, after = [], []
        self.begins = []
        for carry, bar, lanes, end, begin in zip(
            plan.backward.carries, bars.values(), self.held, ends, begins, strict=True
        ):
            parts = printer.shared(carry.before) is Share.PART
            fetched = self.fetched(end, lanes, "program")
            setup.append(f"{bar} = " + (f"tl.where(block == 0, {fetched}, 0.0)" if parts else fetched))
            alone = plan.blocks and printer.shared(carry.before) is Share.WHOLE
            after.append(self.stored(begin, lanes, "(program * blocks + block)" if parts else "program", bar, alone))
            self.begins.append(Store(parts))
        in_loop, last = self.gradients(printer, results, pieces)
        return self.made(
            "_tokens_backward", "Gradients of inputs and of the states before the first token.",
            setup=setup, keep=keep, again=again,
            body=[*fetch, *printer.body, *in_loop, *self.advanced(printer, plan.backward, list(bars.values()))],
            after=[*printer.after, *after, *last],
        )  # fmt: skip

    def remade(self, kept: list[str], states: dict[str, str]) -> tuple[list[str], list[str], list[str]]:
        """A chunk's states: those it starts with, those of its tokens into memory, and one of them out of it.

        Where tiles have several tokens the adjoint's program makes them.
        """
        plan, names = self.plan, self.kernels.states
        if plan.rows:
            carries = {c.name: c.before for c in plan.forward.carries}
            self.held = [self.lanes_of(plan.forward_shares, carries[n]) for n in names]
            places = zip(names, kept, self.held, strict=True)
            return [f"{states[n]} = {self.fetched(p, lanes, 'place')}" for n, p, lanes in places], [], []
        running = [self.names.fresh(n) for n in names]
        known = dict(zip(names, running, strict=True))
        again = self.printer(plan.forward, plan.forward_shares, known, [c.after for c in plan.forward.carries])
        self.held = [again.own(c.before) for c in plan.forward.carries]
        keep, store, fetch = [], [], []
        for name, own, pointer, place, lanes in zip(
            names, running, self.pointers("scratch"), kept, self.held, strict=True
        ):
            size, at = self.tiles.scratch(lanes)
            entry = f"{pointer} + (tl.program_id(0).to(tl.int64) * TOKENS + own) * ({size}){at}"
            keep.append(f"{own} = {self.fetched(place, lanes, 'place')}")
            store.append(f"tl.store({entry}, {own})")
            fetch.append(f"{states[name]} = tl.load({entry})")
        return keep, [*store, *again.body, *self.advanced(again, plan.forward, running)], fetch

    def elements(self, value: Value) -> list[tuple[int | None, Value]]:
        """A gradient, or of a list input those of its elements that the step uses."""
        op = self.passes.backward.defined[value]
        if not (isinstance(op, ir.Join) and op.axis == value.axes[0] and self.listed(value)):
            return [(None, value)]
        found: list[tuple[int | None, Value]] = []
        for at, part in enumerate(op.parts):
            if op.inner[at].size != ONE:
                continue  # those after the last that is used, which are 0
            spread = self.passes.backward.defined[part]
            assert isinstance(spread, ir.Spread)
            found.append((at, spread.argument))
        return found

    def listed(self, value: Value) -> bool:
        """Whether a gradient is a list input's."""
        name = next(n for n, v in self.passes.backward.results if v == value)
        return next(i for i in self.kernels.interface.model.inputs if i.name == name).shape.items is not None

    def gradients(
        self, printer: TokenPrinter, results: dict[str, Value], pieces: list[tuple[str, int | None, Value]]
    ) -> tuple[list[str], list[str]]:
        """What stores them: of inputs at every token, of params at the end."""
        body: list[str] = []
        last: list[str] = []
        self.stores = []
        for i in self.kernels.interface.model.inputs:
            pointer = self.names.fresh(f"{i.name}_grad_ptr")
            self.parameters.append(pointer)
            own = [(at, v) for name, at, v in pieces if name == i.name]
            parts = any(printer.shared(v) is Share.PART for _, v in own)
            lines = [self.piece(printer, pointer, results[i.name], at, v, parts, i.is_param) for at, v in own]
            target = last if i.is_param else body
            target += [f"if {pointer} is not None:", *(f"    {line}" for line in lines)] if lines else []
            self.stores.append(Store(parts, any(at is not None for at, _ in own) or not own))
        return body, last

    def piece(
        self, printer: TokenPrinter, pointer: str, whole: Value, at: int | None, value: Value, parts: bool, param: bool
    ) -> str:
        """The statement that stores a gradient, or one of a list's."""
        axes = whole.axes if at is None else whole.axes[1:]
        split = {a.name for a in printer.own(value) if a.split}
        lanes = tuple(Lane(a.name, a.size, a.name in split) for a in axes)
        lanes = (ROW, *lanes) if self.plan.rows and not param else lanes
        own = printer.operand(value, lanes).text
        first = "program" if param else "token"
        whole_share = printer.shared(value) is Share.WHOLE
        if parts:
            first = f"({first} * blocks + block)"
            own = f"tl.where(block == 0, {own}, 0.0)" if whole_share else own
        size, offsets = self.tiles.packed(lanes)
        if at is not None:
            size = f"S{self.tiles.place(whole.axes[0].size)} * {size}"
            offsets = f" + {at} * ({self.tiles.packed(lanes)[0]}){offsets}"
        first = by_token(lanes, first)
        masks = [self.tiles.live(lanes)] if lanes else []
        masks += ["(block == 0)"] if self.plan.blocks and whole_share and not parts else []
        mask = f", mask={' & '.join(masks)}" if masks else ""
        return f"tl.store({pointer} + {first} * ({size}){offsets}, {own}{mask})"

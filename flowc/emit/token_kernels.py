"""The Triton section of a module whose states are taken token by token: two kernels, and what launches them.

In: a `TokenPlan` and the op's `Interface`. Out: `TokensText`. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jinja2 import Environment

from flowc.chunk import ir
from flowc.chunk.differentiate import cotangent
from flowc.chunk.program import Program
from flowc.chunk.values import Value
from flowc.emit.interface import Interface
from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.emit.token_printer import TokenPrinter
from flowc.emit.token_tiles import Lane, Tiles
from flowc.schedule.shares import Share, Shares
from flowc.schedule.stepped import TokenPlan
from flowc.semantics.size import Size

MOST_ENTRIES = 2**16  # of a tile: registers of a program that has no other in them hold as many
RESERVED = frozenset(
    ("block", "blocks", "program", "sequence", "batch", "head", "heads", "length", "first", "count", "chunk", "chunks",
     "begin", "left", "step", "back", "own", "t", "token", "tl", "BLOCK", "TOKENS")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KernelView:
    """What the template of a kernel gets: printed strings.

    `states` are made again from those that are kept (`keep`, `again`, of the backward kernel), `body` is a token.
    """

    name: str
    title: str
    parameters: tuple[str, ...]
    setup: tuple[str, ...]
    keep: tuple[str, ...]
    again: tuple[str, ...]
    body: tuple[str, ...]
    after: tuple[str, ...]
    blocked: bool


@dataclass(frozen=True, slots=True)
class Store:
    """A result's memory: `parts` has one for every block of which it is the sum, `zeros` begins with 0."""

    name: str
    parts: bool
    zeros: bool = False

    @property
    def row(self) -> str:
        """As the launcher looks it up."""
        return repr((self.parts, self.zeros))


@dataclass(frozen=True, slots=True)
class LauncherView:
    """What the launcher's template gets: `sizes` and `states` are expressions and axes, rows say how results lie."""

    value: str
    most_keys: int
    held: str
    holds: str
    unpacked: str
    bindings: tuple[str, ...]
    sizes: tuple[str, ...]
    states: tuple[str, ...]
    tiles: tuple[str, ...]
    split: int | None
    outputs: tuple[str, ...]
    begins: tuple[str, ...]
    grads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokensText:
    """The kernels, their launcher, the device functions that they call, and sizes that do not change a compilation."""

    kernels: tuple[str, ...]
    launch: str
    helpers: tuple[str, ...]
    runtime: tuple[str, ...]


@dataclass
class TokenKernels:
    """Prints both kernels."""

    plan: TokenPlan
    interface: Interface
    environment: Environment
    names: Names = field(default_factory=lambda: Names(RESERVED))
    runtime: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Name the arguments; sizes are those of both kernels."""
        self.sizes: list[Size] = []
        self.own = {i.name: self.names.fresh(i.name) for i in self.interface.model.inputs}
        self.bars = {name: self.names.fresh(f"{name}_bar") for name, _ in self.plan.forward.results}
        self.states = [c.name for c in self.plan.forward.carries]
        self.axes = {
            n.op.name: n.value
            for n in self.plan.backward.nodes
            if isinstance(n.op, ir.Argument) and n.op.role in ("carry", "cotangent")
        }

    def text(self) -> TokensText:
        """Everything."""
        forward, backward = _Forward(self), _Backward(self)
        views = forward.view(), backward.view()
        template = self.environment.get_template("token_kernel.py.j2")
        kernels = tuple(template.render(kernel=v, sizes=range(len(self.sizes))) for v in views)
        launch = self.environment.get_template("tokens.py.j2").render(launch=self.launcher(forward, backward))
        helpers = tuple(dict.fromkeys(n for p in (*forward.printers, *backward.printers) for n in p.used))
        return TokensText(kernels, launch, helpers, ("length", "heads", "blocks", *self.runtime))

    def launcher(self, forward: _Forward, backward: _Backward) -> LauncherView:
        """What launches them."""
        face = self.interface
        names = face.sizes
        sizes = tuple(size_code(s, names).text for s in self.sizes)
        split = next((self.sizes.index(a.size) for a in forward.split), None)
        return LauncherView(
            value=str(list(face.inputs).index(face.recurrence.value_input)),
            most_keys=MOST_ENTRIES,
            held="a token's largest tile",
            holds="entries",
            unpacked=", ".join((*face.inputs.values(), "")).strip(),
            bindings=tuple(face.bindings(" ".join(sizes), lead=3)),
            sizes=sizes,
            states=tuple(repr(self.axes_of(lanes)) for lanes in forward.held),
            tiles=tuple(repr(axes) for axes in sorted(self.matrices((*forward.printers, *backward.printers)))),
            split=split,
            outputs=tuple(s.row for s in forward.stores),
            begins=tuple(s.row for s in backward.begins),
            grads=tuple(s.row for s in backward.stores),
        )  # fmt: skip

    def axes_of(self, lanes: tuple[Lane, ...]) -> tuple[int, ...]:
        """Which sizes a tile has."""
        return tuple(-1 if a.split else self.sizes.index(a.size) for a in lanes)

    def matrices(self, printers: tuple[TokenPrinter, ...]) -> set[tuple[int, ...]]:
        """The tiles of several axes."""
        found = {p.lanes(v) for p in printers for v in p.wanted if len(v.axes) > 1 and v not in p.leaves}
        return {tuple(sorted(self.axes_of(lanes))) for lanes in found}


class _Kernel:
    """One of the two: its parameters and how it loads and stores."""

    def __init__(self, kernels: TokenKernels) -> None:
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

    def load(self, argument: ir.Argument, element: int | None, places: tuple[tuple[Lane, int], ...]) -> str:
        """An input, param or cotangent of a token."""
        own = (self.kernels.bars if argument.role == "cotangent" else self.kernels.own)[argument.name]
        first = {
            "param": f"head * {own}_h",
            "input": f"batch * {own}_b + t * {own}_t + head // {own}_group * {own}_h",
            "cotangent": f"batch * {own}_b + t * {own}_t + head * {own}_h",
        }[argument.role]
        first += "" if element is None else f" + {element} * {own}_0"
        lanes = [a for a, _ in places]
        at = self.tiles.offsets(lanes, [f"{own}_{n}" for _, n in places])
        mask = f", mask={self.tiles.live(lanes)}, other=0.0" if lanes else ""
        return f"tl.load({own}_ptr + {first}{at}{mask}).to(tl.float32)"

    def printer(self, program: Program, shares: Shares, states: dict[str, str], wanted: list[Value]) -> TokenPrinter:
        """Prints a program within this kernel."""
        made = TokenPrinter(program, shares, self.tiles, self.load, states, wanted, self.params)
        self.printers.append(made)
        return made

    def state(self, pointer: str, lanes: tuple[Lane, ...], first: str) -> str:
        """A state in memory."""
        size, at = self.tiles.packed(lanes)
        return f"{pointer} + {first} * ({size}){at}"

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
        lanes = printer.lanes(value)
        parts = printer.shared(value) is Share.PART
        first = f"({first} * blocks + block)" if parts else first
        alone = self.plan.blocks and printer.shared(value) is Share.WHOLE
        return parts, self.stored(pointer, lanes, first, printer.whole(value), alone)

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
            name, title, tuple(self.parameters), blocked=self.plan.blocks, **{k: tuple(v) for k, v in texts.items()}
        )


class _Forward(_Kernel):
    """Outputs and final states, and the states at every chunk's start where they are kept."""

    def view(self) -> KernelView:
        """Print it."""
        program, shares = self.plan.forward, self.plan.forward_shares
        self.given()
        starts, finals, kept = (self.pointers(n) for n in ("start", "final", "kept"))
        names = [self.names.fresh(n) for n in self.kernels.states]
        wanted = [*(v for _, v in program.results), *(c.after for c in program.carries)]
        printer = self.printer(program, shares, dict(zip(self.kernels.states, names, strict=True)), wanted)
        self.held = [printer.lanes(c.before) for c in program.carries]
        setup, keep, after = [], [], []
        for name, lanes, start, final, place in zip(names, self.held, starts, finals, kept, strict=True):
            alone = self.plan.blocks and not any(a.split for a in lanes)
            setup.append(f"{name} = {self.fetched(start, lanes, 'program')}")
            keep.append(self.stored(place, lanes, "place", name, alone))
            after.append(self.stored(final, lanes, "program", name, alone))
        body = list(printer.body)
        self.stores = []
        for name, value in program.results:
            pointer = f"{self.names.fresh(f'{name}_out')}_ptr"
            self.parameters.append(pointer)
            parts, line = self.result(printer, pointer, value, "token")
            body.append(line)
            self.stores.append(Store(name, parts))
        body += self.advanced(printer, program, names)
        return self.made(
            "_tokens_forward", "Outputs and final states; with `kept`, the states at every chunk's start.",
            setup=setup, keep=keep, body=body, after=after,
        )  # fmt: skip


class _Backward(_Kernel):
    """The gradients: chunk after chunk from the end, its states made again first."""

    def view(self) -> KernelView:
        """Print it."""
        plan, kernels = self.plan, self.kernels
        self.given()
        for name, value in plan.forward.results:
            self.strided(kernels.bars[name], ("b", "t", "h"), len(value.axes))
        ends, kept, scratch, begins = (self.pointers(n) for n in ("end", "kept", "scratch", "begin"))
        running = [self.names.fresh(n) for n in kernels.states]
        known = dict(zip(kernels.states, running, strict=True))
        again = self.printer(plan.forward, plan.forward_shares, known, [c.after for c in plan.forward.carries])
        self.held = [again.lanes(c.before) for c in plan.forward.carries]
        states = {n: self.names.fresh(n) for n in kernels.states}
        bars = {cotangent(n): self.names.fresh(f"{n}_bar") for n in kernels.states}
        results = [(name, value) for name, value in plan.backward.results]
        pieces = [(name, at, v) for name, value in results for at, v in self.elements(value)]
        wanted = [*(v for _, _, v in pieces), *(c.after for c in plan.backward.carries)]
        printer = self.printer(plan.backward, plan.backward_shares, states | bars, wanted)
        own_bars = list(bars.values())
        setup, keep, store, fetch, after = [], [], [], [], []
        self.begins = []
        for n, carry in enumerate(plan.backward.carries):
            lanes = self.held[n]
            size, at = self.tiles.scratch(lanes)
            place = f"{scratch[n]} + (tl.program_id(0).to(tl.int64) * TOKENS + own) * ({size}){at}"
            parts = printer.shared(carry.before) is Share.PART
            end = self.fetched(ends[n], lanes, "program")
            setup.append(f"{own_bars[n]} = " + (f"tl.where(block == 0, {end}, 0.0)" if parts else end))
            keep.append(f"{running[n]} = {self.fetched(kept[n], lanes, 'place')}")
            store.append(f"tl.store({place}, {running[n]})")
            fetch.append(f"{states[kernels.states[n]]} = tl.load({place})")
            alone = plan.blocks and printer.shared(carry.before) is Share.WHOLE
            first = "(program * blocks + block)" if parts else "program"
            after.append(self.stored(begins[n], lanes, first, own_bars[n], alone))
            self.begins.append(Store(carry.name, parts))
        in_loop, last = self.gradients(printer, dict(results), pieces)
        return self.made(
            "_tokens_backward", "Gradients of inputs and of the states before the first token.",
            setup=setup, keep=keep, again=[*store, *again.body, *self.advanced(again, plan.forward, running)],
            body=[*fetch, *printer.body, *in_loop, *self.advanced(printer, plan.backward, own_bars)],
            after=[*printer.after, *after, *last],
        )  # fmt: skip

    def elements(self, value: Value) -> list[tuple[int | None, Value]]:
        """A gradient, or of a list input those of its elements that the step uses."""
        op = self.plan.backward.defined[value]
        if not (isinstance(op, ir.Join) and op.axis == value.axes[0] and self.listed(value)):
            return [(None, value)]
        found: list[tuple[int | None, Value]] = []
        for at, part in enumerate(op.parts):
            spread = self.plan.backward.defined[part]
            if op.inner[at].size.constant == 1 and isinstance(spread, ir.Spread):
                found.append((at, spread.argument))
        return found

    def listed(self, value: Value) -> bool:
        """Whether a gradient is a list input's."""
        name = next(n for n, v in self.plan.backward.results if v == value)
        return next(i for i in self.kernels.interface.model.inputs if i.name == name).shape.items is not None

    def gradients(
        self, printer: TokenPrinter, results: dict[str, Value], pieces: list[tuple[str, int | None, Value]]
    ) -> tuple[list[str], list[str]]:
        """What stores them: of inputs at every token, of params at the end."""
        body: list[str] = []
        last: list[str] = []
        self.stores = []
        for i in self.kernels.interface.model.inputs:
            pointer = f"{self.names.fresh(f'{i.name}_grad')}_ptr"
            self.parameters.append(pointer)
            own = [(at, v) for name, at, v in pieces if name == i.name]
            parts = any(printer.shared(v) is Share.PART for _, v in own)
            lines = [self.piece(printer, pointer, results[i.name], at, v, parts, i.is_param) for at, v in own]
            target = last if i.is_param else body
            target += [f"if {pointer} is not None:", *(f"    {line}" for line in lines)] if lines else []
            self.stores.append(Store(i.name, parts, any(at is not None for at, _ in own) or not own))
        return body, last

    def piece(
        self, printer: TokenPrinter, pointer: str, whole: Value, at: int | None, value: Value, parts: bool, param: bool
    ) -> str:
        """The statement that stores a gradient, or one of a list's."""
        axes = whole.axes if at is None else whole.axes[1:]
        split = {a.name for a in printer.lanes(value) if a.split}
        lanes = tuple(Lane(a.name, a.size, a.name in split) for a in axes)
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
        masks = [self.tiles.live(lanes)] if lanes else []
        masks += ["(block == 0)"] if self.plan.blocks and whole_share and not parts else []
        mask = f", mask={' & '.join(masks)}" if masks else ""
        return f"tl.store({pointer} + {first} * ({size}){offsets}, {own}{mask})"

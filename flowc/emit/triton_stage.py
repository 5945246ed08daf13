"""The Triton kernels of one state, and the functions that launch them.

In: a `StagePlan`, and the interface of the op that it is part of. Out: kernels as text, and the strings that
templates/triton/stage.py.j2 makes functions of. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jinja2 import Environment

from flowc.chunk.values import CHUNK_LENGTH
from flowc.emit.interface import Interface
from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.emit.torch_functions import PRODUCT, Code
from flowc.emit.torch_part import call, part_function
from flowc.emit.triton_memory import Input
from flowc.emit.triton_printer import TritonPrinter
from flowc.schedule import tiles
from flowc.schedule.loops import splits_rows
from flowc.schedule.plan import Role
from flowc.schedule.staged import StagePlan
from flowc.schedule.tile_plan import TileKernel, TilePass, TorchPart
from flowc.schedule.tiles import KEY, VALUE, Kind, Lane
from flowc.schedule.turned import is_turned, state_sizes
from flowc.semantics.model import Input as Declared
from flowc.semantics.model import Kind as ShapeKind
from flowc.semantics.size import ONE, Size

TITLES = {
    "matrices": "Matrices over a chunk's rows that the walk and later kernels use.",
    "walk": "The walk: the state at every chunk's start, and what only it can make.",
    "columns": "Results of a chunk over the state's columns.",
    "rows": "Results of a chunk that are sums over the state's columns.",
    "gradients": "Gradients of a chunk's inputs.",
    "fused": "The walk with the outputs; states and what only it can make are stored where memory is given.",
    "step": "The outputs and the next state of one token.",
    "ends": "The walk without what it stores: the state with which a segment ends.",
    "begins": "The walk back without what it stores: the cotangent of the state that a segment begins with.",
    "flow": "The walk back without cotangents of outputs: what the transpose of a segment's flow makes of a state.",
}
TAKEN = ("inputs", "call", "grads", "begin", "final", "how", "places")


@dataclass(frozen=True, slots=True)
class StageView:
    """What the template of a stage's functions gets. `of` names its state where there are others.

    `gradients` is the memory of those that it makes, `reduced` what is returned of them.
    """

    suffix: str
    of: str
    unpacked: str
    saved: tuple[str, ...]
    saved_memory: tuple[str, ...]
    forward: tuple[str, ...]
    backward: tuple[str, ...]
    step: str
    gradients: tuple[str, ...]
    reduced: tuple[str, ...]


class StageSection:
    """Prints the kernels of one state."""

    def __init__(self, planned: StagePlan, interface: Interface, environment: Environment) -> None:
        """Print those of a stage of the op that `interface` describes."""
        self.planned, self.cuts, self.suffix = planned, planned.cuts, planned.suffix
        self.recurrence = planned.plan.recurrence
        self.model = self.recurrence.model
        self.whole, self.environment = interface, environment
        self.interface = interface if planned.stage is None else Interface(self.recurrence)
        self.inputs = {i.name: i for i in self.model.inputs}
        self.places = {name: f"inputs[{at}]" for at, name in enumerate(self.inputs)}
        self.value = self.recurrence.value_input
        (self.state,) = self.recurrence.memories
        self.turned, self.sizes = is_turned(self.state), state_sizes(self.state)
        self.names = Names(frozenset((*self.interface.taken, *TAKEN)))
        self.memory: dict[str, str] = {}  # scratch and results, by the names that kernels give them
        self.made: dict[str, str] = {}  # how memory of those names is made
        self.helpers: dict[str, None] = {}
        self.torch_helpers: dict[str, None] = {}
        self.runtime: dict[str, None] = {}
        self.texts: list[str] = []

    def view(self) -> StageView:
        """Print everything."""
        forward, backward = self.passed(self.cuts.forward, False), self.passed(self.cuts.backward, True)
        given = tuple(self.inputs) if self.planned.stage is None else tuple(n for n, _ in self.given)
        step = self.cuts.step if self.planned.stage is None else None
        return StageView(
            suffix=self.suffix,
            of="" if self.planned.stage is None else f" for {self.state.state.name}",
            unpacked=", ".join((*self.interface.inputs.values(), "")).strip(),
            saved=tuple(self.memory[name] for name in self.cuts.saved),
            saved_memory=tuple(self.made[name] for name in self.cuts.saved),
            forward=tuple(forward),
            backward=tuple(backward),
            step="" if step is None else self.kernel(step, None, False),
            gradients=tuple(self.gradient(name) if name in given else "None" for name in self.inputs),
            reduced=tuple(self.reduced(at, name) for at, name in enumerate(self.inputs) if name in given),
        )

    def dots(self) -> list[str]:
        """The op's own inputs that products are made of: those over the state's rows or columns."""
        vectors = {
            step.op.name
            for kernel in self.cuts.forward.kernels
            for step in kernel.steps
            if isinstance(step.op, tiles.Load) and step.op.role == "input"
            if any(not lane.over_rows for lane in step.tile.lanes)
        }
        logs = {g for g in vectors if self.is_gate(g)}
        return [name for name in self.inputs if name in vectors - logs or (vectors == logs and name in vectors)]

    def is_gate(self, name: str) -> bool:
        """Whether an input goes into log gates alone."""
        for kernel in self.cuts.forward.kernels:
            found = {s.tile for s in kernel.steps if isinstance(s.op, tiles.Load) and s.op.name == name}
            for step in kernel.steps:
                if found & set(_numbers(step.op)):
                    if not isinstance(step.op, tiles.Function | tiles.Masked | tiles.Spread):
                        return False
                    found.add(step.tile)
        return True

    @property
    def given(self) -> tuple[tuple[str, str], ...]:
        """What a stage takes of the whole: its own names, in the order of its inputs, and the whole's."""
        given = {} if self.planned.stage is None else dict(self.planned.stage.given)
        return tuple((name, given[name]) for name in self.inputs if name in given)

    @property
    def made_names(self) -> tuple[str, ...]:
        """The inputs that the whole makes."""
        return () if self.planned.stage is None else self.planned.stage.made

    @property
    def reads(self) -> tuple[str, ...]:
        """What a stage gives to the whole."""
        return () if self.planned.stage is None else self.planned.stage.reads

    def model_input(self, name: str) -> Declared:
        """An input by its name."""
        return self.inputs[name]

    @property
    def whole_rows(self) -> bool:
        """Whether a walk's programs hold all of the state's rows."""
        walks = [k for k, _ in self.planned.kernels() if k.role is Role.WALK and k is not self.cuts.fused]
        return not all(splits_rows(k) for k in walks)

    def extents(self, start: str) -> str:
        """The sizes of the state as kernels see it, by the tensor that it starts with."""
        if self.state.state.shape.kind is ShapeKind.COLUMN:
            return f"({start}.shape[2], 1)"
        first, second = (3, 2) if self.turned else (2, 3)
        return f"({start}.shape[{first}], {start}.shape[{second}])"

    # -- gradients ----------------------------------------------------------------------------------------------------

    def gradient(self, name: str) -> str:
        """Memory for an input's gradient, for every value head and token."""
        shape = ", ".join(
            ("call.batch, call.length, call.heads", *(self.size(s).text for s in self.inputs[name].shape.sizes))
        )
        own = self.interface.inputs[name]
        if name in self.finished():
            return "None"
        if name not in self.written():
            return f"torch.zeros_like({own})"
        wide = self.inputs[name].is_param or self.planned.stage is not None
        dtype = "torch.float32" if wide else f"{own}.dtype if {own}.shape[2] == call.heads else torch.float32"
        return f"{own}.new_empty(({shape}), dtype={dtype})"

    def written(self) -> set[str]:
        """The inputs whose gradients kernels write."""
        return {s.name for k in self.cuts.backward.kernels for s in k.stores if not s.fetched}

    def finished(self) -> set[str]:
        """The inputs whose gradients torch operators finish."""
        after = self.cuts.backward.after
        return set() if after is None else {name for name, _ in after.made}

    def reduced(self, at: int, name: str) -> str:
        """A gradient as its input has it: summed over tokens, or over the heads that share one of the input's.

        For a whole it stays what every value head gives.
        """
        own, is_param, grad = self.interface.inputs[name], self.inputs[name].is_param, f"grads[{at}]"
        summed = is_param and name not in self.finished() and name in self.written()
        total = f"{grad}.sum((0, 1))" if summed else grad
        if self.planned.stage is not None:
            return total
        if is_param or (name == self.value and name in self.finished()):
            return f"{total}.to({own}.dtype)"
        kept = name == self.value or (name not in self.finished() and name not in self.written())
        return grad if kept else f"_shared({grad}, {own})"

    # -- passes -------------------------------------------------------------------------------------------------------

    def passed(self, passed: TilePass, adjoint: bool) -> list[str]:
        """The lines that make memory and launch the kernels of a pass."""
        lines = []
        lanes = {s.name: s.lanes for s in passed.scratch}
        lanes[passed.states] = (KEY, VALUE)
        alike: dict[str, str] = {}  # memory that is always there, by what makes it: it is quicker to make more like it
        for name, found in lanes.items():
            self.memory[name] = self.names.fresh(name)
            kinds = ["zeros=True"] * (name in self.cuts.read_by_torch) + ["system=True"] * (name in self.cuts.systems)
            sizes = [self.extent(lane) for lane in found]
            self.made[name] = f"call.memory({', '.join((*sizes, *kinds))})"
            needed = "" if adjoint else self.needed(name)
            like = alike.get(self.made[name])
            made = self.made[name] if like is None or "zeros=True" in kinds else f"torch.empty_like({like})"
            lines.append(f"{self.memory[name]} = {self.placed(name, made)}" + (needed and f" if {needed} else None"))
            if not needed:
                alike.setdefault(self.made[name], self.memory[name])
        suffix = f"{'_backward' if adjoint else ''}{self.suffix}"
        if passed.before is not None:
            lanes_of = tuple(len(value.axes) for _, value in passed.before.made)
            made = self.part(passed.before, f"_before{suffix}", "What kernels fetch and do not make: {}.")
            lines.append(f"{self.named(passed.before)}, = call.given({lanes_of}, *{made})")
        launches = [self.kernel(k, passed.states, adjoint) for k in passed.kernels]
        walk = next(at for at, k in enumerate(passed.kernels) if k.role is Role.WALK)
        lines += [*launches[:walk], *self.in_segments(adjoint)]
        if adjoint or self.cuts.fused is None:
            lines += launches[walk:]
        else:
            fused = self.kernel(self.cuts.fused, passed.states, adjoint)
            lines += ["if call.fused:", f"    {fused}", "else:", *(f"    {line}" for line in launches[walk:])]
        if passed.after is not None:
            made = self.part(passed.after, f"_after{suffix}", "What kernels do not make of their results: {}.")
            targets = ", ".join(self.argument("result", n, adjoint) for n, _ in passed.after.made)
            if adjoint:
                lines.append(f"{targets}, = {made}")
            else:
                lines += [f"for out, made in zip(({targets},), {made}):", "    out.copy_(made)"]
        return lines

    def in_segments(self, adjoint: bool) -> list[str]:
        """The lines that make what every segment's walk begins with, where sequences are cut into such."""
        own = self.planned.segments
        if own is None:
            return []
        kernel, given, last = (own.begins, "final", "begin") if adjoint else (own.ends, "start", "final")
        lines = ["if call.segments is not None:"]
        lines.append(f"    {self.kernel(kernel, None, adjoint, ('call.nothing', 'call.ends'))}")
        if not adjoint:
            lines.append(
                f"    {self.kernel(own.flow, None, True, ('call.unit', 'call.flows'), ' columns=call.columns,')}"
            )
        lines.append(f"    {given} = call.composed({given}, {adjoint})")
        return [*lines, f"    {last} = torch.empty_like({given}) if call.last else None"]

    @property
    def walked(self) -> set[str]:
        """What the walk leaves in memory for the kernels after it, and for the backward pass."""
        walk = next(k for k in self.cuts.forward.kernels if k.role is Role.WALK)
        return {self.cuts.forward.states, *(s.name for s in walk.stores[1:] if s.fetched)}

    def needed(self, name: str) -> str:
        """When a forward pass needs memory for something: a condition, empty where it always does."""
        if any(s.kept and s.name == name for k in self.cuts.forward.kernels for s in k.stores):
            return "call.keep"
        return "call.keep or not call.fused" if self.cuts.fused is not None and name in self.walked else ""

    def placed(self, name: str, made: str) -> str:
        """Memory of its own, made so, or that which the caller has for what is saved."""
        if name not in self.cuts.saved:
            return made
        return f"({made} if places is None else places[{self.cuts.saved.index(name)}])"

    def part(self, part: TorchPart, name: str, title: str) -> str:
        """A function of torch operators; its call."""
        view = part_function(part, name, title.format(", ".join(n for n, _ in part.made)), self.interface)
        self.texts.append(view.text)
        self.torch_helpers |= dict.fromkeys(view.helpers)
        return call(part, view, self.memory)

    def named(self, part: TorchPart) -> str:
        """The names of what a part makes for kernels."""
        for name, value in part.made:
            self.memory[name] = self.names.fresh(name)
            self.made[name] = f"call.memory({', '.join(self.size(a.size).text for a in value.axes)})"
        return ", ".join(self.memory[name] for name, _ in part.made)

    def extent(self, lane: Lane) -> str:
        """How many entries memory has along a lane."""
        match lane.kind:
            case Kind.KEY:
                return "call.keys"
            case Kind.VALUE:
                return "call.values"
        return "call.tokens" if lane.frame == ONE else f"call.tokens * {self.size(lane.frame).at(PRODUCT + 1)}"

    def kernel(
        self, kernel: TileKernel, states: str | None, adjoint: bool, ends: tuple[str, str] | None = None,
        columns: str = "",
    ) -> str:  # fmt: skip
        """Print a kernel; the line that launches it. `states` is what a walk stores every chunk's state as.

        `ends` are what a walk begins and ends with, `columns` the argument that says how many those have.
        """
        alone = {i.name for i in self.model.inputs if i.is_param or i.shape.kind is ShapeKind.SCALAR}
        alone |= {self.value, *self.made_names}
        inputs = tuple(Input(name, name not in alone) for name in self.inputs)
        printer = TritonPrinter(
            kernel, inputs, {d.name: d.value for d in self.model.dimensions}, self.sizes, states, adjoint
        )
        role = self.planned.role(replace(kernel, name="walk") if ends else kernel, adjoint)
        name = f"_{kernel.name if ends else role}"
        view = printer.view(name, TITLES[kernel.name], self.turned)
        self.helpers |= printer.print.helpers
        memory = printer.memory
        self.runtime |= dict.fromkeys(count for count, _ in memory.heads.values())
        walks = kernel.role is Role.WALK
        skeleton = "chunk" if not walks else "step" if kernel.name == "step" else "walk"
        self.texts.append(self.environment.get_template(f"{skeleton}.py.j2").render(kernel=view))
        arguments = [f"{pointer}={self.argument(*key, adjoint)}" for key, pointer in memory.pointers.items()]
        arguments += [f"{count}={self.places[n]}.shape[2]" for n, (count, _) in memory.heads.items()]
        for size, frame in memory.frames.items():
            if size != ONE:
                code = self.size(size).text
                arguments += [f"{frame.rank}={code}", f"{frame.padded}=_padded({code})"]
        arguments += [f"{v.length}=_tile({self.size(size).text})" for size, v in memory.vectors.items()]
        arguments += [f"{own}={self.size(Size.of(n)).text}" for n, own in memory.used.items()]
        if walks:
            first, last = ends or (("final", "begin") if adjoint else ("start", "final"))
            arguments += [f"start_ptr={first}", f"final_ptr={last}"]
        if skeleton == "step":
            axes = {"b": 0, "h": 1, "key": 3 if self.turned else 2, "value": 2 if self.turned else 3}
            arguments += ["slots_ptr=slots", *(f"start_{n}=start.stride({axis})" for n, axis in axes.items())]
        blocked, split = view.blocked or walks, view.parts or view.split
        return f"call.run({name}, {role!r}, {blocked}, {split},{columns} {', '.join(arguments)})"

    def argument(self, role: str, name: str, adjoint: bool) -> str:
        """What a pointer points to."""
        results = [r.name for r in self.recurrence.results]
        match role:
            case "scratch":
                return self.memory[name]
            case "cotangent":
                return f"cotangents[{results.index(name)}]"
            case "result" if adjoint:
                return f"grads[{list(self.inputs).index(name)}]"
            case "result":
                return f"outputs[{results.index(name)}]"
            case _:
                return self.places[name]

    def size(self, size: Size) -> Code:
        """A size, from the first input that has its dimensions."""
        found = dict.fromkeys(CHUNK_LENGTH.names, "call.tokens")
        for name in size.names - found.keys():
            declared = next(d for d in self.model.dimensions if d.name == name)
            found[name] = str(declared.value) if declared.value is not None else self.dimension(name)
        return size_code(size, found)

    def dimension(self, name: str) -> str:
        """A dimension, from the op's first input that has it."""
        found = self.whole.bound_by(name)
        assert found is not None
        declared, axis = found
        return f"{self.places[declared.name]}.shape[{axis + (1 if declared.is_param else 3)}]"


def _numbers(op: tiles.TileOp) -> tuple[tiles.Tile, ...]:
    """The tiles that an operation reads other than as log gates."""
    match op:
        case tiles.Split():
            return ()
        case tiles.DecayDot(left, right) | tiles.DecayApply(left, right):
            return (left, right)
        case _:
            return tiles.tile_operands(op)

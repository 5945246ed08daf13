"""The Triton section of an emitted module: device functions, kernels and the code that launches them.

In: a `Plan` and the op's `Interface`. Out: the section's text, or why there are no kernels, which becomes an error of
the emitted op. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flowc.chunk.values import CHUNK_LENGTH
from flowc.emit.interface import Interface
from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.emit.torch_functions import PRODUCT, Code
from flowc.emit.torch_part import call, part_function
from flowc.emit.triton_functions import USES
from flowc.emit.triton_memory import Input
from flowc.emit.triton_printer import TritonPrinter
from flowc.resources import templates
from flowc.schedule import tiles
from flowc.schedule.plan import Plan, Role
from flowc.schedule.schedule import MOST_ROWS, system_rows
from flowc.schedule.tile_plan import Missing, TileKernel, TilePass, TilePlan, TorchPart
from flowc.schedule.tiles import KEY, VALUE, Kind, Lane
from flowc.schedule.tilings import MOST_KEYS, chunk_rows, tilings
from flowc.schedule.triton import cut
from flowc.schedule.turned import held_axis, is_turned, state_sizes
from flowc.semantics.model import Kind as ShapeKind
from flowc.semantics.size import ONE, Size

ORDER = (
    "maximum", "minimum", "floor_log", "split", "power", "real_power", "log1p", "expm1", "exprel", "exprel_slope",
    "sigmoid", "softplus", "tanh", "silu", "gelu", "sign", "per_token", "product", "dot", "diagonal", "substitution",
    "merged", "inverse_wy", "inverse_tensorinv", "inverse_signature", "inverse", "substituted", "solve", "halves",
    "pairs", "own_token", "decay_dot", "decay_apply",
)  # fmt: skip
TITLES = {
    "matrices": "Matrices over a chunk's rows that the walk and later kernels use.",
    "walk": "The walk: the state at every chunk's start, and what only it can make.",
    "columns": "Results of a chunk over the state's columns.",
    "rows": "Results of a chunk that are sums over the state's columns.",
    "step": "The outputs and the next state of one token.",
}


@dataclass(frozen=True, slots=True)
class PassView:
    """The lines that run a pass's kernels."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LauncherView:
    """What the launcher's template gets. `value` is the place of the input that shapes and types follow.

    `ranked`: a token may have several rows that a system is solved for. `apart`: torch operators make some of it, and
    they run packed sequences one after another.
    """

    value: str
    turned: bool
    held: int
    holds: str
    most_keys: int
    dots: tuple[str, ...]
    unpacked: str
    saved: tuple[str, ...]
    saved_memory: tuple[str, ...]
    forward: PassView
    backward: PassView
    step: str
    gradients: tuple[str, ...]
    reduced: tuple[str, ...]
    tilings: tuple[str, ...]
    rows: tuple[int, int]
    most_rows: int
    ranked: bool
    apart: bool


@dataclass(frozen=True, slots=True)
class SectionView:
    """What the section's template gets: printed strings."""

    runtime: str
    support: tuple[str, ...]
    kernels: tuple[str, ...]
    launch: str


@dataclass(frozen=True, slots=True)
class Kernels:
    """The section, the torch support that it calls, or (`missing`) why there is none."""

    text: str
    helpers: tuple[str, ...]
    missing: str | None


def kernels(plan: Plan, interface: Interface) -> Kernels:
    """The Triton section of a plan's module."""
    match cut(plan):
        case Missing() as missing:
            return Kernels("", (), f"{plan.recurrence.model.name}: {missing}")
        case TilePlan() as cuts:
            section = _Section(plan, cuts, interface)
            return Kernels(section.text(), tuple(section.torch_helpers), None)


class _Section:
    def __init__(self, plan: Plan, cuts: TilePlan, interface: Interface) -> None:
        self.plan, self.cuts, self.interface = plan, cuts, interface
        self.model = plan.recurrence.model
        self.inputs = {i.name: i for i in self.model.inputs}
        self.places = {name: f"inputs[{at}]" for at, name in enumerate(self.inputs)}
        self.value = plan.recurrence.value_input
        (memory,) = plan.recurrence.memories
        self.turned, self.state = is_turned(memory), state_sizes(memory)
        self.environment = Environment(
            loader=FileSystemLoader(templates() / "triton"),
            undefined=StrictUndefined,
            trim_blocks=True,
            autoescape=False,
        )
        self.names = Names(frozenset((*interface.taken, "inputs", "call", "grads", "begin", "final", "how", "places")))
        self.memory: dict[str, str] = {}  # scratch and results, by the names that kernels give them
        self.made: dict[str, str] = {}  # how memory of those names is made
        self.helpers: dict[str, None] = {}
        self.torch_helpers: dict[str, None] = {}
        self.runtime = ["length", "heads", "programs", "levels", "parts", "blocks"]
        self.texts: list[str] = []

    def text(self) -> str:
        """The whole section."""
        forward, backward = self.passed(self.cuts.forward, False), self.passed(self.cuts.backward, True)
        launcher = LauncherView(
            value=str(list(self.inputs).index(self.value)),
            turned=self.turned,
            held=held_axis(self.plan.recurrence.memories[0]),
            holds="columns" if self.turned else "rows",
            most_keys=MOST_KEYS,
            dots=tuple(self.places[name] for name in self.dots()),
            unpacked=", ".join((*self.interface.inputs.values(), "")).strip(),
            saved=tuple(self.memory[name] for name in self.cuts.saved),
            saved_memory=tuple(self.made[name] for name in self.cuts.saved),
            forward=forward,
            backward=backward,
            step="" if self.cuts.step is None else self.kernel(self.cuts.step, None, False),
            gradients=tuple(self.gradient(i.name) for i in self.model.inputs),
            reduced=tuple(self.reduced(at, i.name) for at, i in enumerate(self.model.inputs)),
            tilings=tilings(self.cuts),
            rows=chunk_rows(self.cuts),
            most_rows=MOST_ROWS,
            ranked=system_rows(self.plan.forward.program) not in (None, ONE),
            apart=any(p is not None for c in (self.cuts.forward, self.cuts.backward) for p in (c.before, c.after)),
        )
        section = SectionView(
            runtime=repr(tuple(self.runtime)),
            support=self.support(),
            kernels=tuple(self.texts),
            launch=self.environment.get_template("launch.py.j2").render(launch=launcher),
        )
        return self.environment.get_template("section.py.j2").render(section=section)

    def dots(self) -> list[str]:
        """The inputs that products are made of: those over the state's rows or columns."""
        vectors = {
            step.op.name
            for kernel in self.cuts.forward.kernels
            for step in kernel.steps
            if isinstance(step.op, tiles.Load) and step.op.role == "input" and {KEY, VALUE} & set(step.tile.lanes)
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
        wide = self.inputs[name].is_param
        dtype = "torch.float32" if wide else f"{own}.dtype if {own}.shape[2] == call.heads else torch.float32"
        return f"{own}.new_empty(({shape}), dtype={dtype})"

    def written(self) -> set[str]:
        """The inputs whose gradients kernels write."""
        return {s.name for k in self.cuts.backward.kernels for s in k.stores if not s.fetched}

    def reduced(self, at: int, name: str) -> str:
        """A gradient as its input has it: summed over tokens, or over the heads that share one of the input's."""
        own = self.interface.inputs[name]
        if name in self.finished() and (self.inputs[name].is_param or name == self.value):
            return f"grads[{at}].to({own}.dtype)"
        if name in self.finished():
            return f"_shared(grads[{at}], {own})"
        if name not in self.written():
            return f"grads[{at}]"
        if self.inputs[name].is_param:
            return f"grads[{at}].sum((0, 1)).to({own}.dtype)"
        if name == self.value:
            return f"grads[{at}]"
        return f"_shared(grads[{at}], {own})"

    # -- passes -------------------------------------------------------------------------------------------------------

    def passed(self, passed: TilePass, adjoint: bool) -> PassView:
        """The lines that make memory and launch the kernels of a pass."""
        lines = []
        lanes = {s.name: s.lanes for s in passed.scratch}
        lanes[passed.states] = (KEY, VALUE)
        for name, found in lanes.items():
            self.memory[name] = self.names.fresh(name)
            kinds = ["zeros=True"] * (name in self.cuts.read_by_torch) + ["system=True"] * (name in self.cuts.systems)
            sizes = [self.extent(lane) for lane in found]
            self.made[name] = f"call.memory({', '.join((*sizes, *kinds))})"
            lines.append(f"{self.memory[name]} = {self.placed(name)}")
        suffix = "_backward" if adjoint else ""
        if passed.before is not None:
            lanes_of = tuple(len(value.axes) for _, value in passed.before.made)
            made = self.part(passed.before, f"_before{suffix}", "What kernels fetch and do not make: {}.")
            lines.append(f"{self.named(passed.before)}, = call.given({lanes_of}, *{made})")
        lines += [self.kernel(kernel, passed.states, adjoint) for kernel in passed.kernels]
        if passed.after is not None:
            made = self.part(passed.after, f"_after{suffix}", "What kernels do not make of their results: {}.")
            targets = [n if adjoint else self.argument("result", n, adjoint) for n, _ in passed.after.made]
            if adjoint:
                places = ", ".join(self.argument("result", n, adjoint) for n in targets)
                lines.append(f"{places}, = {made}")
            else:
                lines += [f"for out, made in zip(({', '.join(targets)},), {made}):", "    out.copy_(made)"]
        return PassView(tuple(lines))

    def placed(self, name: str) -> str:
        """Memory of its own, or that which the caller has for what is saved."""
        if name not in self.cuts.saved:
            return self.made[name]
        return f"{self.made[name]} if places is None else places[{self.cuts.saved.index(name)}]"

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

    def finished(self) -> set[str]:
        """The inputs whose gradients torch operators finish."""
        after = self.cuts.backward.after
        return set() if after is None else {name for name, _ in after.made}

    def extent(self, lane: Lane) -> str:
        """How many entries memory has along a lane."""
        match lane.kind:
            case Kind.KEY:
                return "call.keys"
            case Kind.VALUE:
                return "call.values"
        return "tokens" if lane.frame == ONE else f"tokens * {self.size(lane.frame).at(PRODUCT + 1)}"

    def kernel(self, kernel: TileKernel, states: str | None, adjoint: bool) -> str:
        """Print a kernel; the line that launches it. `states` is what a walk stores every chunk's state as."""
        inputs = tuple(
            Input(i.name, not i.is_param and i.shape.kind is not ShapeKind.SCALAR and i.name != self.value)
            for i in self.model.inputs
        )
        printer = TritonPrinter(
            kernel, inputs, {d.name: d.value for d in self.model.dimensions}, self.state, states, adjoint
        )
        name = f"_{kernel.name}{'_backward' if adjoint else ''}"
        view = printer.view(name, TITLES[kernel.name], self.turned)
        self.helpers |= printer.print.helpers
        memory = printer.memory
        self.runtime += [count for count, _ in memory.heads.values() if count not in self.runtime]
        walks = kernel.role is Role.WALK
        skeleton = "chunk" if not walks else "step" if states is None else "walk"
        self.texts.append(self.environment.get_template(f"{skeleton}.py.j2").render(kernel=view))
        arguments = [f"{pointer}={self.argument(*key, adjoint)}" for key, pointer in memory.pointers.items()]
        arguments += [f"{count}={self.places[n]}.shape[2]" for n, (count, _) in memory.heads.items()]
        for size, frame in memory.frames.items():
            if size != ONE:
                code = self.size(size).text
                arguments += [f"{frame.rank}={code}", f"{frame.padded}=_padded({code})"]
        arguments += [f"{own}={self.size(Size.of(n)).text}" for n, own in memory.used.items()]
        if walks:
            arguments += ["start_ptr=final", "final_ptr=begin"] if adjoint else ["start_ptr=start", "final_ptr=final"]
        role = f"{kernel.name}{'_backward' if adjoint else ''}"
        return f"call.run({name}, {role!r}, {view.blocked or walks}, {view.parts}, {', '.join(arguments)})"

    def argument(self, role: str, name: str, adjoint: bool) -> str:
        """What a pointer points to."""
        match role:
            case "scratch":
                return self.memory[name]
            case "cotangent":
                return f"cotangents[{[r.name for r in self.plan.recurrence.results].index(name)}]"
            case "result" if adjoint:
                return f"grads[{list(self.inputs).index(name)}]"
            case "result":
                return f"outputs[{[r.name for r in self.plan.recurrence.results].index(name)}]"
            case _:
                return self.places[name]

    def size(self, size: Size) -> Code:
        """A size, from the state or the first input that has its dimensions."""
        found = dict.fromkeys(CHUNK_LENGTH.names, "tokens")
        for name in size.names - found.keys():
            declared = next(d for d in self.model.dimensions if d.name == name)
            found[name] = str(declared.value) if declared.value is not None else self.dimension(name)
        return size_code(size, found)

    def dimension(self, name: str) -> str:
        """A dimension, from the first input that has it."""
        found = self.interface.bound_by(name)
        assert found is not None
        declared, axis = found
        return f"{self.places[declared.name]}.shape[{axis + (1 if declared.is_param else 3)}]"

    def support(self) -> tuple[str, ...]:
        """The device functions that the kernels call."""
        needed: dict[str, None] = {}
        todo = list(self.helpers)
        while todo:
            name = todo.pop()
            if name not in needed:
                needed[name] = None
                todo.extend(USES.get(name, ()))
        folder = templates() / "triton" / "support"
        return tuple(_piece(folder / f"{name}.py") for name in ORDER if name in needed)


def _numbers(op: tiles.TileOp) -> tuple[tiles.Tile, ...]:
    """The tiles that an operation reads other than as log gates."""
    match op:
        case tiles.Split():
            return ()
        case tiles.DecayDot(left, right) | tiles.DecayApply(left, right):
            return (left, right)
        case _:
            return tiles.tile_operands(op)


def _piece(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip("\n")

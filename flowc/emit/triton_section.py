"""The Triton part of an emitted module: kernels, and the function that launches them.

In: a `Plan` and the op's `Interface`. Out: the section's text, or why there are no kernels, which becomes an error of
the emitted op. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flowc.emit.interface import Interface
from flowc.emit.names import Names
from flowc.emit.triton_functions import USES
from flowc.emit.triton_printer import Input, TritonPrinter
from flowc.resources import templates
from flowc.schedule import tiles
from flowc.schedule.plan import Plan, Role
from flowc.schedule.tiles import Lane, Missing, TileKernel, TilePlan
from flowc.schedule.triton import cut
from flowc.semantics.model import Kind

ORDER = (
    "maximum", "minimum", "floor_log", "split", "power", "log1p", "expm1", "exprel", "sigmoid", "softplus", "tanh",
    "silu", "gelu", "sign",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LaunchView:
    """One launch: `arguments` are the kernel's own, by keyword, `programs` how many there are of a block of columns."""

    name: str
    programs: str
    arguments: tuple[str, ...]
    tilings: str


@dataclass(frozen=True, slots=True)
class LauncherView:
    """What the launcher's template gets. `value` is the place of the input that shapes and types follow."""

    value: str
    most_keys: int
    dots: str
    kernels: tuple[LaunchView, ...]


@dataclass(frozen=True, slots=True)
class SectionView:
    """What the section's template gets: printed strings."""

    tokens: str
    runtime: str
    support: tuple[str, ...]
    kernels: tuple[str, ...]
    launch: str


@dataclass(frozen=True, slots=True)
class Kernels:
    """The section, or (`missing`) why there is none."""

    text: str
    missing: str | None


def kernels(plan: Plan, interface: Interface) -> Kernels:
    """The Triton section of a plan's module."""
    match cut(plan):
        case Missing() as missing:
            return Kernels("", f"{plan.recurrence.model.name}: {missing}")
        case TilePlan() as cuts:
            return Kernels(_Section(plan, cuts, interface).text(), None)


class _Section:
    def __init__(self, plan: Plan, cuts: TilePlan, interface: Interface) -> None:
        self.plan, self.cuts, self.interface = plan, cuts, interface
        self.model = plan.recurrence.model
        self.places = {i.name: f"inputs[{n}]" for n, i in enumerate(self.model.inputs)}
        self.value = str([i.name for i in self.model.inputs].index(plan.recurrence.value_input))
        self.environment = Environment(
            loader=FileSystemLoader(templates() / "triton"),
            undefined=StrictUndefined,
            trim_blocks=True,
            autoescape=False,
        )
        self.helpers: dict[str, None] = {}
        self.runtime = ["length", "heads", "programs"]

    def text(self) -> str:
        """The whole section."""
        printed = [self.kernel(k) for k in (self.cuts.walk, self.cuts.output)]
        launcher = LauncherView(
            value=self.value,
            most_keys=self.cuts.most_keys,
            dots="".join(f"{self.places[name]}, " for name in self.dots()),
            kernels=tuple(launch for _, launch in printed),
        )
        section = SectionView(
            tokens=repr(dict(self.cuts.tokens)),
            runtime=repr(tuple(self.runtime)),
            support=self.support(),
            kernels=tuple(text for text, _ in printed),
            launch=self.environment.get_template("launch.py.j2").render(launch=launcher),
        )
        return self.environment.get_template("section.py.j2").render(section=section)

    def dots(self) -> list[str]:
        """The inputs that products are made of: those over the state's rows or columns."""
        vectors = {
            step.op.name
            for kernel in (self.cuts.walk, self.cuts.output)
            for step in kernel.steps
            if isinstance(step.op, tiles.Load)
            and not step.op.is_param
            and {Lane.KEY, Lane.VALUE} & set(step.tile.lanes)
        }
        return [i.name for i in self.model.inputs if i.name in vectors]

    def kernel(self, kernel: TileKernel) -> tuple[str, LaunchView]:
        """A kernel's text, and its launch."""
        value = self.plan.recurrence.value_input
        inputs = tuple(
            Input(i.name, not i.is_param and i.shape.kind is not Kind.SCALAR and i.name != value)
            for i in self.model.inputs
        )
        printer = TritonPrinter(kernel, inputs, {d.name: d.value for d in self.model.dimensions})
        names = Names(frozenset(f"{i.name}_ptr" for i in inputs))
        outputs = {name: names.fresh(f"{name}_out_ptr") for name, _ in kernel.results}
        view = printer.view(f"_{kernel.role.value}", outputs)
        self.helpers |= printer.helpers
        self.runtime += [count for count, _ in printer.heads.values() if count not in self.runtime]
        text = self.environment.get_template(f"{kernel.role.value}.py.j2").render(kernel=view)
        walks = kernel.role is Role.WALK
        arguments = [f"{pointer}={self.places[name]}" for name, pointer in printer.pointers.items()]
        arguments += [] if walks else [f"{pointer}=outputs[{at}]" for at, pointer in enumerate(outputs.values())]
        arguments += [f"{count}={self.places[name]}.shape[2]" for name, (count, _) in printer.heads.items()]
        arguments += [f"{printer.sizes[size]}={self.size(size)}" for size in printer.used_sizes]
        arguments += ["start_ptr=start", "states_ptr=states", "final_ptr=final"] if walks else ["states_ptr=states"]
        programs = "programs" if walks else "chunks * programs"
        tilings = "(" + "".join(f"{astuple(t)!r}, " for t in kernel.tilings) + ")"
        launch = LaunchView(view.name, programs, tuple(arguments), tilings)
        return text, launch

    def size(self, name: str) -> str:
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
        return tuple(
            (folder / f"{name}.py").read_text(encoding="utf-8").strip("\n") for name in ORDER if name in needed
        )

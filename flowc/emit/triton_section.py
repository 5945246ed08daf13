"""The Triton section of an emitted module: device functions, kernels and the code that launches them.

In: a `Plan` and the op's `Interface`. Out: the section's text, or why there are no kernels, which becomes an error of
the emitted op. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flowc.emit.interface import Interface
from flowc.emit.token_kernels import MOST_HELD, TokenKernels
from flowc.emit.triton_functions import USES
from flowc.emit.triton_stage import StageSection
from flowc.emit.triton_whole import passes
from flowc.resources import templates
from flowc.schedule import two_level
from flowc.schedule.devices import OF_FAMILY, Device
from flowc.schedule.plan import Plan
from flowc.schedule.predict import SHARE, ScheduleModel, least_programs, nominal, short
from flowc.schedule.schedule import MOST_ROWS, system_rows
from flowc.schedule.staged import KernelPlan, StagePlan, kernel_plan
from flowc.schedule.stepped import TokenPlan
from flowc.schedule.tile_plan import Missing
from flowc.schedule.tilings import KEYS, MOST_FUSED, MOST_KEYS, chunk_rows, fused_rows, tilings
from flowc.schedule.tuned import Tuned, printed
from flowc.semantics.size import ONE

ORDER = (
    "maximum", "minimum", "floor_log", "split", "power", "real_power", "log1p", "expm1", "exprel", "exprel_slope",
    "sigmoid", "softplus", "tanh", "silu", "gelu", "sign", "per_token", "product", "dot", "matrices", "diagonal",
    "substitution", "merged", "inverse_wy", "inverse_tensorinv", "inverse_signature", "inverse", "substituted",
    "solve", "prefix", "repeated", "halves", "pairs", "own_token", "own_dot", "own_apply", "near_dot", "decay_dot",
    "decay_apply", "scans",
)  # fmt: skip
ALONE = (
    "(call,), (start,) = calls, starts",
    "final, saved = _forward_kernels(call, inputs, start, outputs, places)",
    "finals = [final]",
)
IN_SEGMENTS = (
    "(call,), (start,) = calls, starts",
    "if call.segments is not None:",
    "    places = call.opened(places)",
    "final, saved = _forward_kernels(call, inputs, start, outputs, places)",
    "if call.segments is not None:",
    "    final, saved = None if final is None else table.ends(final), [*saved, call.flows]",
    "finals = [final]",
)
IN_SEGMENTS_BACKWARD = (
    "(call,), (start,), (final,) = calls, starts, finals",
    "if call.segments is not None:",
    "    saved = call.opened(saved)",
    "grads, begin = _backward_kernels(call, inputs, start, saved, cotangents, final)",
    "begins = [begin if begin is None or table is None else table.ends(begin, True)]",
)
ALONE_BACKWARD = (
    "(call,), (start,), (final,) = calls, starts, finals",
    "grads, begin = _backward_kernels(call, inputs, start, saved, cotangents, final)",
    "begins = [begin]",
)


Models = Mapping[tuple[Device, bool], Sequence[two_level.Model]]


@dataclass(frozen=True, slots=True)
class LauncherView:
    """What the launcher's template gets. `value` is the place of the input that shapes and types follow.

    `states` are the sizes of states as kernels see them, and what they start with. `ranked`: a token may have several
    rows that a system is solved for. Walks may make outputs of at most `most_fused` rows of the state, as the lines of
    `fused` say for `share` processors; the suffix of the `first` state, and its `columns`, stand for all. `apart`:
    torch operators make some of it, and they run packed sequences one after another. Where sequences can be cut into
    `segments`, `flow` is how many columns a segment's flow has, which is `dense` or not; `turned`: so is the state.
    """

    value: str
    several: bool
    held: str
    holds: str
    most_keys: int
    dots: tuple[str, ...]
    unpacked: str
    states: tuple[tuple[str, str], ...]
    stages: tuple[str, ...]
    forward: tuple[str, ...]
    backward: tuple[str, ...]
    scans: str
    step_keys: str
    saved: tuple[str, ...]
    step: str
    token: str
    most_held: int
    tilings: tuple[str, ...]
    tuned: tuple[str, ...]
    rows: tuple[int, int]
    most_rows: int
    most_fused: int
    fused: tuple[str, ...]
    share: int
    first: str
    columns: str
    ranked: bool
    apart: bool
    segments: bool
    segmented: tuple[str, ...]
    flow: str
    dense: bool
    turned: bool
    least_keys: int = KEYS[0]


@dataclass(frozen=True, slots=True)
class SectionView:
    """What the section's template gets: printed strings."""

    runtime: str
    support: tuple[str, ...]
    kernels: tuple[str, ...]
    launch: str


@dataclass(frozen=True, slots=True)
class Kernels:
    """The section, the torch support that it calls, or (`missing`) why there is none.

    `keys` is how many entries of a state kernels hold whole, of the states that a call starts with; `steps`: one of
    them makes one token.
    """

    text: str
    helpers: tuple[str, ...]
    keys: str
    missing: str | None
    steps: bool


def kernels(plan: Plan, interface: Interface, starts: tuple[str, ...], tuned: Sequence[Tuned] = ()) -> Kernels:
    """The Triton section of a plan's module; `starts` is what its functions call the states before the first token."""
    match kernel_plan(plan):
        case Missing() as missing:
            return Kernels("", (), "", f"{plan.recurrence.model.name}: {missing}", False)
        case KernelPlan() as found:
            section = _Section(plan, found, interface, tuned)
            if found.tokens is not None:
                largest = f"_largest_tile({', '.join(interface.inputs.values())})"
                return Kernels(section.by_tokens(found.tokens), (), largest, None, True)
            steps = found.step is not None or len(starts) == 1
            return Kernels(section.text(), tuple(section.torch_helpers), section.keys(starts), None, steps)


class _Section:
    def __init__(self, plan: Plan, found: KernelPlan, interface: Interface, tuned: Sequence[Tuned]) -> None:
        self.plan, self.found, self.interface, self.tuned = plan, found, interface, tuned
        self.environment = Environment(
            loader=FileSystemLoader(templates() / "triton"),
            undefined=StrictUndefined,
            trim_blocks=True,
            autoescape=False,
        )
        self.stages = [StageSection(s, interface, self.environment) for s in found.stages]
        self.states = [s.name for s in plan.recurrence.model.states]
        self.torch_helpers: dict[str, None] = {}

    def keys(self, starts: tuple[str, ...]) -> str:
        """How many entries of a state walks hold whole; 0 where they hold blocks of all."""
        own = [f"{s.extents(starts[self.place(s)])}[0]" for s in self.stages if s.whole_rows]
        return f"max({', '.join(own)})" if len(own) > 1 else "".join(own) or "0"

    def place(self, stage: StageSection) -> int:
        """The number of a stage's state among all."""
        return self.states.index(stage.state.state.name)

    def text(self) -> str:
        """The whole section."""
        views = [s.view() for s in self.stages]
        inputs, scans = list(self.interface.inputs), self.plan.recurrence.scans
        template = self.environment.get_template("stage.py.j2")
        whole = None if self.found.whole is None else passes(self.found.whole, self.stages, self.interface)
        for helpers in (*(s.torch_helpers for s in self.stages), () if whole is None else whole.helpers):
            self.torch_helpers |= dict.fromkeys(helpers)
        dots = dict.fromkeys(n for s in self.stages for n in s.dots() if n in inputs)
        used = list(dots) or [self.plan.recurrence.value_input]
        plans = [s.planned for s in self.stages]
        turned = any(s.turned for s in self.stages)
        models = self.models(plans)
        step, segments = self.found.step, plans[0].segments if plans else None
        token = None if step is None else TokenKernels(step, self.interface, self.environment).text()
        launcher = LauncherView(
            value=str(inputs.index(self.plan.recurrence.value_input)),
            several=whole is not None,
            held="the state" if whole is None else "a state",
            holds="rows" if not turned else "columns" if whole is None else "rows or columns",
            most_keys=MOST_KEYS,
            dots=tuple(f"inputs[{inputs.index(n)}]" for n in inputs if n in used),
            unpacked=", ".join((*self.interface.inputs.values(), "")).strip(),
            states=tuple((s.extents(f"starts[{self.place(s)}]"), f"starts[{self.place(s)}]") for s in self.stages),
            stages=(*(template.render(stage=v).rstrip() for v in views), *(() if whole is None else whole.functions)),
            forward=whole.forward if whole else ALONE if segments is None else IN_SEGMENTS,
            backward=whole.backward if whole else ALONE_BACKWARD if segments is None else IN_SEGMENTS_BACKWARD,
            scans=self.environment.get_template("scan.py.j2").render() if scans else "",
            saved=("*_saved_memory(calls[0], inputs)",) if whole is None else whole.saved,
            step="" if token else "".join(v.step for v in views),
            token="" if token is None else token.launch,
            most_held=MOST_HELD,
            step_keys="".join(f"{s.extents('start')}[0]" for s in self.stages[:1]),
            tilings=tuple(row for stage in plans for row in tilings(stage)),
            tuned=printed(self.tuned),
            rows=chunk_rows(plans),
            most_rows=MOST_ROWS,
            most_fused=MOST_FUSED if any(s.cuts.fused for s in self.stages) else 0,
            fused=tuple(self.fused(plans, models)),
            share=SHARE,
            first=self.stages[0].suffix if self.stages else "",
            columns="".join(f"{s.extents(f'starts[{self.place(s)}]')}[1]" for s in self.stages[:1]) or "1",
            ranked=system_rows(self.plan.forward.program) not in (None, ONE),
            apart=whole is not None or any(stage.cuts.by_torch for stage in plans),
            segments=segments is not None,
            segmented=tuple(self.segmented(plans, models)) if segments else (),
            flow="" if segments is None else "keys" if segments.dense else "values" if segments.wide else "1",
            dense=segments is not None and segments.dense,
            turned=turned,
        )
        runtime = ["length", "heads", "programs", "levels", "parts", "blocks", *["width"] * bool(scans)]
        of_stages = [n for s in self.stages for n in s.runtime]
        section = SectionView(
            runtime=repr(tuple(dict.fromkeys((*runtime, *of_stages, *(() if token is None else token.runtime))))),
            support=self.support(() if token is None else token.helpers),
            kernels=(*(text for s in self.stages for text in s.texts), *(() if token is None else token.kernels)),
            launch=self.environment.get_template("launch.py.j2").render(launch=launcher),
        )
        return self.environment.get_template("section.py.j2").render(section=section)

    def models(self, stages: Sequence[StagePlan]) -> Models:
        """What is predicted of the nominal sizes, by device, and whether a backward pass follows."""
        if not stages:
            return {}
        dimensions, rows = nominal(self.plan)
        return {
            (device, keep): two_level.schedules(stages, dimensions, rows, device, keep=keep)
            for device in OF_FAMILY.values()
            for keep in (False, True)
        }

    def fused(self, stages: Sequence[StagePlan], models: Models) -> Iterator[str]:
        """The lines of the table by which walks make outputs."""
        if any(s.cuts.fused is None for s in stages):
            return
        for (device, keep), own in models.items():
            plain = [m for m in own if isinstance(m, ScheduleModel)]
            if len(plain) > 1:
                found = fused_rows(stages, device.family), least_programs(plain), short(plain)
                yield f"{(device.family, keep)!r}: {found!r}"

    def segmented(self, stages: Sequence[StagePlan], models: Models) -> Iterator[str]:
        """The lines of the table by which sequences are cut into segments."""
        dimensions, _ = nominal(self.plan)
        for (device, keep), own in models.items():
            back = two_level.behind(stages, dimensions, own, device) if keep else ()
            yield f"{(device.family, keep)!r}: {two_level.thresholds(own, back)!r}"

    def by_tokens(self, found: TokenPlan) -> str:
        """The section of a recurrence that is taken token by token."""
        made = TokenKernels(found, self.interface, self.environment).text()
        section = SectionView(repr(made.runtime), self.support(made.helpers), made.kernels, made.launch)
        return self.environment.get_template("section.py.j2").render(section=section)

    def support(self, own: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The device functions that the kernels call."""
        needed: dict[str, None] = {}
        todo = [*own, *(name for stage in self.stages for name in stage.helpers)]
        todo += ["scans"] if self.stages and self.plan.recurrence.scans else []
        while todo:
            name = todo.pop()
            if name not in needed:
                needed[name] = None
                todo.extend(USES.get(name, ()))
        folder = templates() / "triton" / "support"
        return tuple(_piece(folder / f"{name}.py") for name in ORDER if name in needed)


def _piece(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip("\n")

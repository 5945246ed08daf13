"""What a machine with a GPU is held to: every example under every choice, against float64 step by step.

In: an example's op and a target. Out: `Check`s, and what each finds: the worst error over its tolerance. Errors and
tolerances are those of `flowc.fuzz.judge`; choices are those that `flowc.options` lists, so that a new schedule is
checked as soon as it can be asked for. Every run is in memory that holds NaN until it is written. Raises what an op
raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache, partial
from hashlib import sha256
from itertools import product
from math import inf
from types import SimpleNamespace
from typing import Any

import torch
from processes import ROOT

import flowc
from flowc.fuzz.cases import Case, Roles, Tensors, draw, draw_states, is_strength, shares_heads, sizes_of
from flowc.fuzz.judge import Runner, Trials, run_op, run_steps
from flowc.fuzz.targets import Target
from flowc.options import Options, choices
from flowc.schedule.staged import kernel_plan
from flowc.schedule.tile_plan import Missing
from flowc.semantics.model import Kind, Model

VARIED = [name for name in choices() if name != "backend"]
SMALL = Case(1, 21, 1, (6, 5, 2, 2), 16)
LONGER = Case(2, 37, 2, (6, 5, 3, 2), 16)
SIDES = (64, 128, 256)
LARGE = Case(1, 200, 2, (), None)
"""Several chunks of what the op chooses, the last of them partial."""

MOST = 256
"""Rows of a state that kernels hold."""

Choice = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Check:
    """One run: `form` is what is run, `chosen` are options that differ from their defaults; the case goes by both."""

    example: str
    form: str
    chosen: Choice
    dtype: str
    case: Case

    @property
    def key(self) -> str:
        """Its name."""
        how = ", ".join(f"{n} {v}" for n, v in self.chosen) or "defaults"
        c = self.case
        sizes = "x".join(map(str, c.sizes))
        group = f" group {c.group}" if c.group > 1 else ""
        return f"{self.example}: {self.form}, {how}, {self.dtype}, B {c.batch} T {c.length} H {c.heads} {sizes}{group}"

    def record(self) -> dict[str, Any]:
        """As rows have it."""
        options = {n: dict(self.chosen).get(n, getattr(Options(), n)) for n in VARIED}
        case = asdict(self.case)
        return {
            "example": self.example,
            "form": self.form,
            **options,
            "dtype": self.dtype,
            "shape": [case[n] for n in ("batch", "length", "heads")],
            "sizes": list(self.case.sizes),
            "chunk": self.case.chunk,
            "group": self.case.group,
        }


@dataclass(frozen=True)
class Example:
    """An example as it is run."""

    name: str
    op: flowc.Op
    model: Model

    @property
    def code(self) -> str:
        """What was emitted, as a number."""
        return sha256(self.op.source.encode()).hexdigest()[:12]

    def choices(self) -> dict[str, tuple[str, ...]]:
        """What can be chosen, defaults left out: schedules where there are chunks, aggregations where one is solved."""
        plan = self.op.compilation.plan
        assert plan is not None
        kernels = kernel_plan(plan)
        idle = set()
        if isinstance(kernels, Missing) or not kernels.stages:
            idle.add("schedule")
        if not plan.aggregations:
            idle.add("aggregation")
        defaults = Options()
        return {
            n: tuple(v for v in values if v != getattr(defaults, n))
            for n, values in choices().items()
            if n in VARIED and n not in idle
        }


@cache
def example(name: str) -> Example:
    """An example, compiled."""
    op = flowc.compile(ROOT / f"examples/{name}.flow")
    model = op.compilation.model
    assert model is not None
    return Example(name, op, model)


# -- which ------------------------------------------------------------------------------------------------------------


def alone(found: Mapping[str, tuple[str, ...]]) -> list[Choice]:
    """Nothing chosen, then every choice alone."""
    return [(), *(((n, v),) for n, values in found.items() for v in values)]


def together(found: Mapping[str, tuple[str, ...]]) -> list[Choice]:
    """Every schedule with every aggregation."""
    named = [[(n, v) for v in found.get(n, ())] for n in ("schedule", "aggregation")]
    return list(product(*named))


def checks(one: Example, target: Target, tiny: bool) -> list[Check]:
    """All checks of an example; those of one case and type stand together, which share what is true of them."""
    found = [Check(one.name, *rest) for rest in (_tiny(one, target) if tiny else _whole(one, target))]
    order = {k: n for n, k in enumerate(dict.fromkeys((c.case, c.dtype) for c in found))}
    return sorted(dict.fromkeys(found), key=lambda c: order[c.case, c.dtype])


Rest = tuple[str, Choice, str, Case]


def _tiny(one: Example, target: Target) -> Iterator[Rest]:
    """Every choice once, in the widest type."""
    wide, half = _name(target.types[0]), _name(target.types[-1])
    small = fitting(one.model, SMALL)
    for chosen in alone(one.choices()):
        yield "values", chosen, wide, small
    yield "bits", (), wide, small
    yield "packed", (), wide, replace(small, batch=2)
    yield from (("values", (), wide, case) for case in _grouped(one, small))
    yield "step", (), wide, replace(small, length=3)
    yield "values", (), half, small


def _whole(one: Example, target: Target) -> Iterator[Rest]:
    """Every choice with every other in small, every choice alone at the sizes that are trained."""
    found, half = one.choices(), _name(target.types[-1])
    small = fitting(one.model, LONGER)
    for dtype in map(_name, target.types):
        for chosen in alone(found):
            yield "values", chosen, dtype, small
        if dtype in (half, _name(target.types[0])):
            yield from (("values", chosen, dtype, small) for chosen in together(found))
            yield from ((form, (), dtype, small) for form in ("packed", "step"))
            yield from (("values", (), dtype, case) for case in _grouped(one, small))
    for side in SIDES:
        case = fitting(one.model, replace(LARGE, sizes=(side, side, 2, 2)))
        yield from (("values", chosen, half, case) for chosen in alone(found))
        if side == SIDES[0]:
            yield "values", (), _name(target.types[0]), case
        if side == SIDES[1]:
            yield from (("bits", chosen, half, case) for chosen in alone(found))
            yield from ((form, (), half, replace(case, batch=2, length=75)) for form in ("packed", "step"))
            yield from (("values", (), half, case) for case in _grouped(one, case))


def _grouped(one: Example, case: Case) -> list[Case]:
    """Two value heads for each of the queries and keys, where these may have fewer."""
    return [replace(case, group=2, heads=2)] if any(shares_heads(i) for i in one.model.inputs) else []


def fitting(model: Model, case: Case) -> Case:
    """As many sizes as the spec leaves open, the first small enough for states of at most 256 rows."""
    case = replace(case, sizes=case.sizes[: sum(d.value is None for d in model.dimensions)])
    while case.sizes and max((s.shape.sizes[0].value(sizes_of(model, case)) for s in _sized(model)), default=0) > MOST:
        case = replace(case, sizes=(case.sizes[0] // 2, *case.sizes[1:]))
    return case


def _sized(model: Model) -> list[Any]:
    return [s for s in model.states if s.shape.sizes]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# -- how --------------------------------------------------------------------------------------------------------------


def run_packed(
    op: Any, model: Model, inputs: Tensors, start: Tensors, dtype: torch.dtype, case: Case, target: Target
) -> Tensors:
    """The sequences of a batch packed one after another; what comes out is cut apart again."""
    timed = {i.name for i in model.inputs if not i.is_param}
    offsets = torch.arange(case.batch + 1, device=target.device) * case.length

    def packed(*, initial_state: Any, **given: Any) -> Any:
        own = {n: x.flatten(0, 1)[None] if n in timed else x for n, x in given.items()}
        result, final = op(**own, initial_state=initial_state, cu_seqlens=offsets)
        apart = [x[0].unflatten(0, (case.batch, case.length)) for x in _several(result)]
        return tuple(apart) if isinstance(result, tuple) else apart[0], final

    return run_op(packed, model, inputs, start, dtype, case, target)


def _several(made: Any) -> tuple[Any, ...]:
    return made if isinstance(made, tuple) else (made,)


def run_stepped(
    op: Any, model: Model, inputs: Tensors, start: Tensors, dtype: torch.dtype, case: Case, target: Target
) -> Tensors:
    """Token by token, on what the target runs on."""
    own = SimpleNamespace(step=partial(op.step, backend=dict(target.options).get("backend")))
    return run_steps(own, model, inputs, start, dtype, case, target)


FORMS: dict[str, Runner] = {"values": run_op, "bits": run_op, "packed": run_packed, "step": run_stepped}


def run(check: Check, one: Example, target: Target, inputs: Tensors, start: Tensors) -> Tensors:
    """What a check's form makes of its inputs, which are float64, under its choices."""
    chosen = dict(check.chosen)
    case = replace(check.case, aggregation=chosen.pop("aggregation", "auto"))
    own = replace(target, options=(*target.options, *chosen.items()))
    return FORMS[check.form](one.op, one.model, inputs, start, getattr(torch, check.dtype), case, own)


def drawn(check: Check, one: Example) -> tuple[Tensors, Tensors]:
    """The inputs and the start of a check, as `Trials` draws them."""
    return draw(one.model, check.case), draw_states(one.model, check.case)


@lru_cache(maxsize=1)
def _trials(name: str, case: Case, dtype: str, target: Target) -> Trials:
    """What is true of a case; its vectors have length one where the recurrence grows beyond bounds otherwise."""
    one = example(name)
    made = Trials(one.model, one.op, case, getattr(torch, dtype), target)
    return made if made.judgeable else Trials(one.model, one.op, short(one.model, case), getattr(torch, dtype), target)


def short(model: Model, case: Case) -> Case:
    """The same with vectors of length one; what is a write strength and what shares heads stays."""
    units = tuple(i.name for i in model.inputs if i.shape.kind is Kind.COLUMN and i.range is None and not i.is_param)
    strengths, shared = (tuple(i.name for i in model.inputs if of(i, case)) for of in (is_strength, shares_heads))
    return replace(case, roles=Roles(units, strengths, shared))


def found(check: Check, target: Target) -> tuple[float, str]:
    """The worst error over its tolerance, and of what; bits that differ are beyond any."""
    one = example(check.example)
    trials = _trials(check.example, check.case, check.dtype, target)
    if check.form == "bits":
        first, second = (run(check, one, target, trials.inputs, trials.start) for _ in range(2))
        off = [n for n, x in first.items() if not torch.equal(x, second[n])]
        return (inf if off else 0.0), ", ".join(off)
    if not trials.judgeable:
        raise ValueError(f"{check.example} grows beyond what can be judged at this size")
    differences = trials.judge(lambda op, model, inputs, start, *_: run(check, one, target, inputs, start))
    ratios = {d.name: d.error / d.tolerance if d.error else 0.0 for d in differences}
    worst = max(ratios, key=lambda n: ratios[n] if ratios[n] == ratios[n] else inf)  # NaN is worse than all
    return ratios[worst], worst

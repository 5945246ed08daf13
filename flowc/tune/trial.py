"""An op whose kernels are configured by hand, one shape at a time: it runs, it is timed, its values are judged.

In: a `Compilation`, a `Workload`. Out: `Trial`: which kernels a call launches and where rows for them would hold, its
time by given configurations, and why those are wrong, if they are. Values are judged twice: by the same tolerances as
in the tests, on a few chunks against the step-by-step form; and at the shape itself against what the untuned op makes
there. Refuses, with ValueError, calls that launch nothing that is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from typing import Any

import torch

from flowc.compiler import Compilation
from flowc.fuzz import judge
from flowc.fuzz.cases import Case, Tensors, draw, sizes_of, type_of
from flowc.fuzz.targets import GPU, INTERPRETER, Target, placed
from flowc.runtime.load import load
from flowc.schedule.predict import Shape
from flowc.schedule.tilings import Tiling
from flowc.schedule.tuned import INTERPRETED, MEASURED, Place, Tuned

STUCK = ("CUDA error", "HIP error", "Triton Error [CUDA]", "Triton Error [HIP]")
"""What torch and Triton say once a device has failed; whatever this process asks of it then fails as well."""


def is_lost(said: str) -> bool:
    """Whether a device that says so answers nothing more."""
    return any(word in said for word in STUCK) and "out of memory" not in said


KEPT = "whose kernels keep the rules; --schedule split or fused searches those of another call"


class DeviceLostError(RuntimeError):
    """A configuration after which the device answers nothing more."""


Configured = Mapping[str, Tiling]
Timed = Callable[[Callable[[], object], Configured], float]
"""Seconds that a call takes by configurations."""

DRAWN = 256, 2
"""So many tokens and heads are drawn; longer inputs repeat them."""

DAY = "1970-01-01"


def row(place: Place, tiling: Tiling, how: str = MEASURED, day: str = DAY, version: str = "-") -> Tuned:
    """A row that holds at a place."""
    columns, rows, warps, stages = tiling
    chosen: dict[str, Any] = {"columns": columns, "rows": rows, "warps": warps, "stages": stages}
    return Tuned(**asdict(place), **chosen, how=how, date=day, version=version)


BLANK = row(Place(INTERPRETED, INTERPRETED, "walk", 2, 64, 64, 64, 64, 1), (16, 16, 4, 1))
"""Any row: a module without one has no table to write to."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is run: a shape, the sizes of all dimensions, the type of vectors, whether a backward pass follows."""

    shape: Shape
    sizes: Mapping[str, int]
    dtype: torch.dtype
    trained: bool
    schedule: str = "auto"


class Trial:
    """A module whose table of configurations is written to before each call; it is nobody else's."""

    def __init__(self, compilation: Compilation, work: Workload, device: str) -> None:
        """Make the module and its inputs, and look which kernels a call launches.

        Raises:
            ValueError: a call that launches no kernel that is configured; what the op's own checks refuse.
        """
        self.work, self.device, self.model = work, device, compilation.model
        artifact = compilation.configured((BLANK,)).artifact
        self.module = load(artifact)
        self.op: Callable[..., Any] = getattr(self.module, artifact.function)
        if not hasattr(self.module, "_TUNED"):
            raise ValueError(f"{self.model.name}: its kernels go token by token and have no configurations to choose")
        self.schedule, self.tokens = work.schedule, 0
        self.places: dict[str, Place] = {}
        with self.configured({}), self._watched():
            self.call()
        if not self.places:
            raise ValueError(
                f"{self.model.name}: such a call launches no kernel that has configurations to choose: it goes in"
                f" segments (schedule two-level), {KEPT}"
            )
        self.schedule = "fused" if any(role.startswith("fused") for role in self.places) else "split"

    @cached_property
    def inputs(self) -> Tensors:
        """The arguments of a call, with gradients if it is trained; what is drawn is repeated."""
        shape, case = self.work.shape, self._case(min(self.work.shape.length, DRAWN[0]))
        case = replace(case, heads=min(shape.heads, DRAWN[1]))
        drawn, made = draw(self.model, case), {}
        for i in self.model.inputs:
            x = placed(drawn[i.name], type_of(i, case, self.work.dtype), self.device)
            for axis, size in enumerate((shape.heads,) if i.is_param else (shape.batch, shape.length, shape.heads)):
                repeats = -(-size // x.shape[axis])
                x = torch.cat([x] * repeats, axis).narrow(axis, 0, size)
            made[i.name] = x.contiguous().requires_grad_(self.work.trained)
        return made

    def _case(self, length: int) -> Case:
        """One sequence, the dimensions as asked for."""
        open_sizes = tuple(self.work.sizes[d.name] for d in self.model.dimensions if d.value is None)
        case = Case(batch=1, length=length, heads=1, sizes=open_sizes, chunk=None)
        assert sizes_of(self.model, case) == dict(self.work.sizes)
        return case

    def call(self) -> list[torch.Tensor]:
        """The op's outputs, and behind them the gradients of all inputs for ones, if it is trained."""
        with torch.set_grad_enabled(self.work.trained):
            made = self.op(**self.inputs, backend="triton", schedule=self.schedule)
            outputs = list(made) if isinstance(made, tuple) else [made]
            if not self.work.trained:
                return outputs
            wanted = list(self.inputs.values())
            grads = torch.autograd.grad(outputs, wanted, [torch.ones_like(o) for o in outputs], allow_unused=True)
        return [o.detach() for o in outputs] + [
            torch.zeros_like(x) if g is None else g for x, g in zip(wanted, grads, strict=True)
        ]

    # -- configurations -----------------------------------------------------------------------------------------------

    @contextmanager
    def configured(self, tilings: Configured) -> Iterator[None]:
        """The module with these configurations by role, and no others."""
        vars(self.module)["_TUNED"] = tuple(astuple(row(self.places[role], tiling)) for role, tiling in tilings.items())
        self.module._found.cache_clear()
        try:
            yield
        finally:
            vars(self.module)["_TUNED"] = ()
            self.module._found.cache_clear()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note where rows would hold for the kernels that a call launches, and the tokens of its chunks."""
        run, found = self.module._Kernels.run, self.module._found

        def noted(kernel: tuple[Any, ...], length: int, walks: int, family: str, device: str) -> None:
            role, width, keys, values, tokens = kernel
            self.places[role] = Place(family, device, role, width, keys, values, tokens, 1 << length, 1 << walks)

        def watched(call: Any, kernel: Any, role: str, *given: Any, **named: Any) -> None:
            self.tokens = call.tokens
            run(call, kernel, role, *given, **named)

        noted.cache_clear = lambda: None  # type: ignore[attr-defined]
        self.module._Kernels.run, vars(self.module)["_found"] = watched, noted
        try:
            yield
        finally:
            self.module._Kernels.run, vars(self.module)["_found"] = run, found

    # -- times and values ---------------------------------------------------------------------------------------------

    def seconds(self, tilings: Configured, timed: Timed) -> float:
        """What a call takes."""
        with self.configured(tilings):
            return timed(self.call, tilings)

    def wrong(self, tilings: Configured) -> str | None:
        """Why configurations are refused: they do not run, spill where the rules' do not, or give wrong values.

        Raises:
            DeviceLostError: the device has failed.
        """
        try:
            with self.configured(tilings):
                found = {d.name: d for d in self._judged.judge(self._run)}
                with self._spilled() as spilled:
                    made = self._named()
        except Exception as error:  # whatever a compiler or a driver says to it
            said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            if is_lost(said):
                last = "the rules" if not tilings else f"{list(tilings)[-1]} {list(tilings.values())[-1]}"
                raise DeviceLostError(
                    f"the device failed by {last}: {said}; nothing runs on it until flowc ends"
                ) from error
            return f"it does not run: {said}"
        for role, count in spilled.items():
            if count > self._untuned_spills[role]:
                return f"{role} spills {count} registers, by the rules {self._untuned_spills[role]}"
        if worst := next((d for d in found.values() if not d.holds), None):
            return (
                f"{worst.name} is off by {worst.error:.1e} from the step-by-step form; {worst.tolerance:.1e} is right"
            )
        for name, off in judge.errors(self._untuned, made, self._tokens, self._params).items():
            most = 2 * max(d.tolerance for n, d in found.items() if n.startswith("d") == name.startswith("d"))
            if not off <= most:
                return f"{name} is off by {off:.1e} from what the untuned op makes; {most:.1e} is right"
        return None

    @property
    def _tokens(self) -> int:
        return self.work.shape.batch * self.work.shape.length

    @property
    def _params(self) -> frozenset[str]:
        return frozenset(f"d{i.name}" for i in self.model.inputs if i.is_param)

    @cached_property
    def _untuned(self) -> Tensors:
        """What the op makes at the shape by its rules."""
        with self.configured({}):
            return self._named()

    @cached_property
    def _untuned_spills(self) -> dict[str, int]:
        with self.configured({}), self._spilled() as found:
            self.call()
        return found

    @contextmanager
    def _spilled(self) -> Iterator[dict[str, int]]:
        """How many registers of a thread spill in each kernel that is launched; none under the interpreter."""
        run, found = self.module._Kernels.run, dict[str, int]()

        def watched(call: Any, kernel: Any, role: str, *given: Any, **named: Any) -> None:
            run(call, _Spills(kernel, role, found), role, *given, **named)

        self.module._Kernels.run = watched
        try:
            yield found
        finally:
            self.module._Kernels.run = run

    def _named(self) -> Tensors:
        """What a call makes: outputs, then gradients by the names of inputs."""
        values = self.call()
        outputs = len(values) - (len(self.inputs) if self.work.trained else 0)
        names = [f"output {n}" for n in range(1, outputs + 1)] + [f"d{n}" for n in self.inputs]
        return dict(zip(names, values, strict=False))

    @cached_property
    def _judged(self) -> judge.Trials:
        """A few chunks of the same sizes, and what is true of them."""
        case, target = self._judging
        return judge.Trials(self.model, self.op, case, self.work.dtype, target)

    @property
    def _judging(self) -> tuple[Case, Target]:
        """What values are judged by, and where."""
        case = replace(self._case(min(2 * self.tokens + 5, max(self.work.shape.length, 1))), chunk=self.tokens)
        target = GPU if self.device == "cuda" else INTERPRETER
        return case, replace(target, options=(*target.options, ("schedule", self.schedule)))

    def judged(self) -> None:
        """The call whose values are judged, which gives states too: other variants of kernels than `call`'s."""
        case, target = self._judging
        self._run(self.op, self.model, draw(self.model, case), {}, self.work.dtype, case, target)

    def _run(self, *given: Any) -> Tensors:
        """The op on that case; without a backward pass its values alone."""
        found = judge.run_op(*given)
        return found if self.work.trained else {n: x for n, x in found.items() if not n.startswith("d")}


@dataclass(frozen=True, slots=True)
class _Spills:
    """A kernel whose launches are noted: what Triton hands back of one says how much it spills."""

    kernel: Any
    role: str
    found: dict[str, int]

    def __getitem__(self, grid: object) -> Callable[..., None]:
        def launch(**arguments: Any) -> None:
            made = self.kernel[grid](**arguments)
            self.found[self.role] = max(self.found.get(self.role, 0), getattr(made, "n_spills", None) or 0)

        return launch

"""`flowc tune` without its command line: shapes in turn, what is found as rows of a table.

In: a `Compilation`, shapes, a type, how long. Out: `Finding`s for every shape, and `Row`s with their provenance.
Refuses, with ValueError, recurrences and shapes whose calls launch nothing that is configured.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from flowc import __version__
from flowc.chunk.cost import Sizes
from flowc.compiler import Compilation
from flowc.report.shape import shape_facts, sizes_at
from flowc.runtime.tables import Row
from flowc.schedule import two_level
from flowc.schedule.candidates import Site, sites
from flowc.schedule.devices import DEVICES, OF_FAMILY, Device
from flowc.schedule.predict import Shape, chosen, schedules
from flowc.schedule.schedule import rows_per_token
from flowc.schedule.staged import StagePlan, kernel_plan
from flowc.schedule.tile_plan import Missing
from flowc.schedule.tilings import Tiling
from flowc.schedule.tuned import INTERPRETED, MEASURED, PREDICTED, Place
from flowc.tune.search import Clock, Finding, Refused, Search, Step
from flowc.tune.trial import KEPT, Timed, Trial, Workload, row

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class Request:
    """What is searched for: a shape with the state's sides and other dimensions, and how it is called."""

    shape: Shape
    sides: tuple[int, int]
    others: Mapping[str, int]
    dtype: str = "bfloat16"
    passes: str = "both"
    schedule: str = "auto"

    @property
    def width(self) -> int:
        """Bytes of an operand's number."""
        return DTYPES[self.dtype].itemsize

    def workload(self, compilation: Compilation) -> Workload:
        """The same with every dimension."""
        sizes = sizes_at(compilation.plan, self.sides, self.others)
        return Workload(self.shape, sizes, DTYPES[self.dtype], self.passes == "both", self.schedule)


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was found for a shape; `how`: measured or predicted, of which device."""

    request: Request
    how: str
    device: str
    schedule: str
    findings: tuple[Finding, ...]


def measure(
    compilation: Compilation, requests: Sequence[Request], seconds: float, told: Callable[[Step], None],
    timed: Timed | None = None, clock: Clock = time.monotonic,
) -> tuple[Tuning, ...]:  # fmt: skip
    """Search the shapes on this machine, each in its share of the time; `timed` takes the place of a GPU's clock.

    Raises:
        ValueError: a call that launches nothing that is configured, or is wrong by the rules already.
    """
    until, found = clock() + seconds, []
    place = "cuda" if torch.cuda.is_available() else "cpu"
    for at, request in enumerate(requests):
        work = request.workload(compilation)
        trial = Trial(compilation, work, place)
        share = clock() + (until - clock()) / (len(requests) - at)
        search = Search(trial, timed or on_gpu, share, told, clock)
        device = next(iter(trial.places.values())).device
        found.append(
            Tuning(request, MEASURED, device, trial.schedule, search.run(searched(compilation, trial, request)))
        )
    return tuple(found)


def searched(compilation: Compilation, trial: Trial, request: Request) -> tuple[Site, ...]:
    """The kernels of a call whose configurations are searched."""
    place, work = next(iter(trial.places.values())), trial.work
    model = _device(place.family, place.device)
    forward, backward = sites(
        _stages(compilation),
        trial.schedule,
        work.sizes,
        trial.tokens,
        request.shape,
        model,
        request.width,
        work.trained,
    )
    return (*forward, *backward)


def _device(family: str, name: str) -> Device:
    """What the cost model knows of a device: itself, or another of its family."""
    known = (d for d in DEVICES.values() if d.name in name.lower())
    return next(known, OF_FAMILY["any" if family == INTERPRETED else family])


def on_gpu(call: Callable[[], object], _: object) -> float:
    """The median of many calls, in seconds."""
    from triton.testing import do_bench

    return 1e-3 * float(do_bench(call, warmup=25, rep=100, return_mode="median"))


Against = Callable[[Workload, Place, Tiling, str], str | None]
"""What speaks against a kernel's configuration in a call by a schedule."""


def compiler(compilation: Compilation, device: Device) -> Against | None:
    """What compiles candidates for a device that is not there; None where nothing is compiled."""
    if find_spec("triton") is None:
        return None
    from triton import knobs

    from flowc.tune.offline import Compiler

    if knobs.runtime.interpret:
        return None
    made: dict[int, Compiler] = {}  # by the identity of workloads, which compilers hold on to

    def against(work: Workload, place: Place, tiling: Tiling, schedule: str) -> str | None:
        if id(work) not in made:
            made[id(work)] = Compiler(compilation, work, device.family)
        return made[id(work)].against(place, tiling, schedule)

    return against


def predict(
    compilation: Compilation, requests: Sequence[Request], device: Device, against: Against | None = None,
    told: Callable[[Step], None] = lambda _: None,
) -> tuple[Tuning, ...]:  # fmt: skip
    """What the cost model says is fastest on a device, of what nothing speaks against; nothing runs.

    Raises:
        ValueError: a recurrence without kernels that are configured, sizes that they do not hold, a call in segments.
    """
    stages, found = _stages(compilation), []
    for request in requests:
        work = request.workload(compilation)
        facts = shape_facts(compilation, request.shape, request.sides, device, work.trained, request.others)
        if request.schedule == "auto" and facts.taken == two_level.NAME:
            raise ValueError(f"{compilation.model.name}: such a call goes in segments (schedule two-level), {KEPT}")
        rows = rows_per_token(compilation.plan.forward.program, Sizes(work.sizes, 1))
        models = schedules(stages, work.sizes, rows, device, width=request.width, keep=work.trained)
        by_name = {m.schedule: m for m in models}
        model = by_name.get(request.schedule) or chosen(models, request.shape)
        forward, backward = sites(
            stages, model.schedule, work.sizes, model.tokens, request.shape, device, request.width, work.trained
        )
        judged = None if against is None else partial(against, work)
        own = (*forward, *(backward if work.trained else ()))
        findings = tuple(_predicted(s, device, model.schedule, judged, told) for s in own)
        found.append(Tuning(request, PREDICTED, device.name, model.schedule, findings))
    return tuple(found)


def _predicted(
    site: Site, device: Device, schedule: str, against: Callable[[Place, Tiling, str], str | None] | None,
    told: Callable[[Step], None],
) -> Finding:  # fmt: skip
    """The first candidate that is predicted to be faster than the rule's and that nothing speaks against."""
    place, rule, candidates = site.place(device.name), site.rule, site.candidates()
    refused: list[Refused] = []
    found = rule.tiling
    for done, candidate in enumerate(candidates, 1):
        if not candidate.seconds < rule.seconds:
            break
        why = None if against is None else against(place, candidate.tiling, schedule)
        if why is None:
            found = candidate.tiling
            break
        refused.append(Refused(site.role, candidate.tiling, why))
        told(Step(site.role, candidate.tiling, done, len(candidates), refused[-1]))
    return Finding(place, found, rule.tiling, len(candidates), len(refused), tuple(refused))


def _stages(compilation: Compilation) -> tuple[StagePlan, ...]:
    """The stages of a spec's kernels, if they have configurations."""
    name, found = compilation.model.name, kernel_plan(compilation.plan)
    if isinstance(found, Missing):
        raise ValueError(f"{name}: {found}")
    if not found.stages:
        raise ValueError(f"{name}: its kernels go token by token and have no configurations to choose")
    return found.stages


# -- rows -------------------------------------------------------------------------------------------------------------


def rows(compilation: Compilation, tunings: Sequence[Tuning]) -> tuple[Row, ...]:
    """What was found as rows of a table, each with where it is from."""
    now, about = f"{datetime.now(UTC):%Y-%m-%d}", provenance()
    found = []
    for tuning in tunings:
        for finding in tuning.findings:
            tuned = row(finding.place, finding.tiling, tuning.how, now, __version__)
            origin = {**record(tuning, finding), **about}
            found.append(Row(compilation.spec_hash, compilation.model.name, tuned, origin))
    return tuple(found)


def record(tuning: Tuning, finding: Finding) -> dict[str, object]:
    """What a row was found by."""
    request = tuning.request
    return {
        "shape": {"B": request.shape.batch, "T": request.shape.length, "H": request.shape.heads,
                  "K": request.sides[0], "V": request.sides[1], **request.others},
        "dtype": request.dtype,
        "passes": request.passes,
        "schedule": tuning.schedule,
        "rule": list(finding.rule),
        "seconds": finding.seconds,
        "seconds_by_rules": finding.untuned,
        "candidates": finding.candidates,
        "tried": finding.tried,
        "refused": [{**asdict(r), "tiling": list(r.tiling)} for r in finding.refused],
    }  # fmt: skip


def provenance() -> dict[str, object]:
    """What a row was found with: versions, commit, command."""
    versions = {name: _version(name) for name in ("torch", "triton")}
    return {"versions": {"flowc": __version__, **versions}, "commit": _commit(), "command": shlex.join(sys.argv)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's, with `+` where tracked files differ from it; None where flowc is installed otherwise."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head, changed = (
            subprocess.run(["git", *given], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
            for given in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")

"""Where the configuration of each Triton kernel is from: a rule, a prediction, or a search on a device.

In: a `Compilation`. Out: lines for people and a record for programs: what rules give a kernel in half precision at a
state of 128 by 128, and the rows of `flowc tune` that a call takes near their sizes. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from flowc.compiler import Compilation
from flowc.schedule.plan import Plan
from flowc.schedule.staged import KernelPlan, kernel_plan
from flowc.schedule.tilings import Tiling, tiling
from flowc.schedule.tuned import Tuned


@dataclass(frozen=True, slots=True)
class Configuration:
    """A kernel, what rules give it, and what was found for it."""

    kernel: str
    rule: Tiling
    tuned: tuple[Tuned, ...]


def configurations(compilation: Compilation) -> tuple[Configuration, ...]:
    """Those of all kernels that have any."""
    return tuple(
        Configuration(role, rule, tuple(r for r in compilation.tuned if r.role == role))
        for role, rule in _rules(compilation.plan)
    )


def _rules(plan: Plan | None) -> Iterator[tuple[str, Tiling]]:
    found = None if plan is None else kernel_plan(plan)
    if isinstance(found, KernelPlan):
        for stage in found.stages:
            for kernel, adjoint in stage.kernels():
                name = f"{kernel.name}{'_backward' if adjoint else ''}"
                yield stage.role(kernel, adjoint), tiling(stage, name)[0]


def configuration_lines(compilation: Compilation) -> list[str]:
    """A line for every kernel, and one for every row that was found for it."""
    found = configurations(compilation)
    if not found:
        return []
    lines = ["Configurations: columns x rows of the state that a program holds, warps, stages"]
    for c in found:
        lines.append(f"  {c.kernel:22}{_shown(c.rule):>18}   rule, in half precision at K = V = 128")
        lines += [f"  {'':22}{_shown(r.tiling):>18}   {r}: {r.at()}" for r in c.tuned]
    if not any(c.tuned for c in found):
        lines.append("  nothing was searched; `flowc tune` does it on the GPU at hand")
    return lines


def _shown(found: Tiling) -> str:
    columns, rows, warps, stages = found
    return f"{columns} x {rows}, {warps}, {stages}"


def configuration_records(compilation: Compilation) -> list[dict[str, object]]:
    """The same as JSON shows it."""
    return [
        {"kernel": c.kernel, "rule": list(c.rule), "tuned": [asdict(r) for r in c.tuned]}
        for c in configurations(compilation)
    ]

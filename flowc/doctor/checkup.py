"""What a checkup found, for people and for programs.

In: facts. Out: `Checkup`: the conditions that hold, a table, a record for JSON. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flowc.doctor.conditions import CONDITIONS, Condition
from flowc.doctor.facts import PACKAGES, Facts, Package, Tool, collect

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Checkup:
    """The facts, and the conditions that they fulfil."""

    facts: Facts
    found: tuple[Condition, ...]

    @property
    def is_fine(self) -> bool:
        """Whether nothing but notes was found."""
        return all(condition.is_note for condition in self.found)

    def record(self) -> dict[str, object]:
        """As JSON shows it."""
        findings = [
            {
                "name": condition.name,
                "severity": _severity(condition),
                "problem": condition.problem.format(facts=self.facts),
                "remedy": condition.remedy.format(facts=self.facts),
                "source": condition.source,
            }
            for condition in self.found
        ]
        return {"fine": self.is_fine, "facts": asdict(self.facts), "findings": findings}

    def table(self) -> Table:
        """A row per fact."""
        from rich.table import Table

        table = Table(title="flowc doctor", show_header=False)
        table.add_column()
        table.add_column(overflow="fold")
        for name, value in _rows(self.facts):
            # Square brackets, as in a path, are not markup.
            table.add_row(name, value.replace("[", r"\["))
        return table

    def paragraphs(self) -> str:
        """What was found, in the form of diagnostics."""
        parts = [
            f"{_severity(condition)}[{condition.name}]: {condition.problem.format(facts=self.facts)}\n"
            f"  = help: {condition.remedy.format(facts=self.facts)}\n"
            f"  = source: {condition.source}"
            for condition in self.found
        ]
        return "\n\n".join(parts) if parts else "nothing is known to be wrong with this combination"


def checkup(facts: Facts | None = None) -> Checkup:
    """Hold the facts, by default those about this machine, against every condition."""
    known = collect() if facts is None else facts
    return Checkup(known, tuple(condition for condition in CONDITIONS if condition.holds(known)))


def _severity(condition: Condition) -> str:
    return "note" if condition.is_note else "error"


def _rows(facts: Facts) -> Iterator[tuple[str, str]]:
    yield "flowc", facts.flowc
    yield "python", f"{facts.python}, {facts.platform}"
    for name in PACKAGES:
        yield name, _package(getattr(facts, name))
    yield "CUDA of torch", facts.cuda or "none: a CPU build"
    for index, device in enumerate(facts.devices):
        yield f"device {index}", f"{device.name}, {device.architecture}, {device.memory / 2**30:.0f} GiB"
    if not facts.devices:
        yield "device", "none that torch can use, and a GPU driver" if facts.driver else "none"
    yield "ptxas of Triton", _tool(facts.ptxas)
    yield "TRITON_PTXAS_PATH", _tool(facts.chosen_ptxas)
    yield "TRITON_INTERPRET", "set" if facts.interpret else "not set"
    yield "OMP_NUM_THREADS", "not set" if facts.omp is None else facts.omp
    yield "threads of torch", f"{'unknown' if facts.threads is None else facts.threads}, on {facts.cpus} CPUs"
    cache = facts.cache
    size = f"{cache.modules} modules, {cache.bytes / 2**20:.1f} MiB"
    yield "cache", f"{cache.path}: {size}{'' if cache.writable else ', not writable'}"


def _package(package: Package) -> str:
    return package.version or (f"broken: {package.error}" if package.error else "not installed")


def _tool(tool: Tool | None) -> str:
    return "none" if tool is None else f"{tool.version or 'does not run'}, {tool.path}"

"""What a verification found, for people and for programs.

In: findings. Out: `Report`: a verdict, a table, a record for JSON. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowc.verify.compare import Finding

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Report:
    """All findings on one spec."""

    name: str
    seed: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether every quantity is within its tolerance."""
        return all(finding.holds for finding in self.findings)

    def verdict(self) -> str:
        """One sentence."""
        off = [finding.quantity for finding in self.findings if not finding.holds]
        if off:
            return f"{self.name}: {len(off)} of {len(self.findings)} quantities are off: {', '.join(off)}"
        return f"{self.name}: all {len(self.findings)} quantities agree with the step-by-step form"

    def record(self) -> dict[str, object]:
        """As JSON shows it."""
        rows = [
            {"quantity": f.quantity, "error": f.error, "tolerance": f.tolerance, "case": f.case, "holds": f.holds}
            for f in self.findings
        ]
        return {"name": self.name, "seed": self.seed, "holds": self.holds, "findings": rows}

    def table(self) -> Table:
        """A row per quantity with its worst relative RMS error."""
        from rich.table import Table

        table = Table(title=f"{self.name}: compiled against step by step, float64, seed {self.seed}")
        for column, justify in (("quantity", "left"), ("worst error", "right"), ("tolerance", "right")):
            table.add_column(column, justify="left" if justify == "left" else "right")
        table.add_column("at")
        table.add_column("")
        for f in self.findings:
            mark = "[green]ok[/]" if f.holds else "[bold red]off[/]"
            # Square brackets in a quantity's name are not markup.
            table.add_row(f.quantity.replace("[", r"\["), f"{f.error:.1e}", f"{f.tolerance:.1e}", f.case, mark)
        return table

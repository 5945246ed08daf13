"""The report of a run on a GPU: as text, and as one HTML file that needs nothing else.

In: what `on_gpu` found: the machine, flowc doctor's findings, and of every part its status, its record and its
pictures. Out: texts. Numbers that mean nothing (tiny sizes, the interpreter) and numbers that are predicted are marked.
Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from processes import HERE
from rich.console import Console
from rich.table import Table

INTERPRETED = "by Triton's interpreter, on the CPU: errors count, times mean nothing, and nothing here is a GPU's"
TINY = "at tiny sizes: errors count, times are those of launches and mean nothing"
MEASURED = "measured on the device named above; columns marked as predicted are the cost model's"
MOST = 400
"""Rows of a table that HTML shows; report.json has all."""

Report = Mapping[str, Any]


def meaning(report: Report) -> str:
    """What the numbers are."""
    if report["device"].startswith("none"):
        return INTERPRETED
    return TINY if report["tiny"] else MEASURED


def summary(report: Report) -> str:
    """A line per part."""
    table = Table(title=f"flowc on {report['device']}")
    for name in ("part", "what", "status", "rows", "left", "seconds", "kernels found", "compiled"):
        table.add_column(name, justify="left" if name in ("part", "what", "status") else "right")
    for row in parts(report):
        table.add_row(*(str(x).replace("[", r"\[") for x in row))
    return _printed(table)


def parts(report: Report) -> list[tuple[str, ...]]:
    """What `summary` has of every part."""
    found = []
    for name, part in report["parts"].items():
        kernels = part.get("kernels") or {}
        counts = (len(part.get("record", {}).get("rows", ())), part.get("left", 0), part.get("seconds", "-"))
        status = part["status"] + (", as before" if part.get("kept") else "")
        launched = (kernels.get("found", "-"), kernels.get("compiled", "-"))
        found.append((name, part["title"], status, *map(str, counts), *map(str, launched)))
    return found


def shipped(report: Report) -> str:
    """What became of the kernels that were compiled ahead."""
    known = report["shipped"]
    return f"{known['kernels']} kernels were compiled ahead" + (f"; {known['why']}" if known["why"] else "")


def text(report: Report) -> str:
    """All of it, as a terminal shows it."""
    made = [
        summary(report),
        f"Numbers are {meaning(report)}.",
        f"commit {report['commit']}, " + ", ".join(f"{n} {v}" for n, v in report["versions"].items()),
        f"{report['command']}, with {report['budget']:g} minutes",
        shipped(report),
        "",
        report["doctor_text"],
    ]
    for name, part in report["parts"].items():
        said = filter(None, (part.get(what, "").rstrip() for what in ("text", "raised")))
        made += ["", f"== {name}: {part['title']} ({part['status']})", "", *said]
    return "\n".join(made) + "\n"


def tables(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every list of objects of a record, with a mark on columns that are predicted."""
    found = []
    for name, rows in record.items():
        if not (isinstance(rows, list) and rows and all(isinstance(r, dict) for r in rows)):
            continue
        columns = [c for c in dict.fromkeys(c for r in rows for c in r) if c != "key"]
        heads = [{"name": c, "predicted": "predict" in c} for c in columns]
        cells = [[shown(r.get(c)) for c in columns] for r in _worst_first(rows)[:MOST]]
        found.append({"name": name, "heads": heads, "rows": cells, "more": max(0, len(rows) - MOST)})
    return found


def _worst_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What failed, then the rest as it comes."""
    return sorted(rows, key=lambda r: r.get("verdict") not in ("failed", "died"))


def shown(value: object) -> str:
    """A cell."""
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.4g}"
        case list():
            return ", ".join(map(shown, value))
        case dict():
            return ", ".join(f"{n} {shown(v)}" for n, v in value.items())
        case _:
            return str(value)


def html(report: Report) -> str:
    """The same with tables and pictures."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sections = [
        {
            "name": name,
            "title": part["title"],
            "status": part["status"],
            "raised": part.get("raised", ""),
            "svg": Markup(part.get("svg", "")),
            "tables": tables(part.get("record", {})),
        }
        for name, part in report["parts"].items()
    ]
    facts = {n: shown(v) for n, v in report["doctor"]["facts"].items()}
    return environment.get_template("gpu_report.html.j2").render(
        report=report, meaning=meaning(report), shipped=shipped(report), summary=parts(report), sections=sections,
        facts=facts, findings=report["doctor"]["findings"], versions=report["versions"].items(),
    )  # fmt: skip


def _printed(table: Table) -> str:
    console = Console(file=StringIO(), width=140)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]

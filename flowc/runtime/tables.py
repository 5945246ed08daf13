"""Tables of configurations that `flowc tune` found: where they lie, reading and writing them, compiling by them.

In: those that flowc ships (flowc/schedule/tables/FAMILY.json), and the user's: `tuned/FAMILY.json` in the cache folder,
or the file that FLOWC_TUNED names; none where that is empty. Out: rows, each read type by type, and what is wrong with
others, in words. Refuses nothing: a file that is no table, and a row that says what its fields do not allow, are left
out and told, and what is written over is kept beside it.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import flowc.schedule
from flowc.compiler import Compilation, Stage
from flowc.files import write_whole
from flowc.options import Options
from flowc.runtime.cache import cache_folder
from flowc.schedule.tilings import FAMILIES
from flowc.schedule.tuned import INTERPRETED, Tuned, roles
from flowc.source import Source

FORMAT = 1
SHIPPED = Path(flowc.schedule.__file__).parent / "tables"
ABOUT = "Configurations of kernels, found by `flowc tune`; a row of the same spec and place replaces the one before."
EARLY = (Stage.SPEC, Stage.MODEL, Stage.RECURRENCE, Stage.CHUNK)
"""Stages that no configuration has a part in."""


@dataclass(frozen=True, slots=True)
class Row:
    """A configuration of a spec's kernel; `spec` is the hash of its canonical text, `record` where the row is from."""

    spec: str
    name: str
    tuned: Tuned
    record: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """What another row has to have to take its place."""
        return self.spec, *self.tuned.key

    def as_json(self) -> dict[str, object]:
        """As a table has it."""
        return {"name": self.name, "spec": self.spec, **asdict(self.tuned), "record": dict(self.record)}


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file, and what is wrong with it; `whole`: it is a table at all."""

    rows: tuple[Row, ...] = ()
    problems: tuple[str, ...] = ()
    whole: bool = True


def user_table(family: str) -> Path:
    """Where the user's rows for a family of devices are."""
    chosen = os.environ.get("FLOWC_TUNED")
    return Path(chosen) if chosen else cache_folder() / "tuned" / f"{family}.json"


def read_table(path: Path) -> Table:
    """The rows of a file; none where there is no file."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return Table()
    except OSError as error:
        return Table((), (f"{path}: {error.strerror}; it is left out",), False)
    except (ValueError, RecursionError):
        return Table((), (f"{path}: no table of configurations: not JSON; it is left out",), False)
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("rows"), list):
        why = f'it has no "format": {FORMAT} or no rows'
        return Table((), (f"{path}: no table of configurations that this flowc reads: {why}; it is left out",), False)
    rows, problems = [], []
    for number, given in enumerate(found["rows"], 1):
        try:
            rows.append(_row(given))
        except ValueError as error:
            problems.append(f"{path}: row {number} is left out: {error}")
    return Table(tuple(rows), tuple(problems))


def _row(given: object) -> Row:
    """A row, or ValueError."""
    if not isinstance(given, dict):
        raise ValueError("it is no object")
    names = [f.name for f in fields(Tuned)]
    known = {"spec", "name", "record", *names}
    if odd := [*(n for n in known if n not in given), *(n for n in given if n not in known)]:
        raise ValueError(f"{', '.join(sorted(map(str, odd)))}: missing, or no part of a row")
    spec, name, record = given["spec"], given["name"], given["record"]
    if not isinstance(spec, str) or len(spec) != 64 or not isinstance(name, str) or not isinstance(record, dict):
        raise ValueError("spec is a hash of 64 digits, name a text, record an object")
    return Row(spec, name, Tuned(**{n: given[n] for n in names}), record)


def writable(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is searched to be written there.

    Raises:
        OSError: it cannot be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():  # which would be moved out of the way as a table that is broken
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def write_table(path: Path, rows: Sequence[Row]) -> tuple[str, ...]:
    """Add rows to a file, whole or not at all; what is told: what there was that could not be read.

    Raises:
        OSError: it cannot be written.
    """
    writable(path)
    there = read_table(path)
    told = there.problems
    if not there.whole or there.problems:
        kept = path.with_name(f"{path.name}.broken")
        os.replace(path, kept)
        told += (f"{path}: what could be read of it goes on; the file as it was is {kept}",)
    merged = {row.key: row for row in (*there.rows, *rows)}
    made = [merged[key].as_json() for key in sorted(merged, key=repr)]
    write_whole(path, json.dumps({"format": FORMAT, "about": ABOUT, "rows": made}, indent=1) + "\n")
    return told


def rows_of(spec_hash: str) -> tuple[tuple[Tuned, ...], tuple[str, ...]]:
    """The configurations of a spec, and what is wrong with the tables; the user's replace those that are shipped."""
    tables = [read_table(path) for path in (*sorted(SHIPPED.glob("*.json")), *_user_tables())]
    if (chosen := os.environ.get("FLOWC_TUNED")) and not Path(chosen).exists():
        tables.append(Table((), (f"{chosen}: FLOWC_TUNED names it, and it is not there; no row is read",)))
    rows = {row.tuned.key: row.tuned for table in tables for row in table.rows if row.spec == spec_hash}
    return tuple(sorted(rows.values())), tuple(p for table in tables for p in table.problems)


def _user_tables() -> list[Path]:
    chosen = os.environ.get("FLOWC_TUNED")
    if chosen is not None:
        return [Path(chosen)] if chosen else []
    try:
        return [user_table(family) for family in (*FAMILIES, INTERPRETED)]
    except RuntimeError:  # a user without a home
        return []


def compile_by_tables(source: Source, options: Options, stop_after: Stage) -> tuple[Compilation, tuple[str, ...]]:
    """Compile a spec up to a stage, its kernels configured by the tables; and what is wrong with those, in words."""
    compilation = Compilation(source, options)
    problems: tuple[str, ...] = ()
    if stop_after not in EARLY and compilation.plan is not None:
        rows, problems = rows_of(compilation.spec_hash)
        known = roles(compilation.plan) if rows else frozenset()
        name = compilation.model.name
        problems += tuple(f"{name} has no kernel {r.role}; its row is left out" for r in rows if r.role not in known)
        if kept := tuple(r for r in rows if r.role in known):
            compilation = compilation.configured(kept)
    compilation.stage(stop_after)
    return compilation, problems

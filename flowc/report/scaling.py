"""How each aggregation scales with the tokens of a chunk C, the rank R and the tokens of a sequence L.

In: a `Compilation` and, to measure, its emitted module. Out: `Scaling`: settings with one of the three varied, and for
each aggregation what it forms, its products one after another, its flops and, if measured, its time; as text, as JSON
and as curves. Everything is per head and for one forward and one backward pass, at a state of HEAD_SIZE columns.
Refuses, with ValueError, a recurrence without a system to solve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from types import ModuleType

from flowc.chunk.aggregation import AGGREGATIONS, Formed, formed, inverse_flops, solve_products
from flowc.chunk.cost import Sizes
from flowc.compiler import Compilation
from flowc.report.curves import Panel
from flowc.schedule.schedule import HEAD_SIZE, MOST_ROWS, rows_per_token, system_rows

CHUNKS = (16, 32, 64, 128, 256)
RANKS = (1, 2, 4)
LENGTHS = (1024, 4096, 16384)
CHUNK, LENGTH = 64, 4096  # where they are not varied
HEADS = 8  # that are measured together

STATED = (
    ("tensorInv", "C^2 R (d^2 + R d + C R^2)", "C^2 R + d", "C^2 R^2 + C R d + d^2"),
    ("sigDelta", "C^2 R (d^2 + R d + R)", "C R + d", "C^2 R^2 + C R d + d^2"),
)
"""ParallelFlow's orders for one chunk of C tokens of rank R and a d x d state: sequential, in parallel, memory.

After a public summary of arXiv 2504.00492, in which L is the length of a chunk; see docs/decisions/0014.
"""


@dataclass(frozen=True, slots=True)
class Way:
    """One aggregation: inverses formed per chunk, products of a chunk one after another, flops and seconds of all."""

    name: str
    formed: Formed
    products: int
    flops: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Setting:
    """Chunks of C tokens, rank R, a sequence of L tokens; `rows` are a chunk's."""

    chunk: int
    rank: int
    length: int
    rows: int
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Settings in which one of C, R and L grows."""

    varied: str
    settings: tuple[Setting, ...]

    def of(self, setting: Setting) -> int:
        """What is varied, in one of the settings."""
        return {"C": setting.chunk, "R": setting.rank, "L": setting.length}[self.varied]

    def curve(self, name: str, measured: bool) -> tuple[tuple[float, float], ...]:
        """An aggregation's flops or seconds by what is varied."""
        found = []
        for setting in self.settings:
            way = next(w for w in setting.ways if w.name == name)
            found.append((float(self.of(setting)), float(way.seconds or 0) if measured else float(way.flops)))
        return tuple(found)

    def growth(self, name: str, measured: bool) -> float:
        """The power of what is varied that flops or seconds grow with, from the first setting to the last."""
        (x, y), *_, (far, high) = self.curve(name, measured)
        return log(high / y) / log(far / x)


@dataclass(frozen=True, slots=True)
class Scaling:
    """All sweeps of a recurrence; `machine` says what times are of, None if there are none."""

    name: str
    sweeps: tuple[Sweep, ...]
    machine: str | None

    @property
    def measured(self) -> bool:
        """Whether there are times."""
        return self.machine is not None

    def __str__(self) -> str:
        """The tables, and what ParallelFlow states."""
        return "\n".join(_lines(self))

    def record(self) -> dict[str, object]:
        """What JSON shows."""
        return {
            "name": self.name,
            "columns": HEAD_SIZE,
            **({} if self.machine is None else {"machine": self.machine}),
            "stated": [dict(zip(("algorithm", "sequential", "parallel", "memory"), s, strict=True)) for s in STATED],
            "sweeps": [
                {
                    "varied": sweep.varied,
                    "settings": [_setting_record(s) for s in sweep.settings],
                    "growth": {a: _growth(sweep, a, self.measured) for a in AGGREGATIONS},
                }
                for sweep in self.sweeps
            ],
        }

    def panels(self) -> tuple[Panel, ...]:
        """Curves: flops by what is varied and, if measured, milliseconds."""
        units = (("flops", False, 1.0), *((("milliseconds", True, 1e3),) if self.measured else ()))
        return tuple(
            Panel(
                f"{unit} per head against {sweep.varied}",
                sweep.varied,
                {a: tuple((x, scale * y) for x, y in sweep.curve(a, timed)) for a in AGGREGATIONS},
            )
            for unit, timed, scale in units
            for sweep in self.sweeps
        )


def scaling(compilation: Compilation, module: ModuleType | None = None) -> Scaling:
    """The sweeps of a recurrence, timed by the functions of its emitted `module` if that is given."""
    program = compilation.plan.forward.program
    name = compilation.plan.recurrence.model.name
    rows = system_rows(program)
    if rows is None:
        raise ValueError(f"{name}: no edit reads the state, so there is no system to solve")

    def setting(chunk: int, rank: int, length: int) -> Setting:
        whole = chunk * rows_per_token(program, Sizes(dict.fromkeys(rows.names, rank), chunk))
        chunks = -(-length // chunk)
        ways = []
        for a in AGGREGATIONS:
            products = solve_products(a, whole, HEAD_SIZE)
            flops = chunks * (inverse_flops(a, whole) + 2 * sum(products))
            seconds = None if module is None else measured(module, a, whole, chunks)
            ways.append(Way(a, formed(a, whole), len(products), flops, seconds))
        return Setting(chunk, rank, length, whole, tuple(ways))

    def legal(chunk: int, rank: int) -> bool:
        return chunk * rows_per_token(program, Sizes(dict.fromkeys(rows.names, rank), chunk)) <= MOST_ROWS

    most = max(c for c in CHUNKS if c <= CHUNK and legal(c, RANKS[-1] if rows.names else 1))
    sweeps = [Sweep("C", tuple(setting(c, 1, LENGTH) for c in CHUNKS if legal(c, 1)))]
    if rows.names:
        sweeps.append(Sweep("R", tuple(setting(most, r, LENGTH) for r in RANKS)))
    sweeps.append(Sweep("L", tuple(setting(most, 1, length) for length in LENGTHS)))
    return Scaling(name, tuple(sweeps), None if module is None else _machine())


def measured(module: ModuleType, aggregation: str, rows: int, chunks: int) -> float:
    """Seconds per head of forming and solving, forward and backward, of the best of five runs of every segment.

    One thread, float32.
    """
    import time

    import torch

    rng = torch.Generator().manual_seed(0)
    together = min(chunks, max(1, 32 // HEADS))  # chunks whose systems are formed in one call, as an op's segments are
    matrix = torch.randn(together, HEADS, rows, rows, generator=rng).tril(-1).double() / rows
    right = torch.randn(together, HEADS, rows, HEAD_SIZE, generator=rng)
    out = torch.empty_like(right)

    def run() -> float:
        start = time.perf_counter()
        inverse = module._INVERSES[aggregation](matrix)
        for c in range(together):
            module._solve(inverse[c], right[c], aggregation, out=out[c])
            module._solve(inverse[c], right[c], aggregation, transposed=True, out=out[c])
        return time.perf_counter() - start

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run()
        times = [min(run() for _ in range(5)) for _ in range(0, chunks, together)]
    finally:
        torch.set_num_threads(threads)
    return sum(times) / HEADS


def _machine() -> str:
    """What `measured` measures on."""
    from pathlib import Path

    import torch

    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, 1 thread, torch {torch.__version__}"


def _setting_record(setting: Setting) -> dict[str, object]:
    ways = [
        {
            "aggregation": w.name,
            "formed": {"inverses": w.formed.count, "rows": w.formed.rows},
            "products_in_turn": w.products,
            "flops": w.flops,
            **({} if w.seconds is None else {"seconds": w.seconds}),
        }
        for w in setting.ways
    ]
    return {"C": setting.chunk, "R": setting.rank, "L": setting.length, "rows": setting.rows, "aggregations": ways}


def _growth(sweep: Sweep, name: str, timed: bool) -> dict[str, float]:
    found = {"flops": sweep.growth(name, False)}
    return found | {"seconds": sweep.growth(name, True)} if timed else found


def _lines(found: Scaling) -> Iterator[str]:
    yield (f"{found.name}: (I - N) U = Z of C tokens of rank R, solved for {HEAD_SIZE} columns, forward and backward")
    yield "flops (2 for a multiply-add) and milliseconds are those of a head's L tokens, the rest those of a chunk"
    if found.machine is not None:
        yield f"measured on {found.machine}, {HEADS} heads together"
    for sweep in found.sweeps:
        yield ""
        timed = f"{'ms':>10}" if found.measured else ""
        head = f"{'C':>5}{'R':>4}{'L':>7}{'rows':>6}"
        yield f"{head}  {'aggregation':12}{'inverses':>14}{'in turn':>9}{'flops':>16}{timed}"
        for s in sweep.settings:
            lead = f"{s.chunk:>5}{s.rank:>4}{s.length:>7}{s.rows:>6}"
            for w in s.ways:
                time = "" if w.seconds is None else f"{1e3 * w.seconds:>10.2f}"
                yield f"{lead}  {w.name:12}{w.formed!s:>14}{w.products:>9}{w.flops:>16,}{time}"
                lead = " " * len(lead)
        for timed_growth in (False, True) if found.measured else (False,):
            powers = ", ".join(f"{a} {sweep.varied}^{sweep.growth(a, timed_growth):.2f}" for a in AGGREGATIONS)
            yield f"  {'time' if timed_growth else 'flops'} from first to last: {powers}"
    yield ""
    yield "ParallelFlow (arXiv 2504.00492) states, as orders for a chunk of C tokens of rank R and a d x d state:"
    yield f"  {'':11}{'sequential':28}{'in parallel':14}memory"
    for name, work, parallel, memory in STATED:
        yield f"  {name:11}{work:28}{parallel:14}{memory}"

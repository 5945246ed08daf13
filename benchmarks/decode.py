"""One token of many sequences, their states in a pool: `op.step` beside the peer's recurrent kernels and the bandwidth.

    .venv/bin/python benchmarks/decode.py [NAME ...] [--ops A,B] [--batches N ...] [--heads N] [--side N]
        [--states TYPE ...] [--device NAME] [--budget MINUTES] [--json FILE] [--again] [--tiny]
        [--tools DIR]

Vectors are bfloat16, B 1, 8, 64 and 256, H 32, K = V = 128; states of float32 and bfloat16 lie in a pool with a slot
more than there are sequences, which are in no order. The limit is what a device takes to read the states, the inputs
and the slots once and to write the states and the outputs once. First values: outputs and states after the token
against float64 step by step, and no other slot may change; exits with 1 where one is wrong. On a GPU a step is timed by
`triton.testing.do_bench`, whose caches are cold, called and as a captured CUDA graph; so are the peer's, which write
the next state, of float32, to memory of its own. Elsewhere nothing is timed: rows hold the limit of the device NAME and
are marked as predicted. `--tiny` takes small shapes in float16, under TRITON_INTERPRET=1 without a GPU, and checks
their values; DIR, ../shared/tools of this project, lets the peer run there too.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import torch
import triton
from command import device_name, known_device, names_in
from gpu import ERROR, prepared
from gpu_peers import RECURRENT, absent, is_there, tried, triton_path
from inputs import drawn, sizes_of
from ledger import LOST, about, is_lost, read, same
from processes import ROOT
from rich.console import Console
from rich.table import Table

import flowc
from flowc.files import write_whole
from flowc.fuzz.find import last
from flowc.reference import outputs_of
from flowc.schedule.devices import DEVICES, Device
from flowc.semantics import load
from flowc.semantics.model import Model

NAMES = (*RECURRENT, "gated_delta_product", "mlstm", "mamba")
BATCHES, HEADS, SIDE = (1, 8, 64, 256), 32, 128
TINY = {"batches": (1, 3), "heads": 2, "side": 16}
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CHECKED = 4  # sequences whose values are compared


@dataclass(frozen=True)
class Row:
    """One op at one batch: the least bytes of a step, and microseconds, None where nothing was timed."""

    name: str
    batch: int
    heads: int
    side: int
    state: str
    bytes: int
    limit: float
    eager: float | None = None
    graph: float | None = None
    peer_eager: float | None = None
    peer_graph: float | None = None

    @property
    def basis(self) -> str:
        """What the row is made of."""
        return "predicted" if self.eager is None else "measured"

    def rate(self, column: str) -> float | None:
        """Tokens per second by one of the times."""
        taken = getattr(self, column)
        return None if taken is None else 1e6 * self.batch / taken


@dataclass(frozen=True)
class Case:
    """A step that is ready: inputs of one token, the states' pools and the slots."""

    op: Any
    model: Model
    inputs: dict[str, torch.Tensor]
    pools: tuple[torch.Tensor, ...]
    slots: torch.Tensor

    def call(self) -> tuple[Any, Any]:
        """The step, in place: outputs and pools."""
        state = self.pools if len(self.pools) > 1 else self.pools[0]
        made: tuple[Any, Any] = self.op.step(**self.inputs, state=state, state_indices=self.slots, backend="triton")
        return made

    def along_time(self, inputs: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """Inputs with the axis T that whole sequences have, of length one."""
        params = {i.name for i in self.model.inputs if i.is_param}
        return {n: v if n in params else v[:, None] for n, v in (inputs or self.inputs).items()}


def case(
    name: str, batch: int, heads: int, sizes: dict[str, int], dtype: torch.dtype, state: torch.dtype, device: str
) -> Case:
    """Random inputs and states; the slots of sequences are in no order, and slot 0 is nobody's."""
    op, model = compiled(name)
    params = {i.name for i in model.inputs if i.is_param}
    x = drawn(model, (batch, 1, heads), sizes, dtype, device)
    rng = torch.Generator(device).manual_seed(1)
    shapes = [(batch + 1, heads, *(n.value(sizes) for n in s.shape.sizes)) for s in model.states]
    pools = tuple(torch.rand(s, generator=rng, device=device).to(state) for s in shapes)
    slots = 1 + torch.randperm(batch, generator=rng, device=device)
    return Case(op, model, {n: v if n in params else v[:, 0] for n, v in x.items()}, pools, slots)


@cache
def compiled(name: str) -> tuple[Any, Model]:
    """The op of an example, and its model."""
    text = (ROOT / f"examples/{name}.flow").read_text()
    return flowc.compile(text), load(text, name)


def least(model: Model, batch: int, heads: int, sizes: dict[str, int], dtype: torch.dtype, state: torch.dtype) -> int:
    """Bytes of a step: states once in and once out, every input in, every output out, and the slots."""
    params = {i.name for i in model.inputs if i.is_param}
    one = drawn(model, (1, 1, heads), sizes, dtype)
    inputs = sum(v.numel() * v.element_size() * (1 if n in params else batch) for n, v in one.items())
    shapes = [[n.value(sizes) for n in s.shape.sizes] for s in model.states]
    made = [[n.value(sizes) for n in o.value.shape.sizes] for o in outputs_of(model.statements)]
    states, outputs = (heads * batch * sum(torch.Size(s).numel() for s in some) for some in (shapes, made))
    return inputs + 2 * state.itemsize * states + dtype.itemsize * outputs + torch.int64.itemsize * batch


def errors(given: Case) -> dict[str, dict[str, float]]:
    """The largest difference from float64 step by step, over the largest number of the same output or state.

    Infinite for a pool of which another slot has changed.
    """
    before = [pool[given.slots] for pool in given.pools]
    start = [x.double() for x in before]
    exact, ends = given.op.reference(
        **given.along_time({n: v.double() for n, v in given.inputs.items()}),
        initial_state=tuple(start) if len(start) > 1 else start[0],
        output_final_state=True,
    )
    truth = [x[:, 0] for x in several(exact)], several(ends)
    found = {}
    if is_there() and given.model.name in RECURRENT:
        with triton_path():
            made, refused = tried(RECURRENT[given.model.name].decoded(given.along_time(), before[0]))
        if made is None:
            Console(stderr=True).print(f"{given.model.name}: the peer's step: {refused}", markup=False)
        else:
            found["peer"] = _named(given.model, [made[0][:, 0]], [made[1]], *truth)
    untouched = torch.ones(len(given.pools[0]), dtype=torch.bool, device=given.slots.device)
    untouched[given.slots] = False
    others = [pool[untouched] for pool in given.pools]
    made, pools = given.call()
    found["flowc"] = _named(given.model, several(made), [pool[given.slots] for pool in several(pools)], *truth)
    for s, pool, kept in zip(given.model.states, given.pools, others, strict=True):
        if not torch.equal(pool[untouched], kept):
            found["flowc"][s.name] = float("inf")
    return found


def _named(
    model: Model, made: Sequence[torch.Tensor], ends: Sequence[torch.Tensor],
    exact: Sequence[torch.Tensor], exact_ends: Sequence[torch.Tensor],
) -> dict[str, float]:  # fmt: skip
    names = [o.name for o in outputs_of(model.statements)] + [s.name for s in model.states]
    pairs = zip(names, (*made, *ends), (*exact, *exact_ends), strict=True)
    return {n: float((a.double() - b).abs().max() / b.abs().max()) for n, a, b in pairs}


def several(made: Any) -> tuple[torch.Tensor, ...]:
    """What an op gives out of outputs or states: bare where there is one."""
    return tuple(made) if isinstance(made, tuple) else (made,)


def graphed(call: Callable[[], object]) -> Callable[[], object]:
    """The call as a captured CUDA graph."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def microseconds(call: Callable[[], object]) -> float:
    """The median of many, caches cold."""
    return 1e3 * float(triton.testing.do_bench(call, warmup=25, rep=100, return_mode="median"))


def times(given: Case) -> dict[str, float | None]:
    """The step and the peer's, called and replayed."""
    found: dict[str, float | None] = {"eager": microseconds(given.call), "graph": microseconds(graphed(given.call))}
    if is_there() and given.model.name in RECURRENT:
        with triton_path():
            peer = RECURRENT[given.model.name].decoded(given.along_time(), given.pools[0][given.slots])
            found["peer_eager"], refused = tried(lambda: microseconds(peer))
            found["peer_graph"], uncaptured = tried(lambda: microseconds(graphed(peer)))
            for said in filter(None, (refused, uncaptured)):
                Console(stderr=True).print(f"{given.model.name}: the peer's step: {said}", markup=False)
    return found


def table(rows: Sequence[Row], device: str) -> Table:
    """A line for every op, type of states and batch."""
    timed = "and as timed" if any(r.eager is not None for r in rows) else "nothing timed"
    made = Table(title=f"tokens per second, by the bandwidth of {device}, {timed}")
    for column in ("op", "states", "B", "bytes a token", "limit", "us", "flowc", "of it", "graph", "of it "):
        made.add_column(column, justify="left" if column in ("op", "states") else "right")
    for column in ("peer", "graph ", ""):
        made.add_column(column, justify="right")
    for r in rows:
        cells = [
            r.name,
            r.state,
            str(r.batch),
            f"{r.bytes / r.batch:,.0f}",
            f"{r.rate('limit'):,.0f}",
            f"{r.limit:.2f}",
        ]
        for column in ("eager", "graph"):
            taken, rate = getattr(r, column), r.rate(column)
            cells += ["-", "-"] if rate is None else [f"{rate:,.0f}", f"{r.limit / taken:.0%}"]
        for column in ("peer_eager", "peer_graph"):
            rate = r.rate(column)
            cells.append("-" if rate is None else f"{rate:,.0f}")
        made.add_row(*cells, r.basis)
    return made


def rows_of(name: str, asked: argparse.Namespace, dtype: torch.dtype, known: Device) -> list[Row]:
    """All rows of one op; timed where there is a GPU."""
    _, model = compiled(name)
    sizes, made = sizes_of(model, asked.side), []
    for state in asked.states:
        for batch in asked.batches:
            own = TYPES[state]
            moved = least(model, batch, asked.heads, sizes, dtype, own)
            taken = times(case(name, batch, asked.heads, sizes, dtype, own, "cuda")) if asked.gpu else {}
            made.append(Row(name, batch, asked.heads, asked.side, state, moved, 1e6 * moved / known.bandwidth, **taken))
    return made


def checked(name: str, asked: argparse.Namespace, dtype: torch.dtype) -> dict[str, dict[str, dict[str, float]]]:
    """The errors of one op by the states' type, of few sequences."""
    _, model = compiled(name)
    device, batch = "cuda" if asked.gpu else "cpu", min(CHECKED, max(asked.batches))
    sizes = sizes_of(model, asked.side)
    with torch.no_grad():
        return {s: errors(case(name, batch, asked.heads, sizes, dtype, TYPES[s], device)) for s in asked.states}


def arguments_of(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with what follows from it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--ops", help="the names, with commas between them")
    parser.add_argument(
        "--budget", type=float, default=math.inf, metavar="MINUTES", help="begin no other op after so long"
    )
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--heads", type=int)
    parser.add_argument("--side", type=int, help="of K, V and other sizes but the rank")
    parser.add_argument("--states", nargs="+", choices=list(TYPES))
    parser.add_argument("--device", choices=list(DEVICES), default="h200", help="whose bandwidth, without a GPU")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--again", action="store_true", help="run again what the file has")
    parser.add_argument("--tools", type=Path)
    asked = parser.parse_args(given)
    asked.gpu = torch.cuda.is_available()
    asked.names = asked.names or names_in(asked.ops) or list(NAMES)
    missing = [n for n in asked.names if not (ROOT / f"examples/{n}.flow").is_file()]
    if missing:
        parser.error(f"there is no examples/{missing[0]}.flow")
    if asked.tiny and not asked.gpu and not triton.knobs.runtime.interpret:
        parser.error("there is no GPU; set TRITON_INTERPRET=1 as well")
    usual = TINY if asked.tiny else {"batches": BATCHES, "heads": HEADS, "side": SIDE}
    for name, value in usual.items():
        setattr(asked, name, getattr(asked, name) or value)
    asked.states = asked.states or ["float32", "float16" if asked.tiny else "bfloat16"]
    return asked


def main(given: Sequence[str] | None = None) -> int:
    """Compare values, measure, save, print."""
    asked = arguments_of(given)
    prepared(asked.tools)
    known = DEVICES[asked.device]
    if asked.gpu:
        known = known_device() or known
    dtype, console = torch.float16 if asked.tiny else torch.bfloat16, Console(stderr=True)
    until, found = time.monotonic() + 60 * asked.budget, Found.opened(asked, known)
    for name in [n for n in asked.names if n not in found.done]:
        if time.monotonic() >= until:
            break
        try:
            wrong = {name: checked(name, asked, dtype)} if asked.gpu or asked.tiny else {}
            with torch.no_grad():
                found.rows += rows_of(name, asked, dtype, known)
            found.wrong |= wrong
            console.print(f"{name}: {found.rows[-1].basis}")
        except Exception as error:  # whatever an op raises is what was found
            found.failed[name] = last(error)
            console.print(f"{name}: {found.failed[name]}", markup=False)
            if is_lost(error):
                found.save(asked)
                return LOST
        found.save(asked)
    return told(found, asked, dtype)


def told(found: Found, asked: argparse.Namespace, dtype: torch.dtype) -> int:
    """Print what was found; the exit code."""
    out = Console(width=150)
    out.print(table(found.rows, found.known.name))
    for name, by_type in found.wrong.items():
        for state, sides in by_type.items():
            told = (f"{side} {max(e.values()):.1e}" for side, e in sides.items())
            out.print(f"{name}, states of {state}: values {', '.join(told)} from float64")
    if (why := absent()) is not None:
        out.print(f"Nothing is the peer's: {why}.", markup=False)
    if not asked.gpu:
        out.print("Nothing was timed: there is no GPU. The limits are predictions.")
    errors = [e for by_type in found.wrong.values() for sides in by_type.values() for e in sides["flowc"].values()]
    return int(any(not e <= ERROR[dtype] for e in errors) or bool(found.failed))


@dataclass
class Found:
    """What there is of some ops: rows, errors of values, what was raised."""

    known: Device
    rows: list[Row] = field(default_factory=list)
    wrong: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def opened(asked: argparse.Namespace, known: Device) -> Found:
        """What the file has of the same code, versions, device and sizes."""
        made, there = Found(known), {} if asked.json is None or asked.again else read(asked.json)
        if same(there, about(device_name("none, nothing was timed"))) and there.get("asked") == sizes_asked(asked):
            names = [f.name for f in fields(Row)]
            made.rows = [Row(**{n: row[n] for n in names}) for row in there["rows"]]
            made.wrong, made.failed = there["errors"], there["failed"]
        return made

    @property
    def done(self) -> set[str]:
        """The ops that need not be run again."""
        return {r.name for r in self.rows} | self.failed.keys()

    def save(self, asked: argparse.Namespace) -> None:
        """Write the file, if there is to be one."""
        if asked.json is not None:
            rows = [{**asdict(r), "basis": r.basis, "limit_tokens_per_second": r.rate("limit")} for r in self.rows]
            made = about(device_name("none, nothing was timed")) | {
                "bandwidth": {"of": self.known.name, "bytes_per_second": self.known.bandwidth},
                "asked": sizes_asked(asked), "errors": self.wrong, "failed": self.failed,
                "left": [n for n in asked.names if n not in self.done], "rows": rows,
            }  # fmt: skip
            write_whole(asked.json, json.dumps(made, indent=1) + "\n")


def sizes_asked(asked: argparse.Namespace) -> dict[str, Any]:
    """What rows are of."""
    return {"batches": list(asked.batches), "heads": asked.heads, "side": asked.side, "states": list(asked.states)}


if __name__ == "__main__":
    sys.exit(main())

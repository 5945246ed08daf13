"""Values and gradients against flash-linear-attention's step-by-step functions, for every recurrence that both have.

    make fla && .venv/bin/python benchmarks/compare_peer.py [NAME ...] [--json benchmarks/results/compare_peer.json]

In: examples, all that the peer has without names. Out: a table of relative RMS differences: the output, last states,
and the gradient of every input and first state, of one random functional of outputs and last states. The compiled op
runs in float64, the peer in float32, as it casts everything, on the same numbers; beside it stands what flowc's own
step-by-step form loses in float32. Exits with 1 where they differ and are not known to, or do not where they are.
Refuses to run without the peer's environment.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peer_rows import ROWS, Row
from processes import HERE, ROOT, commit, machine
from rich.console import Console
from rich.table import Table

import flowc
from flowc import reference
from flowc.files import write_whole
from flowc.fuzz.cases import Case, Roles, draw, draw_states, is_key
from flowc.semantics import load
from flowc.semantics.model import Model

Tensors = dict[str, torch.Tensor]

LENGTH = 70
SIZES = {"K": 16, "V": 8, "R": 2, "M": 6}
LIMIT = 1e-4
"""Float32 (eps 1.2e-7) over 70 tokens: a state's entry is a sum of as many roundings, an output one of 16 products of
it, a gradient passes through both twice; states that grow (iplr's, up to a hundredfold) multiply that."""

LEAST = 1e-2
"""A gradient counts as at least this share of the largest: one that all but cancels is its own rounding."""


@dataclass(frozen=True)
class Result:
    """One comparison: relative differences by quantity, or why there are none."""

    label: str
    peer: str
    errors: dict[str, float]
    stepwise: dict[str, float]
    known: str = ""
    skipped: str = ""

    @property
    def differs(self) -> bool:
        """Whether some quantity is off."""
        return not all(e <= LIMIT for e in self.errors.values())

    @property
    def is_expected(self) -> bool:
        """Whether they are equal, or differ where they are known to."""
        return bool(self.skipped) or self.differs == bool(self.known)

    def worst(self, wanted: str) -> str:
        """The largest difference of outputs, states or gradients, and what has it."""
        kinds = {"o": "output", "d": "gradient"}
        found = {n: e for n, e in self.errors.items() if kinds.get(n if n == "o" else n[0], "state") == wanted}
        if not found:
            return "-"
        name = max(found, key=lambda n: found[n])
        return f"{found[name]:.0e}" + ("" if wanted == "output" else f" {name}")


# -- flowc's side -----------------------------------------------------------------------------------------------------


def rounded(values: Tensors) -> Tensors:
    """Numbers that float32 holds exactly."""
    return {n: x.float().double() for n, x in values.items()}


def drawn(row: Row, model: Model) -> tuple[Tensors, Tensors]:
    """Inputs and first states."""
    sizes = {**SIZES, **row.sizes}
    free = tuple(sizes[d.name] for d in model.dimensions if d.value is None)
    plain = Case(2, LENGTH, 2, free)
    units = tuple(i.name for i in model.inputs if is_key(i, plain)) + row.units
    strengths = tuple(i.name for i in model.inputs if i.name.startswith("beta"))
    case = Case(2, LENGTH, 2, free, roles=Roles(units, strengths))
    return rounded(row.prepare(draw(model, case))), rounded(draw_states(model, case) if row.starts else {})


def functional(model: Model, states: tuple[str, ...], outputs: Tensors) -> Tensors:
    """Random weights of outputs and of the states that the peer gives."""
    rng = torch.Generator().manual_seed(1)
    return {n: torch.randn(outputs[n].shape, generator=rng).double() for n in ("o", *states)}


def with_gradients(values: Tensors, weights: Tensors, leaves: Tensors) -> Tensors:
    """Values that have weights, and the gradients of their weighted sum."""
    loss = sum((values[n] * w.to(values[n])).sum() for n, w in weights.items())
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    found = {n: values[n].detach() for n in weights}
    for (n, x), g in zip(leaves.items(), gradients, strict=True):
        found[n] = torch.zeros_like(x) if g is None else g
    return found


def compiled(text: str, model: Model, inputs: Tensors, start: Tensors) -> Tensors:
    """What the op makes: the output and the last states by name."""
    names = [s.name for s in model.states]
    first = tuple(start[n] for n in names) if start else None
    given = first if first is None or len(first) > 1 else first[0]
    o, last = flowc.compile(text)(**inputs, initial_state=given, output_final_state=True)
    states = (last,) if isinstance(last, torch.Tensor) else tuple(last.values() if isinstance(last, dict) else last)
    return {"o": o, **dict(zip(names, states, strict=True))}


def stepped(model: Model, inputs: Tensors, start: Tensors) -> Tensors:
    """What the step-by-step form makes."""
    outputs, states = reference.run(model, inputs, start or None)
    return {**outputs, **states}


def leaves_of(inputs: Tensors, start: Tensors, dtype: torch.dtype) -> tuple[Tensors, Tensors, Tensors]:
    """Inputs and first states that gradients are asked of, and both by the names of their gradients."""
    x, s = ({n: v.detach().to(dtype).requires_grad_() for n, v in some.items()} for some in (inputs, start))
    return x, s, {f"d{n}": v for n, v in x.items()} | {f"d{n}[0]": v for n, v in s.items()}


@dataclass(frozen=True)
class Sides:
    """What goes to the peer, and flowc's results: the truth and what float32 costs step by step."""

    task: dict[str, Any]
    truth: Tensors
    stepwise: Tensors


def ours(row: Row, text: str, steps: bool) -> Sides:
    """Draw, run in float64 and step by step in float32."""
    model = load(text, row.spec)
    inputs, start = drawn(row, model)
    x, s, leaves = leaves_of(inputs, start, torch.float64)
    values = stepped(model, x, s) if steps else compiled(text, model, x, s)
    weights = functional(model, row.states, values)
    truth = with_gradients(values, weights, leaves)
    x, s, leaves = leaves_of(inputs, start, torch.float32)
    stepwise = with_gradients(stepped(model, x, s), weights, leaves)
    single = {n: {m: v.float() for m, v in some.items()} for n, some in (("inputs", inputs), ("start", start))}
    return Sides({**single, "weights": {n: w.float() for n, w in weights.items()}}, truth, stepwise)


# -- both -------------------------------------------------------------------------------------------------------------


def errors(row: Row, truth: Tensors, found: Tensors) -> dict[str, float]:
    """Relative RMS differences of what the peer has."""

    def rms(x: torch.Tensor) -> float:
        return x.double().pow(2).mean().sqrt().item()

    judged = [n for n in truth if n in found and n[1:] not in row.unjudged]
    largest = max((rms(truth[n]) for n in judged if n.startswith("d")), default=0.0)
    made = {}
    for n in judged:
        scale = max(rms(truth[n]), LEAST * largest if n.startswith("d") else 0.0)
        made[n] = rms(found[n].double() - truth[n]) / scale if found[n].shape == truth[n].shape else float("inf")
    return made


def ask(python: Path, tasks: dict[str, Any]) -> dict[str, Any]:
    """The peer's answers, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("tasks.pt", "answers.pt")]
        torch.save(tasks, files[0])
        subprocess.run([python, "-P", str(HERE / "peer_worker.py"), *files], check=True)
        found: dict[str, Any] = torch.load(files[1])
    return found


def compare(rows: dict[str, Row], folder: Path, steps: bool, python: Path) -> tuple[list[Result], dict[str, str]]:
    """Every row's result, and the peer's versions."""
    sides, skipped = {}, {}
    for label, row in rows.items():
        path = folder / f"{row.spec}.flow"
        if path.is_file():
            sides[label] = ours(row, row.text or path.read_text(), steps)
        else:
            skipped[label] = f"there is no {folder.name}/{path.name} yet"
    answers = ask(python, {label: side.task for label, side in sides.items()})
    results = []
    for label, row in rows.items():
        found = answers["answers"].get(label, {})
        why = skipped.get(label) or found.get("error", "")
        made = [{}, {}] if why else [errors(row, sides[label].truth, x) for x in (found, sides[label].stepwise)]
        results.append(Result(label, row.peer, made[0], {n: made[1][n] for n in made[0]}, row.known, why))
    return results, answers["versions"]


def table(results: list[Result]) -> Table:
    """A row per comparison."""
    shape = ", ".join(f"{n} {size}" for n, size in {"B": 2, "T": LENGTH, "H": 2, **SIZES}.items())
    made = Table(title=f"relative RMS differences, {shape}: the peer in float32, flowc in float64")
    for column in ("recurrence", "of fla.ops", "output", "last state", "gradients", "step by step, float32", ""):
        made.add_column(column, overflow="fold")
    for r in results:
        if r.skipped:
            made.add_row(r.label, r.peer, "-", "-", "-", "-", f"[yellow]skipped:[/] {r.skipped}")
            continue
        verdict = ("[yellow]differs:[/] " + r.known if r.known else "[bold red]off[/]") if r.differs else "[green]ok[/]"
        cells = [r.worst(kind).replace("[", r"\[") for kind in ("output", "state", "gradient")]
        made.add_row(r.label, r.peer, *cells, f"{max(r.stepwise.values()):.0e}", verdict)
    return made


def main() -> int:
    """Compare, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="specs; all that the peer has if none are named")
    parser.add_argument("--folder", type=Path, default=ROOT / "examples", help="where the specs are")
    parser.add_argument("--steps", action="store_true", help="the step-by-step form in place of the compiled op")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-fla/bin/python", help="the peer's interpreter")
    parser.add_argument("--json", type=Path, help="save the result there, with machine, versions, commit and command")
    args = parser.parse_args()
    if not args.python.is_file():
        parser.error(f"no {args.python}: run `make fla` first")
    if unknown := set(args.names) - {row.spec for row in ROWS.values()}:
        parser.error(f"the peer has no {', '.join(sorted(unknown))}")
    rows = {label: row for label, row in ROWS.items() if not args.names or row.spec in args.names}
    results, versions = compare(rows, args.folder, args.steps, args.python)
    Console(width=180).print(table(results))
    if skipped := [r.label for r in results if r.skipped]:
        Console().print(f"{len(skipped)} of {len(results)} skipped", highlight=False)
    if args.json is not None:
        where = {"machine": machine(), "versions": versions, "commit": commit(), "command": shlex.join(sys.argv)}
        settings = {"length": LENGTH, "sizes": SIZES, "limit": LIMIT, "steps": args.steps}
        record = {**where, **settings, "rows": [asdict(r) | {"differs": r.differs} for r in results]}
        write_whole(args.json, json.dumps(record, indent=1) + "\n")
    return 0 if all(r.is_expected for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())

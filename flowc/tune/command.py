"""`flowc tune`: the command line of the search.

In: a spec, shapes, a budget. Out: a table or JSON on standard output, progress on standard error, rows in a table of
configurations. Refuses, as wrong usage, to measure where there is no GPU, and what has no configurations to choose.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowc.console import FINDINGS, read, show
from flowc.diagnostics import FlowError
from flowc.schedule.devices import DEVICES

if TYPE_CHECKING:
    from flowc.compiler import Compilation
    from flowc.tune.search import Step
    from flowc.tune.tune import Request, Tuning

SHAPE = "8,4096,16,128,128"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--shape",
    "shapes",
    metavar="B,T,H,K,V",
    multiple=True,
    default=(SHAPE,),
    show_default=True,
    help="search at this shape: sequences, tokens, value heads, rows and columns of the state; R=4 may follow. May be"
    " given several times, then the budget is shared",
)
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float16", "float32"]),
    default="bfloat16",
    show_default=True,
    help="of vectors; the two halves share their rows",
)
@click.option(
    "--passes",
    type=click.Choice(["forward", "both"]),
    default="both",
    show_default=True,
    help="what is timed: a forward pass without gradients, or one with its backward pass",
)
@click.option(
    "--schedule",
    type=click.Choice(["auto", "split", "fused"]),
    default="auto",
    show_default=True,
    help="whose kernels are searched; auto: those that such a call launches",
)
@click.option(
    "--budget", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, metavar="MINUTES",
    help="stop after so long, with what is found until then",
)  # fmt: skip
@click.option("--predicted", is_flag=True, help="measure nothing: write what the cost model predicts to be fastest")
@click.option("--device", type=click.Choice(list(DEVICES)), help="with --predicted: for which GPU  [default: h200]")
@click.option(
    "--into",
    type=click.Path(dir_okay=False, path_type=Path),
    help="write the rows into this table, to be committed, instead of the user's",
)
@click.option("--json", "as_json", is_flag=True, help="print the rows as a JSON array")
def tune(
    file: str, shapes: tuple[str, ...], dtype: str, passes: str, schedule: str, budget: float, predicted: bool,
    device: str | None, into: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Search how the Triton kernels of FILE are best configured on this GPU, and remember it.

    A configuration is how many columns and rows of the state a program holds, its warps and its stages. Without `tune`
    they come from rules that are right for most devices; the search times whole calls, one kernel after another, those
    first that the cost model predicts to be fast, and refuses those whose values are not right.

    What is found is a row of a table, by device, spec, the sides of the state, and T and B times H each by the next
    power of two: calls of other lengths take the nearest row, and nothing is ever searched again unasked. A device
    without rows takes those of another of its family: ampere, blackwell, amd, or any, which is the rest, Hopper among
    them. From then on `flowc.compile` and `flowc compile` print the rows of this spec into the module; `flowc explain
    FILE` says where each kernel's configuration is from. The user's table is tuned/FAMILY.json in the cache folder;
    FLOWC_TUNED=FILE reads and writes another, and an empty FLOWC_TUNED reads none. Calls in segments (schedule
    two-level) keep the rules.

    As in: flowc tune gated_deltanet.flow --shape 8,4096,16,128,128 --budget 5

    Or without a GPU: flowc tune gated_deltanet.flow --predicted --device h100
    """
    if device is not None and not predicted:
        raise click.UsageError("--device goes with --predicted: what is measured is measured on this machine's GPU")
    if into is None and os.environ.get("FLOWC_TUNED") == "":
        raise click.UsageError("FLOWC_TUNED is empty, so that no table is read: name a file there, or give --into FILE")
    requests = [_request(text, dtype, passes, schedule) for text in shapes]
    compiled = _compiled(file)
    _ready(into)
    try:
        if predicted:
            tunings = _predicted(compiled, requests, device or "h200")
        else:
            tunings = _measured(compiled, requests, 60 * budget)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _keep(compiled, tunings, into, as_json)


def _ready(into: Path | None) -> None:
    """Refuse, before the search, a table that cannot be written, and a file that is named and is another thing."""
    from flowc.runtime.tables import read_table, user_table, writable
    from flowc.schedule.tilings import FAMILIES

    try:
        for path in {into or user_table(family) for family in FAMILIES}:
            writable(path)
    except (OSError, RuntimeError) as error:
        raise click.UsageError(f"{_where(into)} cannot be written: {error}") from error
    if into is not None and not (there := read_table(into)).whole:
        raise click.UsageError(f"--into: {there.problems[0].removesuffix('; it is left out')}; name another file")


def _where(into: Path | None) -> str:
    """What a user calls the place that rows go to."""
    if into is not None or (chosen := os.environ.get("FLOWC_TUNED")):
        return str(into or f"{chosen}, which FLOWC_TUNED names,")
    return "the cache folder" + ", which FLOWC_CACHE_DIR names," * bool(os.environ.get("FLOWC_CACHE_DIR"))


def _compiled(file: str) -> Compilation:
    """The spec by the rules alone; exits with 1 for errors in it."""
    from flowc.compiler import Stage, compile_text
    from flowc.options import Options

    source = read(file)
    try:
        return compile_text(source, Options(), Stage.PLAN)
    except FlowError as error:
        show(error.source, error.diagnostics)
        sys.exit(FINDINGS)


def _request(text: str, dtype: str, passes: str, schedule: str) -> Request:
    """A shape as it was given."""
    from flowc.report.shape import shape_of
    from flowc.tune.tune import Request

    try:
        return Request(*shape_of(text), dtype, passes, schedule)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _predicted(compiled: Compilation, requests: list[Request], name: str) -> tuple[Tuning, ...]:
    """What the cost model says, of what does not spill where a compiler is there to tell."""
    from rich.console import Console

    from flowc.tune.tune import compiler, predict

    device, console = DEVICES[name], Console(stderr=True)
    against = compiler(compiled, device)
    if against is None:
        console.print("nothing is compiled here, so what spills is not known: predicted times alone decide")
    with console.status("compiling what is predicted to be fast"):
        return predict(compiled, requests, device, against, lambda step: console.print(str(step.refused), markup=False))


def _measured(compiled: Compilation, requests: list[Request], seconds: float) -> tuple[Tuning, ...]:
    """The search on this machine's GPU, its progress on standard error."""
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from flowc.tune.search import shown
    from flowc.tune.trial import DeviceLostError
    from flowc.tune.tune import measure

    if not torch.cuda.is_available():
        raise click.UsageError(
            "there is no GPU that torch can use, so nothing can be measured; --predicted writes what the cost model"
            " predicts, and `flowc doctor` says what this machine has"
        )
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("values and times by the rules", total=None)

        def told(step: Step) -> None:
            text = f"{step.role}, {step.done} of {step.of}: {shown(step.tiling)}"
            bar.update(task, description=text, completed=step.done, total=step.of)
            if step.refused is not None:
                bar.console.print(str(step.refused), markup=False)

        try:
            return measure(compiled, requests, seconds, told)
        except DeviceLostError as error:
            raise click.ClickException(f"{error}; no row is written") from error


def _keep(compiled: Compilation, tunings: tuple[Tuning, ...], into: Path | None, as_json: bool) -> None:
    """Write the rows, say what they are and where."""
    from rich.console import Console

    from flowc.runtime.tables import user_table, write_table
    from flowc.tune.report import table
    from flowc.tune.tune import rows

    found = rows(compiled, tunings)
    by_file: dict[Path, list[object]] = {}
    try:
        for row in found:
            by_file.setdefault(into or user_table(row.tuned.family), []).append(row)
        for path in by_file:
            for told in write_table(path, [r for r in found if into or user_table(r.tuned.family) == path]):
                click.echo(f"warning: {told}", err=True)
    except (OSError, RuntimeError) as error:
        raise click.UsageError(f"{_where(into)} cannot be written: {error}") from error
    if as_json:
        click.echo(json.dumps([row.as_json() for row in found], indent=2))
    else:
        Console(width=140).print(table(tunings))
    for path, own in by_file.items():
        click.echo(f"{len(own)} rows in {path}", err=as_json)

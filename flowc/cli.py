"""The command line: `flowc check | compile | explain | verify | table | tune | fuzz | doctor | cache`.

In: files of specs (`-` is standard input) and options. Out: the product on standard output (a module, a stage, JSON, a
table), diagnostics on standard error. Exit codes: 0 fine, 1 findings (errors in a spec, a stale module, a failed
comparison), 2 wrong usage, 70 a crash of flowc itself. `check` and `--help` import neither torch nor sympy.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from flowc import __version__
from flowc.console import FINDINGS, read, show, write
from flowc.diagnostics import Diagnostic, FlowError, Format, render
from flowc.fuzz.command import fuzz
from flowc.options import Options
from flowc.recorded import recorded_options, recorded_spec, recorded_tuned
from flowc.report.table_command import table
from flowc.runtime.cache_command import cache
from flowc.schedule.devices import DEVICES
from flowc.source import Source
from flowc.tune.command import tune

if TYPE_CHECKING:
    from flowc.compiler import Compilation
    from flowc.schedule.tuned import Tuned

CRASH = 70
MODULE = "module"
STAGES = ("spec", "model", "recurrence", "chunk", "plan")

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flowc")
def cli() -> None:
    """Compile recurrences, written as in a paper, to chunked differentiable torch ops."""


def main() -> NoReturn:
    """The entry point: run the command line and exit by its code."""
    try:
        cli()
    except Exception:
        traceback.print_exc()
        click.echo("flowc crashed; this is a bug in flowc, not in the spec", err=True)
        sys.exit(CRASH)
    sys.exit(0)


def _flag(option: Field[Any]) -> Callable[[Command], Command]:
    """The command-line flag of one field of Options."""
    choices = option.metadata.get("choices")
    spelled = "" if choices is None else "".join(f"; {name}: {text}" for name, text in choices.items())
    return click.option(
        f"--{option.name.replace('_', '-')}",
        option.name,
        type=click.IntRange(min=1) if choices is None else click.Choice(list(choices)),
        default=option.default,
        help=option.metadata["help"] + spelled,
        show_default=choices is not None,
    )


def with_options(command: Command) -> Command:
    """Give `command` one flag per field of Options."""
    for option in reversed(fields(Options)):
        command = _flag(option)(command)
    return command


_existing = click.Path(exists=True, dir_okay=False, allow_dash=True)
_format = click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)


# -- check ------------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("files", nargs=-1, required=True, type=_existing)
@click.option("--strict", is_flag=True, help="count warnings as errors")
@_format
def check(files: tuple[str, ...], strict: bool, style: Format) -> None:
    """Report what is wrong with FILES, all of it in one run, and compile nothing.

    What class a recurrence is, and so whether it is taken token by token (W204), is for `explain` and `compile`.
    Text goes to standard error, JSON (one list for all files) to standard output.
    """
    from flowc.semantics import loaded, warnings

    found: list[tuple[Source, tuple[Diagnostic, ...]]] = []
    for name in files:
        source = read(name)
        try:
            found.append((source, warnings(loaded(source))))
        except FlowError as error:
            found.append((source, error.diagnostics))
    if style == "json":
        records = [record for source, some in found for record in json.loads(render(source, some, "json"))]
        click.echo(json.dumps(records, indent=2, ensure_ascii=False))
    else:
        for source, some in found:
            show(source, some)
    serious = sum(strict or d.severity == "error" for _, some in found for d in some)
    if serious:
        sys.exit(FINDINGS)


# -- compile ----------------------------------------------------------------------------------------------------------


@cli.command("compile")
@click.argument("file", type=_existing, required=False)
@click.option(
    "-o", "directory", type=click.Path(file_okay=False, path_type=Path), help="write the module there as NAME.py"
)
@click.option("--emit", type=click.Choice(STAGES), help="print this stage instead of a module, and stop there")
@click.option(
    "--check",
    "module",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="write nothing; exit 1 if this module is not what FILE (by default the spec that the module quotes) and the "
    "options recorded in it give",
)
@click.option(
    "--certify/--no-certify",
    default=True,
    show_default=True,
    help="write no module whose programs the step contradicts",
)
@_format
@with_options
def compile_(
    file: str | None,
    directory: Path | None,
    emit: str | None,
    module: Path | None,
    certify: bool,
    style: Format,
    **chosen: Any,
) -> None:
    """Compile FILE to a self-contained Python module, written to standard output or below `-o`.

    Its chunk programs are held to the step first, in exact arithmetic (see `flowc verify`).
    """
    if sum(choice is not None for choice in (directory, emit, module)) > 1:
        raise click.UsageError("-o, --emit and --check exclude each other")
    if directory is not None and directory.exists() and not directory.is_dir():
        raise click.UsageError(f"-o {directory}: it is no directory; the module is written into one, as NAME.py")
    if module is not None:
        check_module(None if file is None else read(file), module, style)
        return
    if file is None:
        raise click.UsageError("Missing argument 'FILE'.")
    source = read(file)
    options = Options(**chosen)
    compiled = run_stages(source, options, emit or MODULE, style)
    if emit is not None:
        from flowc.compiler import Stage
        from flowc.report.stages import stage_text

        click.echo(stage_text(compiled, Stage(emit)))
        return
    artifact = compiled.artifact
    if certify:
        certified(compiled)
    if directory is None:
        click.echo(artifact.source, nl=False)
    else:
        path = directory / f"{artifact.name}.py"
        write(path, artifact.source, "-o")
        click.echo(path)


def run_stages(
    source: Source, options: Options, stop_after: str, style: Format, tuned: tuple[Tuned, ...] | None = None
) -> Compilation:
    """Compile up to a stage, warnings on standard error; exits after saying what is wrong.

    By the tables of `flowc tune`, or by the rows of one that are given. The exit code is 1 for errors in the spec, 2
    for options that do not fit it.
    """
    from flowc.compiler import Stage, compile_text
    from flowc.runtime.tables import compile_by_tables

    stage = Stage(stop_after)
    try:
        if tuned is None:
            compiled, problems = compile_by_tables(source, options, stage)
            for problem in problems:
                click.echo(f"warning: {problem}", err=True)
        else:
            compiled = compile_text(source, options, stage, tuned)
    except FlowError as error:
        show(error.source, error.diagnostics, style)
        sys.exit(FINDINGS)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if stage is not Stage.SPEC:
        show(source, compiled.warnings, style)
    return compiled


def certified(compiled: Compilation) -> None:
    """Exit with 1 where the certificate finds the programs wrong; say on standard error what it cannot tell."""
    from flowc.certify import text

    found = compiled.certify()
    if not found.holds:
        click.echo(text(found, compiled.source.name, compiled.model.canonical), err=True)
    if found.mismatch is not None:
        sys.exit(FINDINGS)


def check_module(source: Source | None, module: Path, style: Format) -> None:
    """Exit with 1 unless the bytes of `module` are what its spec gives under the options that it records.

    The spec is `source`, or where that is None the one that the module quotes.
    """
    text = module.read_bytes()
    recorded, tuned = recorded_options(text), recorded_tuned(text)
    source = source or recorded_spec(text, module)
    if recorded is None or source is None or tuned is None:
        missing = {"__options__": recorded is None, "spec": source is None, "_TUNED": tuned is None}
        odd = [name for name, there in missing.items() if there]
        what = "no module that flowc made" if len(odd) > 1 else "edited"
        click.echo(f"{module}: {what}: it has no readable {odd[0]}", err=True)
        sys.exit(FINDINGS)
    fresh = run_stages(source, recorded, MODULE, style, tuned).artifact.source.encode()
    if fresh != text:
        click.echo(
            f"{module}: stale or edited: flowc {__version__} makes a different module of {source.name}", err=True
        )
        sys.exit(FINDINGS)


# -- explain and verify -----------------------------------------------------------------------------------------------


@cli.command()
@click.argument("file", type=_existing)
@click.option("--json", "as_json", is_flag=True, help="print a JSON object")
@click.option("--scaling", "scales", is_flag=True, help="say instead how each aggregation scales")
@click.option("--measure", is_flag=True, help="with --scaling: measure it on the CPU, too")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="with --scaling: draw it, as an .svg file"
)
@click.option(
    "--shape", metavar="B,T,H,K,V", help="say instead what a pass of that shape is predicted to take; R=4 may follow"
)
@click.option("--device", type=click.Choice(list(DEVICES)), help="with --shape: on which GPU  [default: h200]")
@click.option("--backward", is_flag=True, help="with --shape: and the backward pass after it, for which more is stored")
@with_options
def explain(
    file: str, as_json: bool, scales: bool, measure: bool, plot: Path | None, shape: str | None, device: str | None,
    backward: bool, **chosen: Any,
) -> None:  # fmt: skip
    """Say what was derived from FILE and chosen for it, and why."""
    if (device is not None or backward) and shape is None:
        raise click.UsageError("--device and --backward go with --shape")
    if (measure or plot is not None) and not scales:
        raise click.UsageError("--measure and --plot go with --scaling")
    if plot is not None and plot.suffix != ".svg":
        raise click.UsageError(f"--plot {plot}: it writes SVG; call the file NAME.svg")
    if shape is not None and scales:
        raise click.UsageError("--shape and --scaling exclude each other")
    source, options = read(file), Options(**chosen)
    if scales:
        from flowc.report.explain_command import explain_scaling
        from flowc.runtime.load import load

        compiled = run_stages(source, options, MODULE if measure else "plan", "text")
        explain_scaling(compiled, load(compiled.artifact) if measure else None, as_json, plot)
        return
    from flowc.report.explain import explain_record, explain_text
    from flowc.report.explain_command import explain_shape

    compiled = run_stages(source, options, "plan", "text")
    if shape is not None:
        explain_shape(compiled, as_json, shape, device or "h200", backward)
        return
    click.echo(json.dumps(explain_record(compiled), indent=2) if as_json else explain_text(compiled))


@cli.command()
@click.argument("file", type=_existing)
@click.option("--json", "as_json", is_flag=True, help="print a JSON object")
@click.option("--seed", type=click.IntRange(0, 2**32), default=0, show_default=True, help="of the inputs")
@click.option("--numerics", is_flag=True, help="what float32 and half precision lose instead: a table, in minutes")
@click.option("--length", "lengths", type=click.IntRange(1), multiple=True, help="of --numerics, several times")
@with_options
def verify(file: str, as_json: bool, seed: int, numerics: bool, lengths: tuple[int, ...], **chosen: Any) -> None:
    """Compare what FILE compiles to with the step-by-step form: values, final states and every gradient.

    First its chunk programs in exact arithmetic, at random points; then the compiled op in float64, on inputs within
    the ranges that the spec declares.

    With --numerics the op in float32, bfloat16 and float16 beside the step-by-step form in the same type: gates from
    none to -inf, keys that repeat, write strengths up to 2, sequences of 64, 1,024 and 8,192 tokens (else those that
    --length names), the three worst cells at 65,536.
    """
    from flowc.verify.command import show_comparison, show_numerics

    if lengths and not numerics:
        raise click.UsageError("--length is of --numerics")
    if chosen["backend"] == "triton" and not numerics:
        raise click.UsageError("the comparison is in float64, which Triton kernels do not have: leave out --backend")
    compiled = run_stages(read(file), Options(**chosen), MODULE, "text")
    if numerics:
        show_numerics(compiled, lengths, as_json)
    else:
        show_comparison(compiled, file, seed, as_json)


# -- doctor -----------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="print a JSON object")
def doctor(as_json: bool) -> None:
    """Say what this machine has, and which combinations of it are known to fail; exit with 1 if there are any."""
    from flowc.doctor import checkup

    found = checkup()
    if as_json:
        click.echo(json.dumps(found.record(), indent=2))
    else:
        from rich.console import Console

        Console().print(found.table())
        click.echo(found.paragraphs())
    if not found.is_fine:
        sys.exit(FINDINGS)


cli.add_command(fuzz)
cli.add_command(table)
cli.add_command(tune)
cli.add_command(cache)

"""`flowc table`: specs beside each other.

In: files. Out: a table, Markdown or JSON on standard output; diagnostics and progress on standard error. Exits with 1
if a spec has errors or its step contradicts its programs. Refuses nothing.
"""

from __future__ import annotations

import json
import sys

import click

from flowc.console import FINDINGS, read, show
from flowc.diagnostics import FlowError


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="print a JSON array")
@click.option("--markdown", "as_markdown", is_flag=True, help="print Markdown, with what each does to its state")
def table(files: tuple[str, ...], as_json: bool, as_markdown: bool) -> None:
    """Say of each of FILES what it is and how far flowc takes it: a table.

    Its class, the gate's side, how many rows of the state a token reads and writes, how a chunk's system is solved, the
    lines of the spec, where it runs, and whether the exact certificate holds. What has no compiled form has its class
    and runs step by step only.
    """
    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    from rich.console import Console
    from rich.measure import Measurement

    from flowc.compiler import Compilation
    from flowc.options import Options
    from flowc.report import table as report

    entries, has_errors = [], False
    with Console(stderr=True).status("") as status:
        for file in files:
            status.update(file)
            source = read(file)
            try:
                entries.append(report.entry(Compilation(source, Options())))
            except FlowError as error:
                has_errors = True
                show(error.source, error.diagnostics)
    if as_json:
        click.echo(json.dumps([e.record() for e in entries], indent=2, ensure_ascii=False))
    elif as_markdown:
        click.echo(report.markdown(entries))
    else:
        made, console = report.table(entries), Console()
        needed = Measurement.get(console, console.options.update(width=1000), made).maximum
        Console(width=max(console.width, needed)).print(made)  # whole, also on a pipe
    if has_errors or any(e.target is not None and e.target.contradicted for e in entries):
        sys.exit(FINDINGS)

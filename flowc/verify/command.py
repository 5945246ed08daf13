"""What `flowc verify` does with what it finds.

In: a `Compilation`, options. Out: text on standard output, progress on standard error, an exit code. Refuses nothing.
"""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console

from flowc import certify
from flowc.compiler import Compilation
from flowc.console import FINDINGS
from flowc.runtime.op import Op
from flowc.verify import verify
from flowc.verify.numerics import LENGTHS, LONGEST, numerics
from flowc.verify.numerics_report import record, table, verdict


def show_comparison(compiled: Compilation, file: str, seed: int, as_json: bool) -> None:
    """The certificate, then the op against the step-by-step form; exit with 1 where either finds something."""
    certificate = compiled.certify(seed)
    if not as_json:
        click.echo(certify.text(certificate, file, compiled.model.canonical))
    report = verify(Op(compiled), seed)
    if as_json:
        click.echo(json.dumps({**report.record(), "certificate": certify.record(certificate)}, indent=2))
    else:
        Console().print(report.table())
        click.echo(report.verdict())
    if not report.holds or certificate.mismatch is not None:
        sys.exit(FINDINGS)


def show_numerics(compiled: Compilation, lengths: tuple[int, ...], as_json: bool) -> None:
    """What float32 and half precision lose; exit with 1 where a limit does not hold."""
    with Console(stderr=True).status("") as status:
        try:
            found = numerics(Op(compiled), lengths or LENGTHS, None if lengths else LONGEST, status.update)
        except ValueError as error:  # a backend that is not there
            raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps(record(found), indent=2))
    else:
        Console().print(table(found))
        click.echo(verdict(found))
    if not found.holds:
        sys.exit(FINDINGS)

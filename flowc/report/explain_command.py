"""What `flowc explain` prints beside an explanation: how aggregations scale, what a shape is predicted to take.

In: a `Compilation`. Out: text or JSON on standard output, a plot where one is asked for. Refuses, as a usage error,
what the reports do.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import click

from flowc.compiler import Compilation
from flowc.console import write
from flowc.report.curves import svg
from flowc.report.scaling import scaling
from flowc.report.shape import predicted


def explain_scaling(compiled: Compilation, module: ModuleType | None, as_json: bool, plot: Path | None) -> None:
    """Print how each aggregation scales, measured with a `module` if one is given; draw it if `plot` says where."""
    try:
        found = scaling(compiled, module)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(json.dumps(found.record(), indent=2) if as_json else str(found))
    if plot is not None:
        write(plot, svg(found.panels(), f"{found.name}: aggregations"), "--plot")


def explain_shape(compiled: Compilation, as_json: bool, shape: str, device: str, backward: bool) -> None:
    """Print what every schedule of a forward pass is predicted to take."""
    try:
        click.echo(predicted(compiled, shape, device, backward, as_json))
    except ValueError as error:
        raise click.UsageError(str(error)) from error

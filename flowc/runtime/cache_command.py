"""`flowc cache`: the emitted modules that are kept.

In: nothing. Out: a list or JSON on standard output, or files that are gone. Refuses to pass over a file that cannot be
deleted.
"""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group()
def cache() -> None:
    """Emitted modules that are kept for tracebacks and readers; nothing is run from there."""


@cache.command("list")
@click.option("--json", "as_json", is_flag=True, help="print a JSON array")
def list_cache(as_json: bool) -> None:
    """List them, the newest first."""
    from datetime import datetime

    from flowc.runtime.cache import cache_folder, entries

    found = entries()
    if as_json:
        click.echo(json.dumps([e.record() for e in found], indent=2))
        return
    for e in found:
        click.echo(f"{datetime.fromtimestamp(e.written):%Y-%m-%d %H:%M}  {e.size:>9,}  {Path(e.path).name}  {e.title}")
    click.echo(f"{len(found)} modules, {sum(e.size for e in found):,} bytes in {cache_folder()}")


@cache.command("clear")
def clear_cache() -> None:
    """Delete them, and nothing else in that folder."""
    from flowc.runtime.cache import cache_folder, clear

    try:
        gone = clear()
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    click.echo(f"{len(gone)} files deleted in {cache_folder()}")

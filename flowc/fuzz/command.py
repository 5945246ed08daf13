"""`flowc fuzz`: campaigns of random specs, and single ones again.

In: options. Out: a table or JSON on standard output, progress and finds on standard error; exit code 1 if there is a
find. Refuses, as wrong usage, to run without hypothesis, and files that hold no trial.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from flowc.console import FINDINGS

FOLDER = Path("build/fuzz")


@click.command()
@click.option("--examples", type=click.IntRange(min=1), default=100, show_default=True, help="how many specs")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="what they are drawn from")
@click.option("--backend", type=click.Choice(["torch", "triton"]), default="torch", show_default=True)
@click.option("--resume", is_flag=True, help="go on where the campaign of this seed and backend stopped")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    show_default=True,
    help="where the campaign's state, what was emitted and reproducers of finds go",
)
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="judge the trial of this reproducer alone",
)
@click.option("--json", "as_json", is_flag=True, help="print a JSON object")
def fuzz(
    examples: int, seed: int, backend: str, resume: bool, folder: Path, replay: Path | None, as_json: bool
) -> None:
    """Draw random specs, compile them, and hold them to step-by-step execution: values and gradients.

    Triton kernels run under Triton's interpreter. What is found is shrunk and saved.
    """
    if replay is not None:
        _replay(replay, as_json)
        return
    _prepare(backend, folder)
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        message = "`flowc fuzz` draws with hypothesis, which is not installed: pip install hypothesis"
        raise click.UsageError(message) from None
    from flowc.fuzz.campaign import Tally, run
    from flowc.fuzz.distribution import record, table

    path = folder / f"{backend}-{seed}.json"
    try:
        tally = Tally.load(path) if resume and path.exists() else Tally(seed, backend)
        folder.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"{folder}: {error.strerror}") from error
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("specs", total=examples, completed=tally.done)

        def shown(tally: Tally) -> None:
            described = f"specs, {tally.verdicts['find']} finds"
            bar.update(task, completed=tally.done, description=described)
            if tally.finds and tally.finds[-1].startswith(f"find-{backend}-{seed}-{tally.done - 1}."):
                bar.console.print(f"{folder}/{tally.finds[-1]}", markup=False)

        run(tally, examples, folder, shown)
    if as_json:
        click.echo(json.dumps(record(tally), indent=2, ensure_ascii=False))
    else:
        console = Console()
        console.print(table(tally))
        for why, count in tally.refused.most_common():
            console.print(f"refused {count}: {why}", markup=False)
        for find in tally.finds:
            console.print(f"{folder}/{find}", markup=False)
    if tally.finds:
        sys.exit(FINDINGS)


def _prepare(backend: str, folder: Path) -> None:
    """What has to be set before torch, Triton and flowc's cache are first used."""
    if backend == "triton":
        os.environ["TRITON_INTERPRET"] = "1"  # Triton looks when kernels are made
    os.environ.setdefault("FLOWC_CACHE_DIR", str(folder / "modules"))


def _replay(path: Path, as_json: bool) -> None:
    """Judge one trial; exit with 1 if it is still a find."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path}: not UTF-8: byte {error.start}") from error
    if '"backend": "triton"' in text:
        os.environ["TRITON_INTERPRET"] = "1"
    from flowc.fuzz.find import Trial, judged

    try:
        trial = Trial.parsed(text)
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}") from error
    verdict = judged(trial)
    if as_json:
        found = {"seed": trial.seed, "kind": verdict.kind, "why": verdict.why, "class": verdict.class_name}
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        click.echo(f"{trial.text}\n{trial.case}, {trial.dtype}, {trial.backend}\n{verdict.kind}: {verdict.why}")
    if verdict.kind == "find":
        sys.exit(FINDINGS)

"""Every diagnostic has a bad program under tests/errors and its exact text beside it.

A program is a spec, or a Python file whose functions are specs; it is read, and never run.
"""

import ast
import json
import re
from pathlib import Path

import pytest

from flowc.diagnostics import CODES, Diagnostic, FlowError, ordered, render
from flowc.semantics import loaded, warnings
from flowc.source import Source, Span
from flowc.syntax.python.places import Places

ERRORS = Path(__file__).parent / "errors"
PROGRAMS = sorted((*ERRORS.glob("*.flow"), *ERRORS.glob("*.py")))


def specs(path: Path) -> list[Source]:
    """The specs of a program: of a Python file, its decorated functions and its lambdas."""
    source = Source(path.name, path.read_bytes().decode("utf-8"))
    if path.suffix == ".flow":
        return [source]
    nodes = [
        node for node in ast.walk(ast.parse(source.text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    decorated = [node for node in nodes if node.decorator_list]
    lambdas = [
        node.value.args[0]
        for node in ast.parse(source.text).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
    ]
    places = Places(source)
    return [Source(source.name, source.text, places.span(node).start) for node in (*decorated, *lambdas)]


def found(path: Path) -> tuple[Source, tuple[Diagnostic, ...]]:
    diagnostics: list[Diagnostic] = []
    for source in specs(path):
        try:
            diagnostics += warnings(loaded(source))
        except FlowError as error:
            diagnostics += error.diagnostics
    return source, ordered(tuple(diagnostics))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_text(path: Path, update: bool) -> None:
    text = render(*found(path)) + "\n"
    golden = path.with_suffix(".err")
    if update:
        golden.write_bytes(text.encode("utf-8"))
    assert golden.read_bytes().decode("utf-8") == text


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_json_has_ruffs_shape(path: Path) -> None:
    source, diagnostics = found(path)
    records = json.loads(render(source, diagnostics, "json"))
    assert len(records) == len(diagnostics) > 0
    for record in records:
        assert {"cell", "code", "end_location", "filename", "fix", "location", "message", "noqa_row", "url"} <= set(
            record
        )
        assert record["filename"] == path.name
        start, end = record["location"], record["end_location"]
        assert (1, 1) <= (start["row"], start["column"]) <= (end["row"], end["column"])


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_sentences(path: Path) -> None:
    """A message and a help are each one sentence without a full stop."""
    for diagnostic in found(path)[1]:
        for sentence in (diagnostic.message, diagnostic.help):
            assert sentence
            assert "\n" not in sentence
            assert not sentence.endswith(".")


def test_every_code_has_a_program() -> None:
    covered = {
        code for path in PROGRAMS for code in re.findall(r"\[([FW]\d+)\]", path.with_suffix(".err").read_text("utf-8"))
    }
    assert {
        code for code in CODES if not code.startswith("F6") and code != "W204"
    } == covered  # these: what compiling finds, not the check


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in ERRORS.glob("*.err")} == {path.stem for path in PROGRAMS}


def test_programs_are_many() -> None:
    assert len(PROGRAMS) >= 45


def test_unknown_code_is_refused() -> None:
    with pytest.raises(KeyError):
        Diagnostic("F000", "no", "no", Span(0, 0))


def test_errors_are_sorted_and_each_given_once() -> None:
    late, early = (Diagnostic("F101", "m", "h", Span(at, at + 1)) for at in (5, 2))
    error = FlowError(Source("s", "abcdefgh"), (late, early, late))
    assert error.diagnostics == (early, late)
    assert str(error).index("1:3") < str(error).index("1:6")


def test_wide_characters_keep_the_underline_in_place() -> None:
    source = Source("s", "漢字 + x")
    line, underline = render(source, (Diagnostic("F201", "m", "h", Span(5, 6)),)).split("\n")[3:5]
    assert underline.index("^") - line.index("漢") == len("漢字 + ") + 2


def test_nothing_to_render() -> None:
    assert render(Source("s", ""), ()) == ""
    assert render(Source("s", ""), (), "json") == "[]"

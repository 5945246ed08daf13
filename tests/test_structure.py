"""What the house holds the code to, as tests: imports, sizes, types, style, no dispatch on a recurrence's name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "flowc").rglob("*.py"))
BIN = Path(sys.executable).parent
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_run_downward_only():
    run(str(BIN / "lint-imports"), "--no-logo")


def test_mypy_strict():
    run(str(BIN / "mypy"))


def test_ruff():
    run(str(BIN / "ruff"), "check", ".")


def test_ruff_format():
    run(str(BIN / "ruff"), "format", "--check", ".")


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) < LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length < LONGEST_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_modules_open_with_a_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_nothing_is_left_to_do(path):
    for word in ("TODO", "FIXME", "XXX"):
        assert word not in path.read_text()


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_no_recurrence_is_known_by_name(path):
    """A recurrence is known by its form: no literal of flowc/ but a docstring may be the name of a spec."""
    names = {spec.stem for spec in (*ROOT.glob("examples/*.flow"), *ROOT.glob("tests/cases/zoo/*.flow"))}
    tree = ast.parse(path.read_text())
    literals = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not literals & names


def test_every_export_of_a_package_exists():
    for path in SOURCES:
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text())
            bound = {
                alias.asname or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom | ast.Import)
                for alias in node.names
            }
            bound |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            bound |= {
                t.id
                for node in tree.body
                if isinstance(node, ast.Assign)
                for t in node.targets
                if isinstance(t, ast.Name)
            }
            for node in tree.body:
                match node:
                    case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                        lazily = "__getattr__" in bound
                        assert lazily or set(ast.literal_eval(value)) <= bound, path

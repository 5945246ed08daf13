"""The wheel and the sdist carry grammar and templates, and what is installed from them finds both."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RESOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("grammar", "templates")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file()
]


def hatchling(target: str, source: Path, into: Path) -> Path:
    """Build in this environment, without a network: `hatchling` is a development dependency."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = into.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return hatchling("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the unpacked sdist, as pip does: so the sdist holds all that a wheel needs."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return hatchling("wheel", source, tmp_path_factory.mktemp("wheel"))


def test_the_sdist_holds_the_checkout_layout(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*RESOURCES, "LICENSE", "README.md", "pyproject.toml", "flowc/py.typed"} <= names


def test_the_wheel_holds_the_resources(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"flowc/_resources/{name}" for name in RESOURCES} <= names
    assert not any(name.startswith(("grammar", "templates", "tests")) for name in names)


def test_an_installed_wheel_finds_its_resources(wheel, tmp_path):
    """Installed into a folder of its own; third-party packages come from this environment, flowc must not."""
    target = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(command, check=True, cwd=tmp_path)
    script = (
        "import flowc, flowc.resources as r\n"
        "from pathlib import Path\n"
        "assert r.grammar() and r.templates().is_dir()\n"
        "print(Path(flowc.__file__).parent, r.templates(), flowc.__version__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    package, templates, version = done.stdout.split()
    assert Path(package) == target / "flowc"
    assert Path(templates) == target / "flowc/_resources/templates"
    assert version in wheel.name


def test_the_checkout_finds_its_resources():
    from flowc import resources

    assert resources.templates() == ROOT / "templates"
    assert resources.grammar() == (ROOT / "grammar/flow.lark").read_text(encoding="utf-8")

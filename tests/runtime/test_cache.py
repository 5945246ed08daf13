"""The cache of emitted modules: killed writers, several at once, folders that cannot be written, edited files.

Nothing is run from it, so what can go wrong is that a file is half there or that a module does not load.
"""

import inspect
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import flowc
from flowc.cli import cli
from flowc.compiler import Stage, compile_text
from flowc.emit.artifact import Artifact
from flowc.files import write_whole
from flowc.options import Options
from flowc.runtime import cache
from flowc.runtime.load import load
from flowc.source import Source

TEXT = (Path(__file__).parent.parent.parent / "examples/linear_attention.flow").read_text()
KILLED = int(os.environ.get("FLOWC_KILLED", "20"))
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def artifact(note: str) -> Artifact:
    """A module that no other test loads."""
    return compile_text(Source("f", f"# {note}\n{TEXT}"), Options(), Stage.MODULE).artifact


def child(run) -> int:
    """A process of this one, with everything imported, that does something and exits with 0 if it did."""
    number = os.fork()
    if number:
        return number
    try:
        run()
    except BaseException:
        os._exit(1)
    os._exit(0)


@needs_fork
@pytest.mark.parametrize("round_", range(KILLED))
def test_a_writer_that_is_killed(folder, round_):
    """After a hundredth of a second or less: every file is whole or is none of a module's names."""
    made = artifact("killed")
    names = [f"{cache.PREFIX}{n}.py" for n in range(400)]
    number = child(lambda: [cache.stored(n, made.source) for n in names])
    time.sleep(0.01 * (round_ + 1) / KILLED)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    assert all(p.read_text() == made.source for p in folder.glob(f"{cache.PREFIX}*.py"))
    assert load(made).linear_attention
    cache.clear()
    assert not list(folder.glob(f"*{cache.PREFIX}*"))


@needs_fork
def test_several_at_once(folder):
    """Eight processes that write the same modules: all succeed, and every file is whole."""
    made = artifact("at once")
    names = [f"{cache.PREFIX}{n}.py" for n in range(20)]
    numbers = [child(lambda: [cache.stored(n, made.source) for n in names]) for _ in range(8)]
    assert [os.waitpid(n, 0)[1] for n in numbers] == [0] * 8
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)
    assert all(p.read_text() == made.source for p in folder.iterdir())


@needs_fork
def test_an_output_that_is_killed_leaves_the_one_before(tmp_path):
    """`flowc compile -o` writes as the cache does."""
    path = tmp_path / "module.py"
    write_whole(path, "before")
    number = child(lambda: [write_whole(path, "after" * 200_000) for _ in range(200)])
    time.sleep(0.02)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    assert path.read_text() in ("before", "after" * 200_000)


@pytest.mark.parametrize("kind", ["a file", "no folder", "full"])
def test_a_folder_that_cannot_be_written(folder, kind, monkeypatch):
    """The module loads from memory, and inspection finds its source."""
    if kind == "a file":
        folder.write_text("")
    elif kind == "no folder":
        monkeypatch.setenv("FLOWC_CACHE_DIR", "/proc/no/such/folder")
    else:

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(cache, "write_whole", full)
    made = artifact(kind)
    module = load(made)
    assert inspect.getsource(module.linear_attention) in made.source
    assert Path(module.__file__).exists() == (kind != "full")


@needs_fork
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_cache_of_another_user(folder):
    """What lies there is not run, whoever may write it; who may not write there computes without it."""
    made = artifact("another user's")
    folder.mkdir()
    planted = folder / f"{cache.PREFIX}planted.py"
    planted.write_text("raise SystemExit(9)\n")
    for path in (folder, planted):
        os.chown(path, 12345, 12345)
    folder.chmod(0o700)
    folder.parent.chmod(0o755)

    def run():
        os.setresuid(23456, 23456, 23456)
        module = load(made)
        assert module.linear_attention is not None
        assert not os.access(folder, os.R_OK)

    _, status = os.waitpid(child(run), 0)
    assert status == 0
    assert [path.name for path in folder.iterdir()] == [planted.name]


def test_a_file_that_was_edited_is_not_run(folder):
    """Neither is bytecode beside it; the file is put right."""
    made = artifact("edited")
    path = Path(load(made).__file__)
    name = path.stem
    path.write_text("raise SystemExit('run')\n")
    del sys.modules[name]
    module = load(made)
    assert module.linear_attention
    assert path.read_text() == made.source
    path.write_text("raise SystemExit('run')\n")
    assert inspect.getsource(module.linear_attention) in made.source
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_a_link_in_the_cache_is_replaced_and_not_followed(folder, tmp_path):
    made = artifact("link")
    path = Path(load(made).__file__)
    del sys.modules[path.stem]
    other = tmp_path / "other.txt"
    other.write_text("of somebody else")
    path.unlink()
    path.symlink_to(other)
    load(made)
    assert other.read_text() == "of somebody else"
    assert not path.is_symlink()


def test_a_module_that_raises_is_not_kept(folder):
    broken = Artifact(**{**{f: getattr(artifact("broken"), f) for f in Artifact.__slots__}, "source": "raise KeyError"})
    for _ in range(2):
        with pytest.raises(KeyError):
            load(broken)


def test_listed_and_cleared(folder):
    flowc.compile(f"# listed\n{TEXT}")
    (folder / "notes.txt").write_text("of the user's")
    (found,) = json.loads(CliRunner().invoke(cli, ["cache", "list", "--json"]).output)
    assert Path(found["path"]).parent == folder
    assert found["size"] == Path(found["path"]).stat().st_size
    shown = CliRunner().invoke(cli, ["cache", "list"]).output
    assert found["title"] in shown
    assert f"1 modules, {found['size']:,} bytes in {folder}" in shown
    assert CliRunner().invoke(cli, ["cache", "clear"]).output == f"1 files deleted in {folder}\n"
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]
    assert json.loads(CliRunner().invoke(cli, ["cache", "list", "--json"]).output) == []

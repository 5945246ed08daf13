"""The command line as a user meets it: exit codes, which stream, lazy imports, files written whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowc import __version__
from flowc.cli import cli, recorded_options
from flowc.files import write_whole
from flowc.options import Options, option_names

ROOT = Path(__file__).parent.parent
EXAMPLE = str(ROOT / "examples/gated_deltanet.flow")
BAD = "flow bad(K)\ninput x : K\nstate h : K\nh[t] = h[t-1] + y\no[t] = h[t]\n"


def run(*arguments, stdin=None):
    return CliRunner().invoke(cli, list(arguments), input=stdin)


def in_process(*arguments, **environment):
    """The real entry point in a process of its own, with the list of modules it imported on standard error."""
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('IMPORTED', *sorted(sys.modules), file=sys.stderr))\n"
        f"sys.argv = ['flowc', *{list(arguments)!r}]\n"
        "from flowc.cli import main\nmain()"
    )
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("arguments", [["--help"], ["check", EXAMPLE], ["compile", "--help"], ["--version"]])
def test_light_commands_import_neither_torch_nor_sympy(arguments):
    done = in_process(*arguments)
    imported = set(done.stderr.partition("IMPORTED")[2].split())
    assert done.returncode == 0
    assert "flowc.cli" in imported
    assert not imported & {"torch", "sympy", "triton", "numpy"}


def test_version():
    assert run("--version").output == f"flowc, version {__version__}\n"


def test_every_option_has_a_flag():
    text = run("compile", "--help").output
    for name in option_names():
        assert f"--{name.replace('_', '-')}" in text


def test_a_good_file_is_fine_and_silent_on_stdout():
    done = run("check", EXAMPLE)
    assert (done.exit_code, done.stdout) == (0, "")


def test_errors_go_to_stderr_with_exit_code_1(tmp_path):
    path = tmp_path / "bad.flow"
    path.write_text(BAD)
    done = run("check", str(path), EXAMPLE)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "error[F201]" in done.stderr
    assert f"{path}:4:" in done.stderr


def test_json_is_one_list_on_stdout(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.flow").write_text(BAD)
    done = run("check", "--format", "json", str(tmp_path / "a.flow"), str(tmp_path / "b.flow"))
    assert done.exit_code == 1
    records = json.loads(done.stdout)
    assert {Path(r["filename"]).name for r in records if r["code"] == "F201"} == {"a.flow", "b.flow"}
    assert json.loads(run("check", "--format", "json", str(ROOT / "examples/linear_attention.flow")).stdout) == []


def test_standard_input():
    done = run("check", "-", stdin=BAD)
    assert done.exit_code == 1
    assert "<stdin>:4:" in done.stderr
    assert run("check", "-", stdin=Path(EXAMPLE).read_text()).exit_code == 0


def test_strict_counts_warnings():
    unused = "flow f(K)\ninput x, y : K\nstate h : K\nh[t] = h[t-1] + x\no[t] = h[t]\n"
    assert run("check", "-", stdin=unused).exit_code == 0
    done = run("check", "--strict", "-", stdin=unused)
    assert done.exit_code == 1
    assert "W101" in done.stderr


def test_a_file_that_is_not_utf8_is_a_finding(tmp_path):
    path = tmp_path / "latin.flow"
    path.write_bytes(b"# caf\xe9\n")
    done = run("check", str(path))
    assert done.exit_code == 1
    assert "not UTF-8: byte 5 is 0xe9" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["check", "no_such.flow"],
        ["compile", EXAMPLE, "--backend", "cuda"],
        ["compile", EXAMPLE, "--chunk-size", "0"],
        ["compile", EXAMPLE, "-o", "x", "--emit", "spec"],
        ["frobnicate"],
    ],
)
def test_wrong_usage_is_2(arguments):
    assert run(*arguments).exit_code == 2


def test_a_crash_has_a_code_of_its_own():
    script = "import sys, flowc.cli as c\ndef boom(): raise RuntimeError('boom')\nc.cli = boom\nc.main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "RuntimeError: boom" in done.stderr


def test_no_color_on_a_pipe_or_on_request(tmp_path):
    path = tmp_path / "bad.flow"
    path.write_text(BAD)
    assert "\x1b" not in in_process("check", str(path), NO_COLOR="1").stderr


# -- compile ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["spec", "model", "recurrence", "chunk", "plan"])
def test_every_stage_prints(stage):
    done = run("compile", EXAMPLE, "--emit", stage)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("\n")
    assert len(done.stdout.splitlines()) >= 5
    assert "object at 0x" not in done.stdout


def test_a_module_is_written_where_it_is_wanted(tmp_path):
    done = run("compile", EXAMPLE, "-o", str(tmp_path / "deep/build"))
    path = tmp_path / "deep/build/gated_deltanet.py"
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{path}\n"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert run("compile", EXAMPLE).stdout == path.read_text()


@pytest.mark.parametrize("place", ["/dev/null", "{}/file", "{}/file/below"])
def test_o_is_a_directory(place, tmp_path):
    (tmp_path / "file").write_text("mine")
    place = place.format(tmp_path)
    done = run("compile", EXAMPLE, "-o", place)
    assert (done.exit_code, done.stdout) == (2, "")
    assert place in done.stderr
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]


def test_a_plot_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    done = run("explain", EXAMPLE, "--scaling", "--plot", str(tmp_path / "file/curves.svg"))
    assert done.exit_code == 2
    assert f"--plot: {tmp_path / 'file/curves.svg'} cannot be written" in done.stderr


def test_check_finds_stale_and_edited_modules(tmp_path):
    run("compile", EXAMPLE, "-o", str(tmp_path), "--chunk-size", "32")
    path = tmp_path / "gated_deltanet.py"
    assert recorded_options(path.read_bytes()) == Options(chunk_size=32)
    assert run("compile", EXAMPLE, "--check", str(path)).exit_code == 0

    path.write_text(path.read_text() + "# mine\n")
    done = run("compile", EXAMPLE, "--check", str(path))
    assert done.exit_code == 1
    assert "stale or edited" in done.stderr

    path.write_text("x = 1\n")
    done = run("compile", EXAMPLE, "--check", str(path))
    assert done.exit_code == 1
    assert "no readable __options__" in done.stderr


def test_nothing_is_written_of_a_bad_spec(tmp_path):
    done = run("compile", "-", "-o", str(tmp_path), stdin=BAD)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "m.py"
    path.write_text("old")

    def refuse(*_):
        raise OSError("full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="full"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.py"]


# -- explain and verify -----------------------------------------------------------------------------------------------


def test_explain_prints_text_and_json():
    text = run("explain", EXAMPLE)
    assert text.exit_code == 0, text.output
    assert "gated_deltanet" in text.stdout
    assert isinstance(json.loads(run("explain", "--json", EXAMPLE).stdout), dict)


def test_verify_prints_a_table_and_json():
    done = run("verify", EXAMPLE)
    assert done.exit_code == 0, done.output
    assert "agree with the step-by-step form" in done.stdout
    record = json.loads(run("verify", "--json", EXAMPLE).stdout)
    assert record["holds"]
    assert {"o", "S[T]", "dq", "dk", "dv", "dg", "dbeta", "dS[0]", "o (step)"} <= {
        f["quantity"] for f in record["findings"]
    }

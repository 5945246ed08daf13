"""What backend="triton" refuses, and that everything else works without Triton. No kernel runs here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import flowc
from flowc import compiler
from flowc.cli import cli
from flowc.compiler import Stage, compile_text
from flowc.emit import triton_section
from flowc.options import Options
from flowc.runtime.op import Op
from flowc.schedule.tile_plan import Missing
from flowc.source import Source

ROOT = Path(__file__).parent.parent.parent

SPEC = "flow f(K, V)\ninput q, k : K\ninput v : V\nstate S : K x V\nS[t] = S[t-1] + k @ v.T\n"


@pytest.fixture
def without_kernels(monkeypatch):
    """Every recurrence of the language has kernels; this is what one without would give."""
    for module in (compiler, triton_section):
        monkeypatch.setattr(module, "kernel_plan", lambda plan: Missing(("one thing", "another")))


MESSAGE = "f: backend='triton' has no kernels yet for: one thing; another; use backend='torch'"


@pytest.mark.usefixtures("without_kernels")
def test_what_has_no_kernels_is_named():
    op = Op(compile_text(Source("f.flow", SPEC + "o[t] = S[t].T @ (2 * q)\n"), Options(), Stage.MODULE))
    x = torch.randn(1, 3, 1, 4)
    with pytest.raises(ValueError, match=f"^{re.escape(MESSAGE)}$"):
        op(x, x, x, backend="triton")
    op(x, x, x)


@pytest.mark.usefixtures("without_kernels")
def test_compiling_for_triton_says_what_is_missing(tmp_path):
    path = tmp_path / "f.flow"
    path.write_text(SPEC + "o[t] = S[t].T @ (3 * q)\n")
    with pytest.raises(ValueError, match=f"^{re.escape(MESSAGE)}$"):
        flowc.compile(path, backend="triton")
    done = CliRunner().invoke(cli, ["compile", str(path), "--backend", "triton"])
    assert done.exit_code == 2
    assert MESSAGE in done.output


def test_cpu_tensors_without_the_interpreter():
    op = flowc.compile(ROOT / "examples" / "simple_gla.flow", backend="triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("under the interpreter they are accepted")
    x = torch.randn(1, 3, 1, 4)
    with pytest.raises(ValueError, match="the arguments are on the CPU; TRITON_INTERPRET=1"):
        op(x, x, x, -x[..., 0].abs())
    op(x, x, x, -x[..., 0].abs(), backend="torch")


def test_a_module_works_without_triton(tmp_path):
    path = tmp_path / "simple_gla.py"
    path.write_text(flowc.compile(ROOT / "examples" / "simple_gla.flow").source)
    script = f"""
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "triton":
            raise ImportError(name)
sys.meta_path.insert(0, Gone())
sys.path.insert(0, {str(tmp_path)!r})
import torch, simple_gla
x = torch.randn(1, 3, 1, 4)
simple_gla.simple_gla(x, x, x, -x[..., 0].abs())
try:
    simple_gla.simple_gla(x, x, x, -x[..., 0].abs(), backend="triton")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "simple_gla: backend='triton': Triton is not installed; use backend='torch'\n", done.stderr

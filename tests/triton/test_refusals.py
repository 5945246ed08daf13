"""What backend="triton" refuses, and that everything else works without Triton. No kernel runs here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import flowc
from flowc.cli import cli
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.schedule.tile_plan import TilePlan
from flowc.schedule.triton import cut
from flowc.source import Source

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.flow"))


def plan_of(path):
    return compile_text(Source(path.name, path.read_text()), Options(), Stage.PLAN).plan


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_has_kernels(path):
    assert isinstance(cut(plan_of(path)), TilePlan)


SPEC = "flow f(K, V)\ninput q, k : K\ninput v : V\nstate S : K x V\nS[t] = S[t-1] + k @ v.T\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("o[t] = S[t].T @ concat(sum(k) * ones(1), zeros(K - 1))", "the operation Join"),
    ],
)
def test_what_is_not_elementwise_is_named(line, reason):
    op = flowc.compile(SPEC + line + "\n")
    x = torch.randn(1, 3, 1, 4).abs()
    with pytest.raises(ValueError, match="f: backend='triton' has no kernels yet for: ") as raised:
        op(x, x, x, backend="triton")
    assert reason in str(raised.value)
    op(x, x, x)


def test_compiling_for_triton_says_what_is_missing(tmp_path):
    path = tmp_path / "f.flow"
    path.write_text(SPEC + "o[t] = S[t].T @ q * sum(concat(q, k))\n")
    with pytest.raises(ValueError, match=r"^f: backend='triton' has no kernels yet for: "):
        flowc.compile(path, backend="triton")
    done = CliRunner().invoke(cli, ["compile", str(path), "--backend", "triton"])
    assert done.exit_code == 2
    assert "has no kernels yet for: " in done.output


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

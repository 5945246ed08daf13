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
from flowc.schedule.tiles import Missing, TilePlan
from flowc.schedule.triton import cut
from flowc.source import Source

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.flow"))
HAVE_KERNELS = {"linear_attention", "retnet", "simple_gla", "mamba2"}
SYSTEM, VECTOR, RANK = (
    "a triangular system (reads of the state)",
    "gates over the state's rows (a vector gate)",
    "several rows per token (a rank, a repeat or two writes)",
)
MISSING = {
    "gla": {VECTOR},
    "kda": {VECTOR, SYSTEM},
    "gated_deltanet": {SYSTEM},
    "lowrank_delta": {SYSTEM, RANK},
    "gated_delta_product": {SYSTEM, RANK},
}


def plan_of(path):
    return compile_text(Source(path.name, path.read_text()), Options(), Stage.PLAN).plan


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_has_kernels_or_reasons(path):
    found = cut(plan_of(path))
    assert isinstance(found, TilePlan if path.stem in HAVE_KERNELS else Missing)


@pytest.mark.parametrize("name", MISSING)
def test_every_reason_is_named(name):
    found = cut(plan_of(ROOT / "examples" / f"{name}.flow"))
    assert isinstance(found, Missing)
    assert set(found.reasons) == MISSING[name]


SPEC = "flow f(K, V)\ninput q, k : K\ninput v : V\nstate S : K x V\nS[t] = S[t-1] + k @ v.T\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("o[t] = l2norm(S[t].T @ q)", "a sum over another axis than the state's rows"),
        ("o[t] = S[t].T @ q + v ** (q.T @ k)", "a power of a tensor by anything but a small whole number or a half"),
        ("o[t] = S[t].T @ q; p[t] = q.T @ k", "an output that is no vector over the state's columns"),
        ("o[t] = S[t].T @ concat(sum(k) * ones(1), zeros(K - 1))", "concat and kron"),
    ],
)
def test_what_is_not_elementwise_is_named(line, reason):
    op = flowc.compile(SPEC + line + "\n")
    x = torch.randn(1, 3, 1, 4).abs()
    with pytest.raises(ValueError, match="f: backend='triton' has no kernels yet for: ") as raised:
        op(x, x, x, backend="triton")
    assert reason in str(raised.value)
    op(x, x, x)


def test_compiling_for_triton_says_what_is_missing():
    with pytest.raises(
        ValueError, match=r"^gated_deltanet: backend='triton' has no kernels yet for: a triangular system"
    ):
        flowc.compile(ROOT / "examples" / "gated_deltanet.flow", backend="triton")
    done = CliRunner().invoke(cli, ["compile", str(ROOT / "examples" / "gla.flow"), "--backend", "triton"])
    assert done.exit_code == 2
    assert "has no kernels yet for: gates over the state's rows (a vector gate); use backend='torch'" in done.output


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

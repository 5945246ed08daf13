"""Emitted modules: the same bytes wherever they are made, and of use without flowc or Triton."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from differential.harness import EXAMPLES, SPECS, Case, draw, model_of, op_of

ROOT = Path(__file__).parent.parent.parent

PRINT_HASHES = """
import hashlib, pathlib, sys, flowc
for name in sys.argv[2:]:
    source = flowc.compile(pathlib.Path(sys.argv[1]) / "examples" / f"{name}.flow").source
    print(name, hashlib.sha256(source.encode()).hexdigest())
"""
NAMES = ("kda", "gated_delta_product", "rwkv7", "mamba2", "lowrank_delta")


def python(code, *arguments, cwd=ROOT, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_bytes_for_every_hash_seed_and_directory(tmp_path):
    outputs = {
        python(PRINT_HASHES, ROOT, *NAMES, cwd=cwd, PYTHONHASHSEED=seed)
        for seed, cwd in (("0", ROOT), ("1", tmp_path), ("4711", tmp_path))
    }
    assert len(outputs) == 1
    assert outputs.pop().count("\n") == len(NAMES)


IMPORT_ALONE = """
import importlib.util, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("flowc", "triton", "lark"):
            raise ModuleNotFoundError(f"no {name} here")

sys.meta_path.insert(0, Refuse())
import torch

class Stop:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] in ("torch", "triton") or name in sys.stdlib_module_names, name

stop = Stop()
sys.meta_path.insert(0, stop)
spec = importlib.util.spec_from_file_location("kda", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["kda"] = module
spec.loader.exec_module(module)
sys.meta_path.remove(stop)
x = torch.load(sys.argv[2])
leaves = {n: v.requires_grad_() for n, v in x.items()}
o, S = module.kda(**leaves, output_final_state=True)
(o.sum() + S.sum()).backward()
torch.save({"o": o.detach(), "S": S.detach(), **{n: v.grad for n, v in leaves.items()}}, sys.argv[3])
assert "flowc" not in sys.modules and "triton" not in sys.modules
"""


def test_a_module_works_where_neither_flowc_nor_triton_can_be_imported(tmp_path):
    op, x = op_of("kda"), draw(model_of("kda"), Case())
    paths = [tmp_path / n for n in ("kda.py", "x.pt", "found.pt")]
    paths[0].write_text(op.source)
    torch.save(x, paths[1])
    python(IMPORT_ALONE, *paths, cwd=tmp_path, PYTHONPATH="")
    found = torch.load(paths[2])
    leaves = {n: v.requires_grad_() for n, v in x.items()}
    o, state = op(**leaves, output_final_state=True)
    (o.sum() + state.sum()).backward()
    for name, value in {"o": o, "S": state, **{n: v.grad for n, v in leaves.items()}}.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("name", [*EXAMPLES, *SPECS])
def test_a_module_is_tidy(name):
    """It imports torch, Triton and the standard library only, parses, and has no line that is longer for no reason."""
    source = op_of(name).source
    tree = ast.parse(source)
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            roots.add(node.module.split(".")[0])
    assert roots <= {"__future__", "torch", "triton", *sys.stdlib_module_names}
    for word in ("flowc.", "import flowc", "None # noqa", "TODO"):
        assert word not in source.split('"""', 2)[2], word


def test_ruff_leaves_a_module_as_it_is(tmp_path):
    for name in EXAMPLES:
        (tmp_path / f"{name}.py").write_text(op_of(name).source)
    ruff = Path(sys.executable).parent / "ruff"
    for command in (("format", "--isolated", "--check"), ("check", "--isolated", "--select", "E9,F")):
        done = subprocess.run([ruff, *command, tmp_path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

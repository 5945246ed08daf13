"""Chunk programs and their adjoints: well formed, printed the same every time, a rule for every operation."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from differential.harness import EXAMPLES, TEXTS

from flowc.chunk import ir
from flowc.chunk.derive import derive
from flowc.chunk.differentiate import differentiate
from flowc.compiler import Compilation, Stage
from flowc.options import Options
from flowc.source import Source

ROOT = Path(__file__).parent.parent.parent

# Operations that only differentiation puts into a program, or only a schedule; a forward program has none of them.
OF_ADJOINTS = {"SumTokens", "Cut", "Unflatten", "GateSumsAdjoint", "AtAdjoint", "Later", "First"}
OF_SCHEDULES = {"Inverse"}
ALL = {op.__name__ for op in get_args(ir.Op)}


def compilation(name):
    return Compilation(Source(name, TEXTS[name]), Options())


def programs(name):
    forward = derive(compilation(name).recurrence)
    return forward, differentiate(forward)


def kinds(program):
    return {type(node.op).__name__ for node in program.nodes}


@pytest.mark.parametrize("name", TEXTS)
def test_an_adjoint_gives_every_gradient(name):
    """One result per input and param, of its axes and level, and a carry of the state's."""
    forward, adjoint = programs(name)
    given = {
        n.op.name: n.value for n in forward.nodes if isinstance(n.op, ir.Argument) and n.op.role in ("input", "param")
    }
    assert {n for n, _ in adjoint.results} == set(given)
    for n, value in adjoint.results:
        assert (set(value.axes), value.level) == (set(given[n].axes), given[n].level), n
    assert [c.name for c in adjoint.carries] == [c.name for c in forward.carries]
    assert [v.axes for v in adjoint.ends] == [v.axes for v in forward.ends]
    assert (forward.adjoint, adjoint.adjoint) == (False, True)


@pytest.mark.parametrize("name", TEXTS)
def test_programs_are_in_order(name):
    """Every value is defined once, before its uses; results and carries are defined."""
    for program in programs(name):
        seen = set()
        for node in program.nodes:
            assert all(v in seen for v in ir.operands(node.op)), node
            assert node.value not in seen
            seen.add(node.value)
        assert {v for _, v in program.results} <= seen
        assert set(program.ends) <= seen
        assert Counter(n for n, _ in program.results).most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", TEXTS)
def test_a_level_is_at_least_its_operands(name):
    """Nothing per chunk goes back to tokens, and nothing per token to heads, but through the operations for it."""
    lowering = ("FromRows", "SumTokens")
    for program in programs(name):
        for node in program.nodes:
            levels = [v.level for v in ir.operands(node.op)]
            if levels and type(node.op).__name__ not in lowering:
                assert node.value.level >= max(levels), node


def test_every_operation_of_a_forward_program_is_differentiated():
    """All specs together have every operation that a forward program may have, and none fails to differentiate."""
    forward, adjoint = Counter(), Counter()
    for name in TEXTS:
        one, other = programs(name)
        forward.update(kinds(one))
        adjoint.update(kinds(other))
    assert not set(forward) & (OF_ADJOINTS | OF_SCHEDULES)
    missing = ALL - set(forward) - OF_ADJOINTS - OF_SCHEDULES
    assert missing == set(), f"no spec has {missing}: nothing holds their rules"
    assert set(adjoint) >= OF_ADJOINTS


@pytest.mark.parametrize("name", TEXTS)
def test_the_printed_program_names_every_value_once(name):
    for program in programs(name):
        lines = str(program).splitlines()
        defined = [line.split(" : ")[0].strip() for line in lines if " : " in line and " = " in line]
        assert len(defined) == len(program.nodes) == len(set(defined))


PRINT = """
import sys
from flowc.compiler import Compilation, Stage
from flowc.chunk.differentiate import differentiate
from flowc.options import Options
from flowc.source import Source
for path in sys.argv[1:]:
    made = Compilation(Source("x", open(path).read()), Options())
    print(made.recurrence, made.chunk, differentiate(made.chunk), made.plan, sep="\\n")
"""


def test_printing_is_deterministic():
    """The same text for any hash seed, and twice in one process."""
    paths = [
        str(ROOT / f"examples/{n}.flow") for n in ("rwkv7", "gated_delta_product", "mamba2", "gated_lowrank_delta")
    ]
    texts = {
        subprocess.run(
            [sys.executable, "-c", PRINT, *paths],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "99")
    }
    assert len(texts) == 1
    assert texts.pop().count("adjoint program") == len(paths)


@pytest.mark.parametrize("name", EXAMPLES)
def test_deriving_twice_gives_the_same(name):
    assert [str(p) for p in programs(name)] == [str(p) for p in programs(name)]


def test_every_stage_prints():
    made = compilation("kda")
    for stage in Stage:
        assert str(made.stage(stage)).strip(), stage

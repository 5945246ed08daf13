"""Faults generated in the programs of four recurrences are found by the certificate: all of them with `make faults`.

What survives is the same program, by the argument beside it (docs/verification.md).
"""

import os
from dataclasses import replace

import pytest
from certify.program_faults import faults
from differential.harness import EXAMPLES

from flowc.certify.certificate import Point, points_of
from flowc.certify.number import Redraw
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.source import Source

STRIDE = 1 if os.environ.get("FLOWC_ALL_FAULTS") else 12

# The factor that is 1 unless a gate is floored at -104; and N's own row, which gives a row's read and its write, at one
# gate sum where no gate stands between them, gradients that cancel.
FLOOR = "backward g_bar2: mul without argument 0"
OWN_ROW = "backward N: mul without argument 0"
SAME = {
    "gated_deltanet": {FLOOR, OWN_ROW},
    "kda": {FLOOR},
    "gated_lowrank_delta": {FLOOR},
    "gated_delta_product": {FLOOR},
}


@pytest.mark.parametrize("name", SAME)
def test_faults_are_found(name):
    compiled = compile_text(Source(name, EXAMPLES[name]), Options(), Stage.PLAN)
    programs = compiled.programs
    sizes = next(points_of(compiled.model))
    point = Point.drawn(compiled.model, sizes, 0)
    assert point.mismatch(programs) is None
    tried, survivors = 0, set()
    for which in ("forward", "backward"):
        program = getattr(programs, which)
        for what, wrong in list(faults(program, sizes))[::STRIDE]:
            tried += 1
            if not is_found(point, programs, which, wrong):
                survivors.add(f"{which} {what}")
    assert tried > 250 / STRIDE
    assert survivors == SAME[name] if STRIDE == 1 else survivors <= SAME[name]


def is_found(point, programs, which, wrong):
    try:
        return point.mismatch(replace(programs, **{which: wrong})) is not None
    except Redraw:  # a root or an inverse of what a right program never asks for
        return True

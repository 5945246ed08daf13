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
from flowc.chunk.program import value_names
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.schedule.staged import needed
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


def staged(programs):
    """(where, the program, its replacement) of every program of several states' kernels."""
    kernels = programs.kernels
    for name in ("forward", "adjoint"):
        yield (
            f"whole {name}",
            getattr(kernels.whole, name),
            lambda p, n=name: replace(kernels, whole=replace(kernels.whole, **{n: p})),
        )
    for at, stage in enumerate(kernels.stages):
        for name in ("forward", "backward"):

            def changed(program, at=at, stage=stage, name=name):
                passed = replace(getattr(stage.plan, name), program=program)
                other = replace(stage, plan=replace(stage.plan, **{name: passed}))
                return replace(kernels, stages=(*kernels.stages[:at], other, *kernels.stages[at + 1 :]))

            yield f"stage {at} {name}", getattr(stage.plan, name).program, changed


# A softmax's shift cancels, -0 is 0, a start that is below all that follows is so with either sign, and of what n gives
# mlstm takes the absolute value.
SHIFT = {"read_P3: sign", "t1: sign", "t2: sub without argument 1", "t5: sub without argument 1"}
SAME_STAGED = {
    "gsa": {f"whole {name} {what}" for name in ("forward", "adjoint") for what in SHIFT}
    | {"stage 0 backward t42: mul without argument 0", "stage 1 backward t38: mul without argument 0"},
    "mlstm": {"whole forward read_n: sign", "whole adjoint m: sign"}
    | {f"whole {name} t6: sign" for name in ("forward", "adjoint")}
    | {f"stage {at} backward given0_bar: mul without argument 0" for at in (0, 1)},
}


@pytest.mark.parametrize("name", SAME_STAGED)
def test_faults_in_programs_of_several_states_are_found(name):
    compiled = compile_text(Source(name, EXAMPLES[name]), Options(), Stage.PLAN)
    programs = compiled.programs
    sizes = next(points_of(compiled.model))
    point = Point.drawn(compiled.model, sizes, 0, programs.scanned)
    assert point.mismatch(programs) is None
    tried, survivors = 0, set()
    for where, program, changed in staged(programs):
        used = {*needed(program, [v for n, v in program.results if is_made(programs.kernels, n)])}
        names = {n for v, n in value_names(program).items() if v in used}
        for what, wrong in [f for f in faults(program, sizes) if f[0].partition(": ")[0] in names][::STRIDE]:
            tried += 1
            if not is_found(point, programs, "kernels", changed(wrong)):
                survivors.add(f"{where} {what}")
    assert tried > 400 / STRIDE
    assert survivors == SAME_STAGED[name] if STRIDE == 1 else survivors <= SAME_STAGED[name]


def is_made(kernels, result):
    """Whether a result of a program is made: inputs that a stage takes as they are are results of the whole, too."""
    taken = {label for s in kernels.stages for own, label in s.stage.given if own not in s.stage.made}
    return result not in taken

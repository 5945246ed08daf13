"""What a compiler says of configurations that `flowc tune --predicted` would write, for devices that are not there."""

from dataclasses import replace

import pytest

pytest.importorskip("triton")

from differential.harness import EXAMPLES

from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.schedule.devices import DEVICES
from flowc.schedule.predict import Shape
from flowc.schedule.tuned import Place
from flowc.source import Source
from flowc.tune import offline
from flowc.tune.tune import Request, compiler, predict

REQUEST = Request(Shape(2, 4096, 4), (128, 128), {}, schedule="fused")


def compiled(name):
    return compile_text(Source(name, EXAMPLES[name]), Options(), Stage.PLAN)


def test_what_spills_is_spoken_against():
    """matrices in 4 warps; the rule's 8 spill nothing, and a configuration that comes to the same neither."""
    compilation = compiled("gated_deltanet")
    work = REQUEST.workload(compilation)
    against = compiler(compilation, DEVICES["h200"])
    place = Place.of("any", "h200", "matrices", 2, (128, 128), 64, 4096, 8)
    assert "bytes a thread, by the rules 0" in against(work, place, (32, 32, 4, 2), "fused")
    assert against(work, place, (32, 32, 8, 1), "fused") is None


def test_shared_memory_and_traps_are_spoken_against(monkeypatch):
    compilation = compiled("simple_gla")
    work = REQUEST.workload(compilation)
    own = offline.Compiler(compilation, work, "any")
    place = Place.of("any", "h200", "fused", 2, (128, 128), 64, 4096, 8)
    made = own._made(place, None, "fused")
    assert made.spilled == 0 < made.shared <= offline.SHARED["sm_90"]
    asked, other = (32, 64, 4, 2), (16, 64, 4, 2)
    own.found["fused", asked] = replace(made, shared=offline.SHARED["sm_90"] + 1)
    own.found["fused", other] = replace(made, trapped=True)
    assert "bytes of shared memory; a program has 232,448" in own.against(place, asked, "fused")
    assert "left operand from registers" in own.against(place, other, "fused")


def test_predicted_rows_spill_no_more_than_the_rules():
    compilation = compiled("simple_gla")
    (found,) = predict(compilation, [REQUEST], DEVICES["h200"], compiler(compilation, DEVICES["h200"]))
    own = offline.Compiler(compilation, REQUEST.workload(compilation), "any")
    changed = [f for f in found.findings if f.tiling != f.rule]
    assert changed
    for f in changed:
        assert own._made(f.place, f.tiling, found.schedule).spilled <= own._made(f.place, None, found.schedule).spilled

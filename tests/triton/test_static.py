"""benchmarks/results/static.json: what offline compilers say of every kernel that a call may run.

The file covers the kernels as they are emitted now; a few, drawn anew in every run, are compiled again.
"""

import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import static  # noqa: E402

NAMES = sorted(p.stem for p in (ROOT / "examples").glob("*.flow"))
KNOWN = static.read()
DRAWN = 12
# Bytes that kernels spill with what is chosen for them: a list that only shrinks.
SPILLING = {
    "linear_attention": ("fused",),  # 8 bytes on sm_100, with which two programs share a processor
    "preconditioned_gated_deltanet": ("gradients_backward_0",),  # 988 bytes, in chunks of 64 rows
    "rwkv4": ("tokens_forward",),  # 8 bytes, with which three programs share a processor
    "rwkv7": ("matrices",),  # 48 bytes on sm_80, in chunks of 64 rows, of which a call takes 16 if not asked for more
    "squashed_fast_weights": ("tokens_forward",),  # 24 bytes on sm_80, at 72 registers of 255
}


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_is_in_the_file(name):
    """If not: make it again with `.venv/bin/python benchmarks/static.py --json benchmarks/results/static.json`."""
    found = static.chosen_keys([name])
    assert found
    assert not [f"{launch.name} on {setting}" for k, (_, setting, launch) in found.items() if k not in KNOWN]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_chosen_is_sound(name):
    """Nothing spills but what is known to; products are on matrix units, none with its left operand in registers."""
    rows = [KNOWN[k] for k in static.chosen_keys([name])]
    assert not [r for r in rows if r["error"] or r["elsewhere"] or r["trapped"]]
    assert {r["kernel"] for r in rows if r["spilled"]} == set(SPILLING.get(name, ()))


@pytest.mark.parametrize("name", NAMES)
def test_walks_are_predicted_near_the_best_that_spills_nothing(name):
    """Of the configurations that are chosen from, at the shapes that each kind of walk is chosen for."""
    ratios = static.against_best(name, KNOWN)
    assert not [role for role, ratio in ratios.items() if ratio > static.SLOWEST], ratios


def test_some_are_compiled_again():
    """Registers, spills and products are what the file says."""
    keys = random.Random().sample(sorted(KNOWN), DRAWN)
    wanted = {k: KNOWN[k] for k in keys}
    for name in {r["example"] for r in wanted.values()}:
        for setting in (*static.CHOSEN, *static.OTHERS):
            for launch in static.launches(name, setting):
                key = static.key_of(launch, setting.target)
                if key in wanted:
                    made = static.row(name, setting, launch)
                    told = wanted.pop(key)
                    assert (made.registers, made.spilled, made.warp_groups, made.products) == tuple(
                        told[n] for n in ("registers", "spilled", "warp_groups", "products")
                    ), told
    assert not wanted

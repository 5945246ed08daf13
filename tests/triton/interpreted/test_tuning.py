"""`flowc tune`, whole at tiny size: an injected clock takes the place of a GPU's, all else is what runs on one."""

import json
from dataclasses import replace
from itertools import count

import pytest
import torch
from differential.harness import EXAMPLES

import flowc
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.report.explain import explain_record, explain_text
from flowc.runtime.tables import read_table, user_table, write_table
from flowc.schedule.devices import DEVICES
from flowc.schedule.predict import Shape
from flowc.schedule.tuned import INTERPRETED
from flowc.source import Source
from flowc.tune import search, tune
from flowc.tune.trial import DeviceLostError, Trial
from flowc.tune.tune import Request, measure

NAME = "simple_gla"
REQUEST = Request(Shape(1, 40, 1), (16, 16), {}, "float16", "forward")


def compiled(name=NAME):
    return compile_text(Source(name, EXAMPLES[name]), Options(), Stage.PLAN)


def fewer_warps(call, tilings):
    """Seconds by configurations: 4 warps are faster than 8, and one stage than two, in every kernel."""
    call()
    return 10.0 + sum(warps + stages for _, _, warps, stages in tilings.values()) - 11 * len(tilings)


def ticks():
    """A clock that goes on by a second whenever it is read."""
    numbers = count()
    return lambda: float(next(numbers))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's tables, in a cache folder of this test's."""
    monkeypatch.setenv("FLOWC_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("FLOWC_TUNED")
    return tmp_path


@pytest.mark.parametrize("passes", ["forward", "both"])
def test_search_row_module_explanation(passes, folder, monkeypatch):
    compilation, steps = compiled(), []
    (found,) = measure(compilation, [replace(REQUEST, passes=passes)], 1e6, steps.append, fewer_warps, ticks())
    roles = {f.place.role for f in found.findings}
    assert any("backward" in role for role in roles) == (passes == "both")
    for f in found.findings:  # every candidate was tried, and the fastest by that clock taken
        assert (f.tried, f.refused) == (f.candidates, ())
        assert f.tiling[2:] == (4, 1) or f.rule[2:] == (4, 1)
        assert f.seconds <= f.untuned == 10.0
    assert len(steps) == sum(f.candidates for f in found.findings) > 0

    made = tune.rows(compilation, (found,))
    path = user_table(INTERPRETED)
    assert path.is_relative_to(folder)
    write_table(path, made)
    kept = json.loads(path.read_text())["rows"]
    assert {row["role"] for row in kept} == roles
    for row in kept:
        assert (row["spec"], row["name"], row["how"]) == (compilation.spec_hash, NAME, "measured")
        assert (row["device"], row["length"], row["walks"]) == (INTERPRETED, 64, 1)
        origin = row["record"]
        assert (origin["passes"], origin["shape"]["T"], origin["seconds"]) == (passes, 40, found.findings[0].seconds)
        assert origin["versions"]["torch"] == torch.__version__
        assert origin["command"]

    op, launched = flowc.compile(EXAMPLES[NAME]), []
    assert [r[2] for r in op._module._TUNED] == sorted(roles)
    monkeypatch.setattr(
        op._module, "_tiles", lambda *given, _tiles=op._module._tiles: launched.append(given) or _tiles(*given)
    )
    x = [torch.rand(1, 40, 1, 16, dtype=torch.float16) for _ in range(3)]
    g = -torch.rand(1, 40, 1)
    expected = op.reference(*(v.double() for v in x), g.double())
    for leaves in (x, [v.requires_grad_(passes == "both") for v in x]):
        o = op(*leaves, g, backend="triton")
        assert (o.double() - expected).abs().max() < 2e-3 * expected.abs().max()
        if passes == "both":
            torch.autograd.grad(o.sum(), leaves)
    taken = {given[0]: given[-1] for given in launched}
    assert {role: taken[role] for role in roles} == {f.place.role: f.tiling for f in found.findings}
    assert "measured on interpreted at 20" in explain_text(op.compilation)
    told = {c["kernel"]: c for c in explain_record(op.compilation)["configurations"]}
    assert {role for role, c in told.items() if c["tuned"]} == roles
    assert all(c["rule"] for c in told.values())


def test_another_length_is_no_other_kernel(folder, monkeypatch):
    """One row serves every length: no search, no other module, no other tiles, which Triton would compile for."""
    compilation = compiled()
    (found,) = measure(compilation, [REQUEST], 1e6, lambda _: None, fewer_warps, ticks())
    write_table(user_table(INTERPRETED), tune.rows(compilation, (found,)))
    monkeypatch.setattr(search.Search, "run", None)  # nothing searches from here on
    op = flowc.compile(EXAMPLES[NAME])
    assert flowc.compile(EXAMPLES[NAME])._module is op._module
    made, tiles = [], op._module._tiles
    monkeypatch.setattr(op._module, "_tiles", lambda *given: made.append((given[0], tiles(*given))) or made[-1][1])
    for length in (17, 40, 64, 65, 300):
        x = [torch.rand(1, length, 1, 16, dtype=torch.float16) for _ in range(3)]
        op(*x, -torch.rand(1, length, 1), backend="triton", schedule=found.schedule)
    assert len({(role, *sorted(own.items())) for role, own in made}) == len({role for role, _ in made}) > 0


def test_a_wrong_candidate_is_refused_and_told(monkeypatch):
    """Kernels of 4 warps give wrong values: the fastest by the clock, and none of them is taken."""
    load = tune.Trial.__init__

    def spoiled(trial, *given):
        load(trial, *given)
        run = trial.module._Kernels.run

        def wrong(call, kernel, role, *rest, **arguments):
            run(call, kernel, role, *rest, **arguments)
            found = call.found(role)
            if found is not None and found[2] == 4 and "o_ptr" in arguments:
                arguments["o_ptr"].mul_(1.5)

        monkeypatch.setattr(trial.module._Kernels, "run", wrong)

    monkeypatch.setattr(Trial, "__init__", spoiled)
    steps = []
    (found,) = measure(compiled(), [REQUEST], 1e6, steps.append, fewer_warps, ticks())
    refused = [s.refused for s in steps if s.refused is not None]
    makes = {r.role for r in refused}
    assert makes
    for f in found.findings:
        assert [r for r in refused if r.role == f.place.role] == list(f.refused)
        if f.place.role in makes:
            assert f.tiling[2] == 8
            assert all(r.tiling[2] == 4 for r in f.refused)
    assert all("is off by" in r.why and "step-by-step" in r.why for r in refused)
    (row, *_) = [r for r in tune.rows(compiled(), (found,)) if r.tuned.role in makes]
    assert row.record["refused"][0]["why"] == refused[0].why


def test_one_that_does_not_run_is_refused(monkeypatch):
    def broken(call, tilings):
        return fewer_warps(call, tilings)

    values = Trial._named

    def failing(trial):
        if any(row[11] == 4 for row in trial.module._TUNED):
            raise RuntimeError("out of resource: shared memory\nmore words")
        return values(trial)

    monkeypatch.setattr(Trial, "_named", failing)
    (found,) = measure(compiled(), [REQUEST], 1e6, lambda _: None, broken, ticks())
    for f in found.findings:
        assert f.tiling[2] == f.rule[2] if f.rule[2] == 4 else f.tiling[2] == 8
        for r in f.refused:
            assert r.why == "it does not run: RuntimeError: out of resource: shared memory"


def test_a_device_that_fails_ends_the_search(monkeypatch):
    """Nothing that is asked of it after an illegal access means anything."""
    values = Trial._named

    def failing(trial):
        if trial.module._TUNED:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore words")
        return values(trial)

    monkeypatch.setattr(Trial, "_named", failing)
    said = (
        r"the device failed by \w+ \(.*\): RuntimeError: CUDA error: an illegal memory access was encountered; nothing"
    )
    with pytest.raises(DeviceLostError, match=said):
        measure(compiled(), [REQUEST], 1e6, lambda _: None, fewer_warps, ticks())


def test_what_spills_is_refused(monkeypatch):
    """On a GPU what Triton hands back of a launch says how much it spills."""

    class Spilling:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            def launch(**arguments):
                self.kernel[grid](**arguments)
                return type("Compiled", (), {"n_spills": 8 * (arguments["num_warps"] == 4)})()

            return launch

    load = Trial.__init__

    def spoiled(trial, *given):
        load(trial, *given)
        run = trial.module._Kernels.run

        def watched(call, kernel, role, *rest, **arguments):
            kernel = replace(kernel, kernel=Spilling(kernel.kernel)) if isinstance(kernel, trial_spills) else kernel
            run(call, kernel, role, *rest, **arguments)

        monkeypatch.setattr(trial.module._Kernels, "run", watched)

    from flowc.tune.trial import _Spills as trial_spills

    monkeypatch.setattr(Trial, "__init__", spoiled)
    (found,) = measure(compiled(), [REQUEST], 1e6, lambda _: None, fewer_warps, ticks())
    refused = [r for f in found.findings for r in f.refused]
    assert refused
    assert {r.tiling[2] for r in refused} == {4}
    assert all(r.why.startswith(f"{r.role} spills 8 registers") for r in refused)


@pytest.mark.parametrize("seconds", [0.0, 9.0])
def test_the_budget_is_kept(seconds):
    """What is found until then is what there is; without any time, what the rules say."""
    clock, read = ticks(), []
    (found,) = measure(compiled(), [REQUEST], seconds, read.append, fewer_warps, clock)
    tried = sum(f.tried for f in found.findings)
    assert tried == len(read) < sum(f.candidates for f in found.findings)
    assert (tried > 0) == (seconds > 0)
    if not tried:
        assert all(f.tiling == f.rule for f in found.findings)


def test_what_is_not_faster_in_the_end_is_not_kept():
    """A clock that once flatters: timed again, the call is no faster, and the rules stay."""
    seen = set()

    def flattering(call, tilings):
        known = tuple(sorted(tilings.items())) in seen
        seen.add(tuple(sorted(tilings.items())))
        return 1.0 if known or not tilings else 0.5 / len(seen)

    (found,) = measure(compiled(), [REQUEST], 1e6, lambda _: None, flattering, ticks())
    assert all(f.tiling == f.rule for f in found.findings)


def test_an_op_that_is_wrong_by_the_rules_is_not_tuned(monkeypatch):
    monkeypatch.setattr(Trial, "wrong", lambda *_: "o is off by 1.0")
    with pytest.raises(ValueError, match=r"simple_gla: by the rules o is off by 1.0; see `flowc doctor`"):
        measure(compiled(), [REQUEST], 1.0, lambda _: None, fewer_warps, ticks())


def test_what_has_no_configurations():
    for name, said in (("mamba", "token by token"), ("hgrn", "token by token")):
        with pytest.raises(ValueError, match=f"{name}: .*{said}"):
            measure(compiled(name), [REQUEST], 1.0, lambda _: None, fewer_warps, ticks())


def test_rows_of_a_gpu_are_not_read_here(folder):
    """A row of a family of GPUs is printed, and the interpreter takes the rule."""
    compilation = compiled()
    (found,) = tune.predict(compilation, [Request(Shape(1, 40, 1), (16, 16), {}, "float16")], tune.DEVICES["h200"])
    write_table(user_table("any"), tune.rows(compilation, (found,)))
    assert read_table(user_table("any")).rows[0].tuned.how == "predicted"
    op = flowc.compile(EXAMPLES[NAME])
    assert op._module._TUNED
    call = op._module._Kernels([torch.rand(1, 40, 1, 16).half()] * 4, (16, 16), 1, None, 64, "wy")
    assert {call.found(row[2]) for row in op._module._TUNED} == {None}
    assert "predicted for h200 at 20" in explain_text(op.compilation)


def test_calls_in_segments_keep_the_rules(folder):
    """Nothing of them was searched: rows for their kernels are left alone, and such a call alone cannot be tuned."""
    compilation = compiled()
    request = replace(REQUEST, schedule="split")
    (found,) = measure(compilation, [request], 1e6, lambda _: None, fewer_warps, ticks())
    write_table(user_table(INTERPRETED), tune.rows(compilation, (found,)))
    op = flowc.compile(EXAMPLES[NAME])
    x = [torch.rand(1, 150, 1, 16, dtype=torch.float16) for _ in range(3)]
    g = -torch.rand(1, 150, 1)
    expected = op.reference(*(v.double() for v in x), g.double())
    o = op(*x, g, backend="triton", schedule="two-level", chunk_size=16)
    assert (o.double() - expected).abs().max() < 2e-3 * expected.abs().max()
    with pytest.raises(ValueError, match=r"it goes in segments .* keep the rules; --schedule split or fused searches"):
        measure(compilation, [replace(REQUEST, shape=Shape(1, 150, 1), schedule="two-level")], 1.0, print, fewer_warps)
    long = Request(Shape(1, 2**18, 4), (128, 128), {})
    with pytest.raises(ValueError, match=r"such a call goes in segments .* keep the rules"):
        tune.predict(compilation, [long], DEVICES["h200"])
    with pytest.raises(ValueError, match="its state has 600 rows, and kernels hold at most 256"):
        tune.predict(compiled("deltanet"), [replace(long, sides=(600, 128))], DEVICES["h200"])

"""Rows of `flowc tune`: what they may say, where they hold, how tables are kept, and the command line without a GPU.

The search itself runs in tests/triton/interpreted/test_tuning.py.
"""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from differential.harness import EXAMPLES, op_of

import flowc
from flowc.cli import cli
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.runtime.tables import Row, compile_by_tables, read_table, rows_of, user_table, write_table
from flowc.schedule.candidates import sites
from flowc.schedule.devices import DEVICES
from flowc.schedule.predict import THREAD_REGISTERS, Shape
from flowc.schedule.staged import kernel_plan
from flowc.schedule.tilings import FAMILIES
from flowc.schedule.tuned import INTERPRETED, Place, Tuned, nearest, of_printed, printed
from flowc.source import Source
from flowc.tune.tune import Request, predict

NAME = "simple_gla"
PATH = str(Path(__file__).parent.parent / f"examples/{NAME}.flow")
TEXT = EXAMPLES[NAME]
ROW = Tuned(
    "any", "NVIDIA H200", "fused", 2, 128, 128, 64, 4096, 128, 32, 64, 4, 2, "measured", "2026-11-23", "0.1.0"
)  # fmt: skip
HASH = compile_text(Source(NAME, TEXT), Options(), Stage.PLAN).spec_hash


def run(*arguments):
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWC_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("FLOWC_TUNED")
    return tmp_path


# -- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("family", "cuda", "family is 'cuda'; allowed: 'ampere', 'blackwell', 'amd', 'any', 'interpreted'"),
        ("device", "", "device is ''; allowed: a line of up to 100 characters"),
        ("device", "a\nb", "allowed: a line of up to 100 characters"),
        ("role", "step", "role is 'step'; allowed: a kernel's"),
        ("role", "__import__('os')", "allowed: a kernel's"),
        ("width", 3, "width is 3; allowed: 2, 4"),
        ("width", "2", "width is '2'; allowed: a number"),
        ("width", True, "width is True; allowed: a number"),
        ("keys", 100, "keys is 100; allowed: a power of two"),
        ("length", 0, "length is 0; allowed: a power of two"),
        ("walks", -4, "walks is -4; allowed: a power of two"),
        ("columns", 48, "columns is 48; allowed: 16, 32, 64, 128"),
        ("rows", 512, "rows is 512; allowed: 16, 32, 64, 128"),
        ("warps", 16, "warps is 16; allowed: 4, 8"),
        ("stages", 4, "stages is 4; allowed: 1, 2, 3"),
        ("stages", 2.0, "stages is 2.0; allowed: a number"),
        ("how", "guessed", "how is 'guessed'; allowed: 'measured', 'predicted'"),
        ("date", "yesterday", "date is 'yesterday'; allowed: a day"),
    ],
)
def test_what_a_row_may_say(field, value, said, tmp_path):
    """Refused by name where it is made, and told by number where a table has it; the rows beside it are read."""
    with pytest.raises(ValueError, match="allowed") as error:
        replace(ROW, **{field: value})
    assert said in str(error.value)
    path = tmp_path / "any.json"
    write_table(path, [Row(HASH, NAME, ROW), Row(HASH, NAME, replace(ROW, role="walk"))])
    table = json.loads(path.read_text())
    table["rows"][0][field] = value
    path.write_text(json.dumps(table))
    found = read_table(path)
    assert len(found.rows) == 1
    (problem,) = found.problems
    assert problem.startswith(f"{path}: row 1 is left out: ")
    assert said in problem


def test_printed_rows_are_read_again():
    rows = (ROW, replace(ROW, role="walk_backward_1"))
    text = ", ".join(printed(rows))
    assert of_printed(eval(f"({text},)", {"__builtins__": {}})) == tuple(sorted(rows))
    for odd in ([], ((1,),), (("any",) * 16,), (ROW,)):
        with pytest.raises(ValueError, match=r"row|allowed"):
            of_printed(odd)


def test_the_module_finds_what_nearest_finds():
    """300 random launches, of devices and lengths that rows have and that they have not."""
    draw = random.Random(0)

    def place():
        kernel = draw.choice(["walk", "fused"]), 2, draw.choice([64, 128]), 128, 64
        at = 2 ** draw.randint(4, 17), 2 ** draw.randint(0, 10)
        return Place(draw.choice(["any", "amd"]), draw.choice(["one", "two", "three"]), *kernel, *at)

    rows = {}
    for _ in range(40):
        how, warps = draw.choice(["measured", "predicted"]), draw.choice([4, 8])
        row = Tuned(**asdict(place()), columns=draw.choice([16, 32]), rows=64, warps=warps, stages=1, how=how,
                    date="2026-11-23", version="0")  # fmt: skip
        rows[row.key] = row
    module = flowc.Op(op_of(NAME).compilation.configured(tuple(rows.values())))._module
    missed = 0
    for _ in range(300):
        at = place()
        found = nearest(tuple(rows.values()), at)
        kernel = at.role, at.width, at.keys, at.values, at.tokens
        made = module._found(kernel, module._bits(at.length), module._bits(at.walks), at.family, at.device)
        if found is None:
            assert made is None
            missed += 1
            continue
        columns, own, warps, stages = found.tiling
        assert made == (columns, own, warps // 2 if at.family == "amd" else warps, stages)
        better = [
            r for r in rows.values() if (r.family, r.device, r.role, r.keys) == (at.family, at.device, at.role, at.keys)
        ]
        assert found.device == at.device or not better
    assert missed < 150


def test_classes_of_sizes():
    """T and B H by the next power of two; small states as the first that rules tell apart."""
    at = Place.of("any", "x", "walk", 2, (16, 200), 60, 4097, 3)
    assert (at.keys, at.values, at.tokens, at.length, at.walks) == (64, 256, 64, 8192, 4)
    assert Place.of("any", "x", "walk", 2, (300, 64), 16, 1, 1).keys == 256


# -- tables -----------------------------------------------------------------------------------------------------------


def test_a_newer_row_takes_the_place_of_the_same(tmp_path):
    path = tmp_path / "deep" / "any.json"
    other, newer = replace(ROW, length=8192), replace(ROW, warps=8, date="2026-11-24")
    assert write_table(path, [Row(HASH, NAME, ROW), Row(HASH, NAME, other)]) == ()
    assert write_table(path, [Row(HASH, NAME, newer, {"seconds": 1.0})]) == ()
    found = {row.tuned: row.record for row in read_table(path).rows}
    assert found == {newer: {"seconds": 1.0}, other: {}}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2, "rows": []}', '{"format": 1}', "\x00\xff", "[" * 100_000]
)
def test_a_corrupt_table_is_told_and_left_out(text, folder):
    path = user_table("any")
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.warns(UserWarning, match="no table of configurations"):
        op = flowc.compile(TEXT)
    assert op.source == compile_text(Source(NAME, TEXT), Options()).artifact.source
    done = run("compile", PATH)
    assert done.exit_code == 0
    assert "warning: " in done.stderr
    (*_, told) = write_table(path, [Row(HASH, NAME, ROW)])
    assert f"{path}.broken" in told
    assert Path(f"{path}.broken").read_bytes() == text.encode("latin-1")
    assert [row.tuned for row in read_table(path).rows] == [ROW]


def test_where_rows_cannot_go_is_told_before_the_search(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("flowc.tune.tune.predict", None)  # nothing is searched
    other = tmp_path / "notes.json"
    other.write_text("{}")
    for into, why in ((other, "--into: "), (other / "table.json", "table.json cannot be written: ")):
        done = run("tune", PATH, "--predicted", "--into", str(into))
        assert done.exit_code == 2
        assert why in done.stderr
        assert str(other) in done.stderr
    monkeypatch.setenv("FLOWC_CACHE_DIR", str(other))
    done = run("tune", PATH, "--predicted")
    assert (done.exit_code, "which FLOWC_CACHE_DIR names, cannot be written" in done.stderr) == (2, True)
    taken = tmp_path / "folder"
    taken.mkdir()
    monkeypatch.setenv("FLOWC_TUNED", str(taken))
    done = run("tune", PATH, "--predicted")
    assert (done.exit_code, f"{taken}, which FLOWC_TUNED names, cannot be written" in done.stderr) == (2, True)
    assert taken.is_dir()
    assert list(tmp_path.glob("notes*")) == [other]
    assert other.read_text() == "{}"


def test_rows_of_another_kernel_or_spec_are_left_out(folder):
    """A kernel that the spec does not have is told; another spec's rows are another's."""
    rows = [Row(HASH, NAME, replace(ROW, role="matrices_backward_3")), Row("0" * 64, "other", ROW)]
    write_table(user_table("any"), rows)
    with pytest.warns(UserWarning, match="simple_gla has no kernel matrices_backward_3; its row is left out"):
        op = flowc.compile(TEXT)
    assert not hasattr(op._module, "_TUNED")
    assert rows_of("1" * 64)[0] == ()


def test_which_table_is_read(folder, tmp_path, monkeypatch):
    write_table(user_table("any"), [Row(HASH, NAME, ROW)])
    assert rows_of(HASH)[0] == (ROW,)
    own = tmp_path / "own.json"
    write_table(own, [Row(HASH, NAME, replace(ROW, stages=1))])
    monkeypatch.setenv("FLOWC_TUNED", str(own))
    assert rows_of(HASH)[0] == (replace(ROW, stages=1),)
    assert user_table("any") == own
    monkeypatch.setenv("FLOWC_TUNED", "")
    assert rows_of(HASH) == ((), ())


def test_modules_go_by_rows(folder):
    """Other rows are another module and another operator; the same ones in any order are the same bytes."""
    plain = flowc.compile(TEXT)
    rows = [Row(HASH, NAME, ROW), Row(HASH, NAME, replace(ROW, role="walk"))]
    write_table(user_table("any"), rows)
    op = flowc.compile(TEXT)
    assert op._module is not plain._module
    assert op._module._OPERATOR != plain._module._OPERATOR
    again, _ = compile_by_tables(Source(NAME, TEXT), Options(), Stage.MODULE)
    assert again.configured(tuple(r.tuned for r in reversed(rows))).artifact.source == op.source
    assert printed([ROW])[0] in op.source


def test_a_tuned_module_is_checked_by_its_own_rows(folder, tmp_path):
    """`compile --check` goes by what the module records, whatever tables there are; an edited row is found."""
    write_table(user_table("any"), [Row(HASH, NAME, ROW)])
    assert run("compile", PATH, "-o", str(tmp_path)).exit_code == 0
    module = tmp_path / f"{NAME}.py"
    user_table("any").unlink()
    assert run("compile", "--check", str(module)).exit_code == 0
    text = module.read_text()
    module.write_text(text.replace("4096, 128, 32, 64, 4, 2,", "4096, 128, 32, 64, 5, 2,"))
    done = run("compile", "--check", str(module))
    assert (done.exit_code, "no readable _TUNED" in done.stderr) == (1, True)
    module.write_text(text.replace("'2026-11-23', '0.1.0'", "'2026-11-23',  '0.1.0'"))
    done = run("compile", "--check", str(module))
    assert (done.exit_code, "stale or edited" in done.stderr) == (1, True)


# -- candidates -------------------------------------------------------------------------------------------------------


def test_candidates_come_by_predicted_time_and_fit():
    plan = op_of("gated_deltanet").compilation.plan
    dimensions = {d.name: d.value or 128 for d in plan.recurrence.model.dimensions}
    stages = kernel_plan(plan).stages
    for device in (DEVICES["h200"], DEVICES["a100"]):
        forward, backward = sites(stages, "split", dimensions, 64, Shape(8, 4096, 16), device, 2, True)
        assert {s.role for s in (*forward, *backward)} == {
            "matrices", "walk", "columns", "walk_backward", "gradients_backward",
        }  # fmt: skip
        for site in (*forward, *backward):
            found = site.candidates()
            assert [c.seconds for c in found] == sorted(c.seconds for c in found)
            assert site.rule.tiling not in {c.tiling for c in found}
            for c in found:
                assert site.model(c.tiling).held <= 4 * 32 * c.tiling[2] * THREAD_REGISTERS
            assert 0 < len({c.tiling for c in found}) == len(found)


# -- the command line -------------------------------------------------------------------------------------------------


def test_without_a_gpu_nothing_is_measured(folder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = run("tune", PATH)
    assert done.exit_code == 2
    assert "no GPU that torch can use, so nothing can be measured; --predicted writes" in done.stderr.replace("\n", " ")
    assert not list(folder.rglob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "h100"], "--device goes with --predicted"),
        (["--shape", "8,4096", "--predicted"], "--shape 8,4096: it takes five numbers"),
        (["--shape", "1,64,1,16,16,R=2", "--predicted"], "R is no open dimension"),
        (["--budget", "0"], "--budget"),
        (["--passes", "backward"], "'backward' is not one of 'forward', 'both'"),
        (["--predicted", "--into", "/dev/null/any.json"], "/dev/null/any.json cannot be written"),
    ],
)
def test_wrong_usage_names_what_was_given(arguments, said, folder, monkeypatch):
    monkeypatch.setattr("flowc.tune.tune.compiler", lambda *_: None)
    done = run("tune", PATH, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_specs_without_configurations(folder, tmp_path):
    mamba = str(Path(PATH).with_name("mamba.flow"))
    done = run("tune", mamba, "--predicted")
    assert (done.exit_code, "mamba: its kernels go token by token" in done.stderr) == (2, True)
    bad = tmp_path / "bad.flow"
    bad.write_text("flow bad(K)\ninput x : K\nstate h : K\nh[t] = h[t-1] + y\no[t] = h[t]\n")
    done = run("tune", str(bad), "--predicted")
    assert (done.exit_code, "error[F201]" in done.stderr) == (1, True)


def test_predicted_rows(folder, monkeypatch):
    """Written into the family's table, marked so, told by `explain`, and what `explain --shape` predicts by them."""
    monkeypatch.setattr("flowc.tune.tune.compiler", lambda *_: None)  # tests/triton/test_tune_offline.py has one
    before = run("explain", PATH, "--shape", "8,4096,16,128,128", "--backward", "--json")
    done = run("tune", PATH, "--predicted", "--device", "h100", "--json")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    kept = json.loads(user_table("any").read_text())["rows"]
    assert sorted(made, key=lambda r: r["role"]) == sorted(kept, key=lambda r: r["role"])
    assert {(r["how"], r["device"], r["family"]) for r in made} == {("predicted", "h100", "any")}
    assert all(r["record"]["seconds"] is None for r in made)
    text = run("explain", PATH).output
    assert text.count("predicted for h100 at 20") == len(made)
    after = run("explain", PATH, "--shape", "8,4096,16,128,128", "--backward", "--json")
    old, new = (json.loads(x.stdout) for x in (before, after))
    assert new["seconds"] < old["seconds"]
    assert (old["configured"], set(new["configured"])) == ({}, {r["role"] for r in made})
    assert "every kernel is configured by rule" in run("explain", PATH, "--shape", "1,64,1,16,16").output


def test_what_speaks_against_a_candidate_is_told(folder):
    """The next one that nothing speaks against is taken; where something does against all, the rule stays."""
    compilation = compile_text(Source(NAME, TEXT), Options(), Stage.PLAN)
    request, h200 = Request(Shape(8, 4096, 16), (128, 128), {}), DEVICES["h200"]
    (free,) = predict(compilation, [request], h200)
    firsts = {f.place.role: f.tiling for f in free.findings if f.tiling != f.rule}
    assert firsts
    (found,) = predict(compilation, [request], h200, lambda work, place, tiling, _: (
        "it spills" if tiling == firsts.get(place.role) else None))  # fmt: skip
    for f in found.findings:
        first = firsts.get(f.place.role)
        assert [r.tiling for r in f.refused] == [first] * (first is not None)
        assert f.tiling != first
    (none,) = predict(compilation, [request], h200, lambda *_: "it spills")
    assert all(f.tiling == f.rule for f in none.findings)


def test_families_are_those_of_devices():
    assert INTERPRETED not in FAMILIES
    assert {d.family for d in DEVICES.values()} == set(FAMILIES)

"""`make gpu` whole at tiny size: what it runs, what it keeps, what fails it, what its report says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import checks  # noqa: E402
import correctness  # noqa: E402
import gpu  # noqa: E402
import gpu_report  # noqa: E402
import ledger  # noqa: E402
import on_gpu  # noqa: E402

from flowc.fuzz.targets import GPU, INTERPRETER  # noqa: E402
from flowc.options import choices  # noqa: E402

OP = "linear_attention"


def rows_of(path):
    return {r["key"]: r for r in json.loads(path.read_text())["rows"]}


# -- correctness ------------------------------------------------------------------------------------------------------


def test_every_choice_is_checked_by_itself():
    """Schedules, aggregations and what is kept, as the options list them; those that change nothing are left out."""
    for name, varied in (("gated_deltanet", {"schedule", "aggregation", "save"}), ("mamba", {"save"})):
        for tiny in (True, False):
            found = [c for c in checks.checks(checks.example(name), GPU, tiny) if c.form == "values"]
            alone = {c.chosen for c in found if len(c.chosen) < 2}
            expected = {(n, v) for n in varied for v in choices()[n] if v not in ("auto", "states")}
            assert alone == {(), *((pair,) for pair in expected)}
    crossed = {c.chosen for c in checks.checks(checks.example("gated_deltanet"), GPU, False) if len(c.chosen) == 2}
    assert len(crossed) == (len(choices()["schedule"]) - 1) * (len(choices()["aggregation"]) - 1)


def test_what_runs_on_a_gpu():
    """All types, sizes that are trained with a partial chunk, both kinds of heads, packed sequences, steps, bits."""
    found = checks.checks(checks.example("kda"), GPU, False)
    assert {c.dtype for c in found} == {"float32", "float16", "bfloat16"}
    assert {c.form for c in found} == set(checks.FORMS)
    assert {64, 128, 256} <= {c.case.sizes[0] for c in found if c.case.length == 200 and c.dtype == "bfloat16"}
    assert any(c.case.group == 2 for c in found)
    bits = {c.chosen for c in found if c.form == "bits"}
    assert bits == {c.chosen for c in found if c.form == "values" and len(c.chosen) < 2}
    assert len({c.key for c in found}) == len(found)


def test_states_are_no_larger_than_kernels_hold():
    for name, rows in (("based", 1 + 8 + 64), ("mamba3", 2 * 128), ("gla", 256)):
        model = checks.example(name).model
        case = checks.fitting(model, checks.Case(sizes=(256, 256, 2, 2)))
        assert max(s.shape.sizes[0].value(checks.sizes_of(model, case)) for s in checks._sized(model)) == rows
        assert len(case.sizes) == sum(d.value is None for d in model.dimensions)


def test_what_grows_is_judged_on_vectors_of_length_one():
    """An update that reads the state by a value grows with the length of that, beyond any bound at 64 columns."""
    model = checks.example("gated_oja").model
    case = checks.Case(1, 100, 1, (16, 64), gate="zero")
    units = checks.short(model, case)
    grown, settled = (checks._trials.__wrapped__("gated_oja", c, "float32", GPU) for c in (case, units))
    assert grown.judgeable
    assert grown.case == settled.case == units
    assert {i.name for i in model.inputs if i.shape.kind.name == "COLUMN"} - set(units.roles.units) == {"g"}
    assert "beta" in units.roles.strengths


def test_rows_that_are_there_are_not_run_again(tmp_path, monkeypatch, capsys):
    path, seen, found = tmp_path / "rows.json", [], checks.found
    monkeypatch.setattr(checks, "found", lambda check, target: seen.append(check.key) or found(check, target))
    given = ["--tiny", "--ops", OP, "--json", str(path)]
    assert correctness.main([*given, "--most", "2"]) == 0
    first = rows_of(path)
    assert len(seen) == len(first) == 2
    assert all(r["verdict"] == "held" and 0 < r["worst"] <= 1 for r in first.values())
    assert correctness.main([*given, "--most", "3"]) == 0
    assert len(seen) == 3
    assert {k: rows_of(path)[k] for k in first} == first
    monkeypatch.setattr(ledger, "commit", lambda: "another")
    assert correctness.main([*given, "--most", "1"]) == 0
    assert len(seen) == 4
    assert len(rows_of(path)) == 1
    assert OP in capsys.readouterr().out


def test_a_run_that_is_killed_loses_no_row(tmp_path):
    path = tmp_path / "rows.json"
    command = [sys.executable, str(ROOT / "benchmarks/correctness.py"), "--tiny", "--ops", OP, "--json", str(path)]
    command += ["--most", "5"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (path.is_file() and len(rows_of(path)) >= 2):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = json.loads(path.read_text())
    assert len(before["rows"]) >= 2
    assert list(before["tries"].values()) in ([1], [])
    assert correctness.main(command[2:]) == 0
    after = rows_of(path)
    assert {r["key"]: after[r["key"]] for r in before["rows"]} == {r["key"]: r for r in before["rows"]}
    code = checks.example(OP).code
    expected = {f"{c.key} [{code}]" for c in checks.checks(checks.example(OP), INTERPRETER, True)[:5]}
    assert {k for k, r in after.items() if r["verdict"] == "held"} == expected


def test_a_row_that_ends_the_process_is_not_begun_a_third_time(tmp_path, capsys):
    path = tmp_path / "rows.json"
    book = ledger.Ledger.opened(path, ledger.about("interpreted, times mean nothing"))
    one = checks.example(OP)
    key = f"{checks.checks(one, INTERPRETER, True)[0].key} [{one.code}]"
    assert book.begin(key)
    with pytest.raises(KeyboardInterrupt), book.begun(key):
        raise KeyboardInterrupt
    assert [book.begin(key) for _ in range(3)] == [True, True, False]  # who interrupts a row has not tried it
    assert correctness.main(["--tiny", "--ops", OP, "--json", str(path), "--most", "1"]) == 1
    assert rows_of(path)[key]["verdict"] == "died"
    assert "the process ended in this row 2 times" in capsys.readouterr().out.replace("\n", " ")


def test_what_is_wrong_is_a_row(tmp_path, monkeypatch):
    """A value that is off, bits that differ, and whatever is raised; what an op refuses where something was chosen."""
    run, calls = checks.run_op, []

    def off(*given):
        calls.append(1)
        return {n: x * (1 + 1e-3 * len(calls)) for n, x in run(*given).items()}

    def raising(*given):
        raise RuntimeError("no such luck")

    for form, wrong, why in (("values", off, "is off"), ("bits", off, "differs"), ("values", raising, "no such luck")):
        check = checks.Check(OP, form, (), "float32", checks.SMALL)
        with monkeypatch.context() as patched:
            patched.setitem(checks.FORMS, form, wrong)
            row = correctness.judged(check, INTERPRETER)
        assert row["verdict"] == "failed"
        assert why in row["why"]
        json.dumps(row, allow_nan=False)

    def refusing(*given):
        raise ValueError(f"{OP}: not like that")

    monkeypatch.setitem(checks.FORMS, "values", refusing)
    for chosen, verdict in (((("schedule", "fused"),), "refused"), ((), "failed")):
        check = checks.Check(OP, "values", chosen, "float32", checks.SMALL)
        assert correctness.judged(check, INTERPRETER)["verdict"] == verdict


def test_nothing_is_begun_without_time(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.json"
    monkeypatch.setattr(checks, "found", None)
    assert correctness.main(["--tiny", "--ops", OP, "--json", str(path), "--budget", "0"]) == 0
    found = json.loads(path.read_text())
    assert found["rows"] == []
    assert len(found["left"]) == len(checks.checks(checks.example(OP), INTERPRETER, True)) + len(correctness.TOOLS)
    assert "the budget is spent" in capsys.readouterr().out
    bench = tmp_path / "bench.json"
    assert gpu.main(["--tiny", "--ops", f"simple_gla,{OP},mamba", "--json", str(bench), "--budget", "0"]) == 0
    found = json.loads(bench.read_text())
    assert found["rows"] == []
    assert len(found["left"]) == 2 * (1 + 2 * len(gpu.TINY))


@pytest.mark.parametrize(("code", "verdict"), [(None, "skipped"), (0, "held"), (9, "failed"), (3, "skipped")])
def test_the_sanitizer(code, verdict, tmp_path, monkeypatch):
    """Where it is installed it runs over one check; what it says by its exit code is the row."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if code is not None:
        tool = tmp_path / "compute-sanitizer"
        tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/given\necho wrong address\nexit {code}\n')
        tool.chmod(0o755)
    row = correctness.sanitized(GPU, "memcheck")
    assert row["verdict"] == verdict
    if code is None:
        assert row["why"] == "compute-sanitizer is not installed"
    else:
        given = (tmp_path / "given").read_text().split()
        assert given[:2] == ["--tool", "memcheck"]
        assert given[-3:] == [correctness.SANITIZED, "--most", "1"]
        assert ("wrong address" in row["why"]) == bool(code)


# -- the command ------------------------------------------------------------------------------------------------------


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_the_whole_command(tmp_path, monkeypatch, capsys):
    given = ["--tiny", "--ops", "simple_gla", "--out", str(tmp_path)]
    assert on_gpu.main(given) == 0
    first, html = report_of(tmp_path), (tmp_path / "report.html").read_text()
    there = {p.name for p in on_gpu.PARTS if p.path.is_file()}
    assert {"correctness", "bench"} <= there
    for name, part in first["parts"].items():
        assert part["status"] == ("held" if name in there else "not there yet")
    assert len(first["parts"]["bench"]["record"]["rows"]) == 2 * len(gpu.TINY)
    assert {r["verdict"] for r in first["parts"]["correctness"]["record"]["rows"]} == {"held", "skipped"}
    assert html.count("<svg") >= 2
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "").replace("https://pytorch.org", "")
    for text in (html, (tmp_path / "report.txt").read_text()):
        assert "times mean nothing" in text
        assert "interpreter-bfloat16" in text
        assert "simple_gla" in text
    process = on_gpu.Run.process
    monkeypatch.setattr(on_gpu.Run, "process", lambda run, part, *more: {"model": process}[part.name](run, part, *more))
    assert on_gpu.main(given) == 0
    for name in there - {"model"}:
        again = report_of(tmp_path)["parts"][name]
        assert again.pop("kept")
        assert again == first["parts"][name]
    assert "held, as before" in capsys.readouterr().out


HEAD = """import json, sys, time, os, pathlib
out = pathlib.Path(sys.argv[sys.argv.index("--json") + 1])
"""


def parts(monkeypatch, folder, **scripts):
    """Parts that are these scripts."""
    made = []
    for name, text in scripts.items():
        path = folder / f"{name}.py"
        path.write_text(HEAD + text)
        made.append(on_gpu.Part(name, str(path), 1, f"a script called {name}"))
    monkeypatch.setattr(on_gpu, "PARTS", tuple(made))


def test_what_parts_end_with(tmp_path, monkeypatch):
    """Wrong, dead, lost and found again, out of time, too slow; one that has no `--budget` is not given it."""
    parts(
        monkeypatch, tmp_path,
        wrong='out.write_text(json.dumps({"rows": [{"name": "<b>", "predicted": 1.5}]})); sys.exit(1)',
        dead="os.abort()",
        lost='n = len(sys.argv); out.write_text(out.read_text() + "1" if out.is_file() else "1")\n'
        'sys.exit(0 if out.read_text() == "11" else 75)',
        short='out.write_text(json.dumps({"left": ["a"], "rows": []})); assert sys.argv[3:] == ["--budget", "0.100"]',
        slow="time.sleep(60)",
        plain="assert len(sys.argv) == 3, sys.argv; out.write_text('{}')",
        broken='out.write_text("{}"); raise OSError("no disk")',
    )  # fmt: skip
    monkeypatch.setattr(on_gpu, "GRACE", 0.5)
    monkeypatch.setattr(on_gpu.time, "monotonic", lambda: 0.0)  # shares of 24 seconds, none of which goes by
    out = tmp_path / "out"
    assert on_gpu.main(["--tiny", "--budget", "0.4", "--out", str(out)]) == 1
    found = report_of(out)["parts"]
    assert {n: p["status"] for n, p in found.items()} == {
        "wrong": "something is wrong", "dead": "ended with exit code -6", "lost": "held",
        "short": "not done: the time was over", "slow": "took too long, and was ended", "plain": "held",
        "broken": "ended with exit code 70",
    }  # fmt: skip
    assert {n for n, p in found.items() if p["failed"]} == {"wrong", "dead", "slow", "broken"}
    assert {n for n, p in found.items() if p["complete"]} == {"wrong", "lost", "plain"}
    html = (out / "report.html").read_text()
    for text in (html, (out / "report.txt").read_text()):
        assert "OSError: no disk" in text
        assert "Fatal Python error: Aborted" in text
    assert {n for n, p in found.items() if p["raised"]} == {"dead", "broken"}
    assert "&lt;b&gt;" in html
    assert '<th class="predicted">predicted (predicted)' in html
    assert on_gpu.main(["--tiny", "--budget", "0.4", "--out", str(out), "--only", "plain"]) == 0
    assert on_gpu.main(["--tiny", "--budget", "0.4", "--out", str(out), "--only", "wrong"]) == 1, "it failed before"
    assert report_of(out)["parts"]["wrong"]["kept"]


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit])
def test_a_part_that_is_stopped_is_not_what_it_was_before(how, tmp_path, monkeypatch):
    """Interrupted, the report has what the part has written; killed, it says that the part has not ended."""
    parts(monkeypatch, tmp_path, rows="out.write_text(json.dumps({'rows': [{'a': 1}, {'a': 2}]}))", other="")
    given, process = ["--tiny", "--out", str(tmp_path / "out"), "--only", "other,rows"], on_gpu.Run.process

    def stopped(self, part, *_):
        (self.asked.out / f"{part.name}.json").write_text('{"rows": [{"a": 1}], "left": ["b", "c"]}')
        raise how

    assert on_gpu.main(given) == 0
    monkeypatch.setattr(on_gpu.Run, "process", stopped)
    if how is KeyboardInterrupt:
        assert on_gpu.main([*given, "--again"]) == 130
    else:
        with pytest.raises(SystemExit):
            on_gpu.main([*given, "--again"])
    found = report_of(tmp_path / "out")["parts"]["rows"]
    assert not found["complete"]
    assert found["failed"]
    if how is KeyboardInterrupt:
        assert (found["status"], found["left"], len(found["record"]["rows"])) == ("stopped", 2, 1)
    else:
        assert found["status"] == "begun, and not ended"
    monkeypatch.setattr(on_gpu.Run, "process", process)
    assert on_gpu.main(given) == 0
    assert len(report_of(tmp_path / "out")["parts"]["rows"]["record"]["rows"]) == 2


def test_a_part_that_is_not_there(capsys):
    with pytest.raises(SystemExit):
        on_gpu.main(["--tiny", "--only", "bench,nothing"])
    assert "there is no part nothing; there are correctness, bench" in capsys.readouterr().err


def test_no_time_runs_nothing_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(on_gpu.Run, "process", None)
    assert on_gpu.main(["--tiny", "--budget", "0", "--out", str(tmp_path)]) == 0
    found = report_of(tmp_path)["parts"]
    assert {p["status"] for n, p in found.items()} <= {"not run: the time is over", "not there yet"}
    assert not any(p["complete"] for p in found.values())
    assert "not run: the time is over" in capsys.readouterr().out


def test_without_a_gpu_it_says_what_can_be_done(tmp_path, capsys):
    assert on_gpu.main(["--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "There is no GPU" in said
    assert "GPU_ARGS=--tiny" in said
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        on_gpu.main(["--ops", "nothing_of_the_kind"])
    with pytest.raises(SystemExit):
        correctness.main(["--ops", "nothing_of_the_kind", "--tiny"])


def test_marks():
    """What numbers mean is told by where they come from."""
    report = {"device": "NVIDIA H200", "tiny": False}
    assert gpu_report.meaning(report).startswith("measured on the device")
    assert "mean nothing" in gpu_report.meaning(report | {"tiny": True})
    assert "interpreter" in gpu_report.meaning(report | {"device": "none: Triton's interpreter", "tiny": True})

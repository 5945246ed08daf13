"""Random specs: a quick campaign, what is drawn, and that a find is shrunk, saved and found again."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from differential.targets import INTERPRETED

from flowc.cli import cli
from flowc.compiler import Stage, compile_text
from flowc.diagnostics import FlowError
from flowc.fuzz import find
from flowc.fuzz.campaign import Tally, run
from flowc.fuzz.cases import Case, Roles
from flowc.fuzz.distribution import FREQUENT, shares
from flowc.fuzz.find import Trial, Verdict
from flowc.options import Options
from flowc.semantics import load
from flowc.source import Source

pytestmark = pytest.mark.skipif(INTERPRETED, reason="starts processes of its own")

QUICK = 6  # about a second each
DRAWN = 250
LEAST = 0.05

WRONG = """flow wrong(K, V)
input q, k : K
input v : V
state S : K x V
S[t] = 0.9 * S[t-1] + k @ v.T
o[t] = S[t].T @ q
"""


def classified(trial: Trial) -> Verdict:
    """Compiled up to the chunk program and not run."""
    try:
        compiled = compile_text(Source("<drawn>", trial.text), Options(), Stage.CHUNK)
    except FlowError as error:
        return Verdict("refused", error.diagnostics[0].message)
    return Verdict("held", "", compiled.recurrence.classification.name)


def silent(tally: Tally) -> None:
    pass


def test_a_quick_campaign_holds(tmp_path):
    command = ["fuzz", "--examples", str(QUICK), "--seed", "2026", "--folder", str(tmp_path), "--json"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["specs"] == QUICK == sum(found["verdicts"].values())
    assert found["verdicts"]["held"] >= QUICK * 3 // 4
    assert found["finds"] == []


def test_every_kind_is_drawn(tmp_path):
    """No class, rank or gate is rarer than 5 %; at 250 specs a share of 10 % is off by 2 %."""
    tally = run(Tally(0, "torch"), DRAWN, tmp_path, silent, classified)
    found = shares(tally)
    assert tally.verdicts["refused"] <= DRAWN // 20, tally.refused
    assert set(found["class"]) == {"G", "D", "M"}
    assert set(found["gate"]) == {"none", "scalar", "key side", "both"}
    assert len(found["rank"]) == 6
    assert len(found["gate form"]) == 10
    for what in FREQUENT:
        assert min(found[what].values()) >= LEAST, found[what]


def test_a_campaign_goes_on_where_it_stopped(tmp_path):
    """The same specs, whatever ran before them."""
    whole, seen = [], []

    def noting(into):
        def judge(trial):
            into.append(trial.text)
            return classified(trial)

        return judge

    one = run(Tally(3, "torch"), 4, tmp_path / "whole", silent, noting(whole))
    run(Tally(3, "torch"), 2, tmp_path / "parts", silent, noting(seen))
    path = tmp_path / "parts" / "torch-3.json"
    other = run(Tally.load(path), 4, tmp_path / "parts", silent, noting(seen))
    assert vars(other) == vars(one)
    assert set(seen) == set(whole)
    assert len(set(whole)) == 5  # and the simplest of all


def test_a_find_is_shrunk_and_saved(tmp_path):
    """A judge that rejects outer products: what is left holds one and little else."""

    def judge(trial):
        return Verdict("find", "an outer product") if "outer(" in trial.text else classified(trial)

    tally = run(Tally(0, "torch"), 3, tmp_path, silent, judge, shrinking=2.0)
    assert tally.verdicts["find"] > 0
    texts = []
    for line in tally.finds:
        trial = Trial.parsed((tmp_path / line.partition(": ")[0]).read_text())
        assert judge(trial).kind == "find"
        texts.append(trial.text)
    longest = len(max(texts, key=len).splitlines())
    assert longest <= 25, texts  # a drawn spec has up to 60 lines; two seconds are not enough to reach the least


def test_a_reproducer_is_judged_again(tmp_path, monkeypatch):
    trial = Trial(WRONG, Case(roles=Roles(("k",), (), ("q", "k"), 3), gate="never"), "float32", "torch", "1.2")
    assert Trial.parsed(trial.record()) == trial
    path = tmp_path / "find.json"
    path.write_text(trial.record())
    done = CliRunner().invoke(cli, ["fuzz", "--replay", str(path)])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(WRONG)

    class Off:
        """An op whose results are off by a ten thousandth."""

        def __init__(self, compiled):
            self.op = find_op(compiled)

        def __call__(self, **arguments):
            o, state = self.op(**arguments)
            return o * 1.0001, state

    find_op = find.Op
    monkeypatch.setattr(find, "Op", Off)
    done = CliRunner().invoke(cli, ["fuzz", "--replay", str(path), "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["why"].startswith("its op: o is off by ")


def test_whatever_goes_wrong_is_the_verdict(monkeypatch):
    trial = Trial(WRONG, Case(), "float64", "torch")
    assert find.judged(trial).kind == "held"
    assert find.judged(replace(trial, text="flow f(")).kind == "refused"
    assert find.judged(replace(trial, case=Case(chunk=1000))).kind == "held"  # what is too long is cut

    def crash(*arguments):
        raise ZeroDivisionError("a crash")

    monkeypatch.setattr(find, "compile_text", crash)
    verdict = find.judged(trial)
    assert (verdict.kind, verdict.why.partition(" (")[0]) == ("find", "compiling: ZeroDivisionError: a crash")


@pytest.mark.parametrize("text", ["{}", "[]", "", '{"text": [], "case": {}, "dtype": "float65"}'])
def test_a_file_that_is_no_reproducer(tmp_path, text):
    path = tmp_path / "find.json"
    path.write_text(text)
    done = CliRunner().invoke(cli, ["fuzz", "--replay", str(path)])
    assert done.exit_code == 2
    assert "find.json: " in done.output


def test_without_hypothesis(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "hypothesis", None)
    done = CliRunner().invoke(cli, ["fuzz", "--folder", str(tmp_path)])
    assert done.exit_code == 2
    assert "hypothesis, which is not installed" in done.output


def test_drawn_specs_are_legal_text(tmp_path):
    """What is refused is refused for its form: names, shapes and sizes of what is drawn are right."""
    codes = Counter()

    def judge(trial):
        try:
            load(trial.text, "drawn")
        except FlowError as error:
            codes[error.diagnostics[0].code] += 1
        return Verdict("held", "", "G")

    run(Tally(4, "torch"), 60, Path(tmp_path), silent, judge)
    assert not codes

"""A campaign: as many drawn specs as asked for, judged one after another, its state on disk.

In: how many, a seed, a backend, a folder. Out: `Tally`, and a reproducer for every find. The N-th spec of a seed is the
same whatever ran before it, so a campaign can stop anywhere and go on.

Every spec is drawn by a hypothesis run of its own: of several examples of one run most are variations of the first.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from flowc.files import write_whole
from flowc.fuzz.cases import HALVES
from flowc.fuzz.find import BACKENDS, Trial, Verdict, judged
from flowc.fuzz.strategy import Drawn, cases, specs

SHRINKING = 60.0
"""Seconds after which a find is taken as it is."""

KINDS = ("held", "refused", "grew", "find")


@dataclass
class Tally:
    """What a campaign has seen: verdicts, why specs were refused, and what the others had."""

    seed: int
    backend: str
    done: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)  # "what: kind"
    finds: list[str] = field(default_factory=list)

    def count(self, drawn: Drawn, verdict: Verdict) -> None:
        """Add a spec."""
        self.verdicts[verdict.kind] += 1
        if verdict.kind == "refused":
            self.refused[verdict.why] += 1
            return
        self.drawn.update(f"{what}: {kind}" for what, kind in drawn.notes)
        self.drawn[f"class: {verdict.class_name}"] += 1

    def record(self) -> str:
        """As JSON."""
        return json.dumps(vars(self), indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def load(path: Path) -> Tally:
        """A tally that was saved; ValueError where the file is none."""
        try:
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
            for name in ("verdicts", "refused", "drawn"):
                found[name] = Counter(found[name])
            return Tally(**found)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not the state of a campaign") from error


class _Found(AssertionError):
    """A find, as hypothesis shrinks it."""


class _Enough(KeyboardInterrupt):
    """The time to shrink is over: the one kind of exception that hypothesis lets pass."""


@dataclass
class _Run:
    """One spec and, if it is a find, its smaller forms; `simplest` is judged in every run and remembered."""

    number: int
    tally: Tally
    judge: Callable[[Trial], Verdict]
    known: dict[Trial, Verdict]
    shrinking: float
    first: tuple[Drawn, Verdict] | None = None
    smallest: tuple[Trial, Verdict] | None = None
    until: float = 0.0

    def example(self, data: st.DataObject) -> None:
        """Judge a drawn spec; raises where it is a find."""
        drawn = data.draw(specs())
        case = data.draw(cases(drawn, self.tally.backend == "triton"))
        target = BACKENDS[self.tally.backend]
        dtype = data.draw(st.sampled_from(target.types))
        if dtype in HALVES and self.tally.backend == "torch":
            raise AssertionError(dtype)
        trial = Trial(
            drawn.text, case, str(dtype).removeprefix("torch."), self.tally.backend, f"{self.tally.seed}.{self.number}"
        )
        plain = Trial(trial.text, trial.case, trial.dtype, trial.backend)
        if plain not in self.known:
            if self.smallest is not None and time.monotonic() > self.until:
                raise _Enough
            self.known[plain] = self.judge(trial)
        verdict = self.known[plain]
        if self.smallest is None:
            self.first = drawn, verdict
        if verdict.kind == "find":
            if self.smallest is None:
                self.until = time.monotonic() + self.shrinking
            self.smallest = trial, verdict
            raise _Found(verdict.why)


def run(
    tally: Tally,
    examples: int,
    folder: Path,
    progress: Callable[[Tally], None],
    judge: Callable[[Trial], Verdict] = judged,
    shrinking: float = SHRINKING,
) -> Tally:
    """Judge specs until `examples` are done; the state and reproducers of finds go into `folder`."""
    known: dict[Trial, Verdict] = {}
    while tally.done < examples:
        one = _Run(tally.done, tally, judge, dict(known), shrinking)
        _hypothesis(one)
        if not known:  # the simplest spec on the simplest case, with which every run begins
            known = dict(list(one.known.items())[:1])
        assert one.first is not None
        tally.count(*one.first)
        if one.smallest is not None:
            trial, verdict = one.smallest
            name = f"find-{tally.backend}-{tally.seed}-{tally.done}.json"
            write_whole(folder / name, trial.record())
            tally.finds.append(f"{name}: {verdict.why}")
        tally.done += 1
        for name in [n for n in sys.modules if n.startswith("flowc_emitted_")]:
            del sys.modules[name]  # thousands of them take gigabytes
        write_whole(folder / f"{tally.backend}-{tally.seed}.json", tally.record())
        progress(tally)
    return tally


def _hypothesis(one: _Run) -> None:
    """Run `one` on two examples, of which the first is the simplest, and shrink what it finds."""

    @seed(one.tally.seed * 1_000_003 + one.number)
    @settings(
        max_examples=2,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(st.data())
    def examples(data: st.DataObject) -> None:
        one.example(data)

    with suppress(_Found, _Enough):
        examples()

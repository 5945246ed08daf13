"""The search: one kernel after another, each configuration in the order of its predicted time, within a budget.

In: a `Trial`, the `Site`s of its kernels, seconds. Out: `Finding`s, one for every kernel. A candidate is refused unless
its values are right, and taken where the whole call is faster by `MARGIN`; the kernels before it stay as they were
found. At the end both are timed again, and what is not faster then goes back to the rules. Refuses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from flowc.schedule.candidates import Site
from flowc.schedule.tilings import Tiling
from flowc.schedule.tuned import Place
from flowc.tune.trial import Configured, Timed, Trial

MARGIN = 0.99
"""Of the time before, at most: less is noise."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Refused:
    """A configuration that is not taken whatever its time, and why."""

    role: str
    tiling: Tiling
    why: str

    def __str__(self) -> str:
        """In words."""
        return f"{self.role} {shown(self.tiling)} is refused: {self.why}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found for a kernel: seconds are of the whole call, with all kernels as found and by the rules.

    `tried` of its `candidates` were timed or refused; None for seconds: nothing was measured.
    """

    place: Place
    tiling: Tiling
    rule: Tiling
    candidates: int
    tried: int = 0
    refused: tuple[Refused, ...] = ()
    seconds: float | None = None
    untuned: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """How far a search is: a candidate of a kernel was tried."""

    role: str
    tiling: Tiling
    done: int
    of: int
    refused: Refused | None = None


def shown(tiling: Tiling) -> str:
    """A configuration in words."""
    columns, rows, warps, stages = tiling
    return f"{columns} columns, {rows} rows, {warps} warps, {stages} stage{'s' if stages > 1 else ''}"


@dataclass(slots=True)
class Search:
    """A search of one call's kernels; `until` is when the clock says that its time is spent."""

    trial: Trial
    timed: Timed
    until: float
    told: Callable[[Step], None]
    clock: Clock = time.monotonic
    taken: dict[str, Tiling] = field(default_factory=dict)

    def run(self, sites: Sequence[Site]) -> tuple[Finding, ...]:
        """What was found, slowest kernels first.

        Raises:
            ValueError: what the op makes by the rules is wrong already.
        """
        if why := self.trial.wrong({}):
            raise ValueError(f"{self.trial.model.name}: by the rules {why}; see `flowc doctor`")
        own = [s for s in sites if s.role in self.trial.places]
        own.sort(key=lambda s: -s.rule.seconds)
        untuned = best = self.trial.seconds({}, self.timed)
        found = []
        for at, site in enumerate(own):
            share = self.clock() + (self.until - self.clock()) / (len(own) - at)
            finding, best = self._kernel(site, best, share)
            found.append(finding)
        again = self.trial.seconds({}, self.timed), self.trial.seconds(self.taken, self.timed)
        if not again[1] < again[0]:
            found = [replace(f, tiling=f.rule) for f in found]
            again = again[0], again[0]
        return tuple(replace(f, untuned=min(untuned, again[0]), seconds=again[1]) for f in found)

    def _kernel(self, site: Site, best: float, until: float) -> tuple[Finding, float]:
        """The configurations of one kernel."""
        candidates, refused, tried = site.candidates(), list[Refused](), 0
        for candidate in candidates:
            if self.clock() >= until:
                break
            tried += 1
            asked: Configured = {**self.taken, site.role: candidate.tiling}
            why = self.trial.wrong(asked)
            if why is not None:
                refused.append(Refused(site.role, candidate.tiling, why))
            elif (seconds := self.trial.seconds(asked, self.timed)) < MARGIN * best:
                best, self.taken[site.role] = seconds, candidate.tiling
            self.told(Step(site.role, candidate.tiling, tried, len(candidates), refused[-1] if why else None))
        rule = site.rule.tiling
        tiling = self.taken.get(site.role, rule)
        place = self.trial.places[site.role]
        return Finding(place, tiling, rule, len(candidates), tried, tuple(refused)), best

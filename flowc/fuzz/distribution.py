"""What a campaign has drawn, for people and for programs.

In: a `Tally`. Out: tables, a record for JSON, and shares of the kinds that have to be frequent. Refuses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowc.fuzz.campaign import KINDS, Tally

if TYPE_CHECKING:
    from rich.table import Table

FREQUENT = ("class", "rank", "size of a rank", "gate", "gate form")
"""What is held to a least share of the specs that compile."""


def shares(tally: Tally) -> dict[str, dict[str, float]]:
    """By what was drawn and its kind: the share of the specs that compiled."""
    compiled = sum(tally.verdicts[kind] for kind in KINDS if kind != "refused")
    result: dict[str, dict[str, float]] = {}
    for label, count in sorted(tally.drawn.items()):
        what, _, kind = label.partition(": ")
        result.setdefault(what, {})[kind] = count / compiled
    return result


def record(tally: Tally) -> dict[str, object]:
    """As JSON shows it."""
    return {
        "seed": tally.seed,
        "backend": tally.backend,
        "specs": tally.done,
        "verdicts": {kind: tally.verdicts[kind] for kind in KINDS},
        "refused": dict(tally.refused.most_common()),
        "drawn": shares(tally),
        "finds": tally.finds,
    }


def table(tally: Tally) -> Table:
    """A row per kind, what is held to a least share first."""
    from rich.table import Table

    verdicts = ", ".join(f"{tally.verdicts[kind]} {kind}" for kind in KINDS)
    result = Table(title=f"{tally.done} specs of seed {tally.seed} on {tally.backend}: {verdicts}")
    result.add_column("drawn")
    result.add_column("kinds, share of the specs that compiled", overflow="fold")
    found = shares(tally)
    for what in sorted(found, key=lambda what: (what not in FREQUENT, what)):
        kinds = sorted(found[what].items(), key=lambda entry: -entry[1])
        result.add_row(what, ", ".join(f"{kind} {share:.0%}" for kind, share in kinds))
    return result

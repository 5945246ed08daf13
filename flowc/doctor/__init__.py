"""Is this machine fit to run compiled ops? What `flowc doctor` runs: versions, devices, and combinations known to fail.

In: nothing but the machine. Out: `Checkup`. Refuses nothing: what cannot be found out is a fact too.
"""

from flowc.doctor.checkup import Checkup, checkup
from flowc.doctor.conditions import CONDITIONS, Condition
from flowc.doctor.facts import Facts, collect

__all__ = ["CONDITIONS", "Checkup", "Condition", "Facts", "checkup", "collect"]

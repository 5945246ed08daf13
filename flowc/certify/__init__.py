"""The exact certificate of a compiled recurrence (design/algebra.md section 7).

In: a `Model`, its chunk programs. Out: `Certificate`. Refuses nothing: what cannot be certified is a reason.
"""

from __future__ import annotations

from flowc.certify.certificate import Certificate, Mismatch, Programs, certify
from flowc.certify.report import record, reproducer, text, verdict

__all__ = ["Certificate", "Mismatch", "Programs", "certify", "record", "reproducer", "text", "verdict"]

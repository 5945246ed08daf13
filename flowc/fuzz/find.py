"""One spec on one case: compiled, run, judged; and what it takes to do that again.

In: `Trial`. Out: `Verdict`, and a trial as JSON and back. Refuses nothing: whatever goes wrong is the verdict.
"""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from flowc.chunk.cost import Sizes
from flowc.compiler import Stage, compile_text
from flowc.diagnostics import FlowError
from flowc.fuzz.cases import Case, Roles, sizes_of
from flowc.fuzz.judge import Trials, run_emitted_reference, run_op, run_steps
from flowc.fuzz.targets import INTERPRETER, TORCH, Target
from flowc.options import Options
from flowc.runtime.op import Op
from flowc.schedule.schedule import MOST_ROWS, rows_per_token
from flowc.source import Source

MISSING = "has no kernels yet for: "
FORMS = {"op": run_op, "reference": run_emitted_reference, "step": run_steps}
BACKENDS: dict[str, Target] = {"torch": TORCH, "triton": INTERPRETER}


@dataclass(frozen=True)
class Trial:
    """A spec, what to run it on, in which type and by which backend; `seed` is what the spec was drawn from."""

    text: str
    case: Case
    dtype: str
    backend: str
    seed: str = ""

    def record(self) -> str:
        """As JSON, the spec line by line."""
        return json.dumps(asdict(self) | {"text": self.text.split("\n")}, indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def parsed(text: str) -> Trial:
        """The trial of a record; ValueError where it is none."""
        try:
            found: dict[str, Any] = json.loads(text)
            case, roles = dict(found["case"]), found["case"]["roles"]
            if roles is not None:
                units, strengths, shared = (tuple(roles[n]) for n in ("units", "strengths", "shared"))
                case["roles"] = Roles(units, strengths, shared, roles["gates"])
            case["sizes"] = tuple(case["sizes"])
            trial = Trial("\n".join(found["text"]), Case(**case), found["dtype"], found["backend"], found["seed"])
            getattr(torch, trial.dtype), BACKENDS[trial.backend]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a find that `flowc fuzz` saved (its names begin with `find-`)") from error
        return trial


@dataclass(frozen=True)
class Verdict:
    """`kind` is held, refused (by a diagnostic), grew (beyond what can be judged) or find; `why` says more."""

    kind: str
    why: str = ""
    class_name: str = ""


def judged(trial: Trial) -> Verdict:
    """What becomes of a trial."""
    try:
        compiled = compile_text(Source("<drawn>", trial.text), Options(backend=trial.backend), Stage.MODULE)
    except FlowError as error:
        first = error.diagnostics[0]
        return Verdict("refused", f"{first.code} {first.message}")
    except ValueError as error:
        if MISSING in str(error):
            return Verdict("refused", str(error).partition(MISSING)[2])
        return Verdict("find", f"compiling: {last(error)}")
    except Exception as error:
        return Verdict("find", f"compiling: {last(error)}")
    kind = compiled.recurrence.classification.name
    case = trial.case
    if case.roles is not None:
        shared = tuple(n for n in case.roles.shared if n != compiled.recurrence.value_input)
        case = replace(case, roles=replace(case.roles, shared=shared))
    target, dtype = BACKENDS[trial.backend], getattr(torch, trial.dtype)
    rows = rows_per_token(compiled.plan.forward.program, Sizes(sizes_of(compiled.model, case), 1))
    padded = 1 << (rows - 1).bit_length() if target.kernels else rows  # a power of two for each of 16 tokens or more
    if target.kernels and 16 * padded > MOST_ROWS:
        return Verdict("refused", f"more than {MOST_ROWS // 16} rows per token")
    if case.chunk is not None:
        case = replace(case, chunk=max(min(case.chunk, MOST_ROWS // padded), 1))
    try:
        trials = Trials(compiled.model, Op(compiled), case, dtype, target)
    except Exception as error:
        return Verdict("find", f"loading: {last(error)}", kind)
    if not trials.judgeable:
        return Verdict("grew", "", kind)
    for form, run in FORMS.items():
        if (form == "reference" and target.kernels) or (form == "step" and not case.length):
            continue  # the same code as on torch; no token
        try:
            found = trials.judge(run)
        except Exception as error:
            return Verdict("find", f"running its {form}: {last(error)}", kind)
        off = [f"{d.name} is off by {d.error:.1e}, tolerance {d.tolerance:.1e}" for d in found if not d.holds]
        if off:
            return Verdict("find", f"its {form}: {'; '.join(off)}", kind)
    return Verdict("held", "", kind)


def last(error: Exception) -> str:
    """An exception and where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in frames[-2:]]
    return f"{type(error).__name__}: {str(error)[:300]} ({', '.join(places)})"

"""What the documents say is so: their Python runs, their specs compile, their tables are what the code gives.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; `pytest --update tests/test_readme.py` rewrites it.
"""

import json
import linecache
import re
import statistics
from collections.abc import Callable
from contextlib import chdir
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
from click.testing import CliRunner
from measured import (
    LABELS,
    MEASURED,
    ablations,
    cpu,
    cpu_ops,
    decode,
    kept,
    kernels,
    language_models,
    numerics,
    peer,
    predictions,
    recall,
    scaling,
    table,
    traffic,
    train_step,
)

from flowc.chunk.aggregation import AGGREGATIONS, STATEMENTS
from flowc.cli import cli
from flowc.compiler import Compilation, Stage, compile_text
from flowc.diagnostics import CODES, FlowError
from flowc.doctor import CONDITIONS
from flowc.options import Options
from flowc.report.explain import aggregation_facts, explain_record
from flowc.report.shape import shape_facts
from flowc.schedule.devices import DEVICES
from flowc.schedule.predict import Shape
from flowc.schedule.schedule import chunk_candidates
from flowc.semantics import load, warnings
from flowc.semantics.functions import CALLABLE
from flowc.source import Source

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.flow"))

FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"(?<=^<!-- table: )(\w+) -->\n(.*?)(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")


def blocks(language: str) -> list[object]:
    """Every fenced block of a language: document, word after the language, text."""
    found = []
    for path in DOCUMENTS:
        for number, match in enumerate(FENCE.finditer(path.read_text())):
            if match[1] == language:
                shown = f"{path.relative_to(ROOT)}-{number}"
                found.append(pytest.param(match[2], match[3], id=shown))
    return found


@cache
def compiled(path: Path) -> Compilation:
    return compile_text(Source(path.name, path.read_text()), Options(), Stage.PLAN)


# -- examples ---------------------------------------------------------------------------------------------------------


def recurrences() -> str:
    """What `flowc table examples/*.flow --markdown` prints."""
    with chdir(ROOT):
        done = CliRunner().invoke(cli, ["table", "--markdown", *(f"examples/{path.name}" for path in EXAMPLES)])
    assert done.exit_code == 0, done.output
    return done.stdout


# -- the language -----------------------------------------------------------------------------------------------------


def functions() -> str:
    listed = [("functions", "arguments", "what they take")]
    for (rule, arity, eps), group in groupby(CALLABLE.values(), lambda f: (f.rule, f.arity, f.has_eps)):
        names = " ".join(f"`{f.name}`" for f in group)
        listed.append((names, f"{arity}, eps" if eps else str(arity), rule.value))
    return table(*listed)


def diagnostics() -> str:
    return table(("code", "meaning"), *((f"`{code}`", meaning) for code, meaning in CODES.items()))


def conditions() -> str:
    """What `flowc doctor` knows to fail, with an ellipsis for what it finds on a machine."""

    def shown(text: str) -> str:
        return re.sub(r"\{[^}]*\}", "...", text)

    head = ("finding", "what is wrong", "what to do", "known from")
    return table(head, *((f"`{c.name}`", shown(c.problem), shown(c.remedy), c.source) for c in CONDITIONS))


# -- performance ------------------------------------------------------------------------------------------------------


def costs() -> str:
    """What `flowc explain` counts, per token and head."""
    head = ("spec", "class", "chunk", "rows", "forward flops", "bytes", "backward flops", "bytes", "kept")
    listed = []
    for path in EXAMPLES:
        record = explain_record(compiled(path))
        sums = {
            (way, what): sum(k[what] for k in record["kernels"] if k["kernel"].startswith(way))
            for way in ("forward", "backward")
            for what in ("product_flops", "bytes")
        }
        counted = [f"{value:,}" for value in sums.values()]
        size, per_token = record["chunk_size"], record["rows_per_token"]
        kept = ", ".join(record["saved"])
        listed.append((path.stem, record["class"]["name"], str(size), str(size * per_token), *counted, kept))
    return table(head, *listed)


SHAPE = {"length": 4096, "heads": 8, "size": 128}
"""What benchmarks/cpu.py runs."""


def predicted() -> dict[str, float]:
    """Seconds of the benchmark by the cost model."""
    plan = compiled(ROOT / "examples/gated_deltanet.flow").plan
    sides = {"K": SHAPE["size"], "V": SHAPE["size"]}
    alone, chunk = ({c.tokens: c for c in chunk_candidates(plan, sides)}[int(t.choice)]
                    for (t,) in (plan.forward_chunk_sizes, plan.chunk_sizes))  # fmt: skip
    tokens = SHAPE["length"] * SHAPE["heads"]
    return {"forward": tokens * alone.forward, "both": tokens * chunk.both}


def times() -> str:
    """Predicted beside measured."""
    model = predicted()
    found = json.loads(MEASURED.read_text()) if MEASURED.is_file() else None
    listed = [("", "predicted", "measured")]
    for kind, label in LABELS.items():
        measured = "-" if found is None else f"{1e3 * statistics.median(found['seconds'][kind]['ours']):.0f} ms"
        listed.append((label, f"{1e3 * model[kind]:.0f} ms", measured))
    return table(*listed)


def aggregations() -> str:
    """The ways to solve a system, and what they take of one head's chunk, forward and backward."""
    head = ("aggregation", "what it does", "formed ahead, 64 rows", "flops, 64 rows", "flops, 256 rows", "in turn")
    listed = []
    for name in AGGREGATIONS:
        few, many = (aggregation_facts(name, rows) for rows in (64, 256))
        flops = (f"{a.forming_flops:,} + {a.solve_flops:,}" for a in (few, many))
        turn = "1 product" if few.products == 2 else f"{few.products // 2}, {many.products // 2} products"
        listed.append((f"`{name}`", STATEMENTS[name], str(few.formed), *flops, turn))
    return table(head, *listed)


def remaining() -> str:
    """What lies between the least bytes and those that kernels move, per token and head, and the time of either."""
    found = json.loads((ROOT / "benchmarks/results/traffic.json").read_text())
    bandwidth = DEVICES["h200"].bandwidth
    listed = [("op", "", "limit", "predicted", "at the peer's bytes", "least", "between kernels", "read again")]
    for row in found["rows"]:
        for kind, shown in (("forward", f"`{row['name']}`"), ("both", "")):
            facts = shape_facts(
                compiled(ROOT / f"examples/{row['name']}.flow"), ANCHOR, (128, 128), DEVICES["h200"], kind == "both"
            )
            launches = [*facts.candidate.kernels, *(facts.behind.kernels if facts.behind else ())]
            tokens = ANCHOR.length * ANCHOR.walks
            least, moved, peer = (n / found["length"] for n in (
                row["least"][kind], row[kind]["distinct"], row["peer"][kind]["distinct"]))  # fmt: skip
            between = sum(k.cost.between for k in launches) / tokens
            times = (least * tokens / bandwidth, facts.seconds, peer * tokens / bandwidth)
            numbers = (f"{n:,.0f}" for n in (least, between, moved - least - between))
            listed.append((shown, LABELS[kind], *(f"{1e3 * t:.2f} ms" for t in times), *numbers))
    return table(*listed)


def long() -> str:
    """What benchmarks/long.py predicted for long sequences of few heads, by schedule; * is what `auto` takes."""
    found = json.loads((ROOT / "benchmarks/results/long.json").read_text())["rows"]
    rows = {(r["name"], r["passes"], r["heads"], r["length"], r["schedule"]): r for r in found}
    listed = [("op", "heads", "T", *(f"{s}, {LABELS[p]}" for p in LABELS for s in ("split", "fused", "two-level")))]
    for name, heads, length in dict.fromkeys((r["name"], r["heads"], r["length"]) for r in found):
        if length in (2**14, 2**18, 2**20):
            own = [rows[name, p, heads, length, s] for p in LABELS for s in ("split", "fused", "two-level")]
            cells = (f"{r['predicted']:.2f}{'*' * r['taken']}" for r in own)
            listed.append((f"`{name}`", str(heads), f"{length:,}", *cells))
    return table(*listed)


ANCHOR = Shape(8, 4096, 16)

_TABLES = (recurrences, functions, diagnostics, conditions, costs, cpu, traffic, times, aggregations, scaling, kernels,
           remaining, numerics, peer, recall, language_models, kept, cpu_ops, ablations, long,
           train_step, predictions, decode)  # fmt: skip
TABLES: dict[str, Callable[[], str]] = {f.__name__: f for f in _TABLES}


# -- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_are_what_the_code_gives(path: Path, update: bool) -> None:
    text = path.read_text()
    fresh = TABLE.sub(lambda m: f"{m[1]} -->\n{TABLES[m[1]]()}", text)
    if update:
        path.write_text(fresh)
    assert path.read_text() == fresh


def test_every_table_has_a_place() -> None:
    assert {m[1] for path in DOCUMENTS for m in TABLE.finditer(path.read_text())} == set(TABLES)


@pytest.mark.parametrize(("word", "text"), blocks("python"))
def test_python_runs(word: str | None, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    # Where `inspect` looks for the source of what is not in a file: `flowc.jit` reads functions from it.
    monkeypatch.setitem(linecache.cache, "<document>", (len(text), None, text.splitlines(True), "<document>"))
    exec(compile(text, "<document>", "exec"), {"__name__": "__document__"})


@pytest.mark.parametrize(("word", "text"), blocks("flow"))
def test_specs_compile(word: str | None, text: str) -> None:
    """A spec checks and compiles; one marked `refused` checks, and compiling it names its class."""
    load(text, "document")
    source = Source("document", text)
    if word == "refused":
        with pytest.raises(FlowError, match="F601"):
            compile_text(source, Options())
    else:
        assert word is None
        assert compile_text(source, Options()).artifact.source


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_are_short(path: Path) -> None:
    """But for tables: their rows cannot be broken."""
    for line in path.read_text().splitlines():
        assert len(line) <= 120 or line.startswith("|"), line


def test_examples_warn_of_what_the_readme_says() -> None:
    """Of keys whose length is the caller's in delta rules, and of one gate that may come near 0; nothing else."""
    found = {path.stem: {d.code for d in warnings(load(path.read_text(), path.name))} for path in EXAMPLES}
    gated = {"gated_delta_product", "gated_deltanet", "gated_deltanet2", "gated_oja", "kda"}
    unit_keys = {"comba", "delta_product", "deltanet", "momentum_delta", "preconditioned_gated_deltanet", *gated}
    assert {name: codes for name, codes in found.items() if codes} == {
        **{name: {"W203"} for name in unit_keys},
        "hgrn2": {"W202"},
    }
    settled = compiled(ROOT / "examples/kda.flow").model.canonical.replace("@ k)", "@ l2norm(k))")
    assert not warnings(load(settled.replace("beta * k", "beta * l2norm(k)"), "settled"))


def test_examples_are_short_and_compile() -> None:
    assert all(len(path.read_text().splitlines()) <= 20 for path in EXAMPLES)

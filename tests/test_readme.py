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
from textwrap import wrap
from typing import Any

import pytest
from click.testing import CliRunner

from flowc.chunk.aggregation import AGGREGATIONS, STATEMENTS
from flowc.cli import cli
from flowc.compiler import Compilation, Stage, compile_text
from flowc.diagnostics import CODES, FlowError
from flowc.doctor import CONDITIONS
from flowc.options import Options
from flowc.report.explain import aggregation_facts, explain_record
from flowc.report.scaling import HEADS
from flowc.schedule.schedule import chunk_candidates
from flowc.semantics import load, warnings
from flowc.semantics.functions import CALLABLE
from flowc.source import Source

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.flow"))
MEASURED = ROOT / "benchmarks/results/cpu.json"

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


def table(*rows: tuple[str, ...]) -> str:
    """Rows as Markdown, the first one the header."""
    head, *body = (f"| {' | '.join(cells)} |" for cells in rows)
    return "\n".join((head, "|" + "---|" * len(rows[0]), *body)) + "\n"


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


LABELS = {"forward": "forward", "both": "forward and backward"}


def cpu() -> str:
    """What benchmarks/cpu.py measured, from its JSON."""
    if not MEASURED.is_file():
        return "Not measured yet.\n"
    found = json.loads(MEASURED.read_text())
    listed = [("", "flowc", "transformers", "ratio")]
    for kind, label in LABELS.items():
        ours, peer = (statistics.median(found["seconds"][kind][side]) for side in ("ours", "peer"))
        listed.append((label, f"{1e3 * ours:.0f} ms", f"{1e3 * peer:.0f} ms", f"{peer / ours:.1f}x"))
    for kind, label in LABELS.items():
        ours, peer = (found["peak_mib"][kind][side] for side in ("ours", "peer"))
        listed.append((f"peak memory, {label}", f"{ours:.0f} MiB", f"{peer:.0f} MiB", f"{peer / ours:.1f}x"))
    ours, peer = found["about"]["ours"], found["versions"]
    where = (
        f"{found['machine']['cpu']}, {ours['threads']} thread, torch {ours['torch']}; transformers "
        f"{peer['transformers']} with torch {peer['torch']}. One 2048 GEMM runs at {found['gemm_gflops']:.0f} GFLOP/s. "
        f"Largest relative difference of the two results: {max(found['errors'].values()):.0e}."
    )
    return "\n".join((table(*listed), *wrap(where, 118), ""))


def traffic() -> str:
    """What benchmarks/traffic.py counted, from its JSON."""
    found = json.loads((ROOT / "benchmarks/results/traffic.json").read_text())
    listed = [("op", "", "distinct bytes", "x", "through L2", "x ", "flops", "x  ", "launches", "the peer's")]
    for row in found["rows"]:
        for title, shown in (("forward", f"`{row['name']}`"), ("both", "")):
            own, peer = row[title], row["peer"][title]
            cells = [shown, {"forward": "forward", "both": "with backward"}[title]]
            for what in ("distinct", "l2", "dot_flops"):
                cells += [f"{own[what] / found['length']:,.0f}", f"{own[what] / peer[what]:.2f}"]
            listed.append((*cells, *(str(sum(side["kernels"].values())) for side in (own, peer))))
    where = f"Triton {found['triton']}, interpreted; commit {found['commit'][:7]}, `{found['command']}`."
    return "\n".join((table(*listed), *wrap(where, 118), ""))


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


SCALING = ROOT / "benchmarks/results/scaling.json"


def scaling() -> str:
    """What `flowc explain --scaling --measure` counted and measured, from its JSON."""
    found = json.loads(SCALING.read_text())
    listed = [("C", "R", "L", "rows", *(f"`{a}`, {unit}" for unit in ("Mflop", "ms") for a in AGGREGATIONS))]
    for sweep in found["sweeps"]:
        for s in sweep["settings"]:
            ways = {w["aggregation"]: w for w in s["aggregations"]}
            flops = (f"{ways[a]['flops'] / 1e6:,.0f}" for a in AGGREGATIONS)
            times = (f"{1e3 * ways[a]['seconds']:.1f}" for a in AGGREGATIONS)
            listed.append((*(f"{s[n]:,}" for n in ("C", "R", "L", "rows")), *flops, *times))
        growth = (sweep["growth"][a][what] for what in ("flops", "seconds") for a in AGGREGATIONS)
        listed.append(("grows as", "", "", "", *(f"{sweep['varied']}^{power:.1f}" for power in growth)))
    return "\n".join((table(*listed), f"{found['machine']}, {HEADS} heads together, a head's share.", ""))


COMPILED = ROOT / "benchmarks/results/kernels.json"


def kernels() -> str:
    """What benchmarks/kernels.py compiled, a line per setting, from its JSON."""
    found = json.loads(COMPILED.read_text())
    listed = [("device", "K", "V", "type", "aggregation", "kernels", "spill", "most bytes", "shared bytes",
               "products of warp groups", "other products")]  # fmt: skip
    settings: dict[str, list[dict[str, Any]]] = {}
    for row in found["kernels"]:
        settings.setdefault(row["setting"], []).append(row)
    for setting, rows in settings.items():
        target, _, keys, _, values, kind, aggregation = setting.split()
        most = (f"{max(r[what] for r in rows):,}" for what in ("spilled", "shared"))
        sums = (str(sum(r[what] for r in rows)) for what in ("warp_group_products", "products"))
        spill = str(sum(r["spilled"] > 0 for r in rows))
        listed.append((target, keys, values, kind, aggregation, str(len(rows)), spill, *most, *sums))
    return "\n".join((table(*listed), f"Triton {found['versions']['triton']}.", ""))


LOSSES = ROOT / "benchmarks/results/numerics.json"


def numerics() -> str:
    """What benchmarks/numerics.py found: by example and type how many cells, and where the most is lost."""
    found = json.loads(LOSSES.read_text())
    listed = [("spec", "type", "cells", "error", "step by step", "ratio", "at")]
    for spec in found["specs"]:
        for dtype, group in groupby(sorted(spec["rows"], key=lambda r: r["dtype"]), key=lambda r: r["dtype"]):
            rows = list(group)
            worst = max(rows, key=lambda r: r["worst"]["ratio"])
            loss = worst["worst"]
            numbers = f"{loss['error']:.1e}", f"{loss['stepwise']:.1e}", f"{loss['ratio']:.1f}"
            place = f"`{loss['quantity']}`, T {worst['length']:,}, {loss['cell']}, {loss['aggregation']}"
            listed.append((f"`{spec['name']}`", dtype, str(sum(r["cells"] for r in rows)), *numbers, place))
    commits = dict.fromkeys(spec["commit"][:7] for spec in found["specs"])
    machine = f"{found['machine']['cpu']}, one thread, commits {', '.join(commits)}"
    return "\n".join((table(*listed), f"{machine}.", ""))


PEER = ROOT / "benchmarks/results/compare_peer.json"


def peer() -> str:
    """What benchmarks/compare_peer.py found, a line per comparison that was made, from its JSON."""
    found = json.loads(PEER.read_text())
    listed = [("recurrence", "of fla.ops", "output", "last state", "gradients", "step by step, float32", "")]
    for r in found["rows"]:
        if r["skipped"]:
            continue
        errors = r["errors"]
        gradients = {n: e for n, e in errors.items() if n.startswith("d")}
        states = {n: e for n, e in errors.items() if n != "o" and n not in gradients}
        worst = [f"{max(e.values()):.0e}" if e else "-" for e in (states, gradients)]
        verdict = (r["known"] or "off") if r["differs"] else "agrees"
        name, loss = f"`{r['peer'].replace(':', '.')}`", f"{max(r['stepwise'].values()):.0e}"
        listed.append((r["label"], name, f"{errors['o']:.0e}", *worst, loss, verdict))
    packages = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    shape = ", ".join(f"{n} {size}" for n, size in {"B": 2, "T": found["length"], "H": 2, **found["sizes"]}.items())
    return "\n".join((table(*listed), f"{packages}; {shape}; commit {found['commit'][:7]}.", ""))


RECALL, HYBRID = (ROOT / f"benchmarks/results/{name}.json" for name in ("mqar", "hybrid_lm"))


def recall() -> str:
    """What examples/mqar.py found, from its JSON."""
    found = json.loads(RECALL.read_text())
    pairs = list(found["runs"][0]["accuracy"])
    listed = [("op", *(f"{n} pairs" for n in pairs))]
    for op, group in groupby(found["runs"], lambda run: run["op"]):
        runs = [run["accuracy"] for run in group]
        listed.append(
            (op, *(f"{statistics.mean(r[n] for r in runs):.3f} ({min(r[n] for r in runs):.3f})" for n in pairs))
        )
    return table(*listed)


def language_models() -> str:
    """What examples/hybrid_lm.py found, from its JSON."""
    listed = [
        ("model", "parameters", "least bits per character", "at step", "at the end", "tokens per second, training")
    ]
    for row in json.loads(HYBRID.read_text())["models"]:
        (step, least), (_, last) = min(row["curve"], key=lambda point: point[1]), row["curve"][-1]
        numbers = f"{least:.3f}", str(step), f"{last:.3f}", f"{row['tokens_per_second']:,}"
        listed.append((row["model"], f"{row['parameters']:,}", *numbers))
    return table(*listed)


_TABLES = (recurrences, functions, diagnostics, conditions, costs, cpu, traffic, times, aggregations, scaling, kernels,
           numerics, peer, recall, language_models)  # fmt: skip
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

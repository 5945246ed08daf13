"""Tables of what benchmarks measured or counted, from the JSON that they left in benchmarks/results.

In: those files. Out: functions by the names that tables have in the documents, each giving Markdown. Refuses nothing.
"""

import json
import statistics
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any

from flowc.chunk.aggregation import AGGREGATIONS
from flowc.report.scaling import HEADS

RESULTS = Path(__file__).parent.parent / "benchmarks/results"
MEASURED = RESULTS / "cpu.json"


def table(*rows: tuple[str, ...]) -> str:
    """Rows as Markdown, the first one the header."""
    head, *body = (f"| {' | '.join(cells)} |" for cells in rows)
    return "\n".join((head, "|" + "---|" * len(rows[0]), *body)) + "\n"


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
    found = json.loads((RESULTS / "traffic.json").read_text())
    listed = [("op", "", "least", "distinct bytes", "x", "through L2", "x ", "flops", "x  ", "launches", "the peer's")]
    for row in found["rows"]:
        for title, shown in (("forward", f"`{row['name']}`"), ("both", "")):
            own, peer = row[title], row["peer"][title]
            cells = [shown, {"forward": "forward", "both": "with backward"}[title]]
            cells.append(f"{row['least'][title] / found['length']:,.0f}")
            for what in ("distinct", "l2", "dot_flops"):
                cells += [f"{own[what] / found['length']:,.0f}", f"{own[what] / peer[what]:.2f}"]
            listed.append((*cells, *(str(sum(side["kernels"].values())) for side in (own, peer))))
    where = f"Triton {found['triton']}, interpreted; commit {found['commit'][:7]}, `{found['command']}`."
    return "\n".join((table(*listed), *wrap(where, 118), ""))


SCALING = RESULTS / "scaling.json"


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


COMPILED = RESULTS / "kernels.json"


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


LOSSES = RESULTS / "numerics.json"


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


PEER = RESULTS / "compare_peer.json"


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


RECALL, HYBRID = (RESULTS / f"{name}.json" for name in ("mqar", "hybrid_lm"))


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


def kept() -> str:
    """What benchmarks/kept.py counted, from its JSON."""
    found = json.loads((RESULTS / "kept.json").read_text())
    listed = [("op", "kept", 'with `save="recompute"`', "the peer's")]
    for row in found["rows"]:
        peer = f"{row['peer']:,.0f}" if "peer" in row else "-"
        listed.append((f"`{row['name']}`", f"{row['states']:,.0f}", f"{row['recompute']:,.0f}", peer))
    where = f"Triton {found['triton']}, interpreted; commit {found['commit'][:7]}, `{found['command']}`."
    return "\n".join((table(*listed), *wrap(where, 118), ""))


def cpu_ops() -> str:
    """What benchmarks/cpu_ops.py measured, from its JSON."""
    found = json.loads((RESULTS / "cpu_ops.json").read_text())
    listed = [
        ("op", "forward", "of GEMM", "forward and backward", "of GEMM ", "goal", "peak", "x", "bf16 is faster by")
    ]
    for row in found["rows"]:
        cells = [f"`{row['name']}`"]
        for kind in LABELS:
            cells += [f"{1e3 * row['seconds'][kind]:.0f} ms", f"{row['share'][kind]:.0%}"]
        gain = row["seconds"]["both"] / row["bfloat16"]["both"]
        memory = f"{row['peak_mib']:.0f} MiB", f"{row['peak_mib'] / row['tensors_mib']:.1f}"
        listed.append((*cells, f"{row['goal']:.0%}", *memory, f"{gain:.2f}"))
    rates = [row["gemm_gflops"] for row in found["rows"]]
    where = f"{found['machine']['cpu']}, one thread; GEMM runs at {min(rates):.0f} to {max(rates):.0f} GFLOP/s."
    return "\n".join((table(*listed), *wrap(where, 118), ""))


def ablations() -> str:
    """What benchmarks/ablate.py measured and predicted, from its JSON."""
    found = json.loads((RESULTS / "ablate.json").read_text())
    listed = [("against", "op", "", "forward", "forward and backward", "peak", "predicted, H200, 16 heads")]
    letters = {"length": "T", "chunk": "C", "rank": "R"}
    for row in found["rows"]:
        times = (f"{1e3 * row[kind]:,.0f} ms" for kind in LABELS)
        guess = "-" if row["predicted_h200"] is None else f"{1e3 * row['predicted_h200']:.2f} ms"
        value = f"{letters[row['sweep']]} {row['value']:,}"
        listed.append((row["sweep"], f"`{row['name']}`", value, *times, f"{row['peak_mib']:,.0f} MiB", guess))
    where = f"{found['machine']['cpu']}, one thread, one head; predictions are no measurements."
    return "\n".join((table(*listed), *wrap(where, 118), ""))


def train_step() -> str:
    """What benchmarks/train_step.py measured, from its JSON."""
    found = json.loads((RESULTS / "train_step.json").read_text())
    listed = [("T", "B", "layers", "parameters", "tokens per second", "x attention", "x peer", "peak")]
    for row in found["rows"]:
        cells = [f"{row['length']:,}", str(row["batch"]), row["model"], f"{row['parameters']:,}"]
        speeds = ((row["tokens_per_second"], ",.0f"), (row["of_attention"], ".2f"), (row["of_peer"], ".2f"))
        cells += ["-" if value is None else format(value, form) for value, form in speeds]
        listed.append((*cells, row["failed"] or ("-" if row["peak_mib"] is None else f"{row['peak_mib']:,.0f} MiB")))
    o, absent = found["options"], found["peer_absent"]
    where = (
        f"{o['op']}, {o['layers']} layers of width {o['width']}, {o['heads']} heads, {o['dtype']}, on "
        f"{found['device']} ({found['machine']['cpu']})."
    )
    where += "" if absent is None else f" No rows of the peer: {absent}."
    return "\n".join((table(*listed), *wrap(where, 118, break_on_hyphens=False), ""))


def predictions() -> str:
    """What benchmarks/model.py compared the cost model with, from its JSON."""
    found = json.loads((RESULTS / "model.json").read_text())
    listed = [("of", "op", "passes", "B, T, H, D", "device", "predicted, ms", "its time, ms", "ratio", "source")]
    for row in found["rows"]:
        times = ("-" if t is None else f"{t:.3f}" for t in (row["predicted"], row["measured"]))
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        shape = ", ".join(map(str, row["shape"]))
        where = row["why"] or row["source"]
        listed.append((row["of"], row["op"], row["passes"], shape, row["device"], *times, ratio, where))
    of = found["accuracy"]
    verdict = f"In the geometric mean off by a factor of {of['error']:.2f}, {of['bias']:.2f} of what was {of['of']}."
    return "\n".join((table(*listed), verdict, ""))


def decode() -> str:
    """What benchmarks/decode.py found, a line for an op and a type of states, from its JSON."""
    found = json.loads((RESULTS / "decode.json").read_text())
    batches = sorted({r["batch"] for r in found["rows"]})
    times = (f"us at B {batches[0]}", *map(str, batches[1:]))
    listed = [("op", "states", "bytes a token", "limit, tokens/s", *times, "a graph's, tokens/s", "the peer's", "")]
    for (name, state), group in groupby(found["rows"], lambda r: (r["name"], r["state"])):
        rows = list(group)
        last = rows[-1]
        limits = (f"{r['limit']:.1f}" for r in rows)
        rates = (last[c] and f"{1e6 * last['batch'] / last[c]:,.0f}" for c in ("graph", "peer_graph"))
        numbers = f"{last['bytes'] / last['batch']:,.0f}", f"{last['limit_tokens_per_second']:,.0f}"
        listed.append((f"`{name}`", state, *numbers, *limits, *(r or "-" for r in rates), last["basis"]))
    rate = f"{found['bandwidth']['bytes_per_second'] / 1e12:.1f} TB/s of {found['bandwidth']['of']}"
    where = f"{rate}; timed on: {found['device']}; commit {found['commit'][:7]}, `{found['command']}`."
    return "\n".join((table(*listed), *wrap(where, 118), ""))

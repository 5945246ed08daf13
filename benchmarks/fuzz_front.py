"""Coverage-guided fuzzing of the parser, the checker and the reader of decorated functions.

    make fuzz-front RUNS=1000000
    .venv/bin/python benchmarks/fuzz_front.py text --runs 1000000 --json benchmarks/results/fuzz-text.json

In: what to feed (`text`, or `function`: Python text), how many inputs. Out: executions, corpus and branch coverage of
flowc/syntax and flowc/semantics, as a table and JSON. An input fails that ends in anything but a model or a FlowError,
takes more than 2 s or 1 GiB: it is kept under build/fuzz, and the exit code is 1. Seeds are the examples, tests/cases
and tests/errors. Needs atheris and coverage, which `make fuzz-front` puts into .venv-fuzz, on the path.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from processes import ROOT, commit, machine

WORDS = (
    *("flow ", "input ", "param ", "state ", "let ", "repeat ", " in ", " of ", " x ", "scalar", "inf", "[t]", "[t-1]"),
    *(".T", "**", "@", "<=", "exp(", "diag(", "l2norm(", "where(", "sum(", "concat(", "eps=", "S[t] = ", "o[t] = "),
    *("def ", "return ", ': "', "lambda", "\\x0a    "),
)


def seeds(kind: str) -> list[str]:
    """Texts to start from."""
    if kind == "text":
        folders = (*ROOT.glob("examples/*.flow"), *ROOT.glob("tests/cases/*/*.flow"), *ROOT.glob("tests/errors/*.flow"))
        return [path.read_text(encoding="utf-8", errors="replace") for path in folders]
    files = (*ROOT.glob("tests/errors/*.py"), ROOT / "tests/runtime/decorated.py")
    return [path.read_text() for path in files if path.is_file()]


def read(kind: str, data: bytes) -> None:
    """One input: a model, or a FlowError whose diagnostics can be shown."""
    from flowc.diagnostics import FlowError
    from flowc.semantics import loaded, warnings
    from flowc.source import Source

    text = data.decode("utf-8", errors="replace")
    for source in [Source("fuzzed", text)] if kind == "text" else functions_of(text):
        try:
            warnings(loaded(source))
        except FlowError as error:
            str(error)


def functions_of(text: str) -> list[Any]:
    """The functions of a Python text as sources, its line ends as a file is read; none of what is no Python."""
    from flowc.source import Source
    from flowc.syntax.python.function import functions
    from flowc.syntax.python.places import Places

    text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    places = Places(Source("fuzzed.py", text))
    return [Source("fuzzed.py", text, places.span(node).start) for node in functions(tree)]


def fuzz(kind: str, arguments: list[str]) -> None:
    """The process that is fuzzed; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["flowc.syntax", "flowc.semantics", "flowc.diagnostics"]):
        import flowc.diagnostics
        import flowc.semantics
        import flowc.syntax.python  # noqa: F401
    atheris.Setup([sys.argv[0], *arguments], lambda data: read(kind, data))
    atheris.Fuzz()


def covered(kind: str, corpus: Path) -> dict[str, float]:
    """The share of branches of each package that the corpus takes."""
    import coverage

    watched = coverage.Coverage(branch=True, include=["*/flowc/syntax/*", "*/flowc/semantics/*"], data_file=None)
    watched.start()
    for path in sorted(corpus.iterdir()):
        read(kind, path.read_bytes())
    watched.stop()
    found = {}
    for package in ("syntax", "semantics") if kind == "text" else ("syntax/python",):
        total = taken = 0
        for file in watched.get_data().measured_files():
            own = "/syntax/python/" in file if kind == "function" else "/syntax/python/" not in file
            if own and f"/flowc/{package}/" in file:
                numbers = watched._analyze(file).numbers
                total, taken = total + numbers.n_branches, taken + numbers.n_executed_branches
        found[package] = taken / total if total else 0.0
    return found


def run(kind: str, runs: int) -> dict[str, Any]:
    """Fuzz in a process of its own, then measure what its corpus covers in another."""
    folder = ROOT / "build/fuzz" / kind
    corpus, found = folder / "corpus", folder / "found"
    for each in (corpus, found):
        each.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(seeds(kind)):
        (corpus / f"seed{number}").write_text(text, encoding="utf-8")
    words = folder / "words.txt"
    words.write_text("".join(f'"{word.replace(chr(34), chr(92) + chr(34))}"\n' for word in WORDS))
    limits = [
        "-timeout=2",
        "-rss_limit_mb=1024",
        "-max_len=4096",
        f"-runs={runs}",
        f"-dict={words}",
        "-print_final_stats=1",
    ]
    command = [sys.executable, __file__, kind, "--process", *limits, f"-artifact_prefix={found}/", str(corpus)]
    log = folder / "log.txt"
    with log.open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    done = re.search(r"number_of_executed_units:\s*(\d+)", text := log.read_text(errors="replace"))
    peak = re.search(r"peak_rss_mb:\s*(\d+)", text)
    shown = subprocess.run(
        [sys.executable, __file__, kind, "--covered", str(corpus)], capture_output=True, text=True, check=True
    ).stdout
    return {
        "kind": kind,
        "executions": int(done[1]) if done else 0,
        "peak_mib": int(peak[1]) if peak else None,
        "corpus": len(list(corpus.iterdir())),
        "found": sorted(path.name for path in found.iterdir()),
        "exit": code,
        "branches": json.loads(shown),
    }


def main() -> int:
    """Fuzz, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("text", "function"))
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--covered", type=Path, help=argparse.SUPPRESS)
    if sys.argv[2:3] == ["--process"]:
        fuzz(sys.argv[1], sys.argv[3:])
        return 0
    args = parser.parse_args()
    if args.covered is not None:
        print(json.dumps(covered(args.kind, args.covered)))
        return 0
    result = run(args.kind, args.runs)
    print(f"{result['executions']:,} inputs, {result['corpus']:,} in the corpus, peak {result['peak_mib']} MiB")
    print("branches taken: " + ", ".join(f"{p} {share:.1%}" for p, share in result["branches"].items()))
    print(f"failures: {', '.join(result['found']) or 'none'}")
    if args.json is not None:
        where = {"machine": machine(), "commit": commit(), "command": shlex.join(sys.argv)}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**where, **result}, indent=1) + "\n")
    return int(bool(result["found"]) or result["exit"] != 0)


if __name__ == "__main__":
    sys.exit(main())

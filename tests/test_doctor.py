"""What `flowc doctor` knows to fail, held against made-up machines, and the machine at hand as it finds it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flowc import __version__
from flowc.doctor import CONDITIONS, Facts, checkup, collect
from flowc.doctor.conditions import TORCH, TRITON
from flowc.doctor.facts import Cache, Device, Package, Tool, numbers, usable_cpus

ROOT = Path(__file__).parent.parent
H200 = Device("NVIDIA H200", "sm_90", 139 * 2**30)
B200 = Device("NVIDIA B200", "sm_100", 178 * 2**30)
OWN = Tool("/site/triton/backends/nvidia/bin/ptxas", "12.8")
NEW = Tool("/site/nvidia/cu13/bin/ptxas", "13.5")
BROKEN = Tool("/nowhere", None)


def package(name: str, version: str | None = None, error: str | None = None) -> Package:
    return Package(name, version, error)


CPU = Facts(
    flowc="0.1.0",
    python="3.11.7",
    platform="Linux x86_64",
    torch=package("torch", "2.13.0+cpu"),
    triton=package("triton", "3.7.1"),
    sympy=package("sympy", "1.14.0"),
    numpy=package("numpy", "2.4.6"),
    cuda=None,
    driver=False,
    devices=(),
    ptxas=OWN,
    chosen_ptxas=None,
    interpret=False,
    tf32=False,
    omp="1",
    threads=1,
    cpus=2,
    cache=Cache("/home/me/.cache/flowc", 3, 2**20, True),
)
"""A machine without a GPU on which nothing is wrong."""

GPU = replace(CPU, torch=package("torch", "2.12.0+cu130"), cuda="13.0", driver=True, devices=(B200,), omp=None)
HOPPER = replace(GPU, devices=(B200, H200), chosen_ptxas=NEW)
BARE = replace(CPU, triton=package("triton"), ptxas=None, numpy=package("numpy"))
INTERPRETED = replace(CPU, interpret=True)
BF16 = "interpreter-bfloat16"

MACHINES = [
    (CPU, []),
    (GPU, []),
    (HOPPER, []),
    (BARE, []),
    (replace(CPU, torch=package("torch")), ["torch-missing"]),
    (replace(CPU, torch=package("torch", error="OSError: libcudart.so.13")), ["torch-broken"]),
    (replace(CPU, torch=package("torch", "2.5.1")), ["torch-old"]),
    (replace(CPU, torch=package("torch", "2.6.0")), []),
    (replace(CPU, driver=True), ["device-unused"]),
    (replace(CPU, driver=True, torch=package("torch")), ["torch-missing"]),
    (replace(GPU, triton=package("triton")), ["triton-missing"]),
    (replace(CPU, triton=package("triton", error="ImportError: libtriton")), ["triton-broken"]),
    (replace(GPU, triton=package("triton", error="ImportError: libtriton")), ["triton-broken"]),
    (replace(CPU, triton=package("triton", "3.5.1")), ["triton-version"]),
    (replace(CPU, triton=package("triton", "3.6.0")), []),
    (replace(CPU, triton=package("triton", "3.9.2+git1a2b")), []),
    (replace(CPU, triton=package("triton", "3.10.0")), ["triton-version"]),
    (replace(HOPPER, chosen_ptxas=None), ["ptxas-hopper"]),
    (replace(HOPPER, chosen_ptxas=Tool("/usr/bin/ptxas", "12.9")), ["ptxas-hopper"]),
    (replace(HOPPER, chosen_ptxas=Tool("/usr/bin/ptxas", "13.3")), []),
    (replace(HOPPER, chosen_ptxas=None, ptxas=replace(OWN, version="13.10")), []),
    (replace(HOPPER, chosen_ptxas=None, ptxas=None), []),
    (replace(HOPPER, chosen_ptxas=BROKEN), ["ptxas-hopper", "ptxas-path"]),
    (replace(CPU, chosen_ptxas=BROKEN), ["ptxas-path"]),
    (replace(CPU, chosen_ptxas=NEW), []),
    (INTERPRETED, [BF16]),
    (replace(INTERPRETED, triton=package("triton"), numpy=package("numpy")), []),
    (replace(INTERPRETED, numpy=package("numpy")), ["interpreter-numpy-missing", BF16]),
    (replace(INTERPRETED, triton=package("triton", "3.6.0")), ["interpreter-numpy", BF16]),
    (replace(INTERPRETED, triton=package("triton", "3.6.0"), numpy=package("numpy", "2.3.5")), [BF16]),
    (replace(GPU, interpret=True), [BF16, "interpreter-device"]),
    (replace(GPU, tf32=True), ["tf32"]),
    (replace(CPU, tf32=True), []),
    (replace(CPU, omp="8", threads=8), ["threads"]),
    (replace(CPU, omp="2", threads=2), []),
    (replace(CPU, omp=None, threads=2), ["threads-unset"]),
    (replace(CPU, omp=None, threads=1, cpus=1), []),
    (replace(CPU, cache=replace(CPU.cache, writable=False)), ["cache"]),
]


@pytest.mark.parametrize(("facts", "names"), MACHINES)
def test_what_is_found(facts: Facts, names: list[str]) -> None:
    found = checkup(facts)
    assert [condition.name for condition in found.found] == names
    assert found.is_fine == (set(names) <= {"threads-unset"})


def test_every_condition_has_a_machine() -> None:
    assert {name for _, names in MACHINES for name in names} == {condition.name for condition in CONDITIONS}
    assert len({condition.name for condition in CONDITIONS}) == len(CONDITIONS)


@pytest.mark.parametrize(("facts", "names"), [(f, n) for f, n in MACHINES if n])
def test_what_is_said(facts: Facts, names: list[str]) -> None:
    """Sentences with the machine's own versions and paths in them, and no full stop, like those of diagnostics."""
    found = checkup(facts)
    for finding in found.record()["findings"]:
        for sentence in (finding["problem"], finding["remedy"], finding["source"]):
            assert sentence
            assert "{" not in sentence
            assert "None" not in sentence
            assert not sentence.endswith(".")
        assert finding["problem"] in found.paragraphs()
        assert finding["remedy"] in found.paragraphs()


def test_the_text_of_a_finding() -> None:
    assert checkup(replace(HOPPER, chosen_ptxas=None)).paragraphs() == (
        "error[ptxas-hopper]: ptxas 12.8 can miscompile for Hopper: a matrix product whose left operand was computed in"
        " registers gives wrong numbers\n"
        "  = help: pip install 'nvidia-cuda-nvcc>=13.3' and set TRITON_PTXAS_PATH to its nvidia/cu13/bin/ptxas; until"
        " then, hold what an op computes there to op.reference\n"
        "  = source: reported for the 12.8 and 12.9 that come with Triton 3.6 to 3.8; mended in ptxas 13.3"
    )
    assert checkup(CPU).paragraphs() == "nothing is known to be wrong with this combination"


def test_the_ranges_are_those_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    low, end = (".".join(map(str, version)) for version in TRITON)
    assert f'"triton >= {low}, < {end};' in text
    assert f'"torch >= {".".join(map(str, TORCH))}"' in text


# -- the machine at hand -----------------------------------------------------------------------------------------------


def test_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "ptxas"
    tool.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.5, V13.5.37'\n")
    tool.chmod(0o755)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "flowc_emitted_1.py").write_text("x" * 100)
    monkeypatch.setenv("FLOWC_CACHE_DIR", str(tmp_path / "cache"))
    facts = collect({"TRITON_PTXAS_PATH": str(tool), "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "3"})
    assert (facts.flowc, facts.torch.version) == (__version__, torch.__version__)
    assert facts.used_ptxas == facts.chosen_ptxas == Tool(str(tool), "13.5")
    assert (facts.interpret, facts.omp, facts.tf32) == (True, "3", False)
    assert facts.cache == Cache(str(tmp_path / "cache"), 1, 100, True)
    assert 1 <= facts.cpus <= (os.cpu_count() or 1)
    assert bool(facts.devices) == torch.cuda.is_available()
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert collect({"TRITON_PTXAS_PATH": str(tool)}).chosen_ptxas == Tool(str(tool), None)


def test_a_cache_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLOWC_CACHE_DIR", str(tmp_path / "a/b"))
    assert collect({}).cache == Cache(str(tmp_path / "a/b"), 0, 0, True)
    assert not (tmp_path / "a").exists()
    monkeypatch.setenv("FLOWC_CACHE_DIR", "/proc/no/such/folder")
    assert not collect({}).cache.writable


@pytest.mark.parametrize(
    ("quota", "cpus"), [("max 100000", None), ("150000 100000", 2), ("10000 100000", 1), ("?", None)]
)
def test_a_container_has_fewer_cpus(quota: str, cpus: int | None, tmp_path: Path) -> None:
    everything = usable_cpus(tmp_path / "no_such_file")
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_cpus(tmp_path / "cpu.max") == (everything if cpus is None else min(cpus, everything))


@pytest.mark.parametrize(("version", "parts"), [("3.7.1", (3, 7, 1)), ("2.13.0+cpu", (2, 13, 0)), ("unknown", ())])
def test_numbers_of_a_version(version: str, parts: tuple[int, ...]) -> None:
    assert numbers(version) == parts


WITHOUT = """
import sys

if {missing!r}:
    sys.modules[{missing!r}] = None  # as if it were not installed
sys.argv = ["flowc", "doctor", *{arguments!r}]
from flowc.cli import main
main()
"""


def doctor(*arguments: str, missing: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(missing=missing, arguments=arguments)
    left_out = ("TRITON_INTERPRET", "TRITON_PTXAS_PATH", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
    given = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**given, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_a_table() -> None:
    done = doctor(TRITON_PTXAS_PATH="/nowhere/ptxas")
    assert done.returncode == 1, done.stderr
    for words in (__version__, torch.__version__, "TRITON_PTXAS_PATH", "does not run, /nowhere/ptxas", "cache"):
        assert words in done.stdout
    assert "error[ptxas-path]: TRITON_PTXAS_PATH is /nowhere/ptxas, which does not run" in done.stdout


def test_the_command_prints_json_and_exits_by_what_it_finds() -> None:
    done = doctor("--json")
    found = json.loads(done.stdout)
    assert found["facts"]["torch"]["version"] == torch.__version__
    assert done.returncode == (0 if found["fine"] else 1)
    if not torch.cuda.is_available():
        assert found["fine"], found["findings"]


@pytest.mark.parametrize(("missing", "name"), [("triton", None), ("torch", "torch-missing"), ("sympy", None)])
def test_it_works_without(missing: str, name: str | None) -> None:
    done = doctor("--json", missing=missing)
    found = json.loads(done.stdout)
    assert found["facts"][missing]["version"] is None
    if name is not None:
        assert [f["name"] for f in found["findings"]] == [name]

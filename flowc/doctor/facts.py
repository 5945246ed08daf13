"""What there is: versions, devices, tools, environment variables, the cache.

In: the machine and the environment. Out: `Facts`, frozen. Refuses nothing: a package that is missing or broken, a tool
that does not run and a device that does not answer are facts.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flowc import __version__
from flowc.runtime.cache import cache_folder

PACKAGES = ("torch", "triton", "sympy", "numpy")
_DRIVERS = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/kfd")
_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package: no version where there is none; `error` where there is one that cannot be imported."""

    name: str
    version: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """A device that torch can use; its architecture is `sm_90`, or `gfx942` of AMD; memory in bytes."""

    name: str
    architecture: str
    memory: int


@dataclass(frozen=True, slots=True)
class Tool:
    """A ptxas; no version where it does not run."""

    path: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder of emitted modules: how many there are, their size in bytes, whether more can be written."""

    path: str
    modules: int
    bytes: int
    writable: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that conditions are about.

    `cuda` is what torch was built for; `driver` says whether the system has a GPU driver, whatever torch thinks;
    `ptxas` is Triton's own, `chosen_ptxas` what TRITON_PTXAS_PATH names; `cpus` are those that this process may use.
    """

    flowc: str
    python: str
    platform: str
    torch: Package
    triton: Package
    sympy: Package
    numpy: Package
    cuda: str | None
    driver: bool
    devices: tuple[Device, ...]
    ptxas: Tool | None
    chosen_ptxas: Tool | None
    interpret: bool
    tf32: bool
    omp: str | None
    threads: int | None
    cpus: int
    cache: Cache

    @property
    def used_ptxas(self) -> Tool | None:
        """The one that Triton takes: its own where the chosen one does not run."""
        runs = self.chosen_ptxas is not None and self.chosen_ptxas.version is not None
        return self.chosen_ptxas if runs else self.ptxas


def collect(environment: Mapping[str, str] = os.environ) -> Facts:
    """The facts about this machine; slow, since it imports torch."""
    found = {name: _imported(name) for name in PACKAGES}
    torch = found["torch"][1]
    chosen = environment.get("TRITON_PTXAS_PATH")
    return Facts(
        flowc=__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        **{name: package for name, (package, _) in found.items()},
        cuda=None if torch is None else torch.version.cuda or torch.version.hip,
        driver=any(Path(path).exists() for path in _DRIVERS),
        devices=() if torch is None else _devices(torch),
        ptxas=_bundled(),
        chosen_ptxas=None if not chosen else Tool(chosen, _tool_version(chosen)),
        interpret=_is_set(environment.get("TRITON_INTERPRET")),
        tf32=_is_set(environment.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")),
        omp=environment.get("OMP_NUM_THREADS"),
        threads=None if torch is None else torch.get_num_threads(),
        cpus=usable_cpus(),
        cache=_cache(cache_folder()),
    )


def numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version starts with: (3, 7, 1) of 3.7.1+git."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def usable_cpus(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many CPUs this process may use: those it may run on, or fewer where a container's `quota` says so."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text().split()
        return min(count, max(1, math.ceil(int(share) / int(period))))
    except (OSError, ValueError):  # no such file, or `max`: no quota
        return count


# -- packages and devices -----------------------------------------------------------------------------------------


def _imported(name: str) -> tuple[Package, Any]:
    """A package with its module, which is None where it cannot be imported."""
    try:
        if find_spec(name) is None:
            return Package(name), None
        module = import_module(name)
    except Exception as error:  # a broken package may raise anything: a missing library, a wrong version of another
        return Package(name, error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"), None
    return Package(name, version=str(getattr(module, "__version__", "unknown"))), module


def _devices(torch: Any) -> tuple[Device, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a driver that is too old: a fact, told as one
        if not torch.cuda.is_available():
            return ()
        found = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
        return tuple(Device(p.name, _architecture(p), p.total_memory) for p in found)


def _architecture(properties: Any) -> str:
    name = getattr(properties, "gcnArchName", "")
    return name.partition(":")[0] if name.startswith("gfx") else f"sm_{properties.major}{properties.minor}"


# -- tools and folders --------------------------------------------------------------------------------------------


def _bundled() -> Tool | None:
    """The ptxas that came with Triton."""
    try:
        spec = find_spec("triton")
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "backends/nvidia/bin/ptxas"
    return Tool(str(path), _tool_version(str(path))) if path.exists() else None


def packaged_ptxas() -> tuple[Tool, ...]:
    """Those that packages of NVIDIA brought (nvidia-cuda-nvcc), the newest first; Triton takes one only if told to."""
    try:
        spec = find_spec("nvidia")
    except (ImportError, ValueError):
        return ()
    folders = () if spec is None else spec.submodule_search_locations or ()
    paths = [str(path) for folder in folders for path in sorted(Path(folder).glob("*/bin/ptxas"))]
    found = [Tool(path, _tool_version(path)) for path in paths]
    return tuple(sorted((t for t in found if t.version), key=lambda t: numbers(t.version or ""), reverse=True))


def _tool_version(path: str) -> str | None:
    """What `path --version` says behind "release", None where it does not run or says nothing of the kind."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    found = re.search(r"release (\d+\.\d+)", done.stdout)
    return found[1] if found else None


def _cache(folder: Path) -> Cache:
    sizes = []
    try:
        for path in folder.glob("*.py"):
            sizes.append(path.stat().st_size)
    except OSError:
        pass  # a folder that is not there, or a module that another process has just removed
    return Cache(str(folder), len(sizes), sum(sizes), _is_writable(folder))


def _is_writable(folder: Path) -> bool:
    """Whether a file can be made in `folder`, or in the nearest folder above it that exists; leaves nothing behind."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False


def _is_set(value: str | None) -> bool:
    """Whether an environment variable says yes, as Triton and torch read it."""
    return (value or "").lower() in ("1", "true", "on", "yes", "y")

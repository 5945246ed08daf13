"""Combinations known to fail, as data.

In: nothing. Out: `CONDITIONS`, each a predicate over `Facts`, what is wrong, what to do, and how that is known. Refuses
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowc.doctor.facts import Facts, Package, numbers

TRITON = ((3, 6), (3, 10))
"""The range of Triton that flowc supports, the end excluded; pyproject.toml has the same."""

TORCH = (2, 6)
SAFE_PTXAS = (13, 3)
HOPPER = "sm_90"


@dataclass(frozen=True, slots=True)
class Condition:
    """One combination: `problem` and `remedy` are sentences, in which `{facts...}` stands for a fact.

    A note is worth knowing and no reason to fail.
    """

    name: str
    holds: Callable[[Facts], bool]
    problem: str
    remedy: str
    source: str
    is_note: bool = False


def _older(package: Package, version: tuple[int, ...]) -> bool:
    return package.version is not None and numbers(package.version) < version


def _is_outside_triton(facts: Facts) -> bool:
    low, end = TRITON
    return facts.triton.version is not None and not low <= numbers(facts.triton.version) < end


def _may_corrupt(facts: Facts) -> bool:
    """Hopper, and a ptxas before the mended one; of one that does not run nothing is known."""
    ptxas = facts.used_ptxas
    is_old = ptxas is not None and ptxas.version is not None and numbers(ptxas.version) < SAFE_PTXAS
    return is_old and facts.triton.version is not None and any(d.architecture == HOPPER for d in facts.devices)


def _fails_on_bounds(facts: Facts) -> bool:
    numpy = facts.numpy.version
    return facts.interpret and _older(facts.triton, (3, 7)) and numpy is not None and numbers(numpy) >= (2, 4)


CONDITIONS: tuple[Condition, ...] = (
    Condition(
        "torch-missing",
        lambda facts: facts.torch.version is None and facts.torch.error is None,
        "torch is not installed: nothing that is compiled can run",
        "install it by https://pytorch.org/get-started, for the CUDA version of the driver",
        "emitted modules import torch",
    ),
    Condition(
        "torch-broken",
        lambda facts: facts.torch.error is not None,
        "torch is installed and cannot be imported: {facts.torch.error}",
        "install it again, by https://pytorch.org/get-started, into a fresh environment",
        "emitted modules import torch",
    ),
    Condition(
        "torch-old",
        lambda facts: _older(facts.torch, TORCH),
        "torch {facts.torch.version} is older than 2.6, the first that flowc supports",
        "install torch 2.6 or newer; 2.10 is the first whose GPU builds bring a Triton that flowc supports",
        "pyproject.toml",
    ),
    Condition(
        "device-unused",
        lambda facts: facts.driver and not facts.devices and facts.torch.version is not None,
        "there is a GPU driver, and torch {facts.torch.version} can use no device: ops run on the CPU",
        "install a GPU build of torch for the driver's CUDA version, and look at CUDA_VISIBLE_DEVICES",
        "torch.cuda.is_available() beside /proc/driver/nvidia and /dev/kfd",
    ),
    Condition(
        "triton-missing",
        lambda facts: bool(facts.devices) and facts.triton.version is None and facts.triton.error is None,
        "there is a GPU and no Triton: ops run as PyTorch operations, and backend triton is an error",
        "pip install 'triton>=3.6,<3.10', or a GPU build of torch from 2.10 on, which brings it",
        "emitted modules import Triton where it is there",
    ),
    Condition(
        "triton-broken",
        lambda facts: facts.triton.error is not None,
        "Triton is installed and cannot be imported: {facts.triton.error}",
        "install a version from 3.6 to 3.9 again, or remove it: the rest works without",
        "emitted modules import Triton where it is there",
    ),
    Condition(
        "triton-version",
        _is_outside_triton,
        "Triton {facts.triton.version} is outside 3.6 to 3.9, which flowc supports",
        "pip install 'triton>=3.6,<3.10'",
        "pyproject.toml",
    ),
    Condition(
        "ptxas-hopper",
        _may_corrupt,
        "ptxas {facts.used_ptxas.version} can miscompile for Hopper: a matrix product whose left operand was computed "
        "in registers gives wrong numbers",
        "pip install 'nvidia-cuda-nvcc>=13.3' and set TRITON_PTXAS_PATH to its nvidia/cu13/bin/ptxas; until then, hold "
        "what an op computes there to op.reference",
        "reported for the 12.8 and 12.9 that come with Triton 3.6 to 3.8; mended in ptxas 13.3",
    ),
    Condition(
        "ptxas-path",
        lambda facts: facts.chosen_ptxas is not None and facts.chosen_ptxas.version is None,
        "TRITON_PTXAS_PATH is {facts.chosen_ptxas.path}, which does not run: Triton takes its own without a word",
        "set it to a ptxas of this machine, or unset it",
        "triton.knobs: env_nvidia_tool",
    ),
    Condition(
        "interpreter-numpy-missing",
        lambda facts: facts.interpret and facts.triton.version is not None and facts.numpy.version is None,
        "TRITON_INTERPRET is set and numpy cannot be imported: Triton's interpreter needs it",
        "pip install numpy, or unset TRITON_INTERPRET",
        "triton.runtime.interpreter imports numpy",
    ),
    Condition(
        "interpreter-numpy",
        _fails_on_bounds,
        "TRITON_INTERPRET is set, and the interpreter of Triton {facts.triton.version} fails with numpy "
        "{facts.numpy.version} in loops whose bounds are known only at run time",
        "pip install 'triton>=3.7,<3.10', or 'numpy<2.4'",
        "tried with Triton 3.6 and numpy 2.4: int() of an array with one element; mended in Triton 3.7",
    ),
    Condition(
        "interpreter-bfloat16",
        lambda facts: facts.interpret and facts.triton.version is not None,
        "TRITON_INTERPRET is set: kernels are interpreted, which computes wrong numbers in bfloat16 (ops refuse it "
        "there), and shows neither tf32 nor races",
        "unset it but for tests, and test with float32",
        "tried with Triton 3.6 to 3.9",
    ),
    Condition(
        "interpreter-device",
        lambda facts: facts.interpret and bool(facts.devices) and facts.triton.version is not None,
        "TRITON_INTERPRET is set, and there is a GPU: kernels run on the CPU all the same, one operation at a time",
        "unset it before the process starts: it is read when kernels are imported",
        "triton.knobs: runtime.interpret",
    ),
    Condition(
        "tf32",
        lambda facts: facts.tf32 and bool(facts.devices),
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE is set: float32 products on the GPU keep 10 bits, and a reference is none",
        "unset it before comparing results, and before flowc verify",
        "torch.backends.cuda.matmul.allow_tf32",
    ),
    Condition(
        "threads",
        lambda facts: facts.threads is not None and facts.threads > facts.cpus,
        "torch uses {facts.threads} threads and this process may use {facts.cpus} CPUs: they wait for each other",
        "set OMP_NUM_THREADS to {facts.cpus} or less before the process starts",
        "measured with two test workers on two cores: 55 times slower",
    ),
    Condition(
        "threads-unset",
        lambda facts: facts.omp is None and facts.cpus > 1 and not facts.devices and facts.torch.version is not None,
        "OMP_NUM_THREADS is not set: every process takes {facts.threads} threads, and several processes compete",
        "set OMP_NUM_THREADS=1 before running several workers, and before a benchmark",
        "measured with two test workers on two cores: 55 times slower",
        is_note=True,
    ),
    Condition(
        "cache",
        lambda facts: not facts.cache.writable,
        "{facts.cache.path} cannot be written: every process puts its modules into a temporary folder of its own",
        "set FLOWC_CACHE_DIR to a folder that can",
        "flowc.runtime.cache",
    ),
)
"""Every condition, the gravest of each subject first."""

"""A GPU that is not there, for compiling ahead: ops run as on it, kernels are compiled by Triton's own way and not run.

In: what a device says of itself. Out: `pretended`, within which tensors say that they are on that device. Numbers that
are not whole have no storage; whole ones have, for tables of sequences are read. Kernels go through `JITFunction.run`
as at a launch, so that what lands in Triton's cache is what that device looks for. Refuses to work under
TRITON_INTERPRET, where nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch.overrides import TorchFunctionMode
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction


@dataclass(frozen=True)
class Pretended:
    """What ops and Triton ask of a device."""

    name: str
    capability: tuple[int, int]
    processors: int
    shared: int

    @property
    def target(self) -> GPUTarget:
        """As Triton names it."""
        return GPUTarget("cuda", 10 * self.capability[0] + self.capability[1], 32)


DEVICES = {
    "sm_80": Pretended("NVIDIA A100", (8, 0), 108, 166912),
    "sm_90": Pretended("NVIDIA H200", (9, 0), 132, 232448),
    "sm_100": Pretended("NVIDIA B200", (10, 0), 148, 232448),
}
PLACE = torch.device("cuda", 0)


def _undecided(_: Autotuner, __: object, ___: object, compiled: Callable[[], object]) -> bool:
    """What an autotuner does where it would keep its choice: there is none, and who has a device makes it."""
    compiled()
    return False


def _equal(call: Callable[[], object], quantiles: Sequence[float] = (0.5,), **_: object) -> list[float]:
    """A call, and times that say nothing."""
    call()
    return [1.0] * len(quantiles)


class Driver(DriverBase):
    """What Triton asks between a launch and the compiler."""

    def __init__(self, device: Pretended) -> None:
        """Of a device."""
        self.device = device
        own = {"max_shared_mem": device.shared, "multiprocessor_count": device.processors}
        self.utils = SimpleNamespace(get_device_properties=lambda _: own)

    @classmethod
    def is_active(cls) -> bool:
        """Always."""
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        """Nothing is launched."""
        return ty

    def get_current_target(self) -> GPUTarget:
        """What kernels are compiled for."""
        return self.device.target

    def get_current_device(self) -> int:
        """The only one."""
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        """The first."""
        return 0

    def get_active_torch_device(self) -> torch.device:
        """Where tensors say they are."""
        return PLACE

    def get_benchmarker(self) -> Any:
        """Of an autotuner: every configuration is compiled, and none is faster."""
        return _equal


class _Places(TorchFunctionMode):
    """Tensors say that they are on the device; what would be made there has no storage, or is on the CPU."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One call of torch."""
        name, kwargs = getattr(function, "__name__", ""), dict(kwargs or {})
        if name == "__get__":
            owner = getattr(function, "__self__", None)
            if owner is torch.Tensor.is_cuda:
                return True
            return PLACE if owner is torch.Tensor.device else function(*args, **kwargs)
        if function is torch.equal:
            return True
        if name == "cpu":
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        whole = name in ("tensor", "arange") or kwargs.get("dtype") in (torch.int32, torch.int64, torch.bool)
        if name == "to" and isinstance(args[0], torch.Tensor):
            whole = not args[0].dtype.is_floating_point
        # Beside what has no storage a table needs none.
        bare = any(isinstance(x, torch.Tensor) and x.device.type == "meta" for x in (*args, *kwargs.values()))
        given = [_placed(x, whole, bare) for x in args]
        made = function(*given, **{n: _placed(x, whole, bare) for n, x in kwargs.items()})
        # What is made of whole numbers and is none, as a table of -inf by a mask.
        real = isinstance(made, torch.Tensor) and made.dtype.is_floating_point and made.device.type == "cpu"
        return made.to("meta") if real else made


def _placed(x: Any, whole: bool, bare: bool) -> Any:
    """A device as the tensors are really on it; tensors without storage where they are to be `bare`."""
    if bare and isinstance(x, torch.Tensor):
        return x if x.device.type == "meta" else x.to("meta")
    if isinstance(x, str) and x.split(":")[0] == PLACE.type:
        x = PLACE
    return torch.device("cpu" if whole else "meta") if isinstance(x, torch.device) and x.type == PLACE.type else x


class _Generator(torch.Generator):
    """A generator that says it is on the device."""

    device = PLACE

    def __new__(cls, device: object = "cpu") -> _Generator:
        """One of the CPU."""
        return super().__new__(cls, "cpu")


def _asked(device: Pretended) -> Mapping[str, Callable[..., Any]]:
    """What torch.cuda answers."""
    properties = SimpleNamespace(
        name=device.name, major=device.capability[0], minor=device.capability[1],
        multi_processor_count=device.processors, shared_memory_per_block_optin=device.shared,
    )  # fmt: skip
    return {
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "device": lambda *_: nullcontext(),
        "is_current_stream_capturing": lambda: False,
        "synchronize": lambda *_: None,
        "get_device_name": lambda *_: device.name,
        "get_device_capability": lambda *_: device.capability,
        "get_device_properties": lambda *_: properties,
    }


@contextmanager
def pretended(device: Pretended) -> Iterator[None]:
    """Run ops as on a device."""
    if triton.knobs.runtime.interpret:
        raise RuntimeError("TRITON_INTERPRET is set: kernels are interpreted, and nothing is compiled")
    places, run, engine = _Places(), JITFunction.run, torch.autograd._engine_run_backward  # type: ignore[attr-defined]

    def compiled(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        return run(kernel, *args, grid=grid, warmup=True, **kwargs)

    def backward(*args: Any, **kwargs: Any) -> Any:
        with places:  # torch.autograd.grad has left it
            return engine(*args, **kwargs)

    with ExitStack() as stack:
        for name, answer in _asked(device).items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        stack.enter_context(patch.object(torch, "Generator", _Generator))
        stack.enter_context(patch.object(torch.autograd, "_engine_run_backward", backward))
        stack.enter_context(patch.object(JITFunction, "run", compiled))
        stack.enter_context(patch.object(Autotuner, "check_disk_cache", _undecided))
        before = triton.runtime.driver._active
        triton.runtime.driver.set_active(Driver(device))
        stack.callback(triton.runtime.driver.set_active, before)
        stack.enter_context(places)
        yield

"""What all tests share: one thread, hypothesis profiles, and `--update` for goldens."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch: two cores, and steady timings
# MKL rounds products of a batch otherwise than the same ones alone, on processors of AMD and of odd sizes, unless asked
# not to; tests compare the bits of sequences alone and among others.
os.environ.setdefault("MKL_CBWR", "AVX2")
os.environ["FLOWC_TUNED"] = ""  # what is emitted goes by no table of the user's

import pytest
from hypothesis import HealthCheck, settings

_QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("dev", max_examples=20, deadline=None, suppress_health_check=_QUIET)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=_QUIET)
settings.load_profile("ci" if os.environ.get("CI", "").lower() in ("true", "1") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite golden files instead of comparing with them")
    parser.addoption(
        "--part", default="1/1", metavar="N/OF", help="run the N-th of OF parts of the selected tests, each spec in one"
    )


@pytest.hookimpl(trylast=True)  # after -k and -m have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    number, of = map(int, config.getoption("--part").split("/"))
    if of > 1:
        items[:] = _parts(items, of)[number - 1]
    items[:] = _spread(items)


def _spread(items: list[pytest.Item]) -> list[pytest.Item]:
    """Those that take minutes first, in either half of all: of two workers each begins with one half."""
    long, short = ([i for i in items if (i.get_closest_marker("first") is None) == rest] for rest in (False, True))
    half = len(short) // 2
    return [*long[::2], *short[:half], *long[1::2], *short[half:]]


def _parts(items: list[pytest.Item], of: int) -> list[list[pytest.Item]]:
    """As many tests in each; those of one spec stand together, since a process compiles it once."""
    groups: dict[object, list[pytest.Item]] = {}
    for item in items:
        own = item.callspec.params if hasattr(item, "callspec") else {}
        groups.setdefault(own.get("name", item.nodeid), []).append(item)
    parts: list[list[pytest.Item]] = [[] for _ in range(of)]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(parts, key=len).extend(group)
    return parts


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update"))

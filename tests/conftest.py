"""What all tests share: one thread, hypothesis profiles, and `--update` for goldens."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch: two cores, and steady timings
# MKL rounds products of a batch otherwise than the same ones alone, on processors of AMD and of odd sizes, unless asked
# not to; tests compare the bits of sequences alone and among others.
os.environ.setdefault("MKL_CBWR", "AVX2")

import pytest
from hypothesis import HealthCheck, settings

_QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("dev", max_examples=20, deadline=None, suppress_health_check=_QUIET)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=_QUIET)
settings.load_profile("ci" if os.environ.get("CI", "").lower() in ("true", "1") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite golden files instead of comparing with them")
    parser.addoption(
        "--part", default="1/1", metavar="N/OF", help="run every OF-th of the selected tests, from the N-th"
    )


@pytest.hookimpl(trylast=True)  # after -k and -m have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    number, of = map(int, config.getoption("--part").split("/"))
    items[:] = items[number - 1 :: of]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update"))

"""What the whole suite shares: silence on the network, short folders for Ray, one fleet of the real models.

Every async fixture and test runs on one event loop (pyproject.toml), so that the fleet can outlive a test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import pytest

import local_fusion
from local_fusion.airgap.audit import attempts, child_environment, install
from local_fusion.airgap.env import cache_folder, offline_env
from local_fusion.config import Config, load_config
from local_fusion.engine import Engines

# Before any test imports a library that would look for the network; and whoever looks all the same is noted.
RECORD = Path(tempfile.mkdtemp(prefix="lf-audit-", dir="/tmp")) / "attempts.jsonl"
os.environ.update(offline_env(cache_folder()))
os.environ.update(child_environment(RECORD))
install(RECORD)


@cache
def no_gpu() -> str | None:
    """Why there is no GPU to test on; None where one answers."""
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA GPU: nvidia-smi is not installed"
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    return None if answer.stdout.startswith("GPU") else f"no NVIDIA GPU: {(answer.stderr or answer.stdout).strip()}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A suite in which anything tried to leave this machine has failed, whatever its tests say."""
    if attempts(RECORD) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for attempt in attempts(RECORD):
        terminalreporter.line(f"NOT LOCAL: {attempt.event} {attempt.address} from {', '.join(attempt.place)}", red=True)
    shutil.rmtree(RECORD.parent, ignore_errors=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and no_gpu() is not None:
        pytest.skip(str(no_gpu()))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first; then those that start engines of their own, before the shared ones take up memory."""
    items.sort(key=_cost)
    for item in items:  # engines start slowly where other work shares the cores
        if item.get_closest_marker("vllm") is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))


def _cost(item: pytest.Item) -> int:
    fixtures = getattr(item, "fixturenames", ())
    if "fleet" in fixtures:
        return 4
    if "engine" in fixtures:
        return 3
    if item.get_closest_marker("vllm") is not None:
        return 2
    return 1 if item.get_closest_marker("ray") is not None or item.get_closest_marker("slow") is not None else 0


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for Ray's sockets (Unix allows 107 bytes)."""
    folder = Path(tempfile.mkdtemp(prefix="lf-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shipped() -> Config:
    """The configuration that the package ships."""
    return load_config(Path(local_fusion.__file__).parent / "models.yaml")


@pytest.fixture(scope="session")
async def fleet(shipped: Config) -> AsyncIterator[Engines]:
    """The shipped models on real engines in Ray hosts, started when first asked for and shared by the session.

    Tests that kill a host start a fleet of their own.
    """
    from local_fusion.runtime import open_engines

    async with open_engines(shipped, shipped.fusion("demo").models) as engines:
        yield engines

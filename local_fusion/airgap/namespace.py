"""Runs a command where there is no network at all: an empty network namespace with only the loopback interface, up.

Invariant: the command starts only when nothing but loopback exists, so no byte can leave, whoever opens the socket.
Needs Linux and unprivileged user namespaces (or root); from a shell:
`python -m local_fusion.airgap.namespace COMMAND …`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence

_INSIDE = "--inside"
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914  # SIOCGIFFLAGS, SIOCSIFFLAGS of <linux/sockios.h>
_UP_AND_RUNNING = 0x1 | 0x40  # IFF_UP | IFF_RUNNING


def isolated(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` without a network; its exit code is the command's own."""
    return ["unshare", "--map-root-user", "--net", sys.executable, "-m", __name__, _INSIDE, *command]


def unavailable() -> str | None:
    """Why this machine cannot make an empty network namespace; None where it can."""
    if shutil.which("unshare") is None:
        return "the command `unshare` is missing; install util-linux"
    try:
        probe = subprocess.run(["unshare", "--map-root-user", "--net", "true"], capture_output=True, timeout=30)  # noqa: S607
    except subprocess.TimeoutExpired:
        return "`unshare --map-root-user --net true` did not end"
    if probe.returncode:
        return f"user namespaces are not allowed here: {probe.stderr.decode(errors='replace').strip()}"
    return None


def interfaces() -> list[str]:
    """Names of the network interfaces that this process sees."""
    return [name for _, name in socket.if_nameindex()]


def bring_loopback_up() -> None:
    """Set `lo` up; a fresh namespace has it down. Raises OSError without the right to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = fcntl.ioctl(handle, _GET_FLAGS, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack_from("h", request, 16)
        fcntl.ioctl(handle, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP_AND_RUNNING))


def main(arguments: Sequence[str]) -> None:
    """Become the command, without a network; does not return. Exits 2 where that cannot be had."""
    if not arguments or arguments == [_INSIDE]:
        sys.exit("usage: python -m local_fusion.airgap.namespace COMMAND …")
    if arguments[0] != _INSIDE:
        reason = unavailable()
        if reason is not None:
            print(f"no empty network namespace: {reason}", file=sys.stderr)
            sys.exit(2)
        command = isolated(arguments)
        os.execvp(command[0], command)  # noqa: S606
    bring_loopback_up()
    others = [name for name in interfaces() if name != "lo"]
    if others:
        print(f"not an empty network namespace: {', '.join(others)} exist", file=sys.stderr)
        sys.exit(2)
    try:
        os.execvp(arguments[1], list(arguments[1:]))  # noqa: S606
    except OSError as problem:
        sys.exit(f"{arguments[1]}: {problem.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Runs foreign Python with limits: code that a model wrote, and the tests it must pass.

What holds always: an empty temporary folder, an empty environment, a wall clock, and limits on processor time, memory
and open files of each process, on the size of each file, and, but for root, on the number of processes. A program
passes only where it ran to its end: the word that says so is in no file it could read.

Where this machine allows namespaces without rights (`Hold`), besides: no network, no process of others to be seen or
signalled, every process of the run killed with it, nothing outside its folder to be written or deleted, and that folder
in memory, limited as a whole. Elsewhere the run's processes are killed by one that they could kill first, and it may
write what its user may.

What never holds: it reads what its user reads, and speaks to Unix sockets that lie in files its user may write to; its
memory is limited by process and not as a whole; code that walks the interpreter's own frames finds the word. Accidents
and clumsy attacks are kept away; this is no fortress.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

GIB, MIB = 1 << 30, 1 << 20
NOBODY = 65_534
_OUTPUT_BYTES = 4_096
_PROBE_S = 30
_LEAVE_S = 5.0
_BARE = ("-I", "-S", "-B")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. `memory_bytes`, `cpu_s` and `open_files` are of each process, `file_bytes` of each file;
    `folder_bytes` of all its files, where it is held by everything; `processes` are the run's own, beside those the
    user has already."""

    wall_s: float = 10.0
    cpu_s: int = 8
    memory_bytes: int = 1 * GIB
    file_bytes: int = 16 * MIB
    folder_bytes: int = 64 * MIB
    open_files: int = 64
    processes: int = 16


@dataclass(frozen=True, slots=True)
class Hold:
    """By what a run is held. all: network, processes and files; processes: network and processes; nothing: limits
    alone. `user`: who it runs as, where that is another."""

    by: Literal["all", "processes", "nothing"]
    user: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `passed`: it ran to its end, with exit code 0; `detail`: why not, in a few words (the kind of
    error, never the code)."""

    passed: bool
    detail: str


@cache
def best_hold() -> Hold:
    """The firmest that works here, found by trying. As root, a run becomes nobody where nobody can run this Python."""
    users = (NOBODY, None) if os.geteuid() == 0 else (None,)
    for hold in (*(Hold(by, user) for by in ("all", "processes") for user in users), Hold("nothing", users[0])):
        if _works(hold):
            return hold
    return Hold("nothing")


async def run_python(source: str, limits: Limits | None = None, hold: Hold | None = None) -> Outcome:
    """Run `source`. It passes where it runs to its end, so that an early exit is no success. `hold`: None: the best."""
    with tempfile.TemporaryDirectory(prefix="lf-code-") as folder:
        return await _run(Path(folder), source, limits or Limits(), hold or best_hold())


async def _run(folder: Path, source: str, limits: Limits, hold: Hold) -> Outcome:
    word = secrets.token_hex(16)
    process = await asyncio.create_subprocess_exec(
        *_command(folder, limits, hold),
        cwd=folder,
        env=_environment(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        **_identity(folder, hold),
    )
    try:
        async with asyncio.timeout(limits.wall_s):
            _, said, told = await asyncio.gather(
                _feed(process.stdin, _payload(source, word)), _read(process.stdout), _read(process.stderr)
            )
            code = await process.wait()
    except TimeoutError:
        return Outcome(False, f"did not end within {limits.wall_s:g} s")
    finally:
        await _end(process, hold)
    if code == 0 and said.rstrip().endswith(word.encode()):
        return Outcome(True, "passed")
    return Outcome(False, _detail(code, told))


async def _end(process: asyncio.subprocess.Process, hold: Hold) -> None:
    """Kill what is left. Without namespaces the first process ends the others, if it is let."""
    if hold.by == "nothing" and process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError, TimeoutError):
            process.terminate()
            await asyncio.wait_for(process.wait(), _LEAVE_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _works(hold: Hold) -> bool:
    if hold.by != "nothing" and shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory(prefix="lf-code-") as name:
        folder = Path(name)
        try:
            done = subprocess.run(  # noqa: S603
                _command(folder, Limits(), hold),
                input=_payload("open('file', 'w').write('x')", "word"),
                cwd=folder,
                env=_environment(folder),
                capture_output=True,
                timeout=_PROBE_S,
                **_identity(folder, hold),
            )
        except (subprocess.SubprocessError, OSError):
            return False
    return done.returncode == 0 and done.stdout.endswith(b"word\n")


def _command(folder: Path, limits: Limits, hold: Hold) -> list[str]:
    alone = [
        "unshare",
        "--map-root-user",
        *["--mount"] * (hold.by == "all"),
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
    ]
    bounds = (limits.cpu_s, limits.memory_bytes, limits.file_bytes, limits.open_files, limits.processes)
    child = str(Path(__file__).with_name("sandbox_child.py"))
    return [
        *([*alone, "--"] if hold.by != "nothing" else []),
        *(sys.executable, *_BARE, child, hold.by, str(folder), str(limits.folder_bytes)),
        *map(str, bounds),
    ]


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}


def _identity(folder: Path, hold: Hold) -> dict[str, Any]:
    """The other user, and its right to the folder."""
    if hold.user is None:
        return {}
    os.chown(folder, hold.user, hold.user)
    return {"user": hold.user, "group": hold.user, "extra_groups": ()}


def _payload(source: str, word: str) -> bytes:
    return json.dumps([source, word]).encode()


async def _feed(stream: asyncio.StreamWriter | None, payload: bytes) -> None:
    if stream is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stream.write(payload)
            await stream.drain()
        stream.close()


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    """The last bytes of a stream, which is read to its end so that the writer never waits."""
    kept = b""
    while stream is not None and (piece := await stream.read(1 << 16)):
        kept = (kept + piece)[-_OUTPUT_BYTES:]
    return kept


def _detail(code: int, told: bytes) -> str:
    """The kind of error alone: what stands behind it may quote the code."""
    if code < 0:
        return f"ended by signal {-code}"
    last = told.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
    kind = last.split(":", 1)[0].strip()
    return kind if kind.replace(".", "").isidentifier() else f"ended with exit code {code}"

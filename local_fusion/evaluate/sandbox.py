"""Runs foreign Python with limits: code that a model wrote, and the tests it must pass.

A process of its own session in an empty temporary folder, an empty environment, limits on processor time, memory, file
size, open files and processes, a wall clock, and, where this machine allows it, a namespace without any network whose
processes all end with the first. Its whole process group is killed at the end. This keeps accidents and clumsy attacks
away; it is no fortress: it can read what its user can read, and root has no limit on processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

GIB = 1 << 30
_OUTPUT_BYTES = 4_096
_ALONE = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--")
_BARE = ("-I", "-S", "-B")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. `processes` are the run's own, beside those the user has already."""

    wall_s: float = 10.0
    cpu_s: int = 8
    memory_bytes: int = 1 * GIB
    file_bytes: int = 16 << 20
    open_files: int = 64
    processes: int = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `passed`: it ended by itself, with exit code 0 and its last line the word that was agreed;
    `detail`: why not, in a few words (the kind of error, never the code)."""

    passed: bool
    detail: str


@cache
def has_namespace() -> bool:
    """Whether a namespace without network and with processes of its own can be made here, without rights."""
    if shutil.which("unshare") is None:
        return False
    try:
        return not subprocess.run([*_ALONE, "true"], capture_output=True, timeout=30).returncode  # noqa: S603
    except (subprocess.TimeoutExpired, OSError):
        return False


async def run_python(source: str, word: str, limits: Limits | None = None) -> Outcome:
    """Run `source`; it must end with exit code 0 and print `word` last, so that an early exit is no success."""
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="lf-code-") as folder:
        return await _run(Path(folder), source, word, limits)


async def _run(folder: Path, source: str, word: str, limits: Limits) -> Outcome:
    (folder / "main.py").write_text(source, encoding="utf-8", errors="replace")
    bounds = [limits.cpu_s, limits.memory_bytes, limits.file_bytes, limits.open_files, limits.processes]
    process = await asyncio.create_subprocess_exec(
        *(_ALONE if has_namespace() else ()),
        sys.executable,
        *_BARE,
        str(Path(__file__).with_name("sandbox_child.py")),
        *map(str, bounds),
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limits.wall_s):
            said, told = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            code = await process.wait()
    except TimeoutError:
        return Outcome(False, f"did not end within {limits.wall_s:g} s")
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if code == 0 and said.rstrip().endswith(word.encode()):
        return Outcome(True, "passed")
    return Outcome(False, _detail(code, told))


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

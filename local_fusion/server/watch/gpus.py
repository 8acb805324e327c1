"""How full this machine's GPUs are, as `nvidia-smi` says; nothing where it does not answer.

Asked at most once in two seconds, however many look.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import dataclass
from time import monotonic

_FIELDS = "index,name,memory.used,memory.total,utilization.gpu"
_FRESH_S = 2.0
_PATIENCE_S = 5.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU now. `utilization`: share of the last moments in which it worked, 0..1, None where unknown."""

    index: int
    name: str
    memory_used_bytes: int
    memory_total_bytes: int
    utilization: float | None


class GpuWatch:
    """The last look, and when it was taken. One per server."""

    def __init__(self, command: str = "nvidia-smi") -> None:
        self._command = shutil.which(command)
        self._taken_at = float("-inf")
        self._seen: list[Gpu] = []
        self._lock = asyncio.Lock()

    async def look(self) -> list[Gpu]:
        """Every GPU of this machine; an empty list where there is none or the tool fails."""
        if self._command is None:
            return []
        async with self._lock:
            if monotonic() - self._taken_at > _FRESH_S:
                self._seen = parse(await asyncio.to_thread(_output, self._command))
                self._taken_at = monotonic()
        return self._seen


def _output(command: str) -> str:
    """What the tool prints, or nothing: it is killed where it hangs, as it does on a broken driver.

    In a thread and without a look at the exit code, for Ray reaps every child of this process before asyncio can.
    """
    arguments = [command, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(arguments, capture_output=True, timeout=_PATIENCE_S)  # noqa: S603 (no word of a client)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def parse(printed: str) -> list[Gpu]:
    """The tool's lines; memory in MiB. Lines that cannot be read ("[N/A]" memory) are left out."""
    found = []
    for line in printed.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 5 and all(fields[place].isdigit() for place in (0, 2, 3)):
            busy = int(fields[4]) / 100 if fields[4].isdigit() else None
            found.append(Gpu(int(fields[0]), fields[1], int(fields[2]) * _MIB, int(fields[3]) * _MIB, busy))
    return found

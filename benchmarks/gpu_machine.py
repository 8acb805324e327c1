"""The GPU and our processes as the system sees them. Imports no GPU library: looking must take none of its memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from time import monotonic

import psutil

from benchmarks.gpu_report import Facts, Missed

MARK = "LOCAL_FUSION_GPU_CHECK"
"""Set to a token, it marks every process a check starts: children inherit it, however they are started."""
_AGENTS = ("ray::Dashboard", "ray::RuntimeEnv")
SLACK_BYTES = 512 * 2**20
"""Of the GPU's memory, what may differ between two looks at an idle one."""


def query(what: str, of: str = "gpu") -> list[str]:
    """Lines of `nvidia-smi --query-{of}={what}`. Raises FileNotFoundError or CalledProcessError."""
    command = ["nvidia-smi", f"--query-{of}={what}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def used_bytes() -> int:
    """Memory in use on all GPUs."""
    return sum(int(line) for line in query("memory.used")) * 2**20


def total_bytes() -> int:
    """Memory of the first GPU."""
    return int(query("memory.total")[0]) * 2**20


def compute_apps() -> list[str]:
    """Process ids on the GPU as the driver tells them; in a container it may tell none, or those of the host."""
    return query("pid", of="compute-apps")


class Family:
    """A process and all it started, found again after their parents are gone.

    A process that gives itself a title (Ray's do, and vLLM's) overwrites the environment that others can read, so the
    mark alone would miss those that matter: `look` must be called while the family is whole.
    """

    def __init__(self, process: int, token: str) -> None:
        self._head = process
        self._token = token
        self._known: dict[int, psutil.Process] = {}

    def look(self) -> None:
        """Remember who is there now."""
        there = list(psutil.process_iter())
        grew = True
        while grew:
            grew = False
            for process in there:
                if process.pid not in self._known and self._belongs(process):
                    self._known[process.pid] = process
                    grew = True

    def _belongs(self, process: psutil.Process) -> bool:
        try:
            return process.pid == self._head or process.ppid() in self._known
        except psutil.Error:
            return False

    def alive(self) -> list[psutil.Process]:
        """Those that live, and whoever else carries the token."""
        self.look()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and process.environ().get(MARK) == self._token:
                    self._known.setdefault(process.pid, process)
        return [process for process in self._known.values() if _lives(process)]

    def hosts(self) -> list[psutil.Process]:
        """Ray actors of it that hold an engine: those that have started one."""
        found = []
        for process in self.alive():
            with contextlib.suppress(psutil.Error):
                title = " ".join([process.name(), *process.cmdline()])
                if "ray::Host" in title and any(child.name() != "sh" for child in process.children()):
                    found.append(process)
        return found

    def end(self) -> int:
        """Kill all of them; how many there were."""
        left = self.alive()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=10)
        return len(left)


def wait_released(family: Family, before_bytes: int, limit_s: float) -> Facts:
    """Wait until no process of `family` is left and the GPU's memory is back. Raises Missed after `limit_s`.

    Ray's agents are counted apart: they hold no engine, and after a killed driver they wait a minute for a dead server.
    """
    begun = monotonic()
    while True:
        alive = family.alive()
        left = [process for process in alive if not _name(process).startswith(_AGENTS)]
        taken = used_bytes() - before_bytes
        facts: Facts = {
            "released_after_s": round(monotonic() - begun, 1),
            "processes_left": len(left),
            "ray_agents_left": len(alive) - len(left),
            "gpu_memory_above_before_mib": taken // 2**20,
            "compute_apps_left": len(compute_apps()),
        }
        if not left and taken <= SLACK_BYTES:
            return facts
        if monotonic() - begun > limit_s:
            facts["names_left"] = sorted({_name(process) for process in left})
            raise Missed(f"not released within {limit_s:g} s", facts)
        time.sleep(0.25)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "gone"

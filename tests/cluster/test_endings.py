"""However the program ends, no process, no folder and no session of its own stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = Path(__file__).with_name("fleet_program.py")
# Each host starts a child of its own, as an engine would.
CHILD = """
import os, subprocess, sys
if any(part.endswith("default_worker.py") for part in sys.orig_argv):
    child = subprocess.Popen(["sleep", "3600"])
    with open(os.path.join(os.path.dirname(__file__), f"child-{child.pid}"), "w"):
        pass
"""


@pytest.fixture
def two_folders() -> Iterator[tuple[Path, Path]]:
    made = Path(tempfile.mkdtemp(prefix="lf")), Path(tempfile.mkdtemp(prefix="lf"))  # short: Ray's sockets lie below
    for folder in made:
        (folder / "sitecustomize.py").write_text(CHILD)
    yield made
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


def no_network() -> list[str]:
    """Runs a command in an empty network namespace; empty where this machine does not allow one."""
    inside = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        allowed = subprocess.run([*inside, "true"], capture_output=True, timeout=30).returncode == 0
    except FileNotFoundError:
        return []
    return inside if allowed else []


class Program:
    def __init__(self, what: str, folder: Path, before: Sequence[str] = ()) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*before, sys.executable, str(PROGRAM), what],
            stdout=subprocess.PIPE,
            text=True,
            # Where the suite runs in the background of a shell, SIGINT is ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env={
                **os.environ,
                "PYTHONPATH": str(folder),
                "TMPDIR": str(folder),
                "HOME": str(folder),
                "LOCAL_FUSION_CACHE": str(folder / "cache"),
            },
        )

    def says(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def engine_children(self) -> list[int]:
        return [int(file.name.removeprefix("child-")) for file in self.folder.glob("child-*")]

    def left_behind(self) -> list[str]:
        """Processes that belong to it, and session folders."""
        left = [f"child {pid}" for pid in self.engine_children() if _alive(pid)]
        for process in psutil.process_iter(["cmdline", "environ"]):  # some of Ray's hide their command line
            words = process.info["cmdline"] or []
            home = (process.info["environ"] or {}).get("HOME", "")
            ours = any(str(self.folder) in word for word in words) or home.startswith(str(self.folder))
            if ours and process.pid != self.process.pid:
                left.append(" ".join(words)[:200])
        return left + [str(path) for path in self.folder.glob("lf-*")]


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def nothing_is_left(program: Program) -> None:
    ends = time.monotonic() + 25
    while (left := program.left_behind()) and time.monotonic() < ends:
        time.sleep(0.1)
    assert left == []


def test_two_programs_at_once_end_clean_one_interrupted_and_without_a_network(two_folders: tuple[Path, Path]):
    closing, interrupted = Program("close", two_folders[0]), Program("stay", two_folders[1], no_network())
    for program in (closing, interrupted):
        program.says("up")
        assert len(program.engine_children()) == 2
    interrupted.process.send_signal(signal.SIGINT)
    closing.says("closed")
    assert closing.process.wait(60) == 0
    assert interrupted.process.wait(60) != 0
    for program in (closing, interrupted):
        nothing_is_left(program)
        assert not (program.folder / ".ray").exists()
        assert not (program.folder / "ray_bootstrap_config.yaml").exists()


def test_killed_and_terminated_programs_leave_nothing(two_folders: tuple[Path, Path]):
    programs = [Program("stay", folder) for folder in two_folders]
    for program, number in zip(programs, (signal.SIGKILL, signal.SIGTERM), strict=True):
        program.says("up")
        children = program.engine_children()
        assert len(children) == 2
        assert all(_alive(pid) for pid in children)
        assert len(program.left_behind()) > 4
        program.process.send_signal(number)
        assert program.process.wait(60) == -number
    for program in programs:
        nothing_is_left(program)

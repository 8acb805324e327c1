"""What a killed process started, forked or spawned, goes with it; no Ray."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

OWNER = """
import multiprocessing, subprocess, sys, time
from local_fusion.cluster.guardian import guard_children

if __name__ == "__main__":
    guardian = guard_children()
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    forked.start()
    spawned = subprocess.Popen(["sleep", "600"])
    print(forked.pid, spawned.pid, guardian.pid, flush=True)
    if sys.argv[1] == "stay":
        time.sleep(600)
    elif sys.argv[1] == "dismiss":
        guardian.dismiss()
        forked.kill()
        spawned.kill()
        after = multiprocessing.get_context("fork").Process(target=print)
        after.start()
        after.join()
"""


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def run(what: str, folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    (folder / "owner.py").write_text(OWNER)
    process = subprocess.Popen(
        [sys.executable, folder / "owner.py", what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


def all_gone(pids: list[int]) -> bool:
    ends = time.monotonic() + 20
    while not all(map(gone, pids)) and time.monotonic() < ends:
        time.sleep(0.05)
    return all(map(gone, pids))


def test_sigkill_of_the_owner_takes_its_children(tmp_path: Path):
    process, pids = run("stay", tmp_path)
    assert not any(map(gone, pids))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert all_gone(pids)


def test_dismissed_it_ends(tmp_path: Path):
    process, pids = run("dismiss", tmp_path)
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert all_gone(pids)


KEEPER = """
import sys, time
from pathlib import Path
from local_fusion.cluster.guardian import guard_folder

guardian = guard_folder(Path(sys.argv[1]))
print("up", flush=True)
time.sleep(600)
"""


def test_a_killed_owner_s_folder_goes_with_whoever_has_its_home_there(tmp_path: Path):
    folder = tmp_path / "session"
    (folder / "home").mkdir(parents=True)
    (tmp_path / "keeper.py").write_text(KEEPER)
    lingering, stranger = (
        subprocess.Popen(["sleep", "600"], env={"HOME": str(home), "PATH": "/usr/bin:/bin"})
        for home in (folder / "home", tmp_path)
    )
    owner = subprocess.Popen([sys.executable, tmp_path / "keeper.py", folder], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert all_gone([lingering.pid])
        ends = time.monotonic() + 20
        while folder.exists() and time.monotonic() < ends:
            time.sleep(0.05)
        assert not folder.exists()
        assert not gone(stranger.pid)
    finally:
        for process in (lingering, stranger, owner):
            process.kill()
            process.wait()

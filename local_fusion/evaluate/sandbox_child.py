"""Inside the sandbox: shuts this process in, then becomes the interpreter that runs the program (`sandbox_run`). A
script of its own that knows nothing of the package. Arguments: how it is held (all, processes, nothing), its folder,
bytes of that folder, seconds of processor time, bytes of memory, bytes of a file, open files, processes.

"all" and "processes" are begun in namespaces of their own, by `unshare`, with rights over these alone, which are given
up here. "all": every mount is made read-only but the folder, which becomes an empty file system in memory. "nothing":
no namespace is to be had, so this process stays, as the one that orphans come back to, and ends whatever is left.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from typing import NoReturn

_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_SETATTR, _READ_ONLY = 442, 1  # the same number on every architecture since Linux 5.12
_NOSUID_NODEV = 2 | 4
_CAPBSET_DROP, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 24, 36, 38
_C = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


def main() -> None:
    """Shut in, then run."""
    hold, folder = sys.argv[1:3]
    folder_bytes, *limits = map(int, sys.argv[3:9])
    if hold == "all":
        _shut(folder, folder_bytes)
    os.chdir(folder)
    if hold == "nothing":
        _supervise(limits)
    _give_up_rights()
    _run(limits)


def _run(limits: list[int]) -> NoReturn:
    cpu_s, memory, file, files, processes = limits
    _set(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    _set(resource.RLIMIT_AS, memory)
    _set(resource.RLIMIT_FSIZE, file)
    _set(resource.RLIMIT_NOFILE, files)
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_NPROC, processes + _tasks_of_user())
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sandbox_run.py")
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-B", program])  # noqa: S606


def _shut(folder: str, folder_bytes: int) -> None:
    place = os.fsencode(folder)
    options = f"size={folder_bytes},nr_inodes=4096,mode=700".encode()
    _checked(_C.mount(b"tmpfs", place, b"tmpfs", _NOSUID_NODEV, options))
    _attributes(b"/", _AT_RECURSIVE, _MountAttributes(set=_READ_ONLY))
    _attributes(place, 0, _MountAttributes(clear=_READ_ONLY))


def _attributes(place: bytes, flags: int, wanted: _MountAttributes) -> None:
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    _checked(_C.syscall(_MOUNT_SETATTR, _AT_FDCWD, place, flags, ctypes.byref(wanted), size))


def _give_up_rights() -> None:
    """None that this namespace gave survives the next program, and none can be won."""
    _checked(_C.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    for right in range(64):
        _C.prctl(_CAPBSET_DROP, right, 0, 0, 0)  # fails for those that are none, or were never there


def _supervise(limits: list[int]) -> NoReturn:
    _checked(_C.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    child = os.fork()
    if child == 0:
        _give_up_rights()
        _run(limits)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(124))
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        _sweep()
    sys.exit(code if code >= 0 else 128 - code)


def _sweep() -> None:
    """Kill until no child is left; what a killed one leaves behind becomes a child of this process."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _children() -> list[int]:
    mine, found = os.getpid(), []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as stat:
                if int(stat.read().rpartition(b")")[2].split()[1]) == mine:
                    found.append(int(entry))
    return found


def _set(name: int, soft: int, hard: int | None = None) -> None:
    _, most = resource.getrlimit(name)
    hard = soft if hard is None else hard
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(name, (soft, hard))


def _tasks_of_user() -> int:
    """Threads that this user runs: the limit counts them all, but for those of another namespace."""
    mine, count = os.getuid(), 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == mine:
                    count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count


def _checked(result: int) -> None:
    if result != 0:
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem))


if __name__ == "__main__":
    main()

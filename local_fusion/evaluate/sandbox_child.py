"""Inside the sandbox: sets this process's limits, then becomes the interpreter of `main.py`. A script of its own that
knows nothing of the package. Arguments: seconds of processor time, bytes of memory, bytes of a file, open files,
processes.
"""

import contextlib
import os
import resource
import sys


def main() -> None:
    """Limit, then run; does not return."""
    cpu_s, memory, file, files, processes = map(int, sys.argv[1:6])
    _set(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    _set(resource.RLIMIT_AS, memory)
    _set(resource.RLIMIT_FSIZE, file)
    _set(resource.RLIMIT_NOFILE, files)
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_NPROC, processes + _tasks_of_user())
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-B", "main.py"])  # noqa: S606


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


if __name__ == "__main__":
    main()

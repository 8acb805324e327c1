"""A tiny shell process that outlives its owner and cleans up after it, however the owner dies.

It waits on a pipe whose other end only the owner holds: SIGKILL closes a pipe as surely as a clean exit does.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_KILL_GROUP = 'read -r _; kill -s KILL -- "-$1" 2>/dev/null'
_REMOVE_FOLDER = """read -r _; sleep 5
for process in /proc/[0-9]*; do
  tr '\\0' '\\n' <"$process/environ" 2>/dev/null | grep -qxF "HOME=$1/home" && kill -s KILL "${process#/proc/}"
done
rm -rf -- "$1"
"""  # Ray's agents wait a minute for the head that is gone; no other process has this home


class Guardian:
    """Runs its script once the owner is gone; `dismiss` ends it before that."""

    def __init__(self, script: str, argument: str) -> None:
        reading, writing = os.pipe()
        self._pipe: int | None = writing
        self._process = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", script, "sh", argument],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
        )
        os.close(reading)
        # A forked child would hold the pipe open, and the guardian would wait for it.
        os.register_at_fork(after_in_child=self._let_go)

    @property
    def pid(self) -> int:
        return self._process.pid

    def dismiss(self) -> None:
        """The owner has cleaned up itself."""
        self._process.kill()
        self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


def guard_children() -> Guardian:
    """When this process is gone, whatever it started is killed. Makes this process the head of its own group."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    return Guardian(_KILL_GROUP, str(os.getpid()))


def guard_folder(folder: Path) -> Guardian:
    """When this process is gone, `folder` is removed, after a time for others to leave it; who has its home there and
    stays is killed."""
    return Guardian(_REMOVE_FOLDER, str(folder))

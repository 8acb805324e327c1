"""vLLM's own log goes to a file, never to the user's terminal; when a start fails, the root cause is read from it.

vLLM raises "see root cause above" in the caller's process while the cause is logged by a child; this finds it again.
Requests are not logged, so the file holds no prompt.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from pathlib import Path

VARIABLE = "VLLM_LOGGING_CONFIG_PATH"
_KEPT_S = 7 * 86_400.0
_LONGEST = 600
_OWNER = re.compile(r"vllm-([1-9]\d{0,8})\.(?:log|json)")
_RAISED = re.compile(r"(?:^|\s)((?:\w+\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt)): (\S.*)")
_NO_CAUSE = ("Engine core initialization failed", "WorkerProc initialization failed")


def log_to_file(folder: Path) -> dict[str, str]:
    """Make this process's log file below `folder`; returns the variable that must be set before vllm is imported.
    Logs older than a week are removed, but those of processes that live: they hand the settings to their children."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in folder.glob("vllm-*"):
        with contextlib.suppress(FileNotFoundError):  # another process may tidy up too
            if old.stat().st_mtime < time.time() - _KEPT_S and not _is_used(old):
                old.unlink()
    log = folder / f"vllm-{os.getpid()}.log"
    settings = folder / f"vllm-{os.getpid()}.json"
    line = "%(levelname)s %(asctime)s %(process)d %(filename)s:%(lineno)d %(message)s"
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": line}},
        "handlers": {"file": {"class": "logging.FileHandler", "formatter": "line", "filename": str(log)}},
        "loggers": {"vllm": {"handlers": ["file"], "level": "INFO", "propagate": False}},
    }
    settings.write_text(json.dumps(config), "utf-8")
    return {VARIABLE: str(settings)}


def _is_used(file: Path) -> bool:
    """Whether the process that the file is named for is there."""
    match = _OWNER.fullmatch(file.name)
    if match is None:
        return False
    try:
        os.kill(int(match.group(1)), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True


def log_file() -> Path | None:
    """The file that `log_to_file` made for this process, if it is in use."""
    settings = os.environ.get(VARIABLE, "")
    log = Path(settings).with_suffix(".log")
    return log if settings and log.is_file() else None


def root_cause(log: Path, start: int) -> str | None:
    """The first error logged after byte `start`, as `Type: message`, or None."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in lines:
        match = _RAISED.search(line)
        if match and not match.group(2).startswith(_NO_CAUSE):
            return f"{match.group(1)}: {match.group(2)}"[:_LONGEST]
    return None

"""What this machine has, read without touching a GPU library."""

from __future__ import annotations

import contextlib
import os
from functools import cache
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def visible_gpus() -> tuple[str, ...] | None:
    """The GPUs that `CUDA_VISIBLE_DEVICES` leaves to this process, by number or id; None where it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    return tuple(entry.strip() for entry in visible.split(",") if entry.strip() not in ("", "-1"))


def free_memory_bytes() -> int:
    """Host memory that can still be taken: what the machine can free, cut to what this container may use."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(OSError, ValueError):  # "max" is no limit
        limit = int((_CGROUP / "memory.max").read_text())
        free = min(free, max(0, limit - int((_CGROUP / "memory.current").read_text())))
    return free


@cache
def gpu_count() -> int:
    """NVIDIA GPUs that processes started here may use (`CUDA_VISIBLE_DEVICES` counts)."""
    visible = visible_gpus()
    present = len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) or len(
        [device for device in Path("/dev").glob("nvidia[0-9]*") if device.name[6:].isdigit()]
    )
    return present if visible is None else min(present, len(visible))

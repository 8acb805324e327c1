"""On a CPU the engine's core is forked from this process instead of spawned, so it need not import everything again.

Half of the processor time a small model takes to start is spent importing torch and vLLM a second time; measured with
vLLM 0.32: 14 s of it per engine spawned, 8.6 s forked, and the core's memory is shared. vLLM spawns on CPUs without
saying why, and on GPUs because CUDA does not survive a fork: there nothing is changed. A process that computes with
several OpenMP threads does not survive one either.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator

from vllm.platforms import current_platform
from vllm.v1.engine import utils

SWITCH = "LOCAL_FUSION_FORK"
"""Set to 0, the core is spawned as vLLM would."""


@contextlib.contextmanager
def quick_start() -> Iterator[None]:
    """While this is open, an engine core started by this process is forked where that is safe."""
    before = getattr(utils, "get_mp_context", None)
    safe = current_platform.is_cpu() and os.environ.get("OMP_NUM_THREADS") == "1"
    if before is None or not safe or os.environ.get(SWITCH) == "0":
        yield
        return
    utils.get_mp_context = lambda: multiprocessing.get_context("fork")
    try:
        yield
    finally:
        utils.get_mp_context = before

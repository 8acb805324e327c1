"""Environment variables of Ray's own processes and of the hosts."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from local_fusion.airgap.env import cache_folder, cpu_env, offline_env
from local_fusion.config import ModelSettings


def ray_environment(home: Path, token_file: Path, scratch: Path) -> dict[str, str]:
    """For the driver while it starts Ray, and so for every process of Ray's.

    vLLM leaves sockets and small files in the folder for temporary ones: in `scratch` they end with the session.
    `home` holds `ray_bootstrap_config.yaml`: Ray's usage code reads the cloud's name there and asks no metadata
    address. Even with usage stats off one message is posted: it goes to a dead loopback port.
    """
    return {
        **offline_env(cache_folder()),
        **bytecode_environment(cache_folder()),
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
        "RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper": "true",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # hosts that take turns name their GPUs themselves
    }


def bytecode_environment(cache: Path) -> dict[str, str]:
    """Lets Python keep compiled modules below `cache`, where the installation has none and could keep none.

    Without them each process compiles torch, vLLM and Ray anew: more than half of an engine's start.
    """
    installed = find_spec("ray")
    if installed is None or installed.origin is None:
        return {}
    package = Path(installed.origin).parent
    keeps = not sys.dont_write_bytecode and os.access(package, os.W_OK)
    if keeps or any((package / "__pycache__").glob("*.pyc")):
        return {}
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(cache / "bytecode")}


def host_environment(settings: ModelSettings, on_cpu: bool) -> dict[str, str]:
    """For one host's processes; the model's own `env` has the last word."""
    environment = offline_env(cache_folder()) | {"HOME": str(Path.home())}
    if on_cpu:
        environment |= cpu_env()
    return environment | settings.env

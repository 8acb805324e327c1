"""Everything that can only be known on a GPU, in one script. Each check runs in a process of its own, is ended when its
time is up, and writes its result at once; one that fails stops no other.

    python benchmarks/gpu_check.py --out FOLDER [--only demo,speed,sleep,turns,orphans]

Exit code 0 where every check passed. What each means: docs/gpu/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from time import perf_counter
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import gpu_machine  # noqa: E402
from benchmarks.gpu_report import Facts, Report  # noqa: E402
from local_fusion.airgap.env import CACHE_VARIABLE, cache_folder, offline_env  # noqa: E402

LIMITS_S = {"hardware": 120, "demo": 420, "speed": 580, "sleep": 580, "turns": 500, "orphans": 580}
"""The checks in their order, each with the seconds it may take."""
_RELEASE_S = 30.0


async def hardware() -> Facts:
    """What this machine is, and whether vLLM's own kernels load. Raises where they do not."""
    import torch

    importlib.import_module("vllm._C_stable_libtorch")  # the kernels, built for this torch or not at all
    names = ("vllm", "ray", "torch", "transformers", "tokenizers", "xgrammar", "triton", "flashinfer-python")
    from local_fusion.cluster.session import Session
    from local_fusion.config import RuntimeSettings
    from local_fusion.config.machine import free_memory_bytes, gpu_count

    session = Session.open(RuntimeSettings())
    seen_by_ray = session.resources.gpus
    session.close()
    facts: Facts = {
        "gpu": gpu_machine.query("name,memory.total,driver_version"),
        "capability": list(torch.cuda.get_device_capability()),
        "cuda_of_torch": torch.version.cuda,
        "gpus_counted": gpu_count(),
        "gpus_seen_by_ray": seen_by_ray,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "free_memory_gib": round(free_memory_bytes() / 2**30, 1),
        "free_disk_gib": round(shutil.disk_usage(tempfile.gettempdir()).free / 2**30, 1),
        "versions": {name: _version(name) for name in names},
    }
    if seen_by_ray != gpu_count() or not seen_by_ray:
        raise RuntimeError(f"Ray sees {seen_by_ray:g} GPUs, this package {gpu_count()}")
    return facts


async def child(name: str, report: Report, place: Path) -> None:
    """Run one check, or group of checks, in this process."""
    if name == "hardware":
        await report.attempt("hardware", hardware, LIMITS_S["hardware"])
        return
    from benchmarks import gpu_demo, gpu_orphans, gpu_speed, gpu_turns

    runs: dict[str, Callable[[Report, Path], Awaitable[None]]] = {
        "demo": gpu_demo.run,
        "speed": gpu_speed.run,
        "sleep": gpu_turns.run_sleep,
        "turns": gpu_turns.run_turns,
        "orphans": gpu_orphans.run,
    }
    await runs[name](report, place)


def run_apart(name: str, report: Report) -> None:
    """Run one check in a process of its own, end it in time, and see what it leaves."""
    token, begun = uuid4().hex, perf_counter()
    before = gpu_machine.used_bytes()
    report.forget(name)
    process = subprocess.Popen(
        [sys.executable, __file__, "--out", str(report.folder), "--child", name],
        env=os.environ | environment() | {gpu_machine.MARK: token},
        start_new_session=True,
    )
    family = gpu_machine.Family(process.pid, token)
    code = ended(process, family, LIMITS_S[name])
    seconds = perf_counter() - begun
    if code is None:
        report.put(name, "killed", {}, seconds, f"not done within {LIMITS_S[name]} s")
    elif not report.of(name):
        report.put(name, "failed", {}, seconds, f"its process ended with code {code} before a result")
    try:
        facts = gpu_machine.wait_released(family, before, _RELEASE_S)
    except Exception as problem:
        report.put(f"{name}-released", "missed", getattr(problem, "facts", {}), _RELEASE_S, str(problem))
        family.end()
    else:
        print(f"   released: {facts}", flush=True)
    if any(result["status"] not in ("passed", "skipped") for result in report.of(name).values()):
        keep_logs(name, report)


def ended(process: subprocess.Popen[bytes], family: gpu_machine.Family, limit_s: float) -> int | None:
    """The exit code; None where its time was up, and it was killed."""
    begun = perf_counter()
    while True:
        family.look()
        try:
            return process.wait(1.0)
        except subprocess.TimeoutExpired:
            if perf_counter() - begun > limit_s:
                process.kill()
                process.wait()
                return None


def keep_logs(name: str, report: Report) -> None:
    """The ends of vLLM's newest logs, which would be gone with the machine."""
    logs = sorted((cache() / "logs").glob("vllm-*.log"), key=lambda log: log.stat().st_mtime)
    for log in logs[-3:]:
        report.keep(f"{name}: {log.name}", log.read_text("utf-8", "replace")[-6000:])


def environment() -> dict[str, str]:
    """For every process of a check: this tree importable, offline, and a cache that outlives one command."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ[CACHE_VARIABLE] = str(cache())
    return {**offline_env(cache_folder()), "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}


def cache() -> Path:
    """Where compiled kernels and logs lie."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path(tempfile.gettempdir()) / "local-fusion-gpu-check")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def main() -> int:
    """Run the checks named, or all, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(LIMITS_S))
    parser.add_argument("--child", choices=list(LIMITS_S), help=argparse.SUPPRESS)
    options = parser.parse_args()
    report = Report(options.out.resolve())
    if options.child:
        with tempfile.TemporaryDirectory(prefix="lf-gpu-") as place:
            asyncio.run(child(options.child, report, Path(place)))
        return 0
    names = [name.strip() for name in options.only.split(",") if name.strip()]
    if unknown := [name for name in names if name not in LIMITS_S]:
        parser.error(f"no check is called {unknown[0]!r}; there are {', '.join(LIMITS_S)}")
    try:
        gpu_machine.query("name")
    except (OSError, subprocess.SubprocessError) as problem:
        parser.exit(2, f"no NVIDIA GPU answers here: {problem}\n")
    for name in names:
        run_apart(name, report)
    return 0 if all(result["status"] == "passed" for result in report.results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

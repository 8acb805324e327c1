"""The environment that keeps vLLM, Ray and the Hugging Face libraries off the network.

It must stand in the process *before* any of them is imported, and in every raylet and actor. Imports nothing heavy.
"""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "LOCAL_FUSION_CACHE"

_SILENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_DISABLE_XET": "1",
    "VLLM_PLUGINS": "",  # set but empty: no plug-in is loaded
    "VLLM_LOOPBACK_IP": "127.0.0.1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
_CACHES = {
    "VLLM_CACHE_ROOT": "vllm",
    "VLLM_CONFIG_ROOT": "vllm-config",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "HF_HOME": "huggingface",
}
_VOCABULARIES = {  # folders a site may have filled itself: left alone where set
    "TIKTOKEN_ENCODINGS_BASE": "tiktoken",
    "TIKTOKEN_RS_CACHE_DIR": "tiktoken",
    "TIKTOKEN_CACHE_DIR": "tiktoken",
}


def cache_folder() -> Path:
    """Private folder of this user for compiled kernels and model inspection: `$LOCAL_FUSION_CACHE`, else the
    platform's cache folder. Made on use, readable by its owner only."""
    given = os.environ.get(CACHE_VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given) if given else base / "local-fusion"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.resolve()


def offline_env(cache_dir: Path) -> dict[str, str]:
    """Variables for the driver, every raylet and every actor; caches lie below `cache_dir`."""
    env = dict(_SILENT)
    env |= {name: str(cache_dir / part) for name, part in _CACHES.items()}
    env |= {name: str(cache_dir / part) for name, part in _VOCABULARIES.items() if name not in os.environ}
    return env


def cpu_env() -> dict[str, str]:
    """Variables for engines on a CPU that share its cores: one compute thread each, bound to none, and no compiling of
    small functions, which takes a quarter of a minute at the first sampled token and saves nothing there."""
    return {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}

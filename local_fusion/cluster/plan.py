"""From the configuration and what the cluster has to what is started where. No Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_fusion.cluster.environment import host_environment
from local_fusion.cluster.placement import (
    Placement,
    Resources,
    check_fit,
    devices_for_turns,
    fit_together,
    groups,
    place,
)
from local_fusion.config import Config, ModelSettings, RuntimeSettings
from local_fusion.config.machine import free_memory_bytes, visible_gpus

_SHARE_FOR_SLEEPERS = 0.5
"""Of the free host memory, what sleeping weights may take."""

SHARE_OF_A_SLEEPER = 0.03
"""Of a GPU's memory, what a sleeping engine keeps there (its CUDA context and graphs): the one awake leaves it free,
since vLLM does not start where less is free than it was told to take."""


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What one replica is made of; the same after each restart."""

    model: str
    index: int
    settings: ModelSettings
    folder: Path | None
    placement: Placement
    environment: Mapping[str, str]
    runtime: RuntimeSettings

    @property
    def starts_alone(self) -> bool:
        """It shares a GPU and measures how much of it is free: nobody else may take or leave memory meanwhile."""
        sized = any(key.replace("-", "_") == "kv_cache_memory_bytes" for key in self.settings.vllm)
        return self.placement.shares_a_gpu and not sized


@dataclass(frozen=True, slots=True)
class Plan:
    """`groups`: models that are awake together; more than one group take turns, sleeping at `sleep_level`."""

    hosts: Mapping[str, tuple[HostPlan, ...]]
    groups: tuple[tuple[str, ...], ...]
    sleep_level: int = 1


def make_plan(config: Config, names: Sequence[str], there: Resources) -> Plan:
    """Raises StartError where something cannot be placed, naming what is missing."""
    placements = {name: place(name, config.models[name], there) for name in names}
    needed = {name: (placements[name].gpus,) * config.models[name].replicas for name in names}
    turns = config.runtime.turns
    if turns is False or (turns == "auto" and fit_together(needed, there)):
        check_fit(needed, there)
        split: tuple[tuple[str, ...], ...] = (tuple(names),)
    else:
        split = groups(needed, there, each_alone=turns is True)
    hosts = {name: _hosts(config, name, placements[name]) for name in names}
    if len(split) > 1 and there.gpus:
        own = visible_gpus() if config.runtime.ray_address is None else None
        hosts = _share_devices(hosts, split, there, own)
    folders = [host.folder for several in hosts.values() for host in several]
    return Plan(hosts, split, sleep_level(sum(map(weight_bytes, folders)), free_memory_bytes()))


def weight_bytes(folder: Path | None) -> int:
    """Size of the weights in `folder`."""
    if folder is None or not folder.is_dir():
        return 0
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def sleep_level(weights: int, free_memory: int) -> int:
    """1, weights kept in host memory, where they fit with room to spare; else 2, read again from disk."""
    return 1 if weights <= free_memory * _SHARE_FOR_SLEEPERS else 2


def _hosts(config: Config, name: str, placement: Placement) -> tuple[HostPlan, ...]:
    settings = config.models[name]
    folder = None if settings.engine == "scripted" else config.folder(name)
    environment = host_environment(settings, placement.on_cpu)
    return tuple(
        HostPlan(name, index, settings, folder, placement, environment, config.runtime)
        for index in range(settings.replicas)
    )


def _share_devices(
    hosts: Mapping[str, tuple[HostPlan, ...]],
    split: Sequence[Sequence[str]],
    there: Resources,
    visible: Sequence[str] | None,
) -> dict[str, tuple[HostPlan, ...]]:
    """Ray lends a GPU once; models that take turns on it are told which one is theirs instead.

    `visible`: what `CUDA_VISIBLE_DEVICES` leaves to us, None for every GPU of the machine.
    """
    shared: dict[str, tuple[HostPlan, ...]] = {}
    for names in split:
        wanted = [host for name in names for host in hosts[name]]
        devices = devices_for_turns([host.placement for host in wanted], there)
        for host, mine in zip(wanted, devices, strict=True):
            named = [visible[number] if visible else str(number) for number in mine]
            shared[host.model] = (*shared.get(host.model, ()), _with_devices(host, named, len(split) - 1))
    return shared


def _with_devices(host: HostPlan, devices: Sequence[str], sleepers: int) -> HostPlan:
    if not devices:
        return host
    environment = {**host.environment, "CUDA_VISIBLE_DEVICES": ",".join(devices)}
    settings = host.settings
    if settings.engine == "vllm":
        share = min(1.0, host.placement.gpus) * max(0.5, 0.92 - SHARE_OF_A_SLEEPER * sleepers)
        chosen = {"enable_sleep_mode": True, "gpu_memory_utilization": round(share, 4)}
        own = {key.replace("-", "_"): value for key, value in settings.vllm.items()}
        settings = settings.model_copy(update={"vllm": chosen | own})
    placement = Placement(host.placement.gpus, host.placement.executor, actor_gpus=0.0)
    return HostPlan(host.model, host.index, settings, host.folder, placement, environment, host.runtime)

"""Where a replica runs: from a model's settings to what Ray must reserve. Pure functions, no Ray.

Ray's fractions of a GPU are bookkeeping: engines that share one start one after another, because each measures the
free memory when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from local_fusion.config import ModelSettings
from local_fusion.errors import StartError

Executor = Literal["uni", "mp", "ray"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What there is. `node_gpus`: of the largest node."""

    gpus: float = 0.0
    node_gpus: float = 0.0
    nodes: int = 1


@dataclass(frozen=True, slots=True)
class Placement:
    """What one replica needs. With `bundles` the actor sits in a placement group of its own, in the last bundle."""

    gpus: float
    executor: Executor
    actor_gpus: float
    bundles: tuple[Mapping[str, float], ...] = ()
    strategy: Literal["PACK", "STRICT_PACK"] = "PACK"

    @property
    def on_cpu(self) -> bool:
        return self.gpus == 0

    @property
    def shares_a_gpu(self) -> bool:
        return 0 < self.gpus < 1


def place(name: str, settings: ModelSettings, there: Resources) -> Placement:
    """Where one replica of `name` runs. Raises StartError naming what is missing.

    Without a GPU, a model that asks for none in particular, or for a share of one, runs on the CPU.
    """
    world = settings.tensor_parallel * settings.pipeline_parallel
    if settings.engine == "scripted" and settings.gpus is None:
        return Placement(0.0, "uni", 0.0)
    if settings.gpus == 0 or there.gpus == 0:
        if settings.gpus is not None and settings.gpus >= 1:
            raise StartError(f"{name}: needs {settings.gpus:g} GPUs, and Ray sees none; set `gpus: 0` to run it on CPU")
        return Placement(0.0, "uni" if world == 1 else "mp", 0.0)
    gpus = float(world if settings.gpus is None else settings.gpus)
    if gpus > 1 and gpus != int(gpus):
        raise StartError(f"{name}: `gpus: {gpus:g}` must be a whole number or below 1")
    if world > 1 and gpus != world:
        raise StartError(
            f"{name}: `gpus: {gpus:g}` is not tensor_parallel x pipeline_parallel = {world}; leave `gpus` out"
        )
    if settings.nodes > 1:
        bundles: tuple[Mapping[str, float], ...] = ({"GPU": 1.0},) * int(gpus) + ({"CPU": 1.0},)
        return Placement(gpus, "ray", 0.0, bundles)
    if gpus > there.node_gpus:
        raise StartError(
            f"{name}: needs {gpus:g} GPUs on one node, the largest has {there.node_gpus:g}; "
            "set `nodes`, or a smaller `tensor_parallel`"
        )
    return Placement(gpus, "uni" if world == 1 else "mp", gpus)


def check_fit(needed: Mapping[str, float], there: Resources) -> None:
    """Raises StartError where all models together need more GPUs than there are. `needed`: GPUs of all replicas."""
    if sum(needed.values()) > there.gpus:
        parts = ", ".join(f"{name} {gpus:g}" for name, gpus in needed.items() if gpus)
        raise StartError(
            f"the models need {sum(needed.values()):g} GPUs ({parts}), Ray sees {there.gpus:g}; "
            "set `runtime.turns: true`, use fewer replicas, or a fraction of a GPU for small models"
        )


def devices_for_turns(placements: Sequence[Placement], there: Resources) -> list[tuple[int, ...]]:
    """GPU numbers for each replica of one group, whole GPUs first. Raises StartError where turns cannot be taken."""
    if there.nodes > 1:
        raise StartError(
            "models can take turns on the GPUs of one node only; give each model GPUs of its own, or run on one node"
        )
    devices: list[tuple[int, ...]] = [()] * len(placements)
    used = [0.0] * int(there.gpus)
    for index in sorted(range(len(placements)), key=lambda place: -placements[place].gpus):
        gpus = placements[index].gpus
        share = min(gpus, 1.0)
        free = [number for number, load in enumerate(used) if load + share <= 1.0 + 1e-9]
        mine = free[: max(1, int(gpus))] if gpus else []
        if len(mine) < gpus:
            raise StartError(
                f"a model needs {gpus:g} GPUs at once, {len(free)} are free in its turn; use fewer replicas"
            )
        for number in mine:
            used[number] += share
        devices[index] = tuple(mine)
    return devices


def groups(needed: Mapping[str, float], there: Resources, each_alone: bool = False) -> tuple[tuple[str, ...], ...]:
    """Models split into groups that fit the GPUs together, the largest first; `each_alone`: one model a group.

    Raises StartError where a model does not fit alone.
    """
    if each_alone:
        return tuple((name,) for name in needed)
    bins: list[tuple[float, list[str]]] = []
    for name in sorted(needed, key=lambda model: -needed[model]):
        gpus = needed[name]
        if gpus > there.gpus:
            raise StartError(f"{name}: needs {gpus:g} GPUs, Ray sees {there.gpus:g}; use fewer replicas or GPUs")
        for index, (used, names) in enumerate(bins):
            if used + gpus <= there.gpus:
                bins[index] = (used + gpus, [*names, name])
                break
        else:
            bins.append((gpus, [name]))
    order = list(needed)
    return tuple(tuple(sorted(names, key=order.index)) for _, names in bins)

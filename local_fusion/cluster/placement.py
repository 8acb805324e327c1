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
_ROUNDING = 1e-9


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


def whole_gpus(replicas: Sequence[float]) -> int:
    """GPUs that replicas of these sizes take: shares fill a GPU, the largest first, and none lies across two."""
    loads: list[float] = []
    for share in sorted((gpus for gpus in replicas if 0 < gpus < 1), reverse=True):
        for index, load in enumerate(loads):
            if load + share <= 1.0 + _ROUNDING:
                loads[index] = load + share
                break
        else:
            loads.append(share)
    return len(loads) + int(sum(gpus for gpus in replicas if gpus >= 1))


def fit_together(needed: Mapping[str, Sequence[float]], there: Resources) -> bool:
    """Whether all these models have room at once. `needed`: the GPUs of each replica."""
    return whole_gpus([gpus for replicas in needed.values() for gpus in replicas]) <= there.gpus


def check_fit(needed: Mapping[str, Sequence[float]], there: Resources) -> None:
    """Raises StartError where all models together need more GPUs than there are. `needed`: the GPUs of each replica."""
    if not fit_together(needed, there):
        taken = whole_gpus([gpus for replicas in needed.values() for gpus in replicas])
        parts = ", ".join(f"{name} {sum(replicas):g}" for name, replicas in needed.items() if sum(replicas))
        raise StartError(
            f"the models need {taken} GPUs ({parts}), Ray sees {there.gpus:g}; "
            "set `runtime.turns: true`, use fewer replicas, or a smaller share of a GPU for small models"
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
        free = [number for number, load in enumerate(used) if load + share <= 1.0 + _ROUNDING]
        mine = free[: max(1, int(gpus))] if gpus else []
        if len(mine) < gpus:
            raise StartError(
                f"a model needs {gpus:g} GPUs at once, {len(free)} are free in its turn; use fewer replicas"
            )
        for number in mine:
            used[number] += share
        devices[index] = tuple(mine)
    return devices


def groups(
    needed: Mapping[str, Sequence[float]], there: Resources, each_alone: bool = False
) -> tuple[tuple[str, ...], ...]:
    """Models split into groups that fit the GPUs together, the largest first; `each_alone`: one model a group.

    `needed`: the GPUs of each replica. Raises StartError where a model does not fit alone.
    """
    if each_alone:
        return tuple((name,) for name in needed)
    bins: list[dict[str, Sequence[float]]] = []
    for name in sorted(needed, key=lambda model: -sum(needed[model])):
        mine = {name: needed[name]}
        if not fit_together(mine, there):
            raise StartError(
                f"{name}: needs {whole_gpus(needed[name])} GPUs, Ray sees {there.gpus:g}; use fewer replicas or GPUs"
            )
        for index, others in enumerate(bins):
            if fit_together(others | mine, there):
                bins[index] = others | mine
                break
        else:
            bins.append(mine)
    order = list(needed)
    return tuple(tuple(sorted(names, key=order.index)) for names in bins)

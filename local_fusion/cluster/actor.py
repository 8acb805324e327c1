"""Makes a host a Ray actor, and takes it away again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from local_fusion.cluster.host import Host
from local_fusion.cluster.plan import HostPlan

_CONCURRENT_METHODS = 1000


async def create_actor(plan: HostPlan) -> tuple[Any, Any]:
    """A new actor for `plan`, and its placement group where it has one. Waits for the group's resources."""
    placement = plan.placement
    options: dict[str, Any] = {
        "num_cpus": 0,
        "num_gpus": placement.actor_gpus,
        "max_concurrency": _CONCURRENT_METHODS,
        "max_restarts": 0,  # the driver starts a fresh one itself: it knows when, how often and why
    }
    if placement.executor == "ray":
        # For the workers the engine starts through Ray. Elsewhere the host sets its environment itself: a runtime
        # environment costs each host's start most of a second.
        options["runtime_env"] = {"env_vars": dict(plan.environment)}
    group = None
    if placement.bundles:
        group = placement_group([dict(bundle) for bundle in placement.bundles], strategy=placement.strategy)
        try:
            await group.ready()
        except asyncio.CancelledError:
            remove_placement_group(group)
            raise
        options["num_cpus"] = 1
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
            placement_group=group,
            placement_group_bundle_index=len(placement.bundles) - 1,
            placement_group_capture_child_tasks=True,
        )
    actor = ray.remote(Host).options(**options).remote(plan.model, plan.settings, plan.folder, dict(plan.environment))
    return actor, group


def drop_actor(actor: Any, group: Any) -> None:
    """Kill the actor and free its group."""
    with contextlib.suppress(ray.exceptions.RayError, ValueError):
        ray.kill(actor, no_restart=True)
    if group is not None:
        remove_placement_group(group)


def missing(plan: HostPlan) -> str:
    """What keeps a host from being placed, in words."""
    wanted = f"{plan.placement.gpus:g} GPUs" if plan.placement.gpus else "a process"
    free, total = ray.available_resources(), ray.cluster_resources()
    return (
        f"it needs {wanted}, and of the cluster's {total.get('GPU', 0):g} GPUs {free.get('GPU', 0):g} are free; "
        "end what holds them, or use fewer"
    )

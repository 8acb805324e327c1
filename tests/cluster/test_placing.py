"""A host for which there is no room says what it lacks, and leaves nothing."""

from __future__ import annotations

import pytest
from cluster_calls import OpenFleet

from local_fusion.cluster.placement import Placement
from local_fusion.cluster.plan import HostPlan
from local_fusion.config.schema import ModelSettings, RuntimeSettings
from local_fusion.errors import StartError

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    "placement",
    [Placement(64.0, "mp", 64.0), Placement(2.0, "ray", 0.0, ({"GPU": 1.0}, {"GPU": 1.0}, {"CPU": 1.0}))],
    ids=["one node", "across nodes"],
)
async def test_no_room(open_fleet: OpenFleet, placement: Placement):
    from local_fusion.cluster.replica import Replica
    from local_fusion.cluster.session import Session

    async with open_fleet("models: {other: {engine: scripted}}"):
        settings = ModelSettings(engine="scripted", start_timeout_s=1.5)
        plan = HostPlan("big", 0, settings, None, placement, {}, RuntimeSettings())
        session = Session.open(RuntimeSettings())
        replica = Replica(plan, session, lambda replica: None)
        try:
            with pytest.raises(StartError, match=rf"big: not ready.*needs {placement.gpus:g} GPUs.*are free"):
                await replica.start()
        finally:
            await replica.stop()
            session.close()

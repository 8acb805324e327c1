"""The page in a real browser over the real engines that ship: a fusion, a comparison, the fleet."""

from __future__ import annotations

import pytest

from tests.server.test_page_browser import play, why_not

pytestmark = pytest.mark.vllm
SCENES = ("real_members_write_and_are_compared", "real_hosts_are_shown")


async def test_a_person_asks_real_models(served: str) -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    faults = await play(served, served, "", *SCENES)
    assert faults == {scene: [] for scene in SCENES}

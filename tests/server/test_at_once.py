"""Limits hold for what comes at one moment; what fails on the disk half way leaves nothing that counts."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from local_fusion.server.batches import desk
from tests.server.conftest import make_config, serving
from tests.server.test_batches import SLOW as SLOW_ROWS
from tests.server.test_batches import URL, jsonl, line
from tests.server.test_responses_background import ASK, PATH, slow


async def test_background_responses_that_come_at_once_are_counted(tmp_path: Path) -> None:
    async with serving(slow(tmp_path)) as client:
        asks = (client.post(PATH, json=ASK | {"model": "hung"}) for _ in range(12))
        statuses = [answer.status_code for answer in await asyncio.gather(*asks)]
        assert sorted(statuses) == [200] * 3 + [429] * 9


async def test_batches_that_come_at_once_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MAX_OPEN", 3)
    async with serving(make_config(tmp_path, SLOW_ROWS)) as client:
        sent = {"file": ("in.jsonl", jsonl([line("a")]))}
        file = (await client.post("/v1/files", files=sent, data={"purpose": "batch"})).json()
        ask = {"input_file_id": file["id"], "endpoint": URL, "completion_window": "24h"}
        answers = await asyncio.gather(*(client.post("/v1/batches", json=ask) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 5


async def test_a_batch_that_cannot_be_made_keeps_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "full")

    async with serving(make_config(tmp_path)) as client:
        sent = {"file": ("in.jsonl", jsonl([line("a")]))}
        file = (await client.post("/v1/files", files=sent, data={"purpose": "batch"})).json()
        ask = {"input_file_id": file["id"], "endpoint": URL, "completion_window": "24h"}
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", full)
            patch.setattr(shutil, "copyfile", full)
            answer = await client.post("/v1/batches", json=ask)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
        with monkeypatch.context() as patch:
            patch.setattr(desk, "sync_folder", full)
            assert (await client.post("/v1/batches", json=ask)).status_code == 503
        assert list((tmp_path / "state" / "batches").iterdir()) == []
        assert (await client.post("/v1/batches", json=ask)).status_code == 200

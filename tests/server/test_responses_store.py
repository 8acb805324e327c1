"""The store: private, owned, bounded in time and size, one conversation after another."""

from __future__ import annotations

import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_fusion.errors import RequestError
from local_fusion.server.responses.store import (
    MAX_CONVERSATION_BYTES,
    MAX_CONVERSATION_ITEMS,
    ResponseStore,
    Stored,
)
from local_fusion.server.stored.disk import StorageProblem

DAY = 86_400.0


def row(number: int, **more: Any) -> Stored:
    item = {"type": "message", "role": "user", "id": f"msg_{number}", "content": [{"text": f"secret {number}"}]}
    said = {"type": "message", "role": "assistant", "id": f"out_{number}", "content": []}
    body = {"output": [said]}
    stored = Stored(f"resp_{number}", "ann", time.time(), "completed", False, 0, None, {}, (item,), body)
    return replace(stored, **more)


def holds(folder: Path, text: bytes) -> bool:
    return any(text in file.read_bytes() for file in folder.iterdir())


def modes(folder: Path) -> list[int]:
    return [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ResponseStore]:
    made = ResponseStore(tmp_path / "responses.sqlite3", DAY, 1 << 30)
    yield made
    await made.close()


async def test_what_is_put_is_got_by_its_owner_alone_also_after_a_restart(store: ResponseStore, tmp_path: Path) -> None:
    await store.put(row(1))
    assert await store.get("ann", "resp_1") == replace(row(1), created=(await store.get("ann", "resp_1")).created)
    await store.close()
    again = ResponseStore(tmp_path / "responses.sqlite3", DAY, 1 << 30)
    assert (await again.get("ann", "resp_1")).body == row(1).body
    for owner, response_id in (("bob", "resp_1"), ("ann", "resp_2")):
        with pytest.raises(RequestError) as caught:
            await again.get(owner, response_id)
        assert caught.value.code == "not_found"
    with pytest.raises(RequestError):
        await again.delete("bob", "resp_1")
    await again.close()


async def test_nobody_else_on_the_machine_can_read_it(store: ResponseStore, tmp_path: Path) -> None:
    await store.put(row(1))
    found = modes(tmp_path)
    assert len(found) >= 2
    assert set(found) == {0o600}


async def test_what_is_deleted_is_in_no_file_any_more(store: ResponseStore, tmp_path: Path) -> None:
    await store.put(row(1))
    await store.put(row(2))
    assert holds(tmp_path, b"secret 1")
    await store.delete("ann", "resp_1")
    assert not holds(tmp_path, b"secret 1")
    with pytest.raises(RequestError):
        await store.get("ann", "resp_1")
    assert (await store.get("ann", "resp_2")).id == "resp_2"


async def test_what_is_too_old_goes_though_nothing_comes_in(store: ResponseStore, tmp_path: Path) -> None:
    await store.put(row(2))
    await store.put(row(1, created=time.time() - 2 * DAY))
    assert holds(tmp_path, b"secret 1")
    await store.sweep()
    assert not holds(tmp_path, b"secret 1")
    assert (await store.get("ann", "resp_2")).id == "resp_2"


async def test_a_file_of_the_first_version_is_read_on(store: ResponseStore, tmp_path: Path) -> None:
    await store.put(row(1, status="queued", background=True))
    await store.close()
    with sqlite3.connect(tmp_path / "responses.sqlite3") as file:
        file.executescript("ALTER TABLE responses DROP COLUMN drained; PRAGMA user_version = 1;")
    file.close()
    (found,) = await store.interrupted()
    assert (found.id, found.attempts, found.drained) == ("resp_1", 0, 0)
    await store.begin("resp_1")
    await store.drain("resp_1")
    assert [(one.attempts, one.drained) for one in await store.interrupted()] == [(1, 1)]
    assert (await store.get("ann#0123", "resp_1")).id == "resp_1"


async def test_what_is_too_old_is_gone(store: ResponseStore) -> None:
    await store.put(row(1, created=time.time() - 2 * DAY))
    with pytest.raises(RequestError):
        await store.get("ann", "resp_1")


async def test_the_oldest_go_where_there_is_too_much_but_runs_under_way_stay(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path / "responses.sqlite3", 1000 * DAY, 300_000)
    now = time.time()
    await store.put(row(0, background=True, status="in_progress", created=now - 500))
    for number in range(1, 400):
        big = {"output": [], "text": "x" * 3000}
        await store.put(row(number, body=big, created=now - 400 + number))
    await store.put(row(1000, created=now + 10_000))  # later than a sweep's distance: it sweeps
    assert (await store.get("ann", "resp_0")).status == "in_progress"
    assert (await store.get("ann", "resp_1000")).id == "resp_1000"
    with pytest.raises(RequestError):
        await store.get("ann", "resp_1")
    await store.close()


async def test_a_conversation_is_all_turns_in_order(store: ResponseStore) -> None:
    await store.put(row(1))
    await store.put(row(2, previous="resp_1"))
    items = await store.conversation("ann", "resp_2")
    assert [item["id"] for item in items] == ["msg_1", "out_1", "msg_2", "out_2"]


@pytest.mark.parametrize(
    ("second", "words"), [({"status": "failed"}, "is failed"), ({"previous": "resp_9"}, "no response 'resp_9'")]
)
async def test_a_broken_conversation_is_told(store: ResponseStore, second: dict[str, Any], words: str) -> None:
    await store.put(row(1))
    await store.put(row(2, **({"previous": "resp_1"} | second)))
    with pytest.raises(RequestError, match=words) as caught:
        await store.conversation("ann", "resp_2")
    assert caught.value.param == "previous_response_id"


async def test_events_and_interrupted_runs(store: ResponseStore) -> None:
    await store.put(row(1, background=True, status="queued"))
    await store.put(row(2))
    assert [stored.id for stored in await store.interrupted()] == ["resp_1"]
    await store.begin("resp_1")
    assert (await store.interrupted())[0].attempts == 1
    assert await store.events("ann", "resp_1") is None
    assert await store.update("resp_1", "completed", {"output": []}, [b'{"a":1}', b'{"b":2}'])
    assert await store.events("ann", "resp_1") == [b'{"a":1}', b'{"b":2}']
    assert await store.events("bob", "resp_1") is None
    assert await store.interrupted() == []
    assert not await store.update("resp_9", "completed", {})


async def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite3"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    store = ResponseStore(path, DAY, 1 << 30)
    with pytest.raises(StorageProblem, match="ask its operator"):
        await store.put(row(1))
    await store.close()


async def test_a_conversation_is_bounded_in_bytes_and_items(store: ResponseStore) -> None:
    large = {"type": "message", "role": "user", "id": "m", "content": [{"text": "x" * (MAX_CONVERSATION_BYTES // 3)}]}
    previous = None
    for number in range(4):
        await store.put(row(number, previous=previous, items=(large,)))
        previous = f"resp_{number}"
    assert len(await store.conversation("ann", "resp_1")) == 4
    many = tuple({"id": str(number)} for number in range(MAX_CONVERSATION_ITEMS))
    await store.put(row(9, items=many))
    for response_id, told in (("resp_3", "bytes"), ("resp_9", "items")):
        with pytest.raises(RequestError, match=f"more than .* {told}") as caught:
            await store.conversation("ann", response_id)
        assert caught.value.param == "previous_response_id"

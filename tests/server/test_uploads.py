"""Uploads under way: bounded in time and number, counted per key, and no error of ours when they are dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import Request

from local_fusion.errors import RequestError
from local_fusion.server.door.body import timely
from local_fusion.server.problems import ClientGone, TooSlow
from local_fusion.server.stored.file_store import FileLimits, FileStore
from tests.server.conftest import make_config, serving
from tests.server.sockets import listening, until
from tests.server.test_batches import ENDED, begin, line, parse_slow
from tests.server.test_batches import until as batch_until
from tests.server.test_files import keep

LIMITS = FileLimits(per_file=1000, total=3000, count=3, batch_s=86_400, per_key=2000)
PART = (
    b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="x.txt"\r\n\r\nabc'
)


def request(chunks: int, every_s: float, gone: bool = False) -> Request:
    """A body of so many chunks of a hundred bytes, one after another, and then nothing more."""
    left = chunks

    async def receive() -> dict[str, object]:
        nonlocal left
        left -= 1
        if left < 0 and gone:
            return {"type": "http.disconnect"}
        await asyncio.sleep(3600 if left < 0 else every_s)
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def read(source: Request, bytes_a_s: int) -> int:
    size = 0
    async for chunk in timely(source, 0.2, bytes_a_s):
        size += len(chunk)
    return size


async def test_an_upload_that_stops_is_cut_off() -> None:
    with pytest.raises(TooSlow):
        await read(request(3, 0), 1 << 20)
    with pytest.raises(TooSlow):
        await read(request(1000, 0.01), 1 << 20)


async def test_an_upload_that_comes_on_may_take_long() -> None:
    with pytest.raises(ClientGone):  # it was read to its end, which is that the client hangs up
        await read(request(40, 0.01, gone=True), 2000)


async def test_a_dropped_upload_is_the_client_s_doing(tmp_path: Path) -> None:
    async with listening(make_config(tmp_path)) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        head = b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n"
        writer.write(head + b"content-length: 100000\r\n\r\n" + PART)
        await writer.drain()
        folder = tmp_path / "state" / "files"
        await until(lambda: bool(list(folder.glob(".coming-*"))), 5)
        writer.transport.abort()
        await until(lambda: not list(folder.glob(".coming-*")), 5)
        metrics = served.service.metrics

        def statuses() -> list[str]:
            told = metrics.text().decode().splitlines()
            return [row for row in told if row.startswith("local_fusion_requests_total") and "/v1/files" in row]

        await until(lambda: bool(statuses()), 5)
        assert all('status="499"' in row for row in statuses()), statuses()


async def test_uploads_under_way_count(tmp_path: Path) -> None:
    store = FileStore(tmp_path, LIMITS)
    coming = [store.open("anna") for _ in range(3)]
    with pytest.raises(RequestError) as caught:
        store.open("anna")
    assert caught.value.code == "too_many_files"
    store.drop(store.open("bert"))
    store.drop(coming[0])
    again = store.open("anna")
    for incoming in (*coming[1:], again):
        store.drop(incoming)


async def test_one_key_does_not_take_all(tmp_path: Path) -> None:
    store = FileStore(tmp_path, LIMITS)
    for _ in range(2):
        await keep(store, "anna", b"z" * 1000)
    with pytest.raises(RequestError, match="the files of this key") as caught:
        await keep(store, "anna", b"z")
    assert caught.value.code == "storage_full"
    await keep(store, "bert", b"z" * 1000)
    with pytest.raises(RequestError, match="the server's room"):
        await keep(store, "bert", b"z")


async def test_what_a_batch_still_reads_counts(tmp_path: Path) -> None:
    store = FileStore(tmp_path, LIMITS)
    file = await keep(store, "anna", b"z" * 1000, "batch")
    for _ in range(2):
        store.hold(file.id, "anna", 1000)
    assert store.total_bytes == 1000, "the bytes are the file's"
    await store.delete("anna", file.id)
    store.release(file.id)
    assert store.total_bytes == 1000
    store.release(file.id)
    assert store.total_bytes == 0
    store.hold("file-of-yesterday", "anna", 2000)  # after a restart
    with pytest.raises(RequestError, match="the files of this key"):
        await keep(store, "anna", b"z")
    store.release("file-of-yesterday")
    assert store.total_bytes == 0


async def test_a_batch_holds_its_input_until_it_ends(tmp_path: Path) -> None:
    async with serving(parse_slow(tmp_path, batch_in_flight=1)) as client:
        files = client.service.storage.files  # type: ignore[attr-defined]
        made = await begin(client, [line(f"r{number}") for number in range(20)])
        size = files.total_bytes
        assert size > 0
        await client.delete(f"/v1/files/{made['input_file_id']}")
        assert files.total_bytes == size
        await client.post(f"/v1/batches/{made['id']}/cancel")
        await batch_until(client, made["id"], *ENDED)
        listed = (await client.get("/v1/files")).json()["data"]

        def held() -> bool:
            return bool(files.total_bytes == sum(file["bytes"] for file in listed))

        await until(held, 5)


async def test_what_follows_the_last_part_is_bounded(tmp_path: Path) -> None:
    async def body(chunks: int) -> AsyncIterator[bytes]:
        yield PART + b"\r\n--b--\r\n"
        for _ in range(chunks):
            yield b"\r\n" * 1000

    async with serving(make_config(tmp_path)) as client:
        kind = {"content-type": "multipart/form-data; boundary=b"}
        assert (await client.post("/v1/files", content=body(1), headers=kind)).status_code == 200
        refused = await client.post("/v1/files", content=body(100), headers=kind)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_multipart")
        assert len((await client.get("/v1/files")).json()["data"]) == 1

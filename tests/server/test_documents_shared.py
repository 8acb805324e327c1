"""Documents of several requests and keys: nobody holds all readers, nothing is read for nobody, no bad luck is kept."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from local_fusion.errors import RequestError
from local_fusion.server.documents.library import BESIDE, Library
from local_fusion.server.documents.place import MAX_FILES, references
from local_fusion.server.documents.readers import MOST_READINGS, READERS, Readers
from local_fusion.server.problems import Overloaded
from local_fusion.server.stored.file_store import FileLimits, FileStore
from tests.server.conftest import make_config, serving
from tests.server.sockets import chat_request, listening, until
from tests.server.talk import CHAT
from tests.server.test_batches import begin, line
from tests.server.test_batches import until as batch_until

LIMITS = FileLimits(1 << 26, 1 << 28, 100, 86_400)


def inline(number: int) -> dict[str, Any]:
    data = base64.b64encode(f"<p>Page {number}</p>".encode()).decode()
    return {"type": "file", "file": {"filename": "a.html", "file_data": data}}


def turn(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": [*parts, {"type": "text", "text": "Well?"}]}


def children(folder: Path) -> int:
    """Parsers at work on files below `folder`."""
    found = 0
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes()
        except OSError:
            continue
        found += b"documents.parser" in words and bytes(folder) in words
    return found


def test_a_request_refers_to_so_many_files() -> None:
    assert len(references([turn(*[inline(1)] * 200)])) == 200, "the same file again costs nothing"
    with pytest.raises(RequestError) as caught:
        references([turn(*(inline(number) for number in range(MAX_FILES // 2))) for _ in range(2)] + [turn(inline(-1))]
                   + [turn(*(inline(1000 + number) for number in range(MAX_FILES // 2)))])  # fmt: skip
    assert (caught.value.code, caught.value.param) == ("too_many", "messages")


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/responses"])
async def test_a_client_that_goes_away_stops_its_parsers(tmp_path: Path, path: bytes) -> None:
    async with listening(make_config(tmp_path)) as served:
        parts = [inline(number) for number in range(40)]
        items = [{"type": "input_file", **part["file"]} for part in parts]
        chat = {"messages": [turn(*parts)]} if b"chat" in path else {"input": [{"role": "user", "content": items}]}
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(chat_request({"model": "one", **chat}).replace(b"/v1/chat/completions", path, 1))
        await until(lambda: children(tmp_path) > 0, 20)
        assert served.service.admission.working == 1, "who has documents read has a place"
        writer.transport.abort()
        await until(lambda: served.service.admission.working == 0, 5)
        await until(lambda: children(tmp_path) == 0, 5)
        for _ in range(10):
            await asyncio.sleep(0.05)
            assert children(tmp_path) == 0
        assert not list((tmp_path / "state" / "files").glob(".coming-*"))


async def test_what_nobody_waits_for_is_not_read_on() -> None:
    readers: Readers[str] = Readers()
    begun, ended = 0, asyncio.Event()

    async def read() -> str:
        nonlocal begun
        begun += 1
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return "text"

    first, second = (asyncio.ensure_future(readers.once("anna", "key", read)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0.01)
    assert (begun, ended.is_set()) == (1, False), "the other one still waits"
    second.cancel()
    async with asyncio.timeout(5):
        await ended.wait()

    async def at_once() -> str:
        return "text"

    assert await readers.once("anna", "key", at_once) == "text", "and it may be read again"


async def test_one_key_cannot_hold_all_readers() -> None:
    readers: Readers[str] = Readers()
    never = asyncio.Event()

    async def read(owner: str) -> None:
        async with readers.turn(owner):
            await never.wait()

    flood = [asyncio.ensure_future(read("bert")) for _ in range(READERS * 5)]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5), readers.turn("anna"):
        pass
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    async with asyncio.timeout(5), readers.turn("bert"):
        pass


async def test_a_key_waits_for_so_many_documents_at_once() -> None:
    readers: Readers[str] = Readers()
    never = asyncio.Event()

    async def read() -> str:
        await never.wait()
        return "text"

    def wait(owner: str, key: str, most: int | None = MOST_READINGS) -> asyncio.Future[str]:
        return asyncio.ensure_future(readers.once(owner, key, read, most))

    waiting = [wait("bert", str(number)) for number in range(MOST_READINGS)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await wait("bert", "one more")
    waiting += [wait("bert", "0"), wait("anna", "one more"), wait("bert", "a batch", None)]
    await asyncio.sleep(0)
    never.set()
    assert set(await asyncio.gather(*waiting)) == {"text"}


async def test_bad_luck_is_not_remembered(tmp_path: Path) -> None:
    store = FileStore(tmp_path, LIMITS)
    incoming = store.open("anna")
    await incoming.write(b"<p>Hello</p>")
    file = await store.keep(incoming, "anna", "page.html", "user_data")
    messages = [turn({"type": "file", "file": {"file_id": file.id}})]
    busy = Library(store, tmp_path, clock_s=0.0)
    for _ in range(2):
        with pytest.raises(RequestError) as caught:
            await busy.placed("anna", messages)
        assert caught.value.code == "document_too_slow"
    assert not (store.folder(file) / BESIDE).exists()
    (store.folder(file) / BESIDE).write_text('{"problem": "too_slow", "text": "", "digest": ""}')  # of an older server
    assert "Hello" in (await Library(store, tmp_path).placed("anna", messages))[0]["content"]


async def test_a_complaint_names_the_turn_as_the_client_sent_it(tmp_path: Path) -> None:
    wrong = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    async with serving(make_config(tmp_path)) as client:
        sent = {"file": ("a.txt", b"The sky is green.")}
        file_id = (await client.post("/v1/files", files=sent, data={"purpose": "user_data"})).json()["id"]
        asked = {"role": "user", "content": [{"type": "file", "file": {"file_id": file_id}}]}
        for before in ([], [{"role": "system", "content": "Be brief."}]):
            answer = await client.post(CHAT, json={"messages": [*before, asked, wrong]})
            place = f"messages.{len(before) + 1}.content"
            error = answer.json()["error"]
            assert (error["param"], error["message"].partition(":")[0]) == (place, place)
        answer = await client.post(CHAT, json={"messages": [asked], "seed": "one"})
        assert answer.json()["error"]["param"] == "seed"
        items = [
            {"role": "user", "content": [{"type": "input_file", "file_id": file_id}]},
            {"type": "function_call_output", "call_id": "x", "output": "\0"},
            {"role": "user", "content": "And?"},
        ]
        answer = await client.post("/v1/responses", json={"input": items})
        assert answer.json()["error"]["param"] == "input.1"
        batch = await begin(client, [line("a", messages=[asked, wrong])])
        done = await batch_until(client, batch["id"], "completed")
        row = (await client.get(f"/v1/files/{done['error_file_id']}/content")).json()["response"]["body"]
        assert "line 1: messages.1.content:" in row["error"]["message"]

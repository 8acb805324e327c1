"""`/v1/files` and the state folder: whole or not at all, bounded, private, there after a restart."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_fusion.config import Config
from local_fusion.errors import ConfigError, RequestError
from local_fusion.openai_api.file_objects import Listing
from local_fusion.server.state import StateFolder
from local_fusion.server.stored.file_store import FileLimits, FileStore, StoredFile
from local_fusion.server.stored.upload import plain_name
from tests.server.conftest import make_config, serving

DAY_S = 86_400
LIMITS = FileLimits(per_file=1000, total=3000, count=5, batch_s=30 * DAY_S)


class Clock:
    """Unix time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000

    def __call__(self) -> int:
        return self.seconds * 1_000_000_000


async def send(client: httpx.AsyncClient, data: bytes = b"text", name: str = "a.txt", **fields: str) -> httpx.Response:
    return await client.post("/v1/files", files={"file": (name, data)}, data={"purpose": "user_data"} | fields)


async def test_a_file_comes_back_as_it_was_sent(client: httpx.AsyncClient) -> None:
    data = bytes(range(256)) * 5000 + b"\r\n--boundary\r\n"
    made = (await send(client, data, "report.pdf")).json()
    assert made["object"] == "file"
    assert made["bytes"] == len(data)
    assert made["filename"] == "report.pdf"
    assert made["expires_at"] is None
    content = await client.get(f"/v1/files/{made['id']}/content")
    assert content.content == data
    assert content.headers["content-type"] == "application/octet-stream"
    assert (await client.get(f"/v1/files/{made['id']}")).json() == made
    gone = await client.delete(f"/v1/files/{made['id']}")
    assert gone.json() == {"id": made["id"], "object": "file", "deleted": True}
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        answer = await client.request(method, f"/v1/files/{made['id']}{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


async def test_lists_are_cut_into_pages(client: httpx.AsyncClient) -> None:
    ids = [(await send(client, name=f"{n}.txt")).json()["id"] for n in range(5)]
    batch = (await send(client, purpose="batch")).json()
    assert batch["expires_at"] == batch["created_at"] + 30 * DAY_S
    first = (await client.get("/v1/files", params={"limit": 4})).json()
    assert [file["id"] for file in first["data"]] == [batch["id"], *ids[:1:-1]]
    assert first["has_more"] is True
    rest = (await client.get("/v1/files", params={"limit": 4, "after": first["last_id"]})).json()
    assert [file["id"] for file in rest["data"]] == [ids[1], ids[0]]
    assert rest["has_more"] is False
    up = (await client.get("/v1/files", params={"order": "asc", "purpose": "user_data"})).json()
    assert [file["id"] for file in up["data"]] == ids


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"color": "red"}, "color"),
        ({"expires_after[anchor]": "created_at"}, "expires_after.seconds"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"}, "expires_after.seconds"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after"),
    ],
)
async def test_wrong_fields_are_named(client: httpx.AsyncClient, fields: dict[str, str], param: str) -> None:
    answer = await send(client, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert (await client.get("/v1/files")).json()["data"] == []


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "x"}, {"order": "up"}, {"after": "file-no"}, {"page": "2"}]
)
async def test_wrong_queries_are_refused(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert (await client.get("/v1/files", params=query)).status_code == 400


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b"", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
            "multipart/form-data; boundary=x",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        (b"--x\r\n" + b"A: " + b"b" * 9000 + b"\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data"),
    ],
)
async def test_broken_uploads_leave_nothing(client: httpx.AsyncClient, body: bytes, content_type: str) -> None:
    answer = await client.post("/v1/files", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    folder = client.service.state.files  # type: ignore[attr-defined]
    assert names(folder) == []


async def test_too_large_a_file_is_refused_as_it_comes(tmp_path: Path) -> None:
    config = small(tmp_path, max_file_bytes=2048)
    async with serving(config) as client:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            while sent < 100:
                sent += 1
                yield b"z" * 1000

        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = await client.post("/v1/files", content=endless(), headers=headers)
        assert answer.status_code == 413
        assert sent < 10 or sent == 100  # a client may not notice, the server has stopped writing
        assert client.service.storage.files.total_bytes == 0  # type: ignore[attr-defined]
        assert (await send(client, b"z" * 2048)).status_code == 200


async def test_count_and_total_are_limited(tmp_path: Path) -> None:
    async with serving(small(tmp_path, max_files=2, max_stored_bytes=3000)) as client:
        assert (await send(client, b"z" * 2000)).status_code == 200
        full = await send(client, b"z" * 2000)
        assert full.json()["error"]["code"] == "storage_full"
        assert (await send(client, b"z" * 1000)).status_code == 200
        many = await send(client, b"")
        assert many.json()["error"]["code"] == "too_many_files"
        first = (await client.get("/v1/files")).json()["first_id"]
        await client.delete(f"/v1/files/{first}")
        assert (await send(client, b"z" * 1000)).status_code == 200


async def test_files_survive_a_restart_and_are_private(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    async with serving(config) as client:
        made = (await send(client, b"kept", "../../etc/passwd")).json()
    state = tmp_path / "state"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (state, *state.rglob("*")) if path.is_dir()}
    assert modes == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*") if path.is_file()} == {0o600}
    (state / "files" / ".coming-left").mkdir()
    async with serving(config) as client:
        assert (await client.get("/v1/files")).json()["data"] == [made]
        assert made["filename"] == "passwd"
        assert (await client.get(f"/v1/files/{made['id']}/content")).content == b"kept"
    assert not (state / "files" / ".coming-left").exists()


async def test_a_key_sees_its_own_files_only(tmp_path: Path) -> None:
    store = FileStore(tmp_path, LIMITS)
    file = await keep(store, "anna", b"hers")
    assert store.get("anna", file.id) == file
    with pytest.raises(RequestError, match="no file of that id"):
        store.get("bert", file.id)
    with pytest.raises(RequestError, match="no file of that id"):
        await store.delete("bert", file.id)
    assert store.page("bert", Listing(10)) == ([], False)


async def test_what_has_expired_is_gone(tmp_path: Path) -> None:
    clock = Clock()
    store = FileStore(tmp_path, LIMITS, clock)
    short, long = await keep(store, expires=3600), await keep(store, purpose="batch")
    forever = await keep(store)
    clock.seconds += 3600
    with pytest.raises(RequestError):
        store.get("anna", short.id)
    assert store.sweep() == 1
    clock.seconds += 30 * DAY_S
    assert store.sweep() == 1
    assert [file.id for file in store.page("anna", Listing(10))[0]] == [forever.id]
    assert names(tmp_path) == [forever.id]
    assert store.total_bytes == forever.size_bytes
    assert long.expires_at is not None


async def test_results_of_batches_are_never_refused(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    store = FileStore(tmp_path / "files", LIMITS)
    for _ in range(3):
        await keep(store, data=b"z" * 1000)
    (tmp_path / "out").write_bytes(b"y" * 5000)
    made = await store.put("file-chosen", tmp_path / "out", "anna", "out.jsonl", "batch_output")
    again = await store.put("file-chosen", tmp_path / "out", "anna", "out.jsonl", "batch_output")
    assert made == again
    assert store.content(made).stat().st_size == 5000


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def keep(
    store: FileStore, owner: str = "anna", data: bytes = b"data", purpose: str = "user_data", expires: int | None = None
) -> StoredFile:
    incoming = store.open(owner)
    await incoming.write(data)
    return await store.keep(incoming, owner, "name.txt", purpose, expires)


def small(tmp_path: Path, **settings: Any) -> Config:
    config = make_config(tmp_path)
    return type(config)(
        config.models,
        config.fusions,
        config.defaults,
        config.runtime,
        config.source,
        config.server.model_copy(update=settings),
    )


def test_the_state_folder_is_for_one_server(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    with pytest.raises(ConfigError, match="another server is using"):
        StateFolder(tmp_path / "state")
    program = "import sys, pathlib; from local_fusion.server import state; state.StateFolder(pathlib.Path(sys.argv[1]))"
    other = subprocess.run([sys.executable, "-c", program, tmp_path / "state"], capture_output=True, text=True)
    assert "another server is using" in other.stderr
    folder.release()
    StateFolder(tmp_path / "state").release()


def test_a_state_folder_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        StateFolder(tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot use"):
        StateFolder(tmp_path / "file" / "below")
    (tmp_path / "open").mkdir(mode=0o755)
    StateFolder(tmp_path / "open").release()
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("given", "shown"),
    [("a/b.txt", "b.txt"), ("C:\\x\\y.pdf", "y.pdf"), ("..", ".."), ("\x00\n", "file"), ("", "file")],
)
def test_names_of_files_are_plain(given: str, shown: str) -> None:
    assert plain_name(given) == shown


async def test_what_cannot_be_swept_keeps_nothing_else_from_it(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path)) as client:
        storage = client.service.storage  # type: ignore[attr-defined]
        storage.folder.feedback.mkdir()  # no file: it cannot be read
        swept = asyncio.Event()

        async def sweep() -> None:
            swept.set()

        storage.responses.store.sweep = sweep
        sweeper = asyncio.create_task(storage._sweep())
        async with asyncio.timeout(5):
            await swept.wait()
        sweeper.cancel()


async def test_uploads_at_once_share_the_room(tmp_path: Path) -> None:
    store = FileStore(tmp_path, LIMITS)
    one, two, three, four = (store.open("anna") for _ in range(4))
    await asyncio.gather(*(incoming.write(b"z" * 1000) for incoming in (one, two, three)))
    with pytest.raises(RequestError, match="room for files is used up"):
        await four.write(b"z")
    store.drop(one)
    await four.write(b"z")
    for incoming in (two, three, four):
        store.drop(incoming)
    assert names(tmp_path) == []

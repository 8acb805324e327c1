"""What a key may name, and what becomes of its things when it is removed or its name is given to another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_fusion.config.keys import KeyEntry, add_key, hash_of, load_keys, remove_key, save_keys
from local_fusion.errors import ConfigError, RequestError
from local_fusion.server.door.callers import LOCAL, Caller, owns
from local_fusion.server.door.keys import KeyRing
from local_fusion.server.stored.file_store import FileLimits, FileStore
from tests.server.conftest import CONFIG, make_config, serving
from tests.server.sockets import question, until
from tests.server.test_batches import ENDED, SLOW, begin, line, rows
from tests.server.test_batches import until as batch_until
from tests.server.test_responses_background import SLOW as HUNG
from tests.server.test_responses_background import ended

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def keyed(tmp_path: Path, secret: str, text: str = CONFIG) -> AsyncIterator[httpx.AsyncClient]:
    """A client that shows a key of `keys.yaml`."""
    async with serving(make_config(tmp_path, text), KeyRing(tmp_path / "keys.yaml", 0.0)) as client:
        show(client, secret)
        yield client


def show(client: httpx.AsyncClient, secret: str) -> None:
    client.headers["authorization"] = f"Bearer {secret}"


async def test_the_alias_opens_the_default_fusion_and_no_other_by_preset(tmp_path: Path) -> None:
    secret = add_key(tmp_path / "keys.yaml", "ann", ("openrouter/fusion",))
    voted: dict[str, Any] = {"model": "openrouter/fusion", "plugins": [{"id": "fusion", "preset": "voted"}]}
    async with keyed(tmp_path, secret) as client:
        assert (await client.post(CHAT, json=question(model="openrouter/fusion"))).status_code == 200
        refused = await client.post(CHAT, json=question(**voted))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
        named = question(plugins=[{"id": "fusion", "preset": "voted"}])
        assert (await client.post(CHAT, json=named)).status_code == 403
        made = await begin(client, [line("a", "openrouter/fusion"), line("b", **voted)])
        done = await batch_until(client, made["id"], *ENDED)
        assert set(await rows(client, done["output_file_id"])) == {"a"}
        (bad,) = (await rows(client, done["error_file_id"])).values()
        assert bad["response"]["body"]["error"]["code"] == "permission_denied"


async def test_a_key_of_the_default_fusion_is_shown_its_alias(tmp_path: Path) -> None:
    secret, other = (add_key(tmp_path / "keys.yaml", name, (name,)) for name in ("team", "voted"))
    async with keyed(tmp_path, secret) as client:
        for shown, names in ((secret, {"team", "openrouter/fusion"}), (other, {"voted"})):
            show(client, shown)
            assert {entry["id"] for entry in (await client.get("/v1/models")).json()["data"]} == names
            found = await client.get("/v1/models/openrouter/fusion")
            assert found.status_code == (200 if len(names) == 2 else 404)


async def test_the_fast_alias_is_known_to_batches_too(tmp_path: Path) -> None:
    text = CONFIG.replace("  picked:", "  general-fast:")
    async with serving(make_config(tmp_path, text)) as client:
        assert (await client.post(CHAT, json=question(model="openrouter/fusion-flash"))).status_code == 200
        made = await begin(client, [line("a", "openrouter/fusion-flash")])
        done = await batch_until(client, made["id"], *ENDED)
        assert (done["status"], done["model"]) == ("completed", "general-fast")
    async with serving(make_config(tmp_path / "without")) as client:
        assert (await client.post(CHAT, json=question(model="openrouter/fusion-flash"))).status_code == 404


async def test_a_batch_rests_while_its_key_is_removed_and_another_of_its_name_sees_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    secret = add_key(path, "ann")
    entry = load_keys(path)["ann"]
    async with keyed(
        tmp_path, secret, SLOW.replace("heartbeat_s: 0.2", "heartbeat_s: 0.2, batch_in_flight: 2")
    ) as client:
        made = await begin(client, [line(f"r{n}", "two") for n in range(12)])
        await batch_until(client, made["id"], "in_progress", completed=2)
        remove_key(path, "ann")
        engine = client.service.engines["two"]  # type: ignore[attr-defined]
        await asyncio.sleep(1.2)  # until the batch has looked, and its rows under way have ended
        assert engine.running == 0
        began = engine.started
        await asyncio.sleep(1.2)
        assert engine.started == began < 12
        show(client, add_key(path, "ann"))
        for where in ("/v1/files", "/v1/batches"):
            assert (await client.get(where)).json()["data"] == []
        assert (await client.get(f"/v1/batches/{made['id']}")).status_code == 404
        save_keys(path, {"ann": entry})
        show(client, secret)
        done = await batch_until(client, made["id"], *ENDED)
        assert done["request_counts"] == {"total": 12, "completed": 12, "failed": 0}


async def test_what_a_removed_key_left_running_is_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    ann, bob = add_key(path, "ann"), add_key(path, "bob")
    body = {"input": "x", "background": True, "model": "hung"}
    async with keyed(tmp_path, ann, HUNG) as client:
        for secret in (ann, bob):
            show(client, secret)
            assert (await client.post("/v1/responses", json=body)).status_code == 200
        await asyncio.sleep(0.1)
    remove_key(path, "ann")
    async with keyed(tmp_path, bob, HUNG) as client:
        service = client.service  # type: ignore[attr-defined]
        _ = service.storage
        await until(lambda: service.admission.working == 1, 5)
        await asyncio.sleep(0.2)
        assert service.engines["stuck"].running == 1


async def test_narrower_rights_count_for_what_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    secret = add_key(path, "ann")
    async with keyed(tmp_path, secret, HUNG) as client:
        body = {"input": "x", "background": True, "model": "hung"}
        response_id = (await client.post("/v1/responses", json=body)).json()["id"]
        await asyncio.sleep(0.1)
    save_keys(path, {"ann": KeyEntry(sha256=hash_of(secret), fusions=("team",))})
    async with keyed(tmp_path, secret, HUNG) as client:
        _ = client.service.storage  # type: ignore[attr-defined]
        found = await ended(client, response_id)
        assert "may not use" in found["error"]["message"]


async def test_one_key_cannot_take_every_place_in_the_background(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    ann, bob = add_key(path, "ann"), add_key(path, "bob")
    body = {"input": "x", "background": True, "model": "hung"}
    async with keyed(tmp_path, ann, HUNG.replace("queue: 3", "queue: 4")) as client:
        assert [(await client.post("/v1/responses", json=body)).status_code for _ in range(3)] == [200, 200, 429]
        show(client, bob)
        assert (await client.post("/v1/responses", json=body)).status_code == 200


async def test_owners_of_older_state_are_names(tmp_path: Path) -> None:
    files = FileStore(tmp_path, FileLimits(1000, 1000, 10, 1000))
    kept = {}
    for owner in ("ann", "ann#0123"):
        incoming = files.open(owner)
        await incoming.write(b"x")
        kept[owner] = await files.keep(incoming, owner, "x.txt", "user_data")
    for owner, seen in (("ann#0123", {"ann", "ann#0123"}), ("ann#4567", {"ann"}), ("bob#0123", set())):
        for made, file in kept.items():
            if made in seen:
                assert files.get(owner, file.id) == file
            else:
                with pytest.raises(RequestError):
                    files.get(owner, file.id)


def test_an_owner_is_a_name_and_the_beginning_of_the_hash(tmp_path: Path) -> None:
    secret = add_key(tmp_path / "keys.yaml", "ann")
    ring = KeyRing(tmp_path / "keys.yaml")
    caller = ring.caller(secret)
    assert caller is not None
    assert caller.owner == f"ann#{hash_of(secret)[:12]}"
    assert ring.of(caller.owner) == ring.of("ann") == caller
    assert ring.of("ann#another") is None
    assert ring.of(LOCAL.owner) is None
    assert not owns(Caller("annabel", mark="1").owner, "ann")


def test_no_key_is_called_like_everybody_without_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="servers without keys"):
        add_key(tmp_path / "keys.yaml", "local")
    (tmp_path / "keys.yaml").write_text('keys: {local: {sha256: "' + "0" * 64 + '"}}')
    with pytest.raises(ConfigError, match="servers without keys"):
        load_keys(tmp_path / "keys.yaml")

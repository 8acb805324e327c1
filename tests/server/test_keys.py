"""Keys: who may come in, with what, and how much of it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from local_fusion.cli.main import app as command
from local_fusion.config import ServerSettings
from local_fusion.config.keys import add_key, load_keys, remove_key
from local_fusion.engine import PassingEngine
from local_fusion.errors import ConfigError
from local_fusion.runtime import open_engines
from local_fusion.server.app import make_app
from local_fusion.server.door.gate import OPEN, OPEN_BELOW
from local_fusion.server.door.keys import KeyRing, open_keys
from local_fusion.server.service import Service
from local_fusion.types import Health
from tests.server.conftest import make_config

ASK = {"messages": [{"role": "user", "content": "2+2?"}]}


@asynccontextmanager
async def closed_server(tmp_path: Path, keys: KeyRing) -> AsyncIterator[httpx.AsyncClient]:
    config = make_config(tmp_path)
    service = Service(config, keys=keys)
    async with open_engines(config, service.catalog.models) as engines:
        service.attach(engines)
        transport = httpx.ASGITransport(make_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=30) as client:
            client.service = service  # type: ignore[attr-defined]
            yield client


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_a_file_of_keys_holds_hashes_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.yaml"
    secret = add_key(path, "ann", ("team",), 2, 1000)
    assert re.fullmatch(r"lf-[A-Za-z0-9_-]{43}", secret)
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    entry = load_keys(path)["ann"]
    assert (entry.fusions, entry.parallel, entry.tokens_per_minute) == (("team",), 2, 1000)
    with pytest.raises(ConfigError, match="there is a key called 'ann'"):
        add_key(path, "ann")
    with pytest.raises(ConfigError, match="no name for a key"):
        add_key(path, "../ann")
    remove_key(path, "ann")
    assert load_keys(path) == {}
    with pytest.raises(ConfigError, match="no key is called"):
        remove_key(path, "ann")


@pytest.mark.parametrize(
    "text", ["- a", "keys: {ann: {sha256: abc}}", "keys: {ann: {secret: x}}", "key: {}", "{", "\0", "keys: {a b: {}}"]
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="keys"):
        KeyRing(path)


def test_a_file_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text('{"keys": {"ann": {"sha256": "' + "0" * 64 + '"}}}')
    assert len(KeyRing(path)) == 1


async def test_every_address_but_those_of_the_list_is_closed(tmp_path: Path) -> None:
    secret = add_key(tmp_path / "keys.yaml", "ann")
    async with closed_server(tmp_path, KeyRing(tmp_path / "keys.yaml")) as client:
        app: Any = client._transport.app  # type: ignore[attr-defined]
        for route in app.routes:
            path = re.sub(r"\{[^}]*\}", "x", route.path)
            for method in route.methods or ():
                if path in OPEN or path.startswith(OPEN_BELOW):
                    continue
                answer = await client.request(method, path)
                assert answer.status_code == 401, (method, path)
                assert method == "HEAD" or answer.json()["error"]["code"] == "invalid_api_key"
                assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await client.get("/nowhere")).status_code == 401
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/nowhere", headers=bearer(secret))).status_code == 404


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
async def test_a_key_is_read_from_each_usual_header(tmp_path: Path, header: str) -> None:
    secret = add_key(tmp_path / "keys.yaml", "ann")
    async with closed_server(tmp_path, KeyRing(tmp_path / "keys.yaml")) as client:
        value = f"bearer {secret}" if header == "authorization" else secret
        assert (await client.get("/v1/models", headers={header: value})).status_code == 200
        for wrong in (value[:-1], value + "x", "Bearer", "Basic abc", "é".encode()):
            assert (await client.get("/v1/models", headers={header: wrong})).status_code == 401  # type: ignore[dict-item]


WHY = "its host fell over"


class Down(PassingEngine):
    def __init__(self) -> None:
        """Nothing is behind it."""

    async def check(self, timeout_s: float = 10.0) -> Health:
        return Health(False, WHY)


async def test_why_an_engine_is_not_ready_is_for_key_owners(tmp_path: Path) -> None:
    secret = add_key(tmp_path / "keys.yaml", "ann")
    async with closed_server(tmp_path, KeyRing(tmp_path / "keys.yaml")) as client:
        service = client.service  # type: ignore[attr-defined]
        service.attach({name: service.engine(name) for name in service.catalog.models} | {"two": Down()})
        for headers, shown in (({}, {"ready": False}), (bearer(secret), {"ready": False, "detail": WHY})):
            answer = await client.get("/health/ready", headers=headers)
            assert answer.status_code == 503
            assert answer.json()["engines"] == {
                name: {"ready": True} if name != "two" else shown for name in service.catalog.models
            }


async def test_a_key_uses_only_what_it_is_allowed(tmp_path: Path) -> None:
    secret = add_key(tmp_path / "keys.yaml", "ann", ("voted", "one"))
    async with closed_server(tmp_path, KeyRing(tmp_path / "keys.yaml")) as client:
        listed = (await client.get("/v1/models", headers=bearer(secret))).json()["data"]
        assert {entry["id"] for entry in listed} == {"voted", "one"}
        asked = (("voted", 200), ("team", 403), ("two", 403), (None, 403), ("openrouter/fusion", 403), ("no", 404))
        for model, status in asked:
            body = ASK | ({"model": model} if model else {})
            answer = await client.post("/v1/chat/completions", json=body, headers=bearer(secret))
            assert answer.status_code == status, (model, answer.text)
        assert (await client.get("/v1/models/team", headers=bearer(secret))).status_code == 404


async def test_limits_of_a_key_are_answered_429(tmp_path: Path) -> None:
    secret = add_key(tmp_path / "keys.yaml", "ann", None, 5, 100)
    async with closed_server(tmp_path, KeyRing(tmp_path / "keys.yaml")) as client:
        first = await client.post("/v1/chat/completions", json=ASK, headers=bearer(secret))
        assert first.status_code == 200
        assert first.headers["x-ratelimit-limit-tokens"] == "100"
        refused = await client.post("/v1/chat/completions", json=ASK, headers=bearer(secret))
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["x-should-retry"] == "true"
        assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
        metrics = (await client.get("/metrics", headers=bearer(secret))).text
        assert "local_fusion_refused_total 1.0" in metrics
        assert "ann" not in metrics, "what every key may read names none"


def test_changes_of_the_file_are_seen_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    first = add_key(path, "ann")
    ring = KeyRing(path, look_every_s=0.0)
    second = add_key(path, "bob")
    assert (ring.caller(second) or pytest.fail("the key is not known")).name == "bob"
    remove_key(path, "ann")
    assert ring.caller(first) is None
    path.write_text("{ broken")
    assert ring.caller(second) is not None  # a slip of the pen stops nobody
    path.unlink()
    assert ring.caller(second) is None  # but without a file nobody comes in


def test_a_server_for_others_needs_keys(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    assert open_keys(ServerSettings(state=state)) is None
    for host in ("0.0.0.0", "::"):
        with pytest.raises(ConfigError, match="local-fusion keys add"):
            open_keys(ServerSettings(state=state, host=host))
    with pytest.raises(ConfigError, match="there is no file of keys"):
        open_keys(ServerSettings(state=state, keys=str(tmp_path / "none.yaml")))
    add_key(tmp_path / "state" / "keys.yaml", "ann")
    assert len(open_keys(ServerSettings(state=state, host="0.0.0.0")) or ()) == 1


async def test_without_keys_pages_of_others_are_kept_out(client: httpx.AsyncClient) -> None:
    service = client.service  # type: ignore[attr-defined]
    service.hosts = frozenset({"server", "127.0.0.1", "::1"})
    assert (await client.get("/v1/models")).status_code == 200
    assert (await client.get("/v1/models", headers={"host": "[::1]:8000"})).status_code == 200
    assert (await client.get("/v1/models", headers={"host": "rebound.example:8000"})).status_code == 403
    assert (await client.get("/v1/models", headers={"origin": "http://server"})).status_code == 200
    for origin in ("https://evil.example", "null", "http://server:99"):
        assert (await client.get("/v1/models", headers={"origin": origin})).status_code == 403


def test_the_command_adds_lists_and_removes(tmp_path: Path) -> None:
    file = str(tmp_path / "keys.yaml")
    runner = CliRunner()
    made = runner.invoke(command, ["keys", "add", "ann", "--parallel", "3", "--file", file])
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert secret.startswith("lf-")
    assert (KeyRing(Path(file)).caller(secret) or pytest.fail("the key is not known")).parallel == 3
    listed = runner.invoke(command, ["keys", "list", "--file", file])
    assert "ann" in listed.stdout
    assert secret not in listed.stdout
    assert runner.invoke(command, ["keys", "remove", "ann", "--file", file]).exit_code == 0
    assert KeyRing(Path(file)).caller(secret) is None
    unknown = runner.invoke(command, ["keys", "add", "bob", "--fusions", "nothing", "--file", file])
    assert isinstance(unknown.exception, ConfigError)
    assert os.listdir(tmp_path) == ["keys.yaml"]

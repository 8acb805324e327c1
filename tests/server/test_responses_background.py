"""Runs in the background: they outlive their client and a restart, can be followed from any event, and cancelled."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from local_fusion.config.keys import add_key
from local_fusion.runtime import open_engines
from local_fusion.server.app import make_app
from local_fusion.server.door.keys import KeyRing
from local_fusion.server.responses import desk
from local_fusion.server.responses.make import EVENTS_PER_RUN
from local_fusion.server.responses.store import ResponseStore
from local_fusion.server.service import Service
from local_fusion.server.stored.disk import StorageProblem
from tests.server.conftest import make_config, serving
from tests.server.responses_check import check_response, check_stream, kinds, read_stream
from tests.server.sockets import listening, until

PATH = "/v1/responses"
SLOW = """
models:
  one: {engine: scripted, scripted: {answers: ["One two three four five six."], tokens_per_s: 12}}
  two: {engine: scripted, scripted: {answers: ["Six."]}}
  bad: {engine: scripted, scripted: {fail_rate: 1}}
  stuck: {engine: scripted, scripted: {hang_rate: 1}}
  judge: {engine: scripted, scripted: {answers: ["Six it is."], prefer: "six"}}
fusions:
  team: {panel: [one, two], judge: judge, mode: merge}
  broken: {panel: [bad], judge: judge, mode: merge}
  hung: {panel: [stuck], judge: judge, mode: merge}
default: team
runtime: {hosts: local}
server: {state: STATE, heartbeat_s: 0.1, queue: 3, in_flight: 2}
"""
ASK = {"input": "2+2?", "background": True}


def slow(tmp_path: Path) -> Any:
    return make_config(tmp_path, SLOW)


async def ended(client: httpx.AsyncClient, response_id: str, seconds: float = 10) -> dict[str, Any]:
    """The response once it is neither queued nor in progress."""
    async with asyncio.timeout(seconds):
        while True:
            body: dict[str, Any] = (await client.get(f"{PATH}/{response_id}")).json()
            if body["status"] not in ("queued", "in_progress"):
                check_response(body)
                return body
            await asyncio.sleep(0.02)


async def test_it_is_queued_then_in_progress_then_completed(tmp_path: Path) -> None:
    async with serving(slow(tmp_path)) as client:
        begun = (await client.post(PATH, json=ASK)).json()
        check_response(begun)
        assert begun["status"] == "queued"
        await asyncio.sleep(0.1)
        assert (await client.get(f"{PATH}/{begun['id']}")).json()["status"] == "in_progress"
        body = await ended(client, begun["id"])
        assert body["status"] == "completed"
        assert body["background"] is True
        assert client.service.admission.working == 0  # type: ignore[attr-defined]
        after = {"input": "Sure?", "model": "two", "previous_response_id": begun["id"]}
        assert (await client.post(PATH, json=after)).status_code == 200


async def test_one_that_fails_says_why(tmp_path: Path) -> None:
    async with serving(slow(tmp_path)) as client:
        begun = (await client.post(PATH, json=ASK | {"model": "broken"})).json()
        body = await ended(client, begun["id"])
        assert (body["status"], body["error"]["code"]) == ("failed", "all_panels_failed")


async def test_a_run_that_goes_on_cannot_be_continued_from(tmp_path: Path) -> None:
    async with serving(slow(tmp_path)) as client:
        begun = (await client.post(PATH, json=ASK | {"model": "hung"})).json()
        answer = await client.post(PATH, json={"input": "x", "previous_response_id": begun["id"]})
        assert answer.status_code == 400
        await client.post(f"{PATH}/{begun['id']}/cancel")


async def test_a_cancelled_run_leaves_no_call_and_stays_cancelled(tmp_path: Path) -> None:
    async with listening(slow(tmp_path)) as served, httpx.AsyncClient(base_url=served.url, timeout=10) as client:
        begun = (await client.post(PATH, json=ASK | {"model": "hung", "stream": False})).json()
        await until(lambda: served.running == 1, 5)
        for _ in range(2):
            body = (await client.post(f"{PATH}/{begun['id']}/cancel")).json()
            assert body["status"] == "cancelled"
            check_response(body)
        assert await until(lambda: served.running == 0, 5) < 1.0
        assert (await client.get(f"{PATH}/{begun['id']}")).json()["status"] == "cancelled"
        whole = (await client.post(PATH, json={"input": "x", "model": "two"})).json()
        assert (await client.post(f"{PATH}/{whole['id']}/cancel")).status_code == 400


async def test_a_deleted_run_ends(tmp_path: Path) -> None:
    async with listening(slow(tmp_path)) as served, httpx.AsyncClient(base_url=served.url, timeout=10) as client:
        begun = (await client.post(PATH, json=ASK | {"model": "hung"})).json()
        await until(lambda: served.running == 1, 5)
        assert (await client.delete(f"{PATH}/{begun['id']}")).json()["deleted"] is True
        assert served.running == 0
        assert (await client.get(f"{PATH}/{begun['id']}")).status_code == 404


async def test_it_goes_on_without_its_client_and_can_be_followed_from_any_event(tmp_path: Path) -> None:
    async with listening(slow(tmp_path)) as served:
        sdk = AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        stream = await sdk.responses.create(model="team", input="2+2?", background=True, stream=True)
        seen = []
        async for event in stream:
            seen.append(event)
            if event.type == "response.fusion_call.panel.delta":  # type: ignore[comparison-overlap]
                break
        await stream.close()
        response_id, last = seen[0].response.id, seen[-1].sequence_number  # type: ignore[union-attr]
        assert served.running >= 1
        rest = [event async for event in await sdk.responses.retrieve(response_id, stream=True, starting_after=last)]
        assert [event.sequence_number for event in rest] == list(range(last + 1, last + 1 + len(rest)))
        assert rest[-1].type == "response.completed"
        async with httpx.AsyncClient(base_url=served.url) as client:
            whole = await client.get(f"{PATH}/{response_id}", params={"stream": "true"})
            events = read_stream(whole.text)
        body = check_stream(events)
        assert kinds(events)[:3] == ["created", "queued", "in_progress"]
        assert len(events) == len(seen) + len(rest)
        assert body["status"] == "completed"
        await sdk.close()


async def test_one_with_its_client_ends_when_the_client_goes(tmp_path: Path) -> None:
    async with listening(slow(tmp_path)) as served, httpx.AsyncClient(base_url=served.url) as client:
        for stream in (True, False):
            with pytest.raises(httpx.ReadTimeout):
                await client.post(PATH, json={"input": "x", "model": "hung", "stream": stream}, timeout=0.05)
            assert await until(lambda: served.running == 0 and served.service.admission.working == 0, 5) < 1.0


async def test_too_many_at_once_are_refused_and_the_rest_wait_their_turn(tmp_path: Path) -> None:
    async with serving(slow(tmp_path)) as client:
        answers = [await client.post(PATH, json=ASK | {"model": "hung"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        await asyncio.sleep(0.1)
        ids = [answer.json()["id"] for answer in answers[:3]]
        states = [(await client.get(f"{PATH}/{response_id}")).json()["status"] for response_id in ids]
        assert sorted(states) == ["in_progress", "in_progress", "queued"]
        for response_id in ids:
            assert (await client.post(f"{PATH}/{response_id}/cancel")).json()["status"] == "cancelled"


async def working(client: httpx.AsyncClient, count: int = 1) -> None:
    """Wait until so many requests are worked on."""
    service = client.service  # type: ignore[attr-defined]
    _ = service.storage  # takes up what was interrupted
    await until(lambda: service.admission.working == count, 5)
    await asyncio.sleep(0.1)


async def killed(before: Path, after: Path) -> None:
    """The state as a server killed now would leave it."""
    await asyncio.to_thread(shutil.copytree, before / "state", after / "state")


async def test_a_kill_runs_it_again_once_with_the_same_seed(tmp_path: Path) -> None:
    first, second, third = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    async with serving(slow(first)) as client:
        begun = (await client.post(PATH, json=ASK | {"stream": True, "input": "x", "model": "team"})).text
        whole = check_stream(read_stream(begun))
        quiet = (await client.post(PATH, json=ASK | {"model": "hung"})).json()["id"]
        await working(client)
        await killed(first, second)
    async with serving(slow(second)) as client:
        assert (await client.get(f"{PATH}/{whole['id']}")).json() == whole
        assert (await client.get(f"{PATH}/{quiet}")).json()["status"] in ("queued", "in_progress")
        await working(client)
        await killed(second, third)
    async with serving(slow(third)) as client:
        body = await ended(client, quiet)
        assert (body["status"], body["error"]["code"]) == ("failed", "server_restarted")
        assert "more than once" in body["error"]["message"]


async def test_orderly_restarts_are_not_counted_and_waiting_in_line_is_no_run(tmp_path: Path) -> None:
    narrow = make_config(tmp_path, SLOW.replace("in_flight: 2", "in_flight: 1"))
    async with serving(narrow) as client:
        hung = (await client.post(PATH, json=ASK | {"model": "hung"})).json()["id"]
        await working(client)
        queued = (await client.post(PATH, json=ASK | {"model": "two"})).json()["id"]
        await asyncio.sleep(0.1)
    for _ in range(3):
        async with serving(narrow) as client:
            await working(client)
            for response_id in (hung, queued):
                assert (await client.get(f"{PATH}/{response_id}")).json()["status"] in ("queued", "in_progress")
    async with serving(narrow) as client:
        await working(client)
        await client.post(f"{PATH}/{hung}/cancel")
        assert (await ended(client, queued))["status"] == "completed"


async def test_one_killed_while_it_waits_in_line_runs_in_the_end(tmp_path: Path) -> None:
    text = SLOW.replace("in_flight: 2", "in_flight: 1")
    places = [tmp_path / str(number) for number in range(4)]
    async with serving(make_config(places[0], text)) as client:
        hung = (await client.post(PATH, json=ASK | {"model": "hung"})).json()["id"]
        await working(client)
        queued = (await client.post(PATH, json=ASK | {"model": "two"})).json()["id"]
        await asyncio.sleep(0.1)
        await killed(places[0], places[1])
    async with serving(make_config(places[1], text)) as client:
        await working(client)
        await killed(places[1], places[2])
    async with serving(make_config(places[2], text)) as client:
        assert (await ended(client, queued))["status"] == "completed"
        assert (await ended(client, hung))["error"]["code"] == "server_restarted"


@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_what_is_cancelled_while_engines_start_is_not_taken_up(tmp_path: Path, how: str) -> None:
    config = slow(tmp_path)
    async with serving(config) as client:
        response_id = (await client.post(PATH, json=ASK | {"model": "hung"})).json()["id"]
        await working(client)
    service = Service(config)
    _ = service.storage
    transport = httpx.ASGITransport(make_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        if how == "cancel":
            body = (await client.post(f"{PATH}/{response_id}/cancel")).json()
            check_response(body)
            assert body["status"] == "cancelled"
        else:
            assert (await client.delete(f"{PATH}/{response_id}")).status_code == 200
        async with open_engines(config, service.catalog.models) as engines:
            service.attach(engines)
            await service.opened()
            await asyncio.sleep(0.2)
            assert service.admission.working == 0
            found = await client.get(f"{PATH}/{response_id}")
            assert found.status_code == 404 if how == "delete" else found.json() == body
            service.stop()
            await service.closed()


async def test_a_run_taken_up_again_completes_and_numbers_its_events_anew(tmp_path: Path) -> None:
    stuck = make_config(
        tmp_path, SLOW.replace('answers: ["One two three four five six."], tokens_per_s: 12', "hang_rate: 1")
    )
    async with listening(stuck) as served, httpx.AsyncClient(base_url=served.url) as client:
        async with client.stream(
            "POST", PATH, json=ASK | {"stream": True, "fusion": {"include": ["receipt"]}}
        ) as first:
            lines = first.aiter_lines()
            text = "\n".join([await anext(lines) for _ in range(24)])
        seen = read_stream(text[: text.rindex("\n\n")])
    response_id = seen[0]["response"]["id"]
    async with serving(slow(tmp_path)) as client:
        body = await ended(client, response_id)
        assert body["status"] == "completed"
        assert body["created_at"] == seen[0]["response"]["created_at"]
        answer = await client.get(
            f"{PATH}/{response_id}",
            params={"stream": "true", "starting_after": seen[-1]["sequence_number"]},
        )
        events = read_stream(answer.text)
        check_stream(events, EVENTS_PER_RUN)
        assert events[0]["type"] == "response.created"


async def test_a_killed_server_s_files_are_enough_to_go_on(tmp_path: Path) -> None:
    async with serving(slow(tmp_path)) as client:
        begun = (await client.post(PATH, json=ASK)).json()
        done = (await client.post(PATH, json={"input": "x", "model": "two"})).json()
        await asyncio.sleep(0.1)
        await asyncio.to_thread(shutil.copytree, tmp_path / "state", tmp_path / "killed" / "state")
    async with serving(slow(tmp_path / "killed")) as client:
        assert (await client.get(f"{PATH}/{done['id']}")).json() == done
        assert (await client.get(f"{PATH}/{begun['id']}")).json()["status"] != "completed"
        assert (await ended(client, begun["id"]))["status"] == "completed"


async def test_what_can_no_longer_be_run_fails_as_restarted(tmp_path: Path) -> None:
    async with serving(slow(tmp_path)) as client:
        begun = await client.post(PATH, json=ASK | {"model": "hung"})
        response_id = begun.json()["id"]
        await asyncio.sleep(0.05)
    other = make_config(tmp_path, SLOW.replace("  hung: {panel: [stuck], judge: judge, mode: merge}\n", ""))
    async with serving(other) as client:
        body = await ended(client, response_id)
        assert body["error"]["code"] == "server_restarted"
        assert "can no longer be run" in body["error"]["message"]


async def test_stored_runs_are_on_the_disk_before_their_client_hears_of_the_end(tmp_path: Path) -> None:
    async with serving(slow(tmp_path)) as client:
        answer = await client.post(PATH, json=ASK | {"stream": True, "model": "two"})
        last = read_stream(answer.text)[-1]["response"]
        store = ResponseStore(tmp_path / "state" / "responses.sqlite3", 1000, 1 << 30)
        assert (await store.get("local", last["id"])).body == last
        await store.close()


async def test_nobody_keeps_another_key_s_run_from_being_taken_up(tmp_path: Path) -> None:
    config = slow(tmp_path)
    secrets = [add_key(tmp_path / "keys.yaml", name) for name in ("anna", "bert")]
    anna, bert = ({"authorization": f"Bearer {secret}"} for secret in secrets)
    keys = KeyRing(tmp_path / "keys.yaml")
    async with serving(config, keys) as client:
        response_id = (await client.post(PATH, json=ASK | {"model": "hung"}, headers=anna)).json()["id"]
        await working(client)
    service = Service(config, keys=keys)
    _ = service.storage
    transport = httpx.ASGITransport(make_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        assert (await client.delete(f"{PATH}/{response_id}", headers=bert)).status_code == 404
        async with open_engines(config, service.catalog.models) as engines:
            service.attach(engines)
            await service.opened()
            await until(lambda: service.admission.working == 1, 5)
            service.stop()
            await service.closed()


async def test_a_full_disk_is_waited_out_and_hides_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "RETRY_S", 0.2)
    update, full = ResponseStore.update, True

    async def updated(*given: Any) -> bool:
        if full:
            raise StorageProblem("full")
        return await update(*given)

    monkeypatch.setattr(ResponseStore, "update", updated)
    async with serving(slow(tmp_path)) as client:
        events = read_stream((await client.post(PATH, json=ASK | {"stream": True, "model": "two"})).text)
        whole = check_stream(events)
        assert (await ended(client, whole["id"])) == whole
        full = False
        await asyncio.sleep(0.5)
        store = ResponseStore(tmp_path / "state" / "responses.sqlite3", 1000, 1 << 30)
        assert (await store.get("local", whole["id"])).body == whole
        assert len(await store.events("local", whole["id"]) or ()) == len(events)
        await store.close()
        assert (await client.get(f"{PATH}/{whole['id']}")).json() == whole


async def test_one_that_is_not_taken_up_yet_can_be_followed_later(tmp_path: Path) -> None:
    config = slow(tmp_path)
    async with (
        listening(config) as served,
        httpx.AsyncClient(base_url=served.url) as client,
        client.stream("POST", PATH, json=ASK | {"stream": True, "model": "hung"}) as begun,
    ):
        lines = begun.aiter_lines()
        text = "\n".join([await anext(lines) for _ in range(3)])
    response_id = read_stream(text)[0]["response"]["id"]
    service = Service(config)
    _ = service.storage
    transport = httpx.ASGITransport(make_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        answer = await client.get(f"{PATH}/{response_id}", params={"stream": "true"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        service.stop()
        await service.closed()

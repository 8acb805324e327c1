"""`/v1/batches`: every line answered once or explained, whatever is cancelled, over time, or killed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_fusion.config import parse_config
from local_fusion.config.keys import add_key
from local_fusion.server.batches.record import BatchRecord, Counts, Problem, read_record
from local_fusion.server.batches.validate import Limits, validate
from local_fusion.server.door.keys import KeyRing
from tests.server.conftest import CONFIG, make_config, serving

URL = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")
SLOW = CONFIG.replace('answers: ["It is 4."]', 'answers: ["It is 4."], delay_s: 0.5')


def line(row: Any, model: str | None = "picked", url: str = URL, **body: Any) -> dict[str, Any]:
    named = {} if model is None else {"model": model}
    messages = [{"role": "user", "content": f"Question {row}?"}]
    return {"custom_id": row, "method": "POST", "url": url, "body": {"messages": messages} | named | body}


def jsonl(lines: Iterable[Any]) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines)


async def begin(client: httpx.AsyncClient, lines: Iterable[Any], **body: Any) -> dict[str, Any]:
    sent = {"file": ("in.jsonl", jsonl(lines))}
    file = (await client.post("/v1/files", files=sent, data={"purpose": "batch"})).json()
    ask = {"input_file_id": file["id"], "endpoint": URL, "completion_window": "24h"} | body
    answer = await client.post("/v1/batches", json=ask)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def look(client: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/v1/batches/{batch_id}")).json()
    return found


async def until(client: httpx.AsyncClient, batch_id: str, *statuses: str, completed: int = 0) -> dict[str, Any]:
    """The batch once it has one of these statuses and so many rows."""
    async with asyncio.timeout(30):
        while True:
            found = await look(client, batch_id)
            if found["status"] in statuses and found["request_counts"]["completed"] >= completed:
                return found
            await asyncio.sleep(0.05)


async def rows(client: httpx.AsyncClient, file_id: str | None) -> dict[str, dict[str, Any]]:
    """Lines of a result by custom id; each id once."""
    if file_id is None:
        return {}
    content = (await client.get(f"/v1/files/{file_id}/content")).text
    found = [json.loads(text) for text in content.splitlines()]
    assert max(Counter(row["custom_id"] for row in found).values()) == 1
    return {row["custom_id"]: row for row in found}


async def test_a_batch_of_many_models_runs_to_its_end(client: httpx.AsyncClient) -> None:
    lines = [
        *(line(f"p{n}") for n in range(5)),
        *(line(f"v{n}", "voted") for n in range(5)),
        line("default", None),
        line("alias", "openrouter/fusion"),
        line("member", "three", max_tokens=20),
        line("changed", "team", fusion={"mode": "vote"}),
        line("bad", "picked", colour="red"),
        line("streams", "picked", stream=True),
        line("two", "three", n=2),
        line("outer", "three", plugins=[{"id": "fusion"}]),
    ]
    made = await begin(client, lines, metadata={"run": "7"})
    assert made["object"] == "batch"
    assert made["status"] == "validating"
    assert made["expires_at"] == made["created_at"] + 86_400
    assert made["metadata"] == {"run": "7"}
    done = await until(client, made["id"], *ENDED)
    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": 18, "completed": 14, "failed": 4}
    assert done["in_progress_at"] <= done["finalizing_at"] <= done["completed_at"]
    assert done["errors"] is None
    good, bad = await rows(client, done["output_file_id"]), await rows(client, done["error_file_id"])
    assert set(bad) == {"bad", "streams", "two", "outer"}
    assert len(good) == 14
    body = good["p0"]["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["fusion"]["fusion"] == "picked"
    assert good["default"]["response"]["body"]["fusion"]["mode"] == "merge"
    assert good["alias"]["response"]["body"]["fusion"]["fusion"] == "team"
    assert good["changed"]["response"]["body"]["fusion"]["mode"] == "vote"
    assert good["member"]["response"]["body"]["choices"][0]["message"]["content"] == "Five."
    assert bad["bad"]["response"]["status_code"] == 400
    assert bad["bad"]["response"]["body"]["error"]["param"] == "colour"
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] + done["usage"]["output_tokens"] > 0
    listed = (await client.get("/v1/files", params={"purpose": "batch_output"})).json()["data"]
    assert {file["filename"] for file in listed} == {f"{done['id']}_output.jsonl", f"{done['id']}_error.jsonl"}
    folder = client.service.state.batches / done["id"]  # type: ignore[attr-defined]
    assert [path.name for path in folder.iterdir()] == ["batch.json"]


async def test_batches_are_listed_newest_first(client: httpx.AsyncClient) -> None:
    ids = [(await begin(client, [line("a")]))["id"] for _ in range(3)]
    page = (await client.get("/v1/batches", params={"limit": 2})).json()
    assert [batch["id"] for batch in page["data"]] == ids[:0:-1]
    assert page["has_more"] is True
    rest = (await client.get("/v1/batches", params={"after": page["last_id"]})).json()
    assert [batch["id"] for batch in rest["data"]] == ids[:1]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "31d"}, "completion_window"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"input_file_id": None}, "input_file_id"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_wrong_bodies_are_refused(client: httpx.AsyncClient, change: dict[str, Any], param: str) -> None:
    ask = {"input_file_id": "file-none", "endpoint": URL, "completion_window": "24h"} | change
    answer = await client.post("/v1/batches", json=ask)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_file_for_something_else_is_no_input(client: httpx.AsyncClient) -> None:
    sent = {"file": ("in.jsonl", b"{}")}
    file = (await client.post("/v1/files", files=sent, data={"purpose": "user_data"})).json()
    ask = {"input_file_id": file["id"], "endpoint": URL, "completion_window": "24h"}
    assert (await client.post("/v1/batches", json=ask)).status_code == 400
    for method, path in (("GET", ""), ("POST", "/cancel")):
        assert (await client.request(method, f"/v1/batches/batch_none{path}")).status_code == 404


async def test_a_wrong_line_fails_the_batch_before_any_row_runs(client: httpx.AsyncClient) -> None:
    lines = [
        line("a"),
        b"not json",
        line("a"),
        line("b", "nobody"),
        line("c", url="/v1/embeddings"),
        {"custom_id": "d"},
        line("e") | {"method": "GET"},
        line("f") | {"more": 1},
        b"",
        line("") | {"body": []},
    ]
    done = await until(client, (await begin(client, lines))["id"], *ENDED)
    assert done["status"] == "failed"
    assert done["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert [(one["line"], one["code"]) for one in done["errors"]["data"]] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "model_not_found"),
        (5, "invalid_url"),
        (6, "missing_required_parameter"),
        (7, "invalid_method"),
        (8, "unknown_field"),
        (10, "invalid_field"),
    ]
    assert done["output_file_id"] is None
    assert done["error_file_id"] is None


def test_size_and_count_of_lines_are_limited(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(jsonl(line(str(n)) for n in range(10)))

    def codes(*limits: int) -> list[str]:
        return [one.code for one in validate(source, URL, lambda name: name, Limits(*limits)).problems]

    assert codes(10, 10_000) == []
    assert codes(9, 10_000) == ["too_many_tasks"]
    assert codes(10, 1000) == ["batch_too_large"]
    assert codes(10, 10_000, 50) == ["line_too_long"] * 10
    source.write_bytes(b"\n\n")
    assert codes(10, 1000) == ["empty_file"]


async def test_a_batch_reads_documents(client: httpx.AsyncClient) -> None:
    sent = {"file": ("facts.txt", b"The sky is green.")}
    file = (await client.post("/v1/files", files=sent, data={"purpose": "user_data"})).json()
    content = [{"type": "file", "file": {"file_id": file["id"]}}, {"type": "text", "text": "Which colour?"}]
    lines = [
        line("doc", "one", messages=[{"role": "user", "content": content}]),
        line("plain", "one", messages=[{"role": "user", "content": "Which colour?"}]),
        line("gone", "one", messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-x"}}]}]),
    ]
    done = await until(client, (await begin(client, lines))["id"], *ENDED)
    good, bad = await rows(client, done["output_file_id"]), await rows(client, done["error_file_id"])
    prompt = {name: row["response"]["body"]["usage"]["prompt_tokens"] for name, row in good.items()}
    assert prompt["doc"] > prompt["plain"] + 10
    assert bad["gone"]["response"]["body"]["error"]["code"] == "file_not_found"


async def test_cancelling_keeps_what_is_finished(tmp_path: Path) -> None:
    async with serving(parse_slow(tmp_path, batch_in_flight=2)) as client:
        made = await begin(client, [line(f"r{n}") for n in range(40)])
        running = await until(client, made["id"], "in_progress", completed=2)
        assert running["request_counts"]["total"] == 40
        answer = (await client.post(f"/v1/batches/{made['id']}/cancel")).json()
        assert answer["status"] == "cancelling"
        again = (await client.post(f"/v1/batches/{made['id']}/cancel")).json()
        assert again["status"] in ("cancelling", "cancelled")
        done = await until(client, made["id"], *ENDED)
        assert done["status"] == "cancelled"
        assert done["cancelling_at"] <= done["cancelled_at"]
        counts = done["request_counts"]
        good, bad = await rows(client, done["output_file_id"]), await rows(client, done["error_file_id"])
        assert 2 <= len(good) == counts["completed"] < 40
        assert len(bad) == counts["failed"] == 40 - len(good)
        assert {row["error"]["code"] for row in bad.values()} == {"batch_cancelled"}
        assert (await client.post(f"/v1/batches/{made['id']}/cancel")).status_code == 400


async def test_what_is_not_done_in_its_window_expires(tmp_path: Path) -> None:
    async with serving(parse_slow(tmp_path, batch_in_flight=2)) as client:
        made = await begin(client, [line(f"r{n}") for n in range(40)], completion_window="2s")
        done = await until(client, made["id"], *ENDED)
        assert done["status"] == "expired"
        good, bad = await rows(client, done["output_file_id"]), await rows(client, done["error_file_id"])
        assert len(good) + len(bad) == 40
        assert good
        assert {row["error"]["code"] for row in bad.values()} == {"batch_expired"}


async def test_batches_wait_for_each_other(tmp_path: Path) -> None:
    async with serving(parse_slow(tmp_path, batches_at_once=1)) as client:
        first = await begin(client, [line("a")])
        second = await begin(client, [line("a")])
        await until(client, first["id"], "in_progress")
        assert (await look(client, second["id"]))["status"] == "validating"
        await client.post(f"/v1/batches/{second['id']}/cancel")
        assert (await until(client, second["id"], *ENDED))["status"] == "cancelled"
        assert (await until(client, first["id"], *ENDED))["status"] == "completed"


async def test_a_stopped_server_goes_on_where_it_was(tmp_path: Path) -> None:
    config = parse_slow(tmp_path, batch_in_flight=2)
    async with serving(config) as client:
        made = await begin(client, [line(f"r{n}") for n in range(10)])
        await until(client, made["id"], "in_progress", completed=2)
        await client.delete(f"/v1/files/{made['input_file_id']}")  # the batch has its own
    async with serving(config) as client:
        done = await until(client, made["id"], *ENDED)
        assert done["status"] == "completed"
        assert done["created_at"] == made["created_at"]
        good = await rows(client, done["output_file_id"])
        assert set(good) == {f"r{n}" for n in range(10)}


async def test_a_server_killed_while_it_made_the_files_makes_the_same_ones(tmp_path: Path) -> None:
    config = parse_slow(tmp_path, batch_in_flight=2)
    async with serving(config) as client:
        made = await begin(client, [line(f"r{n}") for n in range(10)])
        await until(client, made["id"], "in_progress", completed=2)
        folder = client.service.state.batches / made["id"]  # type: ignore[attr-defined]
    record = read_record(folder)
    assert record is not None
    chosen = {"output_file_id": "file-out", "error_file_id": "file-err"}
    replace(record, status="finalizing", ending="expired", **chosen).save(folder)
    async with serving(config) as client:
        done = await until(client, made["id"], *ENDED)
        assert done["status"] == "expired"
        assert {name: done[name] for name in chosen} == chosen
        good, bad = await rows(client, "file-out"), await rows(client, "file-err")
        assert len(good) >= 2
        assert len(good) + len(bad) == 10


async def test_a_changed_fusion_ends_the_batch_with_what_it_has(tmp_path: Path) -> None:
    async with serving(parse_slow(tmp_path, batch_in_flight=2)) as client:
        made = await begin(client, [line(f"r{n}") for n in range(10)])
        await until(client, made["id"], "in_progress", completed=2)
    text = SLOW.replace("mode: best-of", "mode: best-of, rotations: 3")
    async with serving(make_config(tmp_path, text)) as client:
        done = await until(client, made["id"], *ENDED)
        assert done["status"] == "failed"
        assert done["errors"]["data"][0]["code"] == "settings_changed"
        good, bad = await rows(client, done["output_file_id"]), await rows(client, done["error_file_id"])
        assert len(good) >= 2
        assert len(good) + len(bad) == 10


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    record = BatchRecord(
        "batch_1", "anna", "file-1", URL, "24h", 1, 2, {"a": "b"}, 3600, models=("m",), counts=Counts(3, 2, 1),
        problems=(Problem("c", "m", 1, "p"),), times={"validating": 4},
    )  # fmt: skip
    (tmp_path / "batch_1").mkdir()
    record.save(tmp_path / "batch_1")
    assert read_record(tmp_path / "batch_1") == record
    older = json.loads((tmp_path / "batch_1" / "batch.json").read_bytes()) | {"allowed": ["x"]}
    (tmp_path / "batch_1" / "batch.json").write_text(json.dumps(older))
    assert read_record(tmp_path / "batch_1") == record
    (tmp_path / "batch_1" / "batch.json").write_bytes(b"{}")
    assert read_record(tmp_path / "batch_1") is None


def parse_slow(tmp_path: Path, **settings: Any) -> Any:
    given = "".join(f", {name}: {value}" for name, value in settings.items())
    text = SLOW.replace("heartbeat_s: 0.2", f"heartbeat_s: 0.2{given}")
    return parse_config(text.replace("STATE", str(tmp_path / "state")))


async def test_other_keys_see_nothing_and_keys_use_what_they_may(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    ann, bob = add_key(path, "ann"), add_key(path, "bob", fusions=("voted",))
    async with serving(make_config(tmp_path), KeyRing(path)) as client:
        client.headers["authorization"] = f"Bearer {ann}"
        made = await begin(client, [line("a")])
        done = await until(client, made["id"], *ENDED)
        said = {"messages": [{"role": "user", "content": "2+2?"}], "model": "voted"}
        answer_id = (await client.post("/v1/chat/completions", json=said)).json()["id"]
        client.headers["authorization"] = f"Bearer {bob}"
        ask = {"input_file_id": made["input_file_id"], "endpoint": URL, "completion_window": "24h"}
        part = {"type": "file", "file": {"file_id": made["input_file_id"]}}
        for method, where, body in (
            ("GET", f"/v1/batches/{made['id']}", None),
            ("POST", f"/v1/batches/{made['id']}/cancel", None),
            ("GET", f"/v1/files/{done['output_file_id']}/content", None),
            ("DELETE", f"/v1/files/{made['input_file_id']}", None),
            ("POST", "/v1/feedback", {"id": answer_id, "rating": "up"}),
        ):
            answer = await client.request(method, where, json=body)
            assert answer.status_code == 404, where
        for where, body in (
            ("/v1/batches", ask),
            ("/v1/chat/completions", said | {"messages": [{"role": "user", "content": [part]}]}),
        ):
            assert (await client.post(where, json=body)).json()["error"]["code"] == "file_not_found"
        for where in ("/v1/batches", "/v1/files"):
            assert (await client.get(where)).json()["data"] == []
        failed = await until(client, (await begin(client, [line("a"), line("b", "voted")]))["id"], *ENDED)
        assert [(one["line"], one["code"]) for one in failed["errors"]["data"]] == [(1, "model_not_found")]
        changed = line("a", "voted", fusion={"judge": "judge"})
        mine = await until(client, (await begin(client, [changed, line("b", "voted")]))["id"], *ENDED)
        assert mine["status"] == "completed"
        del client.headers["authorization"]
        for where in ("/v1/batches", "/v1/files", "/v1/files/x/content"):
            assert (await client.get(where)).status_code == 401


async def test_a_row_has_the_limits_of_a_request(tmp_path: Path) -> None:
    text = CONFIG.replace('answers: ["It is 4."]', "hang_rate: 1").replace("heartbeat_s: 0.2", "max_body_bytes: 2000")
    text = text.replace("mode: merge}", "mode: merge, member_timeout_s: 0.2}")
    async with serving(make_config(tmp_path, text)) as client:
        done = await until(client, (await begin(client, [line("a", "two")]))["id"], *ENDED)
        assert done["request_counts"]["failed"] == 1, "in the time that a request of the same has"
        long = await until(client, (await begin(client, [line("a", user="x" * 2000)]))["id"], *ENDED)
        assert long["errors"]["data"][0]["code"] == "line_too_long"
